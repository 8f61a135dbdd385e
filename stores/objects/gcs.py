"""Objects in a bucket of Google Cloud Storage: `gs://BUCKET/PREFIX`.

A version is the object's generation, which the service never gives twice; ABSENT is generation 0. How content goes out depends on
its size and on the bucket:

    one part               one request with metadata and content
    more                   a parallel composite upload: parts as temporary objects, several at once, composed by the service
    more, in a bucket where temporary objects cost or cannot be deleted (retention, cold storage), or where we may not ask
                           a resumable session: part after part

The condition stands on the request that makes the object visible. Temporary parts lie under `PREFIX/.parts/KEY/.ID/`, which no
key can name (`check_key`); what a crash leaves of them is what `unfinished` lists. The service takes about one write a second of
one key (429); the retry policy waits that out, and towline's own keys are not overwritten in a hurry.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Sequence
from contextlib import aclosing
from functools import partial
from typing import Any, NoReturn

from towline.engine.errors import UsageError
from towline.stores.objects.base import Meta, NotFound, Objects, ObjectsError, Unfinished, Version, When, check_key
from towline.stores.objects.gcs_bucket import Bucket, condition_of
from towline.stores.objects.gcs_rest import Identity, Rest, checked_endpoint, emulator, is_plain_http
from towline.stores.objects.gcs_upload import GRANULE, composed, delete_all, in_turn
from towline.stores.objects.retry import Retry
from towline.stores.objects.s3_encryption import Encryption
from towline.stores.objects.streaming import copy_streamed, in_order, regrouped, without_stub

WIDTH = 4
"""Parts of a download that are under way or wait to be taken."""
PARTS = ".parts"

_TEMP = re.compile(r"(.+)/\.([0-9a-f]{16})/[^/]+").fullmatch
_ID = re.compile(r"[0-9a-f]{16}").fullmatch


class GcsObjects:
    """Objects below `prefix` of a bucket, which must exist. Safe in many threads, each with its own event loop."""

    appendable = False

    def __init__(
        self,
        bucket: str,
        prefix: str = "",
        *,
        project: str | None = None,
        endpoint: str | None = None,
        credentials: Identity | Any = None,
        encryption: Encryption | None = None,
        retry: Retry | None = None,
        part_bytes: int = 8 << 20,
    ) -> None:
        """Nothing is asked yet. UsageError for settings that cannot be.

        `project`: whose the bucket is if `create_bucket` makes it. `endpoint`: STORAGE_EMULATOR_HOST by default, or Google.
        `credentials`: "default" as Google's tools find them (GOOGLE_APPLICATION_CREDENTIALS, gcloud's login, the account of the
        machine), "anonymous", or a google.auth Credentials; by default "default", but "anonymous" over plain http, where a token
        would be readable. `encryption`: with a key file (CSEK) or a key of Google's key management.
        """
        if part_bytes < 1 or part_bytes % GRANULE:
            raise UsageError(f"a part of {part_bytes} bytes cannot be: it must be a multiple of {GRANULE}")
        self.part_bytes = part_bytes
        """Bytes of a part of a stream."""
        self.prefix, self.project = prefix.strip("/"), project
        self.url = f"gs://{bucket}" + (f"/{self.prefix}" if self.prefix else "")
        self._root = f"{self.prefix}/" if self.prefix else ""
        place = checked_endpoint(endpoint or emulator())
        rest = Rest(place, credentials or ("anonymous" if is_plain_http(place) else "default"), retry)
        self.bucket = Bucket(rest, bucket, encryption or Encryption())
        self._plain: GcsObjects | None = None

    @property
    def plain(self) -> GcsObjects:
        """See `Objects.plain`. Shares the sessions with this one."""
        if not self.bucket.sealing.encryption.own:
            return self
        if self._plain is None:
            plain = GcsObjects(self.bucket.name, self.prefix, project=self.project, part_bytes=self.part_bytes)
            plain.bucket = Bucket(self.bucket.rest, self.bucket.name, Encryption())
            self._plain = plain
        return self._plain

    async def create_bucket(self) -> None:
        """Make the bucket, with uniform access, if there is none; in `project`, or the one of the credentials."""
        await self.bucket.create(self.project)

    def _name(self, key: str) -> str:
        return self._root + check_key(key)

    def _key(self, name: str) -> str | None:
        """Of a name below the prefix; None if it is none of ours."""
        key = name[len(self._root) :]
        try:
            return check_key(key)
        except UsageError:
            return None

    # -------------------------------------------------------------------------------------------------------- writing

    async def put(self, key: str, data: bytes | Sequence[bytes | memoryview], when: When | Version = When.OVERWRITE) -> Version:
        """See `Objects.put`."""
        name = self._name(key)
        content = data if isinstance(data, bytes) else b"".join(data)
        return Version(await self.bucket.insert(name, content, condition_of(when, self.bucket.about(name))))

    async def upload(self, key: str, pieces: AsyncIterable[bytes | memoryview], when: When | Version = When.OVERWRITE) -> Version:
        """See `Objects.upload`."""
        name = self._name(key)
        condition = condition_of(when, self.bucket.about(name))
        async with (
            aclosing(regrouped(pieces, self.part_bytes)) as exact,
            aclosing(without_stub(exact, self.part_bytes // 8)) as parts,
        ):
            first, second = await anext(parts, b""), await anext(parts, None)
            if second is None:
                return Version(await self.bucket.insert(name, first, condition))
            async with aclosing(_again([first, second], parts)) as parts:
                # the two that are held here must be let go of when they are sent
                first = second = b""
                if await self.bucket.may_compose():
                    folder = f"{self._root}{PARTS}/{key}/.{secrets.token_hex(8)}/"
                    return Version(await composed(self.bucket, name, parts, folder, condition))
                return Version(await in_turn(self.bucket, name, parts, condition))

    async def copy(self, source: Objects, source_key: str, key: str, when: When | Version = When.OVERWRITE) -> Version:
        """See `Objects.copy`."""
        if not isinstance(source, GcsObjects) or not self.bucket.rest.same_as(source.bucket.rest):
            return await copy_streamed(source, source_key, self, key, when)
        name = self._name(key)
        condition = condition_of(when, self.bucket.about(name))
        return Version(await self.bucket.rewrite(source.bucket, source._name(source_key), name, condition))

    async def delete_many(self, keys: Sequence[str]) -> None:
        """See `Objects.delete_many`."""
        await delete_all(self.bucket, [self._name(key) for key in keys])

    # -------------------------------------------------------------------------------------------------------- reading

    async def get(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        """See `Objects.get`."""
        return await self.bucket.read(self._name(key), start, length)

    async def download(self, key: str, start: int = 0, length: int | None = None) -> AsyncGenerator[bytes, None]:
        """See `Objects.download`."""
        name = self._name(key)
        if length == 0:
            await self.bucket.stat(name)
            return
        first = self.part_bytes if length is None else min(length, self.part_bytes)
        content, generation, size = await self.bucket.begin(name, start, first)
        if content:
            yield content
        stop = size if length is None else min(size, start + length)
        ranges = range(start + len(content), stop if content else 0, self.part_bytes)
        del content
        calls = (partial(self.bucket.read, name, at, min(self.part_bytes, stop - at), generation) for at in ranges)
        try:
            async with aclosing(in_order(calls, WIDTH)) as pieces:
                async for piece in pieces:
                    yield piece
        except NotFound as gone:
            raise ObjectsError(f"{self.bucket.about(name)} was replaced or deleted while it was read: read it anew") from gone

    async def head(self, key: str) -> Meta:
        """See `Objects.head`."""
        stat = await self.bucket.stat(self._name(key))
        return Meta(key, stat.size, Version(stat.generation), stat.created)

    async def list(self, prefix: str = "", start_after: str = "") -> AsyncIterator[Meta]:
        """See `Objects.list`. Names that are no keys (temporary parts, what others put there) are passed over."""
        start = self._root + start_after if start_after else ""
        async with aclosing(self.bucket.list(self._root + prefix, start)) as found:
            async for stat in found:
                key = self._key(stat.name)
                if key is not None and key > start_after:
                    yield Meta(key, stat.size, Version(stat.generation), stat.created)

    async def sync(self, key: str) -> None:
        """See `Objects.sync`: what the service shows is durable."""
        await self.head(key)

    async def sign(self, key: str, *, expires_s: float = 3600.0) -> str:
        """See `Objects.sign`. Needs a service account's key; an emulator's objects have a plain URL. UsageError beyond 7 days."""
        return await self.bucket.sign(self._name(key), expires_s)

    # ----------------------------------------------------------------------------------------------- what is left behind

    async def unfinished(self, prefix: str = "") -> AsyncIterator[Unfinished]:
        """See `Objects.unfinished`: composite uploads of which parts lie about."""
        now: Unfinished | None = None
        async with aclosing(self.bucket.list(f"{self._root}{PARTS}/{prefix}")) as found:
            async for stat in found:
                part = _TEMP(stat.name[len(self._root) + len(PARTS) + 1 :])
                if part is None:
                    continue
                if now is not None and (now.key, now.id) == part.groups():
                    now = now._replace(started=min(now.started, stat.created))
                    continue
                if now is not None:
                    yield now
                now = Unfinished(part[1], part[2], stat.created)
        if now is not None:
            yield now

    async def abort(self, uploads: Sequence[Unfinished]) -> None:
        """See `Objects.abort`."""
        for upload in uploads:
            if not _ID(upload.id):
                raise UsageError(f"{upload.id[:40]!r} is no upload of {self.url}")
            folder = f"{self._root}{PARTS}/{check_key(upload.key)}/.{upload.id}/"
            await delete_all(self.bucket, [stat.name async for stat in self.bucket.list(folder)])

    async def appender(self, key: str, head: bytes) -> NoReturn:
        """See `Objects.appender`: no object of a bucket grows."""
        raise ObjectsError(f"{self.bucket.about(self._name(key))}: objects of a bucket cannot be appended to")

    async def close(self) -> None:
        """Close the sessions; who asks again opens new ones."""
        await self.bucket.rest.close()


async def _again(held: list[bytes], more: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    """What was taken too early, then the rest."""
    while held:
        yield held.pop(0)
    async for part in more:
        yield part

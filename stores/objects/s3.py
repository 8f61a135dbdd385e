"""Objects in a bucket of S3, or of a server that speaks S3: Amazon's, Ceph, MinIO.

A key is the object `<prefix>/<key>`. What a write demands is checked by the server in the act of writing: If-None-Match for
ABSENT, If-Match for a Version. A Version is the object's ETag: equal for equal content, so a version that comes back means that
the very same bytes are there again, and no more than that.

Which server, region and credentials is said by the environment and files that all AWS programs read (AWS_ENDPOINT_URL_S3,
AWS_PROFILE, ~/.aws/config, ...). Writes carry a checksum that the server verifies; requests are repeated as `retry` allows.
Streams go in parts of `part_bytes`, several at once, with some `width + 2` parts in memory.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Sequence
from contextlib import aclosing, nullcontext
from functools import partial
from typing import Any, NamedTuple

from botocore.exceptions import ClientError

from towline.engine.errors import UsageError
from towline.stores.objects.base import (
    OVERWRITE,
    Appender,
    Meta,
    NotFound,
    Objects,
    ObjectsError,
    PreconditionFailed,
    Unfinished,
    Version,
    When,
    check_key,
)
from towline.stores.objects.retry import Retry, within
from towline.stores.objects.s3_client import Access, Clients, Wire, condition, md5, version_of
from towline.stores.objects.s3_encryption import Encryption
from towline.stores.objects.s3_errors import status_of
from towline.stores.objects.s3_multipart import (
    SINGLE_MAX,
    Honours,
    chained,
    copy_parts,
    drop,
    parts_of,
    put_spooled,
    upload_parts,
)
from towline.stores.objects.streaming import copy_streamed, in_order

PAGE = 1000
"""Keys that S3 lists or deletes in one request."""
EXPIRES_MAX_S = 7 * 86400.0
"""S3 takes no URL that was signed for longer."""
_COPY_PARTS = 32
"""Parts of an upload that make one part of a copy: no byte of it passes through here."""
_LARGE = 1 << 20
"""From so many bytes on, joining buffers is worth a thread."""
_ANY = 1 << 40
"""Bytes, where nobody has said how many."""


class S3Objects:
    """Objects below a prefix of one bucket, which must exist. Safe to use from several threads and event loops."""

    appendable = False
    _check = staticmethod(check_key)
    """Refuses what no key of ours is; `transfer.s3_` takes the keys of others."""

    def __init__(
        self,
        bucket: str,
        prefix: str = "",
        *,
        access: Access | None = None,
        encryption: Encryption | None = None,
        retry: Retry | None = None,
        part_bytes: int = 8 << 20,
        width: int = 4,
    ) -> None:
        self.part_bytes = part_bytes
        """Bytes of a part of a stream; 5 MiB is the least that S3 takes."""
        self.width = width
        """Parts under way at once."""
        self.copy_bytes = SINGLE_MAX
        """Up to this size an object is copied in one request."""
        self._wire = Wire(bucket, prefix, Clients(access or Access()), encryption or Encryption(), retry or Retry())
        self._honours = Honours()
        self.url = self._wire.url
        self._plain: S3Objects | None = None

    @property
    def plain(self) -> S3Objects:
        """See `Objects.plain`. What was written here must be read here, and what there, there: S3 refuses a key too much."""
        if not self._wire.encryption.own:
            return self
        if self._plain is None:
            wire = self._wire
            plain = S3Objects(wire.bucket, part_bytes=self.part_bytes, width=self.width)
            plain._wire = wire.with_encryption(Encryption())
            plain._honours, plain.url, plain.copy_bytes = self._honours, self.url, self.copy_bytes
            self._plain = plain
        return self._plain

    # ------------------------------------------------------------------------------------------------------ writing

    async def put(self, key: str, data: bytes | Sequence[bytes | memoryview], when: When | Version = OVERWRITE) -> Version:
        """See `Objects.put`. Up to 5 GiB."""
        self._check(key)
        return await self._put(key, data if isinstance(data, bytes) else await _joined(data), when)

    async def _put(self, key: str, body: bytes, when: When | Version) -> Version:
        wire, digest = self._wire, await md5(body)

        async def act(client: Any) -> Any:
            return await client.put_object(
                **wire.at(key), Body=body, ContentMD5=digest, **condition(when), **wire.encryption.write
            )

        return version_of(await wire.call("write", key, act, when=when, attempt_s=within(len(body))))

    async def upload(self, key: str, pieces: AsyncIterable[bytes | memoryview], when: When | Version = OVERWRITE) -> Version:
        """See `Objects.upload`. What fits one part is one put."""
        self._check(key)
        async with aclosing(parts_of(pieces, self.part_bytes)) as parts:
            first = await anext(parts, b"")
            second = await anext(parts, None)
            if second is None:
                return await self._put(key, first, when)
            begun = [first, second]
            del first, second
            if not await self._honours.ask(self._wire, when):
                return await put_spooled(self._wire, key, chained(begun, parts), when)
            return await upload_parts(self._wire, key, chained(begun, parts), when, in_flight=self.width * self.part_bytes)

    async def delete_many(self, keys: Sequence[str]) -> None:
        """See `Objects.delete_many`."""
        unique = list(dict.fromkeys(self._check(key) for key in keys))
        batches = [unique[at : at + PAGE] for at in range(0, len(unique), PAGE)]
        async with aclosing(in_order((partial(self._delete, batch) for batch in batches), self.width)) as done:
            async for _ in done:
                pass

    async def _delete(self, keys: Sequence[str]) -> None:
        wire = self._wire
        wanted = {"Objects": [{"Key": wire.full(key)} for key in keys], "Quiet": True}

        async def act(client: Any) -> None:
            answer = await client.delete_objects(Bucket=wire.bucket, Delete=wanted)
            for error in answer.get("Errors", ()):
                if error.get("Code") not in ("NoSuchKey", "NoSuchVersion"):
                    raise _as_answer(error)

        await wire.call("delete", keys[0] if len(keys) == 1 else "", act, attempt_s=within(0, base_s=120))

    async def copy(self, source: Objects, source_key: str, key: str, when: When | Version = OVERWRITE) -> Version:
        """See `Objects.copy`. By the server where both use the same endpoint and credentials; streamed where it refuses that."""
        self._check(key)
        if isinstance(source, S3Objects) and self._wire.clients.access.sees(source._wire.clients.access):
            try:
                return await self._copy(source, source._check(source_key), key, when)
            except ObjectsError as error:
                # not allowed to us, or not offered (Ceph: objects with a key of their own)
                if status_of(error) not in (401, 403, 405, 501):
                    raise
        return await copy_streamed(source, source_key, self, key, when)

    async def _copy(self, source: S3Objects, source_key: str, key: str, when: When | Version) -> Version:
        there, here = source._wire, self._wire
        meta = await source.head(source_key)
        said = {"CopySource": there.at(source_key), **there.encryption.source}
        if when is OVERWRITE and meta.size <= self.copy_bytes:

            async def act(client: Any) -> Any:
                return await client.copy_object(**here.at(key), **said, MetadataDirective="REPLACE", **here.encryption.write)

            answer = await here.call("copy", key, act, attempt_s=within(meta.size))
            return version_of(answer["CopyObjectResult"])
        if not meta.size or not await self._honours.ask(here, when):
            return await copy_streamed(source, source_key, self, key, when)
        pinned = {**said, "CopySourceIfMatch": meta.version.tag}

        async def unchanged() -> None:
            # not every server minds CopySourceIfMatch
            if (await source.head(source_key)).version != meta.version:
                raise ObjectsError(f"cannot copy {source.url}/{source_key}: it was replaced meanwhile; copy it again")

        part = _COPY_PARTS * self.part_bytes
        return await copy_parts(here, key, pinned, meta.size, part, when, width=self.width, unchanged=unchanged)

    async def unfinished(self, prefix: str = "") -> AsyncIterator[Unfinished]:
        """See `Objects.unfinished`."""
        wire, marks = self._wire, dict[str, str]()
        while True:
            asked = {"Bucket": wire.bucket, "Prefix": wire.full(prefix), "MaxUploads": PAGE, **marks}
            page = await wire.call("list the uploads of", prefix, partial(_send, "list_multipart_uploads", asked))
            for found in page.get("Uploads", ()):
                yield Unfinished(wire.short(found["Key"]), found["UploadId"], found["Initiated"].timestamp())
            if not page.get("IsTruncated"):
                return
            marks = {"KeyMarker": page["NextKeyMarker"], "UploadIdMarker": page.get("NextUploadIdMarker", "")}

    async def abort(self, uploads: Sequence[Unfinished]) -> None:
        """See `Objects.abort`."""
        calls = (partial(drop, self._wire, self._check(upload.key), upload.id) for upload in uploads)
        async with aclosing(in_order(calls, 4 * self.width)) as done:
            async for _ in done:
                pass

    async def appender(self, key: str, head: bytes) -> Appender:
        """See `Objects.appender`: there is none."""
        raise ObjectsError(f"{self.url} cannot append to objects: S3 replaces them whole")

    async def sync(self, key: str) -> None:
        """See `Objects.sync`: what S3 has answered for is durable."""
        await self.head(key)

    async def close(self) -> None:
        """Let go of the connections of all event loops."""
        await self._wire.clients.close()

    # ------------------------------------------------------------------------------------------------------ reading

    async def get(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        """See `Objects.get`."""
        self._check(key)
        if length == 0:
            await self.head(key)
            return b""
        return (await self._read(key, start, length, None)).data

    async def _read(self, key: str, start: int, length: int | None, version: Version | None) -> _Read:
        """A range of at least one byte; nothing of what lies behind the end. With `version`, of that one (PreconditionFailed)."""
        wire = self._wire
        asked: dict[str, Any] = {**wire.at(key), **wire.encryption.read}
        if start or length is not None:
            asked["Range"] = f"bytes={start}-" + ("" if length is None else f"{start + length - 1}")
        if version is not None:
            asked["IfMatch"] = version.tag

        async def act(client: Any) -> _Read:
            try:
                # where the size is known, the attempt's own time is enough
                async with asyncio.timeout(within(0)) if length is None else nullcontext():
                    answer = await client.get_object(**asked)
            except ClientError as error:
                if error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") != 416:
                    raise
                return _Read(b"", start, version)
            size = int(answer["ContentLength"])
            async with answer["Body"] as body, asyncio.timeout(within(size)) if length is None else nullcontext():
                data = await body.read()
            if len(data) != size:
                raise ConnectionError(f"{len(data)} of {size} bytes came")
            return _Read(data, _total(answer), version_of(answer))

        return await wire.call("read", key, act, attempt_s=within(_ANY if length is None else length))

    async def download(self, key: str, start: int = 0, length: int | None = None) -> AsyncGenerator[bytes, None]:
        """See `Objects.download`: ranges of one ETag, `width` of them read ahead."""
        self._check(key)
        if length == 0:
            await self.head(key)
            return
        part = self.part_bytes
        data, total, version = await self._read(key, start, part if length is None else min(part, length), None)
        if data:
            yield data
        del data
        stop = total if length is None else min(total, start + length)
        calls = (partial(self._read, key, at, min(part, stop - at), version) for at in range(start + part, stop, part))
        try:
            async with aclosing(in_order(calls, self.width)) as ranges:
                async for found in ranges:
                    yield found.data
        except PreconditionFailed as error:
            raise ObjectsError(f"cannot read {self.url}/{key}: it was replaced while it was read; read it again") from error

    async def head(self, key: str) -> Meta:
        """See `Objects.head`."""
        wire = self._wire
        at = {**wire.at(self._check(key)), **wire.encryption.read}
        try:
            found = await wire.call("look at", key, partial(_send, "head_object", at))
        except NotFound:
            # a HEAD's answer has no body and cannot say that it is the bucket that is missing
            await wire.call("look at", key, partial(_send, "list_objects_v2", {"Bucket": wire.bucket, "MaxKeys": 1}))
            raise
        return Meta(key, found["ContentLength"], version_of(found), found["LastModified"].timestamp())

    async def list(self, prefix: str = "", start_after: str = "") -> AsyncIterator[Meta]:
        """See `Objects.list`. What lies below the prefix and has no name of a key is listed, too: it is somebody's."""
        wire = self._wire
        last = wire.full(start_after) if start_after else ""
        while True:
            asked = {
                "Bucket": wire.bucket,
                "Prefix": wire.full(prefix),
                "MaxKeys": PAGE,
                **({"StartAfter": last} if last else {}),
            }
            page = await wire.call("list", prefix, partial(_send, "list_objects_v2", asked))
            found = page.get("Contents", ())
            for one in found:
                # the mark that some programs leave for an empty folder has the prefix itself as its name
                if key := wire.short(one["Key"]):
                    yield Meta(key, one["Size"], version_of(one), one["LastModified"].timestamp())
            if not page.get("IsTruncated") or not found:
                return
            last = found[-1]["Key"]

    async def sign(self, key: str, *, expires_s: float = 3600.0) -> str:
        """See `Objects.sign`. UsageError where S3 does not sign for so long; ObjectsError where only a key of SSE-C can read."""
        wire = self._wire
        at = wire.at(self._check(key))
        if not 1 <= expires_s <= EXPIRES_MAX_S:
            raise UsageError(f"a URL can be signed for 1 to {EXPIRES_MAX_S:.0f} seconds, not {expires_s}")
        if wire.encryption.kind == "customer":
            raise ObjectsError(
                f"cannot sign a URL of {self.url}/{key}: it is encrypted with a key of the store's own, without which nobody can "
                "read it; write it with encrypted=False to publish it"
            )

        async def act(client: Any) -> str:
            url: str = await client.generate_presigned_url("get_object", Params=at, ExpiresIn=int(expires_s))
            return url

        return await wire.call("sign a URL of", key, act)


class _Read(NamedTuple):
    """An answer to a ranged read."""

    data: bytes
    total: int
    """Bytes of the whole object; where the range begins behind its end, no more than that."""
    version: Version | None


def _total(answer: Any) -> int:
    """`bytes 0-9/123` says 123."""
    said = str(answer.get("ContentRange", "")).rpartition("/")[2]
    return int(said) if said.isdigit() else int(answer["ContentLength"])


async def _send(operation: str, asked: dict[str, Any], client: Any) -> Any:
    return await getattr(client, operation)(**asked)


async def _joined(data: Sequence[bytes | memoryview]) -> bytes:
    large = sum(memoryview(piece).nbytes for piece in data) > _LARGE
    return await asyncio.to_thread(b"".join, data) if large else b"".join(data)


def _as_answer(error: Any) -> ClientError:
    """What DeleteObjects says of one key, in the form of a whole answer, so that it is judged like one."""
    status = {"InternalError": 500, "SlowDown": 503, "ServiceUnavailable": 503, "AccessDenied": 403}.get(error.get("Code"), 400)
    return ClientError({"Error": error, "ResponseMetadata": {"HTTPStatusCode": status}}, "DeleteObjects")

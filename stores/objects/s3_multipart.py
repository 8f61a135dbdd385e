"""Uploads in parts: parallel, in bounded memory, nothing left behind, and an end that is certain.

An upload becomes an object by one request, CompleteMultipartUpload, and that is where its condition is checked. Some servers
(Ceph before 20, moto for If-Match) ignore the condition there and would replace what they should keep: `Honours` asks each
place once, with a tiny upload that must fail. Where it is ignored, a conditional upload is spooled to a temporary file of this
machine and sent as one conditional put, which the server does check; so it may not be larger than SINGLE_MAX.

When the answer to the completion is lost, the upload tells its own fate: it carries a nonce as metadata of the object. An
object with our nonce is ours; else the upload is aborted: one that could be aborted was not completed and never will be. Only an
upload that has vanished without a trace of our object stays Ambiguous.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import tempfile
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, suppress
from typing import Any, BinaryIO
from uuid import uuid4

from botocore.exceptions import ClientError

from towline.stores.objects.base import ABSENT, Ambiguous, NotFound, ObjectsError, PreconditionFailed, Version, When
from towline.stores.objects.retry import within
from towline.stores.objects.s3_client import Wire, condition, md5, version_of
from towline.stores.objects.streaming import in_thread, joined, settle

PARTS_MAX = 10_000
"""S3 takes no more in one upload."""
SINGLE_MAX = 5 << 30
"""Bytes that S3 takes in one put or copies in one request."""
ABORT_S = 20.0
"""For the parts under way to arrive when an upload is given up, and for cleaning up behind it; what is left then is found by
`unfinished`."""
_NONCE = "towline-upload"
_GROWTH = 1000
"""Parts until their size doubles: 8 MiB parts would end at 80 GiB, these at more than S3's 5 TiB."""

Part = dict[str, Any]


class Honours:
    """Which conditions does this place check when an upload is completed? Asked once, when it first matters."""

    def __init__(self) -> None:
        self._known: dict[str, bool] = {}

    async def ask(self, wire: Wire, when: When | Version) -> bool:
        """Will the completion of an upload mind `when`?"""
        (name,) = condition(when) or ("",)
        if name and name not in self._known:
            self._known[name] = await _refuses(wire, ABSENT if when is ABSENT else Version("0" * 32))
        return self._known.get(name, True)


async def _refuses(wire: Wire, when: When | Version) -> bool:
    """Does an upload fail whose condition does not hold?"""
    key = f"probe/{uuid4().hex}"

    async def put(client: Any) -> Any:
        return await client.put_object(**wire.at(key), Body=b"", **wire.encryption.write)

    await wire.call("write", key, put)
    try:
        upload = await _begin(wire, key)
        try:
            await upload.send(1, b"-")
            await upload.complete(when)
        except PreconditionFailed:
            await upload.abort()
            return True
        except BaseException:
            await upload.abort()
            raise
        return False
    finally:
        await insist(wire.call("delete", key, lambda client: client.delete_object(**wire.at(key)), deadline_s=ABORT_S))


class Upload:
    """One upload in parts that was begun. Its `complete` or its `abort` must follow."""

    def __init__(self, wire: Wire, key: str, id: str, nonce: str) -> None:
        self.wire = wire
        self.key = key
        self.id = id
        self._nonce = nonce
        self._parts: dict[int, str] = {}

    @classmethod
    async def begin(cls, wire: Wire, key: str) -> Upload:
        """A new one. (One whose answer is lost stays behind, and is found by `unfinished`.)"""
        nonce = uuid4().hex

        async def act(client: Any) -> Any:
            return await client.create_multipart_upload(**wire.at(key), Metadata={_NONCE: nonce}, **wire.encryption.write)

        return cls(wire, key, (await wire.call("write", key, act))["UploadId"], nonce)

    @property
    def at(self) -> dict[str, str]:
        """Bucket, name and upload, as arguments of botocore."""
        return {**self.wire.at(self.key), "UploadId": self.id}

    async def send(self, number: int, body: bytes) -> None:
        """Send the part of this number (from 1 on)."""
        digest = await md5(body)

        async def act(client: Any) -> Any:
            read = self.wire.encryption.read
            return await client.upload_part(**self.at, PartNumber=number, Body=body, ContentMD5=digest, **read)

        answer = await self.wire.call("write", self.key, act, attempt_s=within(len(body)))
        self._parts[number] = answer["ETag"]

    async def send_copy(self, number: int, source: dict[str, Any], first: int, last: int) -> None:
        """Let the server fill this part with the bytes from `first` to `last` of another object."""

        async def act(client: Any) -> Any:
            return await client.upload_part_copy(
                **self.at, PartNumber=number, CopySourceRange=f"bytes={first}-{last}", **source, **self.wire.encryption.read
            )

        answer = await self.wire.call("copy", self.key, act, attempt_s=within(last - first))
        self._parts[number] = answer["CopyPartResult"]["ETag"]

    async def complete(self, when: When | Version) -> Version:
        """Make it an object. PreconditionFailed, ObjectsError: it is none, and `abort` is due. Ambiguous: nobody knows."""
        parts: list[Part] = [{"PartNumber": n, "ETag": self._parts[n]} for n in sorted(self._parts)]

        async def act(client: Any) -> Any:
            return await client.complete_multipart_upload(**self.at, MultipartUpload={"Parts": parts}, **condition(when))

        try:
            # never repeated blindly, conditional or not: what has been completed may not be found a second time
            answer = await self.wire.call("write", self.key, act, when=when, conditional=True, attempt_s=within(0, base_s=300))
        except Ambiguous as doubt:
            return await self._settle(doubt)
        if answer.get("ETag"):
            return version_of(answer)
        # Ceph does not say; if it is ours no more, no object will ever have this version
        return await self._ours() or Version(self._nonce)

    async def _settle(self, doubt: Ambiguous) -> Version:
        """The answer was lost: is the object ours?"""
        if (ours := await self._ours()) is not None:
            return ours
        try:
            aborted = await self._drop()
        except ObjectsError:
            raise doubt from None
        if (ours := await self._ours()) is not None:
            return ours
        if not aborted:
            raise doubt
        raise ObjectsError(
            f"cannot write {self.wire.url}/{self.key}: the upload was not completed; nothing was written"
        ) from doubt

    async def _ours(self) -> Version | None:
        async def act(client: Any) -> Any:
            return await client.head_object(**self.wire.at(self.key), **self.wire.encryption.read)

        try:
            found = await self.wire.call("look at", self.key, act)
        except NotFound:
            return None
        return version_of(found) if found.get("Metadata", {}).get(_NONCE) == self._nonce else None

    async def _drop(self) -> bool:
        """Abort it; False if it had ended before."""
        return await drop(self.wire, self.key, self.id, deadline_s=ABORT_S)

    async def abort(self) -> None:
        """Drop what was sent, even while the caller is being cancelled. Failures are not told: something else is, already."""
        await insist(self._drop())


async def drop(wire: Wire, key: str, id: str, deadline_s: float | None = None) -> bool:
    """Abort an upload; False if there is none (any more)."""

    async def act(client: Any) -> bool:
        try:
            await client.abort_multipart_upload(**wire.at(key), UploadId=id)
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") != "NoSuchUpload":
                raise
            return False
        return True

    return await wire.call("abort the upload of", key, act, deadline_s=deadline_s)


async def insist(work: Awaitable[Any]) -> None:
    """Await to the end, however often we are cancelled, and keep its failure to ourselves. The cancelling comes afterwards."""
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancelled = error
    with suppress(ObjectsError, asyncio.CancelledError):
        task.result()
    if cancelled is not None:
        raise cancelled


async def _begin(wire: Wire, key: str) -> Upload:
    """As `Upload.begin`; but when we are cancelled before its answer, the upload that it may bring is aborted."""
    beginning = asyncio.ensure_future(Upload.begin(wire, key))

    async def undo() -> None:
        await asyncio.wait([beginning], timeout=ABORT_S)
        if beginning.cancel():
            return
        await beginning.result().abort()

    try:
        return await asyncio.shield(beginning)
    except asyncio.CancelledError:
        await insist(undo())
        raise


async def upload_parts(wire: Wire, key: str, parts: AsyncIterator[bytes], when: When | Version, *, in_flight: int) -> Version:
    """Upload parts as they come, of which `in_flight` bytes (or one part) are under way at once."""
    upload = await _begin(wire, key)
    running: dict[asyncio.Task[None], int] = {}
    try:
        number = 0
        async for body in parts:
            number += 1
            while running and sum(running.values()) + len(body) > in_flight:
                await _one_done(running)
            if number > PARTS_MAX:
                raise ObjectsError(f"cannot write {wire.url}/{key}: it is larger than S3 takes ({PARTS_MAX} parts)")
            running[asyncio.create_task(upload.send(number, body))] = len(body)
            del body
        while running:
            await _one_done(running)
        return await upload.complete(when)
    except BaseException:
        # the parts first: one that arrives after the abort would lie about for ever
        await settle(running, ABORT_S)
        await upload.abort()
        raise


async def _one_done(running: dict[asyncio.Task[None], int]) -> None:
    done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        del running[task]
        task.result()


async def copy_parts(
    wire: Wire,
    key: str,
    source: dict[str, Any],
    size: int,
    part: int,
    when: When | Version,
    *,
    width: int,
    unchanged: Callable[[], Awaitable[None]],
) -> Version:
    """As `upload_parts`, filled by the server from another object of `size` > 0 bytes, which is `unchanged()` at the end."""
    part = max(part, -(-size // PARTS_MAX))
    upload = await _begin(wire, key)
    steps = iter(enumerate(range(0, size, part), 1))

    async def work() -> None:
        for number, first in steps:
            await upload.send_copy(number, source, first, min(first + part, size) - 1)

    workers = [asyncio.create_task(work()) for _ in range(width)]
    try:
        await asyncio.gather(*workers)
        await unchanged()
        return await upload.complete(when)
    except BaseException:
        await settle(workers, ABORT_S)
        await upload.abort()
        raise


async def parts_of(pieces: AsyncIterable[bytes | memoryview], size: int) -> AsyncGenerator[bytes, None]:
    """The same bytes in parts of `size`, growing so that no upload has too many. No part is empty. One copy at most."""
    batch: list[memoryview] = []
    held = number = 0
    want = size
    async for piece in pieces:
        rest = memoryview(piece).cast("B")
        while held + len(rest) >= want:
            cut = want - held
            part = joined([*batch, rest[:cut]])
            batch, held, rest = [], 0, rest[cut:]
            number += 1
            want = size << min(number // _GROWTH, 8)
            yield part
            del part
        if len(rest):
            batch.append(rest)
            held += len(rest)
    if batch:
        yield joined(batch)


async def chained(first: Sequence[bytes], rest: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    """These, and then those."""
    for part in first:
        yield part
    async with aclosing(rest):
        async for part in rest:
            yield part


async def put_spooled(wire: Wire, key: str, parts: AsyncIterator[bytes], when: When | Version) -> Version:
    """Gather the parts in a temporary file of this machine, then put them in one conditional request."""
    with await asyncio.to_thread(tempfile.TemporaryFile) as file:
        size = 0
        async for part in parts:
            size += len(part)
            if size > SINGLE_MAX:
                raise ObjectsError(
                    f"cannot write {wire.url}/{key}: this server takes no more than {SINGLE_MAX >> 30} GiB conditionally; "
                    "write it to a new key without a condition"
                )
            await in_thread(file.write, part)
        return await _put_file(wire, key, file, size, when)


async def _put_file(wire: Wire, key: str, file: BinaryIO, size: int, when: When | Version) -> Version:
    async def act(client: Any) -> Any:
        await in_thread(file.seek, 0)
        return await client.put_object(
            **wire.at(key), Body=file, ContentLength=size, ContentMD5=digest, **condition(when), **wire.encryption.write
        )

    digest = await in_thread(_digest, file)
    return version_of(await wire.call("write", key, act, when=when, attempt_s=within(size)))


def _digest(file: BinaryIO) -> str:
    file.seek(0)
    digest = hashlib.md5(usedforsecurity=False)
    while step := file.read(1 << 20):
        digest.update(step)
    return base64.b64encode(digest.digest()).decode()

"""The model: a dict of bytes with the contract of `objects.base`. Every other place for bytes must behave like this
one.

No call ever suspends of itself, so what a test interleaves is only what its wrappers and its pieces interleave. One instance
is shared by all who would share a folder or a bucket.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Sequence
from dataclasses import dataclass

from towline.stores.objects.base import (
    ABSENT,
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
from towline.stores.objects.streaming import copy_streamed


@dataclass(slots=True)
class _Held:
    """One object: its bytes, the number of the write that made it, and when."""

    data: bytes | bytearray
    generation: int
    modified: float


class MemoryObjects:
    """Objects in this process. `appendable=False` makes it behave like a bucket."""

    part_bytes = 8 << 20
    """Size of the pieces of a download."""

    def __init__(self, *, appendable: bool = True, clock: Callable[[], float] = time.time, name: str = "memory:") -> None:
        self.appendable = appendable
        self.url = name
        self._clock = clock
        self._held: dict[str, _Held] = {}
        self._generation = 0
        self._begun: dict[str, Unfinished] = {}
        """Uploads under way by their ids."""
        self._ids = itertools.count()

    @property
    def plain(self) -> Objects:
        """Itself: nothing is encrypted."""
        return self

    async def put(self, key: str, data: bytes | Sequence[bytes | memoryview], when: When | Version = When.OVERWRITE) -> Version:
        """See `Objects.put`."""
        held = self._held.get(check_key(key))
        if when is ABSENT and held is not None:
            raise PreconditionFailed(f"{self.url}{key} exists already")
        if isinstance(when, Version) and (held is None or when != _version(held)):
            raise PreconditionFailed(f"{self.url}{key} is not the version that was read")
        return _version(self._hold(key, bytes(data) if isinstance(data, bytes) else b"".join(data)))

    def _hold(self, key: str, data: bytes | bytearray) -> _Held:
        self._generation += 1
        held = self._held[key] = _Held(data, self._generation, self._clock())
        return held

    def _find(self, key: str) -> _Held:
        held = self._held.get(check_key(key))
        if held is None:
            raise NotFound(f"{self.url}{key} does not exist")
        return held

    async def upload(self, key: str, pieces: AsyncIterable[bytes | memoryview], when: When | Version = When.OVERWRITE) -> Version:
        """See `Objects.upload`; but of course it is all in memory."""
        upload = Unfinished(check_key(key), str(next(self._ids)), self._clock())
        self._begun[upload.id] = upload
        try:
            data = b"".join([bytes(piece) async for piece in pieces])
            if upload.id not in self._begun:
                raise ObjectsError(f"cannot write {self.url}{key}: its upload was aborted")
            return await self.put(key, data, when)
        finally:
            self._begun.pop(upload.id, None)

    async def get(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        """See `Objects.get`."""
        data = self._find(key).data
        return bytes(data[start:] if length is None else data[start : start + length])

    async def download(self, key: str, start: int = 0, length: int | None = None) -> AsyncGenerator[bytes, None]:
        """See `Objects.download`."""
        data = self._find(key).data
        end = len(data) if length is None else min(len(data), start + length)
        for at in range(start, end, self.part_bytes):
            yield bytes(data[at : min(end, at + self.part_bytes)])

    async def head(self, key: str) -> Meta:
        """See `Objects.head`."""
        return _meta(key, self._find(key))

    async def list(self, prefix: str = "", start_after: str = "") -> AsyncIterator[Meta]:
        """See `Objects.list`."""
        for key in sorted(k for k in self._held if k.startswith(prefix) and k > start_after):
            held = self._held.get(key)
            if held is not None:
                yield _meta(key, held)

    async def delete_many(self, keys: Sequence[str]) -> None:
        """See `Objects.delete_many`."""
        for key in keys:
            self._held.pop(check_key(key), None)

    async def copy(self, source: Objects, source_key: str, key: str, when: When | Version = When.OVERWRITE) -> Version:
        """See `Objects.copy`."""
        if isinstance(source, MemoryObjects):
            return await self.put(key, bytes(source._find(source_key).data), when)
        return await copy_streamed(source, source_key, self, key, when)

    async def sign(self, key: str, *, expires_s: float = 3600.0) -> str:
        """See `Objects.sign`; nobody outside this process can follow it."""
        return f"{self.url}/{check_key(key)}"

    async def unfinished(self, prefix: str = "") -> AsyncIterator[Unfinished]:
        """See `Objects.unfinished`."""
        for upload in [u for u in self._begun.values() if u.key.startswith(prefix)]:
            yield upload

    async def abort(self, uploads: Sequence[Unfinished]) -> None:
        """See `Objects.abort`. Those under way fail at their end."""
        for upload in uploads:
            self._begun.pop(upload.id, None)

    async def appender(self, key: str, head: bytes) -> MemoryAppender:
        """See `Objects.appender`."""
        if not self.appendable:
            raise ObjectsError(f"{self.url} cannot append to objects")
        await self.put(key, head, ABSENT)
        self._held[key].data = bytearray(head)
        return MemoryAppender(self, self._held[key])

    async def sync(self, key: str) -> None:
        """See `Objects.sync`: memory is as durable as it gets."""
        self._find(key)

    async def close(self) -> None:
        """Nothing to let go of: others may share this instance."""


class MemoryAppender:
    """Grows one object of a MemoryObjects."""

    def __init__(self, objects: MemoryObjects, held: _Held) -> None:
        self._objects = objects
        self._held: _Held | None = held

    async def append(self, data: bytes, absent: str | None = None) -> int:
        """See `Appender.append`."""
        held = self._held
        if held is None or not isinstance(held.data, bytearray):
            raise ObjectsError(f"{self._objects.url}: this appender is closed")
        held.data += data
        held.modified = self._objects._clock()
        if absent is not None and absent in self._objects._held:
            raise PreconditionFailed(f"{self._objects.url}{absent} exists")
        return len(held.data)

    async def close(self) -> None:
        """See `Appender.close`."""
        self._held = None


def _version(held: _Held) -> Version:
    return Version(f"{held.generation}-{len(held.data)}")


def _meta(key: str, held: _Held) -> Meta:
    return Meta(key, len(held.data), _version(held), held.modified)

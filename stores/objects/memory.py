"""The model: a dict of bytes with the contract of `objects.base`. Every other place for bytes must behave like this
one.

No call ever suspends, so what a test interleaves is only what its wrappers interleave. One instance is shared by all
who would share a folder or a bucket.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass

from towline.stores.objects.base import (
    ABSENT,
    Meta,
    NotFound,
    ObjectsError,
    PreconditionFailed,
    Version,
    When,
    check_key,
)


@dataclass(slots=True)
class _Held:
    """One object: its bytes, the number of the write that made it, and when."""

    data: bytes | bytearray
    generation: int
    modified: float


class MemoryObjects:
    """Objects in this process. `appendable=False` makes it behave like a bucket."""

    def __init__(self, *, appendable: bool = True, clock: Callable[[], float] = time.time, name: str = "memory:") -> None:
        self.appendable = appendable
        self.url = name
        self._clock = clock
        self._held: dict[str, _Held] = {}
        self._generation = 0

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

    async def get(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        """See `Objects.get`."""
        data = self._find(key).data
        return bytes(data[start:] if length is None else data[start : start + length])

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

"""Small behaviours around any place for bytes: slow, faulty, counted, logged, or only a part of it. They compose.

Every request goes through one door, `Wrapped.around(call, act)`, which a wrapper overrides: it may wait, refuse, note, or act and
then forget the answer. What is a request is told as a bucket would bill it, with these approximations: a listing is one a 1,000
entries, a deletion one a 1,000 keys, a stream one and another one for each further `part_bytes` (a bucket may want one or two
more to begin and to end a long upload), `sign` is none but still goes through the door, and repetitions inside the place itself
are not seen. A copy from another wrapper goes around that one: it is a request of its target.
"""

from __future__ import annotations

import asyncio
import copy
import logging
import random
import time
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple, TypeVar

from towline.stores.objects.base import (
    OVERWRITE,
    Ambiguous,
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

T = TypeVar("T")

PAGE = 1000
"""Entries of a listing, or keys of a deletion, in one request."""
WRITES = frozenset({"put", "upload", "copy", "appender", "append"})
"""Verbs that make or replace an object, and whose lost answers are Ambiguous."""


class Call(NamedTuple):
    """One request."""

    verb: str
    """The method's name; `upload.part`, `download.part` for the further parts of a stream, `append` of an appender."""
    key: str
    """Or the prefix of a listing; the first key of a deletion."""
    size: int = 0
    """Bytes sent."""
    when: When | Version = OVERWRITE


class Wrapped:
    """Passes everything on. Subclasses override `around`, or the translation of keys."""

    part_bytes = 8 << 20
    """Bytes of a stream that count as one request."""

    def __init__(self, objects: Objects) -> None:
        self.inner = objects
        self.appendable = objects.appendable

    @property
    def url(self) -> str:
        """See `Objects.url`."""
        return self.inner.url

    @property
    def plain(self) -> Objects:
        """See `Objects.plain`: wrapped likewise, and with the same memory."""
        if self.inner.plain is self.inner:
            return self
        twin = copy.copy(self)
        twin.inner = self.inner.plain
        return twin

    async def around(self, call: Call, act: Callable[[], Awaitable[T]]) -> T:
        """Do it, or not."""
        return await act()

    def inside(self, key: str) -> str:
        """The inner name of a key or prefix."""
        return key

    def outside(self, key: str) -> str:
        """The outer name of an inner key."""
        return key

    async def put(self, key: str, data: bytes | Sequence[bytes | memoryview], when: When | Version = OVERWRITE) -> Version:
        """See `Objects.put`."""
        size = len(data) if isinstance(data, bytes) else sum(memoryview(piece).nbytes for piece in data)
        return await self.around(Call("put", key, size, when), lambda: self.inner.put(self.inside(key), data, when))

    async def upload(self, key: str, pieces: AsyncIterable[bytes | memoryview], when: When | Version = OVERWRITE) -> Version:
        """See `Objects.upload`."""

        async def passing() -> AsyncGenerator[bytes | memoryview, None]:
            sent = 0
            async for piece in pieces:
                before, sent = sent, sent + memoryview(piece).nbytes
                for _ in range(_part(sent, self.part_bytes) - _part(before, self.part_bytes)):
                    await self.around(Call("upload.part", key, self.part_bytes), _nothing)
                yield piece

        return await self.around(Call("upload", key, when=when), lambda: self.inner.upload(self.inside(key), passing(), when))

    async def get(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        """See `Objects.get`."""
        return await self.around(Call("get", key), lambda: self.inner.get(self.inside(key), start, length))

    async def download(self, key: str, start: int = 0, length: int | None = None) -> AsyncGenerator[bytes, None]:
        """See `Objects.download`."""
        async with aclosing(self.inner.download(self.inside(key), start, length)) as pieces:
            piece = await self.around(Call("download", key), lambda: anext(pieces, b""))
            got = 0
            while piece:
                before, got = got, got + len(piece)
                for _ in range(_part(got, self.part_bytes) - _part(before, self.part_bytes)):
                    await self.around(Call("download.part", key), _nothing)
                self.received(len(piece))
                yield piece
                piece = await anext(pieces, b"")

    def received(self, size: int) -> None:
        """So many bytes of a download have come."""

    async def head(self, key: str) -> Meta:
        """See `Objects.head`."""
        meta = await self.around(Call("head", key), lambda: self.inner.head(self.inside(key)))
        return meta._replace(key=key)

    async def list(self, prefix: str = "", start_after: str = "") -> AsyncIterator[Meta]:
        """See `Objects.list`."""
        number = 0
        await self.around(Call("list", prefix), _nothing)
        async for meta in self.inner.list(self.inside(prefix), self.inside(start_after) if start_after else ""):
            if number and not number % PAGE:
                await self.around(Call("list", prefix), _nothing)
            number += 1
            yield meta._replace(key=self.outside(meta.key))

    async def delete_many(self, keys: Sequence[str]) -> None:
        """See `Objects.delete_many`."""
        for begin in range(0, len(keys), PAGE):
            await self._delete(keys[begin : begin + PAGE])

    async def _delete(self, keys: Sequence[str]) -> None:
        inner = [self.inside(key) for key in keys]
        await self.around(Call("delete_many", keys[0]), lambda: self.inner.delete_many(inner))

    async def copy(self, source: Objects, source_key: str, key: str, when: When | Version = OVERWRITE) -> Version:
        """See `Objects.copy`."""
        origin, origin_key = unwrapped(source, source_key)
        return await self.around(
            Call("copy", key, when=when), lambda: self.inner.copy(origin, origin_key, self.inside(key), when)
        )

    async def sign(self, key: str, *, expires_s: float = 3600.0) -> str:
        """See `Objects.sign`."""
        return await self.around(Call("sign", key), lambda: self.inner.sign(self.inside(key), expires_s=expires_s))

    async def unfinished(self, prefix: str = "") -> AsyncIterator[Unfinished]:
        """See `Objects.unfinished`."""
        await self.around(Call("unfinished", prefix), _nothing)
        async for upload in self.inner.unfinished(self.inside(prefix)):
            yield upload._replace(key=self.outside(upload.key))

    async def abort(self, uploads: Sequence[Unfinished]) -> None:
        """See `Objects.abort`."""
        for upload in uploads:
            inner = upload._replace(key=self.inside(upload.key))
            await self.around(Call("abort", upload.key), partial(self.inner.abort, [inner]))

    async def appender(self, key: str, head: bytes) -> Appender:
        """See `Objects.appender`."""
        made = await self.around(Call("appender", key, len(head)), lambda: self.inner.appender(self.inside(key), head))
        return _WrappedAppender(self, key, made)

    async def sync(self, key: str) -> None:
        """See `Objects.sync`."""
        await self.around(Call("sync", key), lambda: self.inner.sync(self.inside(key)))

    async def close(self) -> None:
        """See `Objects.close`."""
        await self.inner.close()


class _WrappedAppender:
    def __init__(self, wrapper: Wrapped, key: str, inner: Appender) -> None:
        self._wrapper = wrapper
        self._key = key
        self._inner = inner

    async def append(self, data: bytes, absent: str | None = None) -> int:
        """See `Appender.append`."""
        inside = None if absent is None else self._wrapper.inside(absent)
        return await self._wrapper.around(Call("append", self._key, len(data)), lambda: self._inner.append(data, inside))

    async def close(self) -> None:
        """See `Appender.close`."""
        await self._inner.close()


def unwrapped(objects: Objects, key: str) -> tuple[Objects, str]:
    """The innermost place, and what the key is called there."""
    while isinstance(objects, Wrapped):
        key = objects.inside(key)
        objects = objects.inner
    return objects, key


async def _nothing() -> None:
    """A request whose doing is part of another one's."""


def _part(size: int, part: int) -> int:
    """Number of the part that holds the last of so many bytes, from 0."""
    return max(0, size - 1) // part


# -------------------------------------------------------------------------------------------------------- prefixed


class Prefixed(Wrapped):
    """Only the keys below `prefix` of a place, without it."""

    def __init__(self, objects: Objects, prefix: str) -> None:
        super().__init__(objects)
        self._prefix = check_key(prefix.rstrip("/")) + "/"

    @property
    def url(self) -> str:
        """See `Objects.url`."""
        return f"{self.inner.url}/{self._prefix.rstrip('/')}"

    def inside(self, key: str) -> str:
        """See `Wrapped.inside`."""
        return self._prefix + key

    def outside(self, key: str) -> str:
        """See `Wrapped.outside`."""
        return key.removeprefix(self._prefix)


# --------------------------------------------------------------------------------------------------------- latency


class Latency(Wrapped):
    """Each request takes time: `delay_s` on its way there, `answer_s` on its way back. Both may depend on the call."""

    def __init__(
        self,
        objects: Objects,
        delay_s: float | Callable[[Call], float],
        answer_s: float | Callable[[Call], float] = 0.0,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        super().__init__(objects)
        self._delays = (delay_s, answer_s)
        self._sleep = sleep

    async def around(self, call: Call, act: Callable[[], Awaitable[T]]) -> T:
        """See `Wrapped.around`."""
        there, back = (delay(call) if callable(delay) else delay for delay in self._delays)
        if there:
            await self._sleep(there)
        try:
            return await act()
        finally:
            if back:
                await self._sleep(back)


# ---------------------------------------------------------------------------------------------------------- faults


class Fault(NamedTuple):
    """What goes wrong with one call."""

    done: bool
    """Is it carried out before the answer is lost?"""
    error: BaseException | None = None
    """What is raised; None: Ambiguous if a write's answer is lost, else ObjectsError."""
    lost: bool = True
    """Does the caller not learn whether it was done? (With `error` None.)"""


REFUSED = Fault(done=False, lost=False)
"""Nothing is done, and the caller is told."""
LOST_BEFORE = Fault(done=False)
"""Nothing is done, and the caller cannot know."""
LOST_AFTER = Fault(done=True)
"""It is done, and the caller cannot know."""

Plan = Callable[[Call], Fault | None]
"""Asked before each call; may keep count."""


def nth(number: int, fault: Fault, matching: Callable[[Call], bool] = lambda call: True) -> Plan:
    """The fault strikes the `number`-th (from 1) call that matches, and no other."""
    seen = 0

    def plan(call: Call) -> Fault | None:
        nonlocal seen
        seen += matching(call)
        return fault if matching(call) and seen == number else None

    return plan


def always(fault: Fault, matching: Callable[[Call], bool] = lambda call: True) -> Plan:
    """The fault strikes every call that matches."""
    return lambda call: fault if matching(call) else None


def drawn(
    seed: int,
    probability: float,
    faults: Sequence[Fault] = (REFUSED, LOST_BEFORE, LOST_AFTER),
    matching: Callable[[Call], bool] = lambda call: True,
) -> Plan:
    """One of the faults strikes each matching call with this probability. The same seed and calls, the same faults."""
    rng = random.Random(seed)  # noqa: S311 - luck that can be repeated

    def plan(call: Call) -> Fault | None:
        return rng.choice(faults) if matching(call) and rng.random() < probability else None

    return plan


class Faults(Wrapped):
    """Calls go wrong by plan. `calls` are those that were made, struck or not."""

    def __init__(self, objects: Objects, plan: Plan) -> None:
        super().__init__(objects)
        self.plan = plan
        self.calls: list[Call] = []

    async def around(self, call: Call, act: Callable[[], Awaitable[T]]) -> T:
        """See `Wrapped.around`."""
        self.calls.append(call)
        fault = self.plan(call)
        if fault is None:
            return await act()
        if fault.done:
            await act()
        raise fault.error or self._error(call, fault)

    def _error(self, call: Call, fault: Fault) -> ObjectsError:
        what = f"{call.verb} of {self.url}/{call.key}"
        if fault.lost and call.verb in WRITES:
            return Ambiguous(f"the answer to {what} was lost (an injected fault)")
        return ObjectsError(f"{what} failed (an injected fault)")


# -------------------------------------------------------------------------------------------------------- counting


@dataclass(slots=True)
class Tally:
    """What has passed. Bytes are those of contents."""

    requests: Counter[str] = field(default_factory=Counter)
    """By verb."""
    bytes_out: int = 0
    """Sent."""
    bytes_in: int = 0
    """Received."""
    writes: Counter[str] = field(default_factory=Counter)
    """By key: those that went well, or may have."""
    gaps_s: dict[str, float] = field(default_factory=dict)
    """By key: the shortest time between two writes."""

    @property
    def total(self) -> int:
        """All requests. A signature is none."""
        return self.requests.total() - self.requests["sign"]

    def gap_s_min(self) -> tuple[float, str]:
        """The shortest time between two writes of one key, and that key: (inf, "") if none was written twice. A bucket wants a
        second."""
        return min(((gap, key) for key, gap in self.gaps_s.items()), default=(float("inf"), ""))


class Counting(Wrapped):
    """Counts into `tally`, which may be replaced at any time."""

    def __init__(self, objects: Objects, *, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(objects)
        self.tally = Tally()
        self._clock = clock
        self._written: dict[str, float] = {}
        """By key: when the last write began."""

    async def around(self, call: Call, act: Callable[[], Awaitable[T]]) -> T:
        """See `Wrapped.around`."""
        tally = self.tally
        tally.requests[call.verb] += 1
        if not call.verb.startswith("upload"):  # its bytes are counted as they pass
            tally.bytes_out += call.size
        began = self._clock()
        try:
            result = await act()
        except Ambiguous:
            self._note(call, began)
            raise
        self._note(call, began)
        if isinstance(result, bytes) and call.verb == "get":
            tally.bytes_in += len(result)
        return result

    def _note(self, call: Call, began: float) -> None:
        if call.verb not in ("put", "upload", "copy", "appender"):  # appending is no request where there are buckets
            return
        self.tally.writes[call.key] += 1
        last, self._written[call.key] = self._written.get(call.key), began
        if last is not None:
            self.tally.gaps_s[call.key] = min(self.tally.gaps_s.get(call.key, float("inf")), began - last)

    async def upload(self, key: str, pieces: AsyncIterable[bytes | memoryview], when: When | Version = OVERWRITE) -> Version:
        """See `Objects.upload`."""

        async def passing() -> AsyncGenerator[bytes | memoryview, None]:
            async for piece in pieces:
                self.tally.bytes_out += memoryview(piece).nbytes
                yield piece

        return await super().upload(key, passing(), when)

    def received(self, size: int) -> None:
        """See `Wrapped.received`."""
        self.tally.bytes_in += size


# --------------------------------------------------------------------------------------------------------- logging


class Logging(Wrapped):
    """Says each request: at DEBUG what went as it may (an absent object, a lost race), at WARNING what failed."""

    def __init__(
        self, objects: Objects, logger: logging.Logger | None = None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(objects)
        self._logger = logger or logging.getLogger("towline.objects")
        self._clock = clock

    async def around(self, call: Call, act: Callable[[], Awaitable[T]]) -> T:
        """See `Wrapped.around`."""
        began = self._clock()
        try:
            result = await act()
        except (NotFound, PreconditionFailed) as error:
            self._say(logging.DEBUG, call, began, type(error).__name__)
            raise
        except BaseException as error:
            self._say(logging.WARNING, call, began, f"{type(error).__name__}: {error}")
            raise
        self._say(logging.DEBUG, call, began, "ok")
        return result

    def _say(self, level: int, call: Call, began: float, outcome: str) -> None:
        took_ms = (self._clock() - began) * 1000
        self._logger.log(level, "%s %s/%s %d bytes: %s, %.1f ms", call.verb, self.url, call.key, call.size, outcome, took_ms)

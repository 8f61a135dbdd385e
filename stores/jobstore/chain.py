"""The job table's log: one hash chain that any number of writers extend, each by the conditional create of the next segment.

Nobody leads. A commit takes the state as it is known here, tries the changes on a fork of it, and creates segment n + 1 with
them. If that succeeds, nothing came in between: the changes were checked against the very latest state, so every commit is
linearizable. Who loses the create reads what came, and tries again on the new state; somebody always wins.

    chain = await Chain.open(objects)             # or `create`
    await chain.refresh()                         # one request: sees all that was committed before the call
    chain.state.jobs["..."]                       # committed facts only (R5)
    done = await chain.commit(lambda state: [RootSet("...")])
    done.versions                                 # number of each record: the version of what it put

What callers of one instance ask at the same time shares a segment (group commit): their builders are called in order, each
with a state that has the changes of the ones before in it; one that raises, or whose change is refused, fails alone. A builder
may be called several times and must have no effects; it runs on the event loop and must be short. Whether it fails, or has
nothing to commit, is decided on a state no older than the call.

A store may be destroyed, and another one made in its place, behind the back of an instance: each look at the table, and each
create that succeeded, goes with a look whether the store is still the one that was opened (`standing`), before anybody is told.

A lost answer is settled by reading back (`journal.settle`). Time: that the next segment is absent proves that nothing came
only if it cannot have come and gone, that is within half the grace period for which segments are kept at least; later, a
listing decides, in which the last two segments always are (R4).
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple, TypeVar

from towline.engine.errors import CorruptionError, TowlineError
from towline.stores.errors import SegmentGone
from towline.stores.jobstore import image, links, records, standing
from towline.stores.jobstore.errors import JobStoreExistsException, NoSuchJobStoreException
from towline.stores.jobstore.links import Link, Position
from towline.stores.jobstore.records import Change, Snapshotted
from towline.stores.jobstore.state import State
from towline.stores.journal.segments import NONCE_BYTES, PREFIX, first_gap, number_of, segment_key
from towline.stores.journal.settle import Verdict, settle
from towline.stores.journal.writer import boot_clock
from towline.stores.objects.base import ABSENT, Ambiguous, NotFound, Objects, ObjectsError, PreconditionFailed, Version
from towline.stores.objects.wrappers import Prefixed

T = TypeVar("T")
Build = Callable[[State], Sequence[Change]]
"""Looks at the state and says what is to be committed (nothing, too), or raises what the caller shall get."""

TABLE = "table/"
"""Everything of the job table but the bytes of files."""
GRACE_S = 120.0
"""Segments are kept this long after they were written, in seconds, and longer unless a snapshot and a part hold them."""
SNAPSHOT_SEGMENTS = 1024
"""Segments behind a snapshot after which the next one may be due."""
_ALWAYS_SEGMENTS = 8 * SNAPSHOT_SEGMENTS
_ROUND_CALLERS = 10_000
"""Callers whose changes share one segment, at most."""
_THREAD_BYTES = 256 << 10
"""Work on fewer bytes is done in place."""
_WINDOW = 32
_WINDOW_BYTES = 64 << 20
"""Segments fetched at once when many are to be read."""
_STEPS = 3
"""Segments read one by one before a listing is worth its price."""
_LOOKS = 8
_TRIES = 8
_PAUSE_S = 0.05


def table(objects: Objects) -> Objects:
    """The place of the chain in a store: what `journal.verify` proves."""
    return Prefixed(objects, TABLE)


class Committed(NamedTuple):
    """Changes that are durable now, as records `first_seq`, `first_seq + 1`, ..."""

    first_seq: int
    changes: Sequence[Change]

    @property
    def versions(self) -> list[int]:
        """Of each change its record's number, which is the version of what it put."""
        return list(range(self.first_seq, self.first_seq + len(self.changes)))


class Options(NamedTuple):
    """What tests and large stores set differently."""

    grace_s: float = GRACE_S
    snapshot_segments: int = SNAPSHOT_SEGMENTS
    boottime: Callable[[], float] = boot_clock
    """Seconds, going on while the machine sleeps."""
    pause_s: float = _PAUSE_S
    """First pause before an unanswered create is sent again; doubles."""
    name: str = ""
    """Written into the segments, for people; by default the host and the process."""


class _Caller(NamedTuple):
    build: Build
    done: asyncio.Future[Committed]


class _Plan(NamedTuple):
    """What a round would commit, and what each caller would then be told."""

    changes: list[Change]
    verdicts: list[tuple[_Caller, Committed | Exception]]

    @property
    def certain(self) -> bool:
        """Has everybody something to commit? Otherwise somebody learns a fact from the state, which must be fresh."""
        return all(isinstance(verdict, Committed) and verdict.changes for _, verdict in self.verdicts)


class Chain:
    """An instance's hold on the table. For one event loop; any number of instances may share a store."""

    def __init__(self, objects: Objects, nonce: bytes | None = None, options: Options | None = None) -> None:
        self._objects = table(objects)
        self._nonce = nonce or os.urandom(NONCE_BYTES)
        self._options = options or Options()
        self._name = self._options.name or f"{socket.gethostname()}-{os.getpid()}"
        self._position = Position()
        self._mark: Version | None = None
        """`towline.json` as it was when the table was opened."""
        self._proven = float("-inf")
        """When the next slot was last certainly absent, by boottime."""
        self._tail_bytes = 0
        """Bytes of the segments behind the last named snapshot, as far as this instance has seen them."""
        self._ahead: bytes | None = None
        """The next segment, where it was read while a create was settled."""
        self._readers: list[asyncio.Future[None]] = []
        self._callers: list[_Caller] = []
        self._pump: asyncio.Task[None] | None = None
        self._keeping: asyncio.Task[None] | None = None
        """The snapshot that is being made."""
        self.state = State()
        """What is committed, as far as this instance has seen it. Read only; it changes whenever the event loop runs."""
        self.objects = objects

    # --------------------------------------------------------------------------------------------------- begin and end

    @classmethod
    async def create(
        cls, objects: Objects, began: records.Began, *, nonce: bytes | None = None, options: Options | None = None
    ) -> Chain:
        """A new table. JobStoreExistsException if there is one (of several who try at once, one succeeds)."""
        chain = cls(objects, nonce, options)
        chain._mark = await standing.mark_of(objects)
        await chain._load()
        if chain.state.began or chain._position.number:
            raise JobStoreExistsException(None, objects.url)
        await chain.commit(lambda state: [began])
        return chain

    @classmethod
    async def open(cls, objects: Objects, *, nonce: bytes | None = None, options: Options | None = None) -> Chain:
        """The table that is there. NoSuchJobStoreException if there is none, or one that is being destroyed."""
        chain = cls(objects, nonce, options)
        chain._mark = await standing.mark_of(objects)
        await chain._load()
        if not chain.state.began or chain.state.destroyed:
            raise NoSuchJobStoreException(objects.url)
        return chain

    @property
    def position(self) -> Position:
        """The point of the chain that `state` is of."""
        return self._position

    async def close(self) -> None:
        """Wait for what runs, and let go. Idempotent. What was committed stays committed."""
        if self._keeping is not None:
            self._keeping.cancel()
            with suppress(asyncio.CancelledError, TowlineError):
                await self._keeping
        while self._pump is not None and not self._pump.done():
            await asyncio.wait([self._pump])

    async def kept(self) -> None:
        """Wait for the snapshot that is being made, if one is. For tests and orderly ends."""
        if self._keeping is not None:
            await asyncio.wait([self._keeping])

    # -------------------------------------------------------------------------------------------------------- verbs

    async def refresh(self) -> State:
        """The state with all that anybody committed before this call; one request when nothing is new. ObjectsError."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._readers.append(done)
        self._wake()
        await done
        return self.state

    async def commit(self, build: Build) -> Committed:
        """Make durable what `build` returns, all of it or nothing; when this returns, everybody can see it.

        Raises what `build` raises, what `State.check` says of a change, and ObjectsError: then nothing was committed, but
        for Ambiguous, after which nobody knows. A cancelled call may have committed.
        """
        caller = _Caller(build, asyncio.get_running_loop().create_future())
        self._callers.append(caller)
        self._wake()
        return await caller.done

    def _wake(self) -> None:
        if self._pump is None or self._pump.done():
            self._pump = asyncio.get_running_loop().create_task(self._serve())
            self._pump.add_done_callback(lambda task: task.cancelled() or task.exception())  # those who waited were told

    async def _serve(self) -> None:
        """Rounds, one after the other (R6), as long as somebody waits."""
        while self._readers or self._callers:
            readers, self._readers = self._readers, []
            callers, self._callers = self._callers[:_ROUND_CALLERS], self._callers[_ROUND_CALLERS:]
            try:
                await self._round(readers, callers)
            except BaseException as error:
                waiting: list[asyncio.Future[Any]] = [*readers, *(c.done for c in callers)]
                for future in waiting:
                    _fail(future, error)
                if not isinstance(error, Exception):
                    raise

    async def _round(self, readers: Sequence[asyncio.Future[None]], callers: Sequence[_Caller]) -> None:
        fresh = bool(readers)
        if readers:
            await self._catch_up()
            if self.state.destroyed:
                raise NoSuchJobStoreException(self.objects.url)
            for reader in readers:
                if not reader.done():
                    reader.set_result(None)
        while callers := [c for c in callers if not c.done.done()]:
            if self.state.destroyed:
                raise NoSuchJobStoreException(self.objects.url)
            plan = self._plan(callers)
            if not plan.certain and not fresh:
                await self._catch_up()
                fresh = True
            elif not plan.changes or await self._extend(plan.changes):
                return _tell(plan.verdicts)
            else:
                await self._catch_up()
                fresh = True

    # -------------------------------------------------------------------------------------------------------- commit

    def _plan(self, callers: Sequence[_Caller]) -> _Plan:
        """Try everybody's changes on a fork, in order. No verdict is told before the changes before it are durable."""
        fork, changes = self.state.fork(), list[Change]()
        verdicts: list[tuple[_Caller, Committed | Exception]] = []
        for caller in callers:
            seq = self._position.seq + len(changes)
            try:
                wanted = list(caller.build(fork))
                _try(fork, seq, wanted)
            except Exception as error:
                verdicts.append((caller, error))
            else:
                changes += wanted
                verdicts.append((caller, Committed(seq, wanted)))
        return _Plan(changes, verdicts)

    async def _extend(self, changes: Sequence[Change]) -> bool:
        """Create the next segment with these changes. False: somebody else did."""
        position = self._position
        payloads = [records.encode(change) for change in changes]
        size = sum(map(len, payloads))
        link = await _work(size, lambda: links.build(position, payloads, self._nonce, self._name))
        started = self._options.boottime()
        if not await self._create(link):
            return False
        self._advance(link, changes)
        self._proven = started
        self._keep()
        return True

    def _advance(self, link: Link, changes: Sequence[Change]) -> None:
        """The segment is committed: it becomes part of the state."""
        seq, self._ahead = self._position.seq, None
        for at, change in enumerate(changes):
            self.state.apply(seq + at, change)
            if isinstance(change, Snapshotted):
                self._tail_bytes = 0
        self._tail_bytes += len(link.image)
        self._position = link.after

    async def _create(self, link: Link) -> bool:
        """Create the next segment and know whose it is. The answer may be lost any number of times."""
        key, pause = self._position.key, self._options.pause_s
        for _ in range(_TRIES):
            try:
                await self._objects.put(key, link.image, ABSENT)
                return await self._counts(link)
            except (PreconditionFailed, Ambiguous):
                found = await self._read_back(key)
            except ObjectsError as error:
                if await standing.mark_of(self.objects) != self._mark:  # a local store's folders have gone with it
                    raise NoSuchJobStoreException(self.objects.url) from error
                raise
            match settle(link.image, found):
                case Verdict.MINE:
                    return await self._counts(link)
                case Verdict.OTHERS:
                    self._ahead = found
                    return False
            await asyncio.sleep(pause)
            pause = min(2 * pause, 5.0)
        self._proven = float("-inf")
        raise Ambiguous(f"{self._objects.url}: no answer tells whether {key} was created; look at what is there, then decide")

    async def _read_back(self, key: str) -> bytes | None:
        pause = self._options.pause_s
        for _ in range(_TRIES):
            try:
                return await self._objects.get(key)
            except NotFound:
                return None
            except Ambiguous:
                await asyncio.sleep(pause)
                pause = min(2 * pause, 5.0)
        raise Ambiguous(f"{self._objects.url}: {key} cannot be read back")

    async def _counts(self, link: Link) -> bool:
        """`_stands`; where the place gives no answer to that, nobody knows."""
        try:
            return await self._stands(link)
        except ObjectsError as error:
            self._proven = float("-inf")
            key = segment_key(link.after.number)
            raise Ambiguous(f"{self.objects.url}: {key} was created, but no answer tells whether it counts ({error})") from error

    async def _stands(self, link: Link) -> bool:
        """R4: is the segment that was created part of the chain? A slow create may have met a slot that was emptied.

        NoSuchJobStoreException where the store was destroyed before: all of its slots are empty then.
        """
        if await standing.mark_of(self.objects) != self._mark:
            await standing.take_back(self.objects, [TABLE + segment_key(link.after.number)])
            raise NoSuchJobStoreException(self.objects.url)
        if not self._stale():
            return True
        mine, numbers = link.after.number, await self._numbers(link.after.number - 1)
        if set(numbers) == {mine}:
            return True  # the last two segments are never deleted, so nobody went past
        self._proven = float("-inf")
        if mine not in numbers:
            return False
        if mine + 1 in numbers and await self._followed(link):
            return True
        await self._objects.delete_many([segment_key(mine)])  # ours, and no part of the chain
        return False

    async def _followed(self, link: Link) -> bool:
        key = segment_key(link.after.number + 1)
        try:
            return links.follows(link.after, await self._objects.get(key), key)
        except NotFound:
            return False

    def _stale(self) -> bool:
        """May a segment have come and gone since the next slot was certainly absent?"""
        return self._options.boottime() - self._proven > self._options.grace_s / 2

    # -------------------------------------------------------------------------------------------------------- catch up

    async def _catch_up(self) -> None:
        """Apply what others committed: all that was there when this was called. NoSuchJobStoreException if the store has gone."""
        mark, fault = await asyncio.gather(standing.mark_of(self.objects), self._read_news(), return_exceptions=True)
        if isinstance(mark, BaseException):
            raise mark
        if mark != self._mark:
            raise NoSuchJobStoreException(self.objects.url)
        if fault is not None:
            raise fault

    async def _read_news(self) -> None:
        for _ in range(_LOOKS):
            try:
                if not self._stale() and await self._read_on():
                    return
                return await self._read_listed()
            except (SegmentGone, NotFound, CorruptionError):
                # deleted under us; or what stood there was a late writer's, in a slot that had been emptied (R4)
                await self._load()
                if not self.state.began:
                    raise NoSuchJobStoreException(self.objects.url) from None
        raise SegmentGone(f"{self._objects.url} is being tidied faster than it can be read; try again")

    async def _read_on(self) -> bool:
        """Read one segment after the other up to the first that is absent. False: look by a listing."""
        for step in range(_STEPS + 1):
            started, key = self._options.boottime(), self._position.key
            try:
                data = self._ahead or await self._objects.get(key)
            except NotFound:
                if self._stale():
                    return False
                if step:
                    await self._sync()
                self._proven = started
                return True
            self._take(await self._prove(data, self._position))
        self._proven = float("-inf")
        return False

    async def _prove(self, data: bytes, position: Position) -> tuple[Link, list[Change]]:
        name = f"{self._objects.url}/{position.key}"
        return await _work(len(data), lambda: _parse(position, data, name))

    def _take(self, found: tuple[Link, list[Change]]) -> None:
        self._advance(*found)

    async def _sync(self) -> None:
        """What others created may be seen before a power loss could no longer take it: make it durable before it is told."""
        with suppress(NotFound):
            await self._objects.sync(segment_key(self._position.number))

    async def _numbers(self, after: int) -> dict[int, int]:
        """number -> bytes of the segments behind number `after`."""
        found = self._objects.list(PREFIX, start_after=segment_key(after))
        return {number: meta.size async for meta in found if (number := number_of(meta.key)) is not None}

    async def _read_listed(self) -> None:
        """Read all segments that a listing shows. SegmentGone: the next one was deleted; start from a snapshot."""
        known = self._position.number
        started, numbers = self._options.boottime(), await self._numbers(max(0, known - 1))
        gap, beyond = first_gap(numbers, known)
        if beyond or (known and known not in numbers):
            raise SegmentGone(f"{segment_key(gap)} and others were deleted; start again from the newest snapshot")
        await self._read_all(range(known + 1, gap), numbers)
        self._proven = started

    async def _read_all(self, numbers: range, sizes: dict[int, int]) -> None:
        todo = list(numbers)
        while todo:
            count = max(1, _fitting([sizes[n] for n in todo[:_WINDOW]]))
            batch, todo = todo[:count], todo[count:]
            images = await asyncio.gather(*(self._objects.get(segment_key(n)) for n in batch))
            for data in images:
                self._take(await self._prove(data, self._position))
        if numbers:
            await self._sync()

    # ------------------------------------------------------------------------------------------------------ snapshots

    async def _load(self) -> None:
        """Begin anew: from the newest snapshot that a record names, or from the first segment."""
        for _ in range(_LOOKS):
            keys = await image.listed(self._objects)
            if not keys and not await self._numbers(0):
                return self._become(Chain(self.objects))
            with suppress(SegmentGone, NotFound):  # tidied away meanwhile: the next listing shows a newer one
                return await self._load_newest(keys)
        gap, _ = first_gap(await self._numbers(0), 0)
        raise CorruptionError(f"{self._objects.url}/{segment_key(gap)}: it is missing, but later ones exist, at offset 0")

    async def _load_newest(self, keys: Sequence[str]) -> None:
        damaged: dict[str, CorruptionError] = {}
        for key in reversed(keys):
            try:
                found = await image.fetch(self._objects, key)
            except CorruptionError as error:
                damaged[key] = error  # it counts only if a record names it
                continue
            fresh = Chain(self.objects, self._nonce, self._options)
            fresh.state, fresh._position = found.state, found.position
            await fresh._read_listed()
            if fresh._named(found, damaged):
                return self._become(fresh)
        fresh = Chain(self.objects, self._nonce, self._options)
        await fresh._read_listed()
        fresh._named(None, damaged)
        self._become(fresh)

    def _named(self, found: image.Found | None, damaged: dict[str, CorruptionError]) -> bool:
        """Does a record that was read name the snapshot that we started from, or a newer one?"""
        named = self.state.snapshot
        if named is not None and named.key in damaged:
            raise damaged[named.key]
        if found is None or named is None or named.seq < found.position.seq:
            return False
        if named.key == found.key and named.digest != found.digest:
            raise CorruptionError(f"{self._objects.url}/{found.key}: it is not the snapshot that was named, at offset 0 or later")
        return True

    def _become(self, fresh: Chain) -> None:
        self.state, self._position, self._tail_bytes = fresh.state, fresh._position, fresh._tail_bytes
        self._proven, self._ahead = fresh._proven, None

    def _keep(self) -> None:
        """Make a snapshot in the background when what an open must replay has grown out of proportion."""
        old = self.state.snapshot
        segments = self._position.number - (old.number if old is not None else 0)
        if segments < self._options.snapshot_segments or (self._keeping is not None and not self._keeping.done()):
            return
        if segments < _ALWAYS_SEGMENTS and old is not None and self._tail_bytes < old.size // 2:
            return
        self._keeping = asyncio.get_running_loop().create_task(self._snapshot())
        self._keeping.add_done_callback(lambda task: task.cancelled() or task.exception())  # the next one is due anyway

    async def _snapshot(self) -> None:
        with suppress(TowlineError):
            await self.snapshot()

    async def snapshot(self) -> Snapshotted:
        """Write a snapshot of what is committed here, have it named, and tidy by the one before."""
        old = self.state.snapshot
        new = await image.write(self._objects, self.state.copy(), self._position)
        await self.commit(lambda state: [new] if state.snapshot is None or state.snapshot.seq < new.seq else [])
        if old is not None:
            await image.tidy(self._objects, old, new, self._options.grace_s)
        return new


def _parse(position: Position, data: bytes, name: str) -> tuple[Link, list[Change]]:
    link = links.read(position, data, name)
    return link, records.decode_all(link.payloads, name)


def _try(fork: State, seq: int, changes: Sequence[Change]) -> None:
    """Apply to the fork what it allows, all or nothing; raises what forbids it."""
    if len(changes) > 1:
        _try_each(fork.fork(), seq, changes)
    _try_each(fork, seq, changes)


def _try_each(fork: State, seq: int, changes: Sequence[Change]) -> None:
    for at, change in enumerate(changes):
        fault = fork.check(change)
        if fault is not None:
            raise fault
        fork.apply(seq + at, change)


def _tell(verdicts: Sequence[tuple[_Caller, Committed | Exception]]) -> None:
    for caller, verdict in verdicts:
        if isinstance(verdict, Exception):
            _fail(caller.done, verdict)
        elif not caller.done.done():
            caller.done.set_result(verdict)


def _fail(future: asyncio.Future[Any], error: BaseException) -> None:
    if future.done():
        return
    if isinstance(error, asyncio.CancelledError):
        future.cancel()
    else:
        future.set_exception(error if not isinstance(error, StopIteration) else RuntimeError(repr(error)))


def _fitting(sizes: Sequence[int]) -> int:
    """How many of these sizes, from the first on, fit into the window."""
    total = 0
    for at, size in enumerate(sizes):
        total += size
        if total > _WINDOW_BYTES:
            return at
    return len(sizes)


async def _work(size: int, work: Callable[[], T]) -> T:
    return work() if size < _THREAD_BYTES else await asyncio.to_thread(work)

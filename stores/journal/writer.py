"""The one hand that appends. Claiming the store, committing and being fenced are the same act: the conditional
create of the next segment (R2); nothing else decides who leads.

On stores that can append, the claimed segment then grows by one write and one fsync a commit, and A looks after each
fsync, before it tells, that no next segment exists. On the others every commit is a segment of its own. Commits are
serial (R6). What cannot be known is never told: after a failed append the writer is broken for good (R5), and a
commit that ends too long after the last proof of leadership is told only after another look at the head (R4).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any, NamedTuple, NoReturn, TypeVar

from towline.engine.errors import FencedError, TowlineError
from towline.stores.errors import WriterBroken
from towline.stores.journal import records
from towline.stores.journal.reader import THREAD_BYTES, JournalReader
from towline.stores.journal.records import ACCEPTED, PAYLOAD, Encoded, encode
from towline.stores.journal.segments import (
    HEAD_BYTES,
    NONCE_BYTES,
    PREFIX,
    Accepted,
    Header,
    digest_of,
    encode_accepted,
    fold_all,
    pack_header,
    segment_key,
    unpack_header,
)
from towline.stores.journal.settle import Verdict, settle
from towline.stores.objects.base import ABSENT, Ambiguous, Appender, NotFound, Objects, PreconditionFailed

T = TypeVar("T")

SEGMENT_BYTES = 64 << 20
GRACE_S = 600.0
"""Segments are kept this long after their last write, in seconds; `parts.drop_segments` must not be given less."""
_TRIES = 8
"""How often an unanswered create is sent again."""
_PAUSE_S = 0.05
"""First pause before sending again; doubles."""


class Commit(NamedTuple):
    """Records that are durable now: numbers `first_seq` to `first_seq + count - 1`."""

    first_seq: int
    count: int  # type: ignore[assignment]  # the plain name is worth more than tuple.count, which nobody calls here


def boot_clock() -> float:
    """Seconds, going on while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


class JournalWriter:
    """Made by `claim`. `commit` and `check` raise FencedError once another has claimed; the holder must then stop."""

    def __init__(self, objects: Objects, reader: JournalReader, header: Header, options: _Options) -> None:
        self._objects = objects
        self._header = header
        self._options = options
        self._appender: Appender | None = None
        self._running: asyncio.Task[Any] | None = None
        self._abandoned = False
        """Was the caller of the running act cancelled?"""
        self._lost = False
        """Are we broken because we were fenced?"""
        self._proven = options.boottime()
        """When it was last certain that we lead (start of the act that proved it), seconds."""
        self.reader = reader
        self.broken = ""
        """Why nothing can be committed any more; empty while all is well."""

    @property
    def epoch(self) -> int:
        """The claim's number: higher than every one before."""
        return self._header.epoch

    @property
    def next_seq(self) -> int:
        """Number that the next record will get."""
        return self.reader.next_seq

    # -------------------------------------------------------------------------------------------------------- claim

    @classmethod
    async def claim(
        cls,
        objects: Objects,
        *,
        nonce: bytes,
        leader: str,
        segment_bytes: int = SEGMENT_BYTES,
        expected_head: int | None = None,
        reader: JournalReader | None = None,
        grace_s: float = GRACE_S,
        boottime: Callable[[], float] = boot_clock,
    ) -> JournalWriter:
        """Take the store: from the create of the next segment on, every other writer is fenced.

        `nonce` is 16 random bytes, minted for this claim alone. With `expected_head` (`reader.last_segment` as the
        caller saw it) the claim fails with FencedError if the head has moved (R8); without, it goes on to the next
        gap when others are faster. A `reader` of these objects that the caller has already becomes the writer's own: what
        it has read need not be read again. Raises FencedError also if another claims while this one still judges what
        it found.
        """
        if len(nonce) != NONCE_BYTES:
            raise ValueError(f"a claim's nonce has {NONCE_BYTES} bytes, not {len(nonce)}")
        options = _Options(segment_bytes, grace_s, boottime)
        if reader is None:
            reader = await JournalReader.open(objects)
        else:
            await reader.refresh()
        number = 0
        while True:
            if expected_head is not None and reader.last_segment != expected_head:
                raise FencedError(f"{objects.url} was taken or written to meanwhile by {reader.leader or 'another'}")
            seen, number = reader.last_segment, max(number, reader.last_segment + 1)
            size = 0 if objects.appendable else HEAD_BYTES
            # no epoch is higher than the number of its segment: so a claim that has not seen all before it takes that
            epoch = reader.last_epoch + 1 if number == seen + 1 else number
            writer = cls(objects, reader, Header(number, epoch, nonce, size, leader), options)
            try:
                await writer._take()
            except PreconditionFailed:
                if objects.appendable or expected_head is not None:
                    await reader.refresh()
                else:
                    # it exists, so the next one may be tried at once: a leader that commits without a pause is always ahead
                    # of whoever first reads what it wrote
                    number += 1
                continue
            try:
                await writer._judge()
            except BaseException:
                await writer._let_go()
                raise
            return writer

    async def _take(self) -> None:
        """Create our segment with nothing but its header. PreconditionFailed: somebody was faster."""
        key, image = segment_key(self._header.number), pack_header(self._header)
        if self._objects.appendable:
            # our own create with a lost answer is simply passed over: an empty segment is a claim that ended at once
            self._appender = await self._objects.appender(key, image)
        elif not await self._create(key, image, claiming=True):
            raise PreconditionFailed(f"{key} exists")

    async def _judge(self) -> None:
        """Read all that was there to its end, now that nobody can commit to it any more, and write down what counts."""
        number = self._header.number
        await self.reader.look(fenced=number)
        self.reader.owned = True
        self.reader.let_go()
        if self.reader.last_segment != number:
            await self._fenced(None)
        if number == 1:
            self.reader.began(self._header, None, pack_header(self._header), None)
        elif self._appender is not None:
            await self._guarded(self._open_with(await self._accepted(), []))

    async def _accepted(self) -> Accepted:
        """The judgement on every segment before ours that nobody has determined yet."""
        entries = []
        known, empty = self.reader.undetermined(self._header.number + (self._appender is None))
        if known is not None:
            entries.append((known.segment.number, known.segment.length, known.hasher.digest()))
        for number in empty:
            head = await self._objects.get(segment_key(number), 0, HEAD_BYTES)
            head = head if len(head) == HEAD_BYTES else b""
            entries.append((number, len(head), digest_of(head)))
        return Accepted(entries, self.reader.next_seq, fold_all(self.reader.chain, entries))

    # ------------------------------------------------------------------------------------------------------- commit

    async def commit(self, payloads: Sequence[bytes], boottime: Callable[[], float] | None = None) -> Commit:
        """Make these records durable, all or none; they are when it returns, and only then may anyone be told.

        Serial: a second call while one runs is a mistake of the caller (AssertionError). FencedError if another has
        claimed. Any ObjectsError breaks the writer: whether the records are there is for the next claim to find out
        (R5). A cancelled commit goes on in the background; the next call waits for it.
        """
        return await self._guarded(self._commit(payloads, boottime or self._options.boottime))

    async def _commit(self, payloads: Sequence[bytes], boottime: Callable[[], float]) -> Commit:
        if not payloads:
            return Commit(self.next_seq, 0)
        started, first, proven = boottime(), self.next_seq, self._options.boottime()
        if self._appender is None:
            await self._link(payloads)
        elif self._size >= self._options.segment_bytes:
            await self._rotate(payloads)
        else:
            await self._append(payloads)
        limit = self._options.grace_s / 2
        if boottime() - started > limit or self._options.boottime() - self._proven > limit:
            await self._confirm()
        self._proven = proven
        self.reader.remember(first, payloads)
        return Commit(first, len(payloads))

    @property
    def _size(self) -> int:
        open_segment, _ = self.reader.undetermined(0)
        return open_segment.segment.length if open_segment else HEAD_BYTES

    async def _append(self, payloads: Sequence[bytes]) -> None:
        """Appended mode: one write, one fsync, one look for the next segment."""
        assert self._appender is not None
        at = self._size
        encoded = await self._encode(payloads, at, 0)
        await self._grow(encoded.data, at)
        await _work(len(encoded.data), lambda: self.reader.grew(encoded.data, encoded))

    async def _grow(self, data: bytes, at: int) -> None:
        assert self._appender is not None
        absent = segment_key(self._header.number + 1)
        try:
            size = await self._appender.append(data, absent)
        except PreconditionFailed as e:
            await self._fenced(e)
        if size != at + len(data):
            raise WriterBroken(f"{segment_key(self._header.number)} has {size} bytes instead of {at + len(data)}")

    async def _open_with(self, accepted: Accepted, payloads: Sequence[bytes]) -> None:
        """Appended mode, after a claim: `Accepted` becomes our segment's first record."""
        first, encoded = await self._first_records(accepted, payloads)
        await self._grow(first + encoded.data, HEAD_BYTES)
        self.reader.began(self._header, accepted, pack_header(self._header) + first + encoded.data, encoded)

    async def _rotate(self, payloads: Sequence[bytes]) -> None:
        """Appended mode, a full segment: the next one, with this commit in it, is created in one act."""
        assert self._appender is not None
        old, header = self._appender, self._header._replace(number=self._header.number + 1)
        image, accepted, encoded = await self._image(header, payloads)
        try:
            self._appender = await self._objects.appender(segment_key(header.number), image)
        except PreconditionFailed as e:
            await self._fenced(e)
        self._header = header
        await _work(len(image), lambda: self.reader.began(header, accepted, image, encoded))
        await old.close()

    async def _link(self, payloads: Sequence[bytes]) -> None:
        """Linked mode: the commit is the create of the next segment."""
        header = self._header._replace(number=self._header.number + 1)
        image, accepted, encoded = await self._image(header, payloads, whole=True)
        key = segment_key(header.number)
        if not await self._create(key, image):
            await self._fenced(None)
        self._header = header._replace(size=len(image))
        await _work(len(image), lambda: self.reader.began(self._header, accepted, image, encoded))

    async def _image(
        self, header: Header, payloads: Sequence[bytes], whole: bool = False
    ) -> tuple[bytes, Accepted | None, Encoded]:
        """The bytes of a new segment: header, judgement, records."""
        accepted = await self._accepted()
        first, encoded = await self._first_records(accepted, payloads)
        size = HEAD_BYTES + len(first) + len(encoded.data)
        return pack_header(header._replace(size=size if whole else 0)) + first + encoded.data, accepted, encoded

    async def _first_records(self, accepted: Accepted, payloads: Sequence[bytes]) -> tuple[bytes, Encoded]:
        seed, seq = records.seed_of(self._header.nonce), accepted.first_seq
        first = encode([encode_accepted(accepted)], kind=ACCEPTED, at=HEAD_BYTES, back=0, seq=seq, seed=seed).data
        return first, await self._encode(payloads, HEAD_BYTES + len(first), len(first))

    async def _encode(self, payloads: Sequence[bytes], at: int, back: int) -> Encoded:
        seed, seq = records.seed_of(self._header.nonce), self.next_seq
        return await _work(sum(map(len, payloads)), lambda: encode(payloads, kind=PAYLOAD, at=at, back=back, seq=seq, seed=seed))

    # ------------------------------------------------------------------------------------------------ who leads, really

    async def _create(self, key: str, image: bytes, claiming: bool = False) -> bool:
        """Create an object and know the outcome: True if it is ours. The answer may be lost any number of times.

        `claiming`: what exists is not looked at. If it was ours after all, it is passed over: an empty segment is a claim
        that ended at once.
        """
        pause = _PAUSE_S
        for attempt in range(_TRIES):
            try:
                await self._objects.put(key, image, ABSENT)
                return True
            except (PreconditionFailed, Ambiguous) as error:
                if claiming and attempt == 0 and isinstance(error, PreconditionFailed):
                    return False
                verdict = settle(image, await self._read_back(key))
            if verdict is not Verdict.ABSENT:
                self._proven = float("-inf")
                return verdict is Verdict.MINE
            await asyncio.sleep(pause)
            pause = min(2 * pause, 5.0)
        raise Ambiguous(f"{self._objects.url}: no answer tells whether {key} was created; resume to find out")

    async def _read_back(self, key: str) -> bytes | None:
        for _ in range(_TRIES):
            try:
                return await self._objects.get(key)
            except NotFound:
                return None
            except Ambiguous:
                await asyncio.sleep(_PAUSE_S)
        raise Ambiguous(f"{self._objects.url}: {key} cannot be read back")

    async def check(self) -> None:
        """FencedError if another has claimed the store since our last commit. Waits for a running commit."""
        while True:
            await self._settled()
            number = self._header.number + 1
            try:
                await self._objects.head(segment_key(number))
            except NotFound:
                return
            if self._busy():
                continue  # a commit of ours began meanwhile, and may be what was seen
            if self._header.number + 1 != number:
                return  # it was: a commit of ours went through since, which proves more than this look
            await self._final(self._fenced(None))

    async def _confirm(self) -> None:
        """R4: is our segment there and the last one? A slow create may have hit a slot that garbage collection
        emptied."""
        key = segment_key(self._header.number)
        try:
            head = await self._objects.get(key, 0, HEAD_BYTES)
        except NotFound:
            await self._fenced(None)
        if head != pack_header(self._header):
            await self._fenced(None)
        async for _ in self._objects.list(PREFIX, start_after=key):
            await self._fenced(None)

    async def _fenced(self, cause: Exception | None) -> NoReturn:
        """Say who has taken over, as far as it can be read."""
        key, who = segment_key(self._header.number + 1), ""
        with suppress(TowlineError):  # the sentence is only less exact then
            who = unpack_header(await self._objects.get(key, 0, HEAD_BYTES), key).leader
        raise FencedError(
            f"{self._objects.url} was taken over by {who or 'another leader'}: stop here, its run goes on there"
        ) from cause

    async def _guarded(self, act: Coroutine[Any, Any, T]) -> T:
        """Run one act to its end even if the caller is cancelled; any failure of it is final."""
        try:
            assert self._abandoned or not self._busy(), "commits are serial (R6): one at a time"
            await self._settled()
        except BaseException:
            act.close()
            raise
        task = self._running = asyncio.ensure_future(self._final(act))
        task.add_done_callback(lambda t: t.cancelled() or t.exception())  # an abandoned failure is kept in `broken`
        self._abandoned = False
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            self._abandoned = True
            raise

    async def _final(self, act: Coroutine[Any, Any, T]) -> T:
        try:
            return await act
        except BaseException as e:
            self.broken = str(e) or type(e).__name__
            self._lost = isinstance(e, FencedError)
            raise

    def _busy(self) -> bool:
        return self._running is not None and not self._running.done()

    async def _settled(self) -> None:
        """Wait for an act that its caller abandoned; raise if nothing can be done any more."""
        if self._running is not None and not self._running.done():
            await asyncio.wait([self._running])
        if self.broken:
            raise (FencedError(self.broken) if self._lost else WriterBroken(f"no commit is possible any more: {self.broken}"))

    # -------------------------------------------------------------------------------------------------------- leave

    async def close(self) -> None:
        """Seal the open segment, so that its length is proven from now on, and let go. Commits nothing; idempotent.

        A seal that does not come to be (another has claimed, the disk is full) takes nothing from what was committed.
        """
        if self._busy():
            await asyncio.wait([t for t in [self._running] if t])
        if self._appender is not None and not self.broken and self._size > HEAD_BYTES:
            with suppress(TowlineError):
                await self._link([])
        self.broken = self.broken or "the writer is closed"
        await self._let_go()

    async def _let_go(self) -> None:
        if self._appender is not None:
            await self._appender.close()


class _Options(NamedTuple):
    segment_bytes: int
    grace_s: float
    boottime: Callable[[], float]


async def _work(size: int, work: Callable[[], T]) -> T:
    return work() if size < THREAD_BYTES else await asyncio.to_thread(work)

"""Reads committed records, and nothing else (R5): where the journal ends, what counts, and how it is proven.

What counts. A segment that a later `Accepted` determines counts up to the length given there. Of the one after
those, the open segment, counts what a power loss can no longer take and no claim can void: read it to its end, then
make that durable (`Objects.sync`), then see that no next segment exists, and only then believe it (R2). Once a next
segment exists whose maker has not judged yet, only what an append of the same writer follows counts: it appends only
after it saw that it still leads.

The reader never holds the records, only per segment the arrays of their positions (and, until `let_go`, small segments that
were fetched whole for their heads). A segment that vanishes under it (R4) is looked for in the parts; if it is not there
either, `SegmentGone` tells the caller to start again.
"""

from __future__ import annotations

import asyncio
import bisect
from array import array
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from typing import TypeVar

from towline.engine.errors import CorruptionError
from towline.engine.model import Location
from towline.stores.errors import SegmentGone
from towline.stores.journal import ahead, records
from towline.stores.journal.ahead import Span, Stretch
from towline.stores.journal.cache import PayloadCache
from towline.stores.journal.opened import OpenSegment, blank, cut
from towline.stores.journal.parts import Part, load_parts, segment_of
from towline.stores.journal.positions import Positions
from towline.stores.journal.records import Encoded, Parsed
from towline.stores.journal.segments import (
    GENESIS,
    HEAD_BYTES,
    PREFIX,
    Accepted,
    Head,
    Header,
    MoreBytes,
    Segment,
    digest_of,
    first_gap,
    fold,
    fold_all,
    number_of,
    read_head,
    segment_key,
    unpack_header,
)
from towline.stores.objects.base import NotFound, Objects

T = TypeVar("T")

_FIRST_BYTES = 4096
"""How much of a segment is fetched to learn its head."""
_WHOLE_BYTES = 1 << 20
"""A segment that was written at once and is no larger is fetched whole: one request for its head and its records."""
_KEPT_BYTES = 64 << 20
"""How much of these is kept until `let_go`."""
_LOOKS = 8
"""How often the reader begins anew when segments come and go under it."""
THREAD_BYTES = 256 << 10
"""Work on fewer bytes than this (some 0.3 ms) is done in place; a hop to a thread would cost as much."""
CACHE_BYTES = 64 << 20


class JournalReader:
    """Make one with `open`; `refresh` sees what was committed since. Not for use from several threads."""

    def __init__(self, objects: Objects, cache_bytes: int = CACHE_BYTES) -> None:
        self._objects = objects
        self._segments: list[Segment] = []
        self._starts: list[int] = []
        self._chain_start = GENESIS
        self._chain = GENESIS
        self._open: OpenSegment | None = None
        self._after: list[tuple[int, Head]] = []
        """Undetermined segments behind the open one: they hold nothing."""
        self._heads: dict[int, Head] = {}
        self._kept: dict[int, bytes] = {}
        self._kept_room = _KEPT_BYTES
        self._parts: dict[str, Part] = {}
        self._max_epoch = 0
        self._cache = PayloadCache(cache_bytes)
        self._indexing = asyncio.Lock()
        self.owned = False
        """Is this the reader of a writer? Then it knows of every commit at once, and `refresh` has nothing to do."""
        self.leader = ""
        """Name of the maker of the last segment, for people."""
        self.last_segment = 0
        """Number of the last segment there is; the next claim or commit creates the one after it."""
        self.compacted = 0
        """Number of the last segment that was seen in a part."""

    @classmethod
    async def open(cls, objects: Objects, positions: Positions | None = None) -> JournalReader:
        """A reader that has found the head. With `positions` (of an earlier reader) only later segments are looked at.

        Raises CorruptionError, NewerFormat, SegmentGone (begin again), ObjectsError.
        """
        reader = cls(objects)
        if positions is not None:
            reader._restore(positions)
        await reader.refresh()
        return reader

    # ------------------------------------------------------------------------------------------------ what is known

    @property
    def next_seq(self) -> int:
        """Number that the next record will get: all below are committed."""
        if self._open is not None:
            return self._open.segment.end_seq
        return self._segments[-1].end_seq if self._segments else 0

    @property
    def last_epoch(self) -> int:
        """Highest epoch that may have been led; a torn head hides one."""
        return self._max_epoch + sum(head.header is None for _, head in self._after)

    @property
    def chain(self) -> bytes:
        """The chain hash over all determined segments."""
        return self._chain

    @property
    def stored_bytes(self) -> int:
        """Committed bytes of all segments, wherever they lie."""
        return sum(s.length for s in self.segments())

    def determined(self) -> Sequence[Segment]:
        """The segments whose extent can no longer change, in order."""
        return self._segments

    def segments(self) -> Sequence[Segment]:
        """The determined segments and the open one."""
        return [*self._segments, self._open.segment] if self._open is not None else self._segments

    def chain_before(self, number: int) -> bytes:
        """The chain hash over the determined segments below `number`."""
        chain = self._chain_start
        for segment in self._segments:
            if segment.number < number:
                chain = fold(chain, segment.number, segment.length, segment.digest)
        return chain

    def positions(self) -> Positions:
        """What `open` can start from next time: all determined segments with the record positions known so far."""
        return Positions.of(self._segments, self._chain_start, self._max_epoch)

    def let_go(self) -> None:
        """What was fetched for later will not be read, or has been: keep no more of it."""
        self._kept, self._kept_room = {}, 0

    def _restore(self, positions: Positions) -> None:
        self._chain_start = self._chain = positions.chain_start
        for segment in positions.segments():
            self._add(segment)
        self._max_epoch = positions.max_epoch

    def _add(self, segment: Segment) -> None:
        self._segments.append(segment)
        self._starts.append(segment.first_seq)
        self._chain = fold(self._chain, segment.number, segment.length, segment.digest)
        self._max_epoch = max(self._max_epoch, segment.epoch)

    @property
    def _known(self) -> int:
        """Number of the last determined segment."""
        return self._segments[-1].number if self._segments else 0

    # ------------------------------------------------------------------------------------------------ finding the end

    async def refresh(self) -> None:
        """See what was committed since. Raises as `open` does; what was known before stays valid."""
        if not self.owned:
            await self.look()

    async def look(self, fenced: int = 0) -> None:
        """As `refresh`. A writer that has created segment `fenced` believes all below it to the end (R2)."""
        if not self._segments and self._open is None:
            await self.take_parts()
        for _ in range(_LOOKS):
            try:
                if await self._look(fenced):
                    return
            except NotFound:
                pass
            await self.take_parts()
        await self._explain()

    async def _explain(self) -> None:
        sizes = await self._list(self._known)
        gap, beyond = first_gap(sizes, self._known)
        if beyond:
            raise CorruptionError(f"{segment_key(gap)}: the segment is missing, but later ones exist, at offset 0")
        raise SegmentGone(f"{segment_key(gap)} and others were deleted while the journal was read; start again")

    async def _list(self, after: int) -> dict[int, int]:
        """number -> bytes of the segments behind number `after`."""
        found = self._objects.list(PREFIX, start_after=segment_key(after))
        return {number: meta.size async for meta in found if (number := number_of(meta.key)) is not None}

    async def _look(self, fenced: int) -> bool:
        """One look at the journal's end. False: it moved meanwhile, look again."""
        known = self._known
        sizes = await self._list(known)
        gap, beyond = first_gap(sizes, known)
        if beyond or (self._open is not None and self._open.segment.number not in sizes):
            return False
        heads = await self._read_heads(range(known + 1, gap), sizes)
        root: OpenSegment | None = None
        for number in range(gap - 1, known, -1):
            believed = number == gap - 1 or number < fenced
            if self._may_hold(number, heads[number]):
                candidate = self._candidate(number, heads[number])
                if not await self._read_on(candidate, believed, check_next=number >= fenced):
                    return False
                if candidate.segment.length >= heads[number].accepted_end:
                    root = candidate
                    break
        if root is not None:
            self._walk_back(root.segment.number, heads)
            self._open = root
        self._after = [(n, heads[n]) for n in range((root.segment.number if root else known) + 1, gap)]
        self._heads = {n: h for n, h in heads.items() if n > self._known}
        self._max_epoch = max([self._max_epoch, *(h.header.epoch for h in heads.values() if h.header)])
        self.last_segment = gap - 1
        named = heads[gap - 1].header if gap - 1 in heads else None
        self.leader = named.leader if named else self.leader
        return True

    def _may_hold(self, number: int, head: Head) -> bool:
        return head.header is not None and (head.accepted is not None or number == 1)

    def _candidate(self, number: int, head: Head) -> OpenSegment:
        """What is known of the undetermined segment so far."""
        if self._open is not None and self._open.segment.number == number:
            return self._open
        assert head.header is not None
        segment = blank(number, head)
        segment.offsets = array("Q")
        return OpenSegment(segment, head.header.size > 0)

    async def _read_heads(self, numbers: Sequence[int], sizes: dict[int, int]) -> dict[int, Head]:
        heads = {n: self._heads[n] for n in numbers if n in self._heads and _is_final(self._heads[n])}
        missing = [n for n in numbers if n not in heads]
        async for number, head in ahead.in_order(missing, lambda n: self._read_head(n, sizes[n])):
            heads[number] = head
        return heads

    async def _read_head(self, number: int, size: int) -> Head:
        whole = size <= _WHOLE_BYTES and not self._objects.appendable
        want, key = size + 1 if whole else _FIRST_BYTES, segment_key(number)
        while True:
            data = await self._objects.get(key, 0, want)
            try:
                head = read_head(data, number, len(data) if len(data) < want else max(size, len(data)), key)
            except MoreBytes as e:
                want = e.need + 1
                continue
            if head.header is None and not self._objects.appendable:
                raise CorruptionError(f"{key}: it is cut off, at offset {len(data)}")
            if head.header is not None and head.header.size == len(data) <= self._kept_room:
                self._kept[number] = data
                self._kept_room -= len(data)
            return head

    async def _read_on(self, known: OpenSegment, believed: bool, check_next: bool) -> bool:
        """Read the open segment from what is known of it to its end. False: a next segment appeared meanwhile."""
        segment, start = known.segment, known.segment.length
        if known.whole and start:
            return True
        kept = self._kept.get(segment.number)
        data = await self._objects.get(segment.key, start) if kept is None else kept[start:]
        at = max(start, HEAD_BYTES)
        parsed = await _work(len(data), lambda: self._parse_open(known, data[at - start :], at))
        end = parsed.end
        if known.whole or believed:
            await self._objects.sync(segment.key)  # of a whole segment it is the name that may not be durable yet
        if not known.whole:
            if not believed:
                end = max(at, parsed.appended_at)
            elif check_next and await self._exists(segment_key(segment.number + 1)):
                return False
        if start == 0 or end > start:
            await _work(len(data), lambda: known.grow(data[: end - start], cut(parsed, end), verified=True))
        return True

    @staticmethod
    def _parse_open(known: OpenSegment, data: bytes, at: int) -> Parsed:
        segment = known.segment
        return records.parse(
            data, at=at, seq=segment.end_seq, seed=segment.seed, name=segment.key, may_tear=not known.whole, keep=False
        )

    async def _exists(self, key: str) -> bool:
        try:
            await self._objects.head(key)
        except NotFound:
            return False
        return True

    # ------------------------------------------------------------------------------------------------- determination

    def _walk_back(self, root: int, heads: dict[int, Head]) -> None:
        """Follow the judgements from the open segment back to what is determined, then take them in order."""
        known, steps, number = self._known, [], root
        while number != known + 1:
            accepted = heads[number].accepted
            if accepted is None or accepted.segments[-1][0] != number - 1 or accepted.segments[0][0] <= known:
                raise CorruptionError(f"{segment_key(number)}: it does not judge the segments before it, at offset {HEAD_BYTES}")
            steps.append((number, accepted))
            number = accepted.segments[0][0]
        self._check_start(number, heads[number])
        for number, accepted in reversed(steps):
            self._determine(number, accepted, heads)

    def _check_start(self, number: int, head: Head) -> None:
        """The first undetermined segment must continue the chain."""
        if head.accepted is not None and head.accepted.chain != self._chain:
            raise CorruptionError(f"{segment_key(number)}: the chain to the segments before is broken, at offset {HEAD_BYTES}")

    def _determine(self, number: int, accepted: Accepted, heads: dict[int, Head]) -> None:
        """Take the judgement that stands in segment `number` on the ones before it."""
        name = f"{segment_key(number)}: its `Accepted` record, at offset {HEAD_BYTES},"
        if fold_all(self._chain, accepted.segments) != accepted.chain:
            raise CorruptionError(f"{name} does not fit the chain of the segments before")
        for at, (judged, length, digest) in enumerate(accepted.segments):
            segment = self._judged(judged, length, digest, heads.get(judged), name)
            if at:
                segment.first_seq = accepted.first_seq
            segment.count = accepted.first_seq - segment.first_seq
            segment.length, segment.digest = length, digest
            if segment.offsets is not None and len(segment.offsets) != segment.count:
                segment.offsets = None
            if segment.count < 0:
                raise CorruptionError(f"{name} counts records backwards")
            self._add(segment)

    def _judged(self, number: int, length: int, digest: bytes, head: Head | None, name: str) -> Segment:
        """The segment that is being determined; what was believed of it before must be part of what is accepted."""
        known = self._open
        if known is not None and known.segment.number == number:
            self._open = None
            same = known.segment.length == length
            if known.segment.length > length or (same and known.hasher.digest() != digest):
                raise CorruptionError(f"{name} does not accept committed bytes of segment {number}")
            if not same:
                known.segment.offsets = None
            return known.segment
        assert head is not None
        if head.accepted is not None and length < head.accepted_end:
            head = Head(head.header, None, 0)
        return blank(number, head)

    async def take_parts(self) -> None:
        """Learn from the parts: where segments lie now, and of segments that this reader has not come to."""
        held = {s.number: s for s in self._segments}
        for part in await load_parts(self._objects, 0, self._parts):
            self._take_part(part, held)

    def _take_part(self, part: Part, held: dict[int, Segment]) -> None:
        for entry in part.footer.entries:
            segment = held.get(entry.number)
            if segment is not None:
                if segment.digest != entry.digest:
                    raise CorruptionError(
                        f"{part.key}: segment {entry.number} is not the one that was read, at offset {entry.base}"
                    )
                segment.key, segment.base = part.key, entry.base
            elif entry.number == self._known + 1:
                if self._open is not None and self._open.segment.number == entry.number:
                    self._judged(entry.number, entry.length, entry.digest, None, f"{part.key}: its footer, at offset 0,")
                held[entry.number] = segment_of(entry, part.key)
                self._add(held[entry.number])
        last = part.footer.entries[-1].number
        self.compacted = max(self.compacted, last)
        if self._known == last and self._chain != part.footer.after:
            raise CorruptionError(f"{part.key}: the chain to the segments before is broken, at offset 0")

    # ----------------------------------------------------------------------------------------------- reading records

    async def records(self, start_seq: int = 0) -> AsyncGenerator[tuple[int, bytes], None]:
        """(number, payload) of the committed records from `start_seq` on, as known at the first step; refresh to see
        more.

        Every checksum, and the hash of every determined segment, is verified on the way.
        """
        todo = [s for s in self.segments() if s.count and s.end_seq > start_seq]
        proving = ahead.in_order(ahead.spans(todo), self._payloads, ahead.length_of)
        try:
            async for span, found in proving:
                for (segment, _, _), payloads in zip(span, found, strict=True):
                    first = segment.first_seq
                    for index in range(max(0, start_seq - first), len(payloads)):
                        yield first + index, payloads[index]
        finally:
            await proving.aclose()

    async def _payloads(self, span: Span) -> list[list[bytes]]:
        data = await self._fetch_span(span)
        return await _work(
            ahead.length_of(span),
            lambda: [self._prove(s.segment, d, s.records, keep=True).payloads for s, d in zip(span, data, strict=True)],
        )

    async def images(self, segments: Iterable[Segment]) -> AsyncGenerator[tuple[Segment, bytes, CorruptionError | None], None]:
        """The accepted bytes of each of these, in order, verified; or what is wrong with them (and no bytes).

        Positions of a sound segment's records are known afterwards. Raises SegmentGone, ObjectsError.
        """
        proving = ahead.in_order(ahead.spans(segments), self._images, ahead.length_of)
        try:
            async for _, found in proving:
                for one in found:
                    yield one
        finally:
            await proving.aclose()

    async def _images(self, span: Span) -> list[tuple[Segment, bytes, CorruptionError | None]]:
        try:
            data = await self._fetch_span(span)
        except CorruptionError as e:
            if len(span) == 1:
                return [(span[0].segment, b"", e)]
            return [one for stretch in span for one in await self._images([stretch])]
        return await _work(ahead.length_of(span), lambda: [self._tried(s, d) for s, d in zip(span, data, strict=True)])

    def _tried(self, stretch: Stretch, data: bytes) -> tuple[Segment, bytes, CorruptionError | None]:
        try:
            self._prove(stretch.segment, data, stretch.records, keep=False)
        except CorruptionError as e:
            return stretch.segment, b"", e
        return stretch.segment, data, None

    async def _fetch_span(self, span: Span) -> list[bytes]:
        """The bytes of each stretch of a span."""
        first = span[0].segment
        if len(span) == 1:
            return [await self._fetch(first, 0, span[0].length)]
        total, at, found = ahead.length_of(span), 0, []
        data = await self._objects.get(first.key, first.base, total)  # a part, and parts stay
        if len(data) != total:
            raise CorruptionError(f"{first.key}: committed bytes are missing, at offset {first.base + len(data)}")
        for stretch in span:
            found.append(data[at : at + stretch.length])
            at += stretch.length
        return found

    async def _fetch(self, segment: Segment, start: int, length: int) -> bytes:
        """Bytes of a segment, wherever it lies now. CorruptionError if they are missing in part, SegmentGone if
        wholly."""
        kept = self._kept.get(segment.number) if start == 0 else None
        if kept is not None and length <= len(kept):
            return kept[:length]
        for _ in range(_LOOKS):
            try:
                data = await self._objects.get(segment.key, segment.base + start, length)
            except NotFound:
                where = segment.key, segment.base
                await self.take_parts()
                if where == (segment.key, segment.base):
                    break
                continue
            if len(data) != length:
                end = segment.base + start + len(data)
                raise CorruptionError(f"{segment.key}: committed bytes are missing, at offset {end}")
            return data
        raise SegmentGone(f"{segment.key} was deleted while the journal was read; start again from the newest snapshot")

    @staticmethod
    def _prove(segment: Segment, data: bytes, count: int, keep: bool) -> Parsed:
        """Parse a segment's accepted bytes and verify all there is to verify."""
        if data:
            header = unpack_header(data[:HEAD_BYTES], segment.key, segment.base)
            if (header.number, header.nonce) != (segment.number, segment.nonce):
                raise CorruptionError(f"{segment.key}: this is not the segment that was accepted, at offset {segment.base}")
        parsed = records.parse(
            data[HEAD_BYTES:], at=HEAD_BYTES, seq=segment.first_seq, seed=segment.seed, name=segment.key,
            base=segment.base, keep=keep,
        )  # fmt: skip
        if len(parsed.offsets) != count:
            raise CorruptionError(f"{segment.key}: {len(parsed.offsets)} records instead of {count}, at offset {segment.base}")
        if segment.digest and len(data) == segment.length and digest_of(data) != segment.digest:
            raise CorruptionError(f"{segment.key}: its hash is not the one that was accepted, at offset {segment.base}")
        if segment.offsets is None and count == segment.count:
            segment.offsets, segment.lengths, segment.masks = parsed.offsets, parsed.lengths, parsed.masks
            segment.verified = bytearray(b"\1" * count)
        return parsed

    async def image(self, segment: Segment) -> bytes:
        """All accepted bytes of a determined segment, verified against its hash; its positions are known afterwards."""
        data = await self._fetch(segment, 0, segment.length)
        await _work(len(data), lambda: self._prove(segment, data, segment.count, keep=False))
        return data

    async def read(self, location: Location) -> bytes:
        """The bytes at a location of a committed record, out of a payload whose checksum was verified."""
        seq, offset, length = location
        payload = self._cache.get(seq)
        if payload is None:
            segment, index = await self._place(seq)
            if not segment.verified[index] or self._cache.admits(segment.lengths[index]):
                payload = await self._read_record(segment, index)
                self._cache.put(seq, payload)
            elif offset + length <= segment.lengths[index]:
                assert segment.offsets is not None
                at = segment.offsets[index] + records.HEADER.size + offset
                return records.unmask(await self._fetch(segment, at, length), segment.masks[index])
        if payload is None or offset < 0 or offset + length > len(payload):
            raise CorruptionError(f"record {seq} does not reach to byte {offset + length}, which something refers to")
        return payload[offset : offset + length]

    async def payload(self, seq: int) -> bytes:
        """The whole payload of a committed record, verified."""
        payload = self._cache.get(seq)
        if payload is None:
            segment, index = await self._place(seq)
            payload = await self._read_record(segment, index)
            self._cache.put(seq, payload)
        return payload

    async def _read_record(self, segment: Segment, index: int) -> bytes:
        assert segment.offsets is not None
        at, length = segment.offsets[index], segment.lengths[index]
        data = await self._fetch(segment, at, records.record_bytes(length))
        parsed = await _work(
            len(data),
            lambda: records.parse(
                data, at=at, seq=segment.first_seq + index, seed=segment.seed, name=segment.key, base=segment.base
            ),
        )
        segment.verified[index] = 1
        return parsed.payloads[0]

    async def _place(self, seq: int) -> tuple[Segment, int]:
        """The segment that holds record `seq`, with its positions known, and the record's index in it."""
        if not 0 <= seq < self.next_seq:
            raise CorruptionError(f"record {seq} is not in the journal, which has {self.next_seq}, but something refers to it")
        if self._open is not None and seq >= self._open.segment.first_seq:
            segment = self._open.segment
        else:
            segment = self._segments[bisect.bisect_right(self._starts, seq) - 1]
        if seq < segment.first_seq:
            raise SegmentGone(f"record {seq} is older than what this reader started from")
        if segment.offsets is None:
            async with self._indexing:
                if segment.offsets is None:
                    await self.image(segment)
        return segment, seq - segment.first_seq

    # ------------------------------------------------------------------------------ what the writer tells its reader

    def undetermined(self, below: int) -> tuple[OpenSegment | None, list[int]]:
        """The open segment and the numbers behind it, below `below`: what the next `Accepted` must judge."""
        return self._open, [number for number, _ in self._after if number < below]

    def began(self, header: Header, accepted: Accepted | None, image: bytes, encoded: Encoded | None) -> None:
        """The writer has committed segment `header.number`, whose bytes so far are `image`."""
        if accepted is not None:
            self._determine(header.number, accepted, dict(self._after) | self._heads)
        head = Head(header, accepted, 0)
        segment = blank(header.number, head)
        segment.offsets = array("Q")
        self._open = OpenSegment(segment, header.size > 0)
        self._open.grow(image, encoded or Encoded(b"", array("Q"), array("I"), bytearray()), verified=False)
        self._after = []
        self._heads = {header.number: head}
        self._max_epoch = max(self._max_epoch, header.epoch)
        self.last_segment, self.leader = header.number, header.leader

    def grew(self, data: bytes, encoded: Encoded) -> None:
        """The writer has committed `data` at the end of the open segment."""
        assert self._open is not None
        self._open.grow(data, encoded, verified=False)

    def remember(self, first_seq: int, payloads: Sequence[bytes]) -> None:
        """Payloads just committed are likely to be read soon."""
        for at, payload in enumerate(payloads):
            self._cache.put(first_seq + at, payload)


def _is_final(head: Head) -> bool:
    """Can no later look at this head say more?"""
    return head.accepted is not None or (head.header is not None and head.header.size > 0)


async def _work(size: int, work: Callable[[], T]) -> T:
    """CPU work on `size` bytes: in place when it is short, else in a thread (never block the loop)."""
    return work() if size < THREAD_BYTES else await asyncio.to_thread(work)

"""Parts: what old segments become, so that a long journal is a few large objects (garbage collection, DESIGN R4).

A part holds the accepted bytes of consecutive determined segments, verbatim, and a footer with each one's number,
nonce, length, hash and record positions: the chain is as provable from a part as from the segments. Order of things:
a part is durable before the first segment that it covers is deleted, and a segment is deleted only a grace period
after it was last written, so that a slow writer finds out before its slot could look free.
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import AsyncGenerator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from towline.engine.errors import CorruptionError
from towline.stores.errors import NewerFormat
from towline.stores.journal.ahead import in_order
from towline.stores.journal.segments import HEAD_BYTES, Segment, fold, number_of, segment_key
from towline.stores.journal.segments import PREFIX as SEGMENTS
from towline.stores.objects.base import ABSENT, Meta, Objects, PreconditionFailed

if TYPE_CHECKING:
    from towline.stores.journal.reader import JournalReader

PREFIX = "parts/"
SUFFIX = ".part"
MAGIC = b"TOWLPART"
FORMAT = 1
CUT_BYTES = 256 << 20
PUT_BYTES = 8 << 20
"""Smaller parts go out in one request."""
CLOCK_KEY = "clock/now"
_HEAD = struct.Struct("<8sII")
_TAIL = struct.Struct("<QI8s")


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """One covered segment, as the footer keeps it."""

    number: int
    epoch: int
    nonce: bytes
    base: int
    """Where its bytes begin in the part."""
    length: int
    digest: bytes
    first_seq: int
    offsets: bytes
    """Little-endian u64 each: where its records begin, counted from the segment's first byte."""
    lengths: bytes
    """Little-endian u32 each: bytes of the payloads."""
    masks: bytes


class Footer(msgspec.Struct, frozen=True, array_like=True):
    """What a part covers. The chain goes from `before` over the entries to `after`."""

    before: bytes
    after: bytes
    entries: list[Entry]


class Part(NamedTuple):
    """A part as the reader knows it."""

    key: str
    footer: Footer


def part_key(first_seq: int, last_seq: int) -> str:
    """The object that holds records `first_seq` to `last_seq`, both included."""
    return f"{PREFIX}{first_seq:020d}-{last_seq:020d}{SUFFIX}"


def to_bytes(numbers: array[int]) -> bytes:
    """An array as little-endian bytes."""
    if sys.byteorder == "big":
        numbers = numbers[:]
        numbers.byteswap()
    return numbers.tobytes()


def from_bytes(kind: str, data: bytes) -> array[int]:
    """The array that `to_bytes` wrote."""
    numbers: array[int] = array(kind, data)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers


def entry_of(segment: Segment, base: int) -> Entry:
    """A determined, indexed segment as a footer keeps it."""
    assert segment.offsets is not None
    return Entry(
        segment.number, segment.epoch, segment.nonce, base, segment.length, segment.digest, segment.first_seq,
        to_bytes(segment.offsets), to_bytes(segment.lengths), bytes(segment.masks),
    )  # fmt: skip


def segment_of(entry: Entry, key: str) -> Segment:
    """The segment that a footer's entry describes."""
    segment = Segment(entry.number, entry.epoch, entry.nonce, entry.first_seq)
    segment.offsets, segment.lengths = from_bytes("Q", entry.offsets), from_bytes("I", entry.lengths)
    segment.masks, segment.count = bytearray(entry.masks), len(segment.offsets)
    segment.verified = bytearray(segment.count)
    segment.length, segment.digest = entry.length, entry.digest
    segment.key, segment.base = key, entry.base
    return segment


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Footer).decode


async def load_parts(objects: Objects, after: int, known: dict[str, Part] | None = None) -> list[Part]:
    """The parts that cover segments behind number `after`, in order and without overlap.

    `known` keeps what was read, by key: a part never changes.
    """
    known = {} if known is None else known
    metas = [m async for m in objects.list(PREFIX) if m.key.endswith(SUFFIX)]
    async for meta, footer in in_order([m for m in metas if m.key not in known], lambda m: _read_footer(objects, m)):
        known[meta.key] = Part(meta.key, footer)
    found = sorted((known[m.key] for m in metas), key=lambda p: p.footer.entries[0].number)
    chosen: list[Part] = []
    while usable := [p for p in found if p.footer.entries[0].number <= after + 1 <= p.footer.entries[-1].number]:
        best = max(usable, key=lambda p: p.footer.entries[-1].number)
        chosen.append(best)
        after = best.footer.entries[-1].number
    return chosen


async def _read_footer(objects: Objects, meta: Meta) -> Footer:
    if meta.size < _HEAD.size + _TAIL.size:
        raise CorruptionError(f"{meta.key}: the part is cut off, at offset {meta.size}")
    at = max(0, meta.size - (256 << 10))
    data = await objects.get(meta.key, at)
    length, crc, magic = _TAIL.unpack_from(data, len(data) - _TAIL.size)
    start = meta.size - _TAIL.size - length
    if magic != MAGIC or start < _HEAD.size:
        raise CorruptionError(f"{meta.key}: the part's end is damaged, at offset {meta.size - _TAIL.size}")
    footer = await objects.get(meta.key, start, length) if start < at else data[start - at : -_TAIL.size]
    head = await objects.get(meta.key, 0, _HEAD.size) if at else data[: _HEAD.size]
    return parse_footer(footer, crc, head, meta.key, start)


def parse_footer(footer: bytes, crc: int, head: bytes, key: str, start: int) -> Footer:
    """Footer bytes to what they say; CorruptionError if they, the head, or the chain over the entries are wrong."""
    import google_crc32c

    magic, version, head_crc = _HEAD.unpack(head)
    if magic != MAGIC or head_crc != google_crc32c.value(head[:-4]):
        raise CorruptionError(f"{key}: the part's header is damaged, at offset 0")
    if version > FORMAT:
        raise NewerFormat(f"{key} has part format {version}; this towline reads up to {FORMAT}: upgrade towline")
    if google_crc32c.value(footer) != crc:
        raise CorruptionError(f"{key}: the part's footer is damaged, at offset {start}")
    try:
        said = _decode(footer)
    except msgspec.MsgspecError as e:
        raise CorruptionError(f"{key}: the part's footer cannot be read ({e}), at offset {start}") from e
    chain, at = said.before, _HEAD.size
    for entry in said.entries:
        chain = fold(chain, entry.number, entry.length, entry.digest)
        if entry.base != at:
            raise CorruptionError(f"{key}: segment {entry.number} does not begin where the one before ends, at offset {at}")
        at += entry.length
    if chain != said.after or at != start or not said.entries:
        raise CorruptionError(f"{key}: the part's footer does not prove its content, at offset {start}")
    return said


async def make_part(objects: Objects, reader: JournalReader, upto_seq: int, cut_bytes: int = CUT_BYTES) -> list[str]:
    """Copy determined segments whose records are all below `upto_seq` into parts; return the keys of those made.

    What parts already cover is left out. A part is cut after the segments that make it reach `cut_bytes`, and
    ends where a judgement (`Accepted`) ends. Each segment's hash is verified before it is copied. Any process may do
    it: two that do it at once make the same bytes or overlapping parts, and readers take the part that reaches
    furthest.
    """
    made: list[str] = []
    covered = await covered_upto(objects)
    chain = reader.chain_before(covered + 1)
    batch: list[Segment] = []
    for group in _groups([s for s in reader.determined() if s.number > covered]):
        if group[-1].end_seq > upto_seq:
            break
        batch += group
        if any(s.count for s in batch) and sum(s.length for s in batch) >= cut_bytes:
            chain = await _write(objects, reader, batch, chain, made)
            batch = []
    if any(s.count for s in batch):
        await _write(objects, reader, batch, chain, made)
    return made


def _groups(segments: Sequence[Segment]) -> list[list[Segment]]:
    """Segments with the empty ones behind them: one `Accepted` judged them together, and a reader that comes from the parts
    must find the next judgement whole."""
    groups: list[list[Segment]] = []
    for segment in segments:
        if groups and segment.length <= HEAD_BYTES:
            groups[-1].append(segment)
        else:
            groups.append([segment])
    return groups


async def _write(objects: Objects, reader: JournalReader, batch: Sequence[Segment], before: bytes, made: list[str]) -> bytes:
    after = before
    for segment in batch:
        after = fold(after, segment.number, segment.length, segment.digest)
    records = [s for s in batch if s.count]
    key = part_key(records[0].first_seq, records[-1].end_seq - 1)
    pieces = _pieces(reader, batch, before, after)
    try:
        if sum(s.length for s in batch) <= PUT_BYTES:
            await objects.put(key, [piece async for piece in pieces], ABSENT)
        else:
            await objects.upload(key, pieces, ABSENT)
        made.append(key)
    except PreconditionFailed:
        pass  # somebody wrote the part of these records; its footer proves itself when it is read
    finally:
        await pieces.aclose()
    return after


async def _pieces(
    reader: JournalReader, batch: Sequence[Segment], before: bytes, after: bytes
) -> AsyncGenerator[bytes | memoryview, None]:
    """The bytes of a part; of its content only what is being read and sent is in memory."""
    import google_crc32c

    head = _HEAD.pack(MAGIC, FORMAT, 0)[:-4]
    yield head + int(google_crc32c.value(head)).to_bytes(4, "little")
    at, entries = _HEAD.size, []
    async for segment, image, fault in reader.images(batch):
        if fault is not None:
            raise fault
        yield image
        entries.append(entry_of(segment, at))
        at += segment.length
    footer = _encode(Footer(before, after, entries))
    yield footer
    yield _TAIL.pack(len(footer), google_crc32c.value(footer), MAGIC)


async def covered_upto(objects: Objects) -> int:
    """Number of the last segment that parts hold; 0 if there is none."""
    parts = await load_parts(objects, 0)
    return parts[-1].footer.entries[-1].number if parts else 0


async def store_now(objects: Objects) -> float:
    """The store's own wall clock, seconds: what modified times are to be compared with."""
    await objects.put(CLOCK_KEY, b"")
    return (await objects.head(CLOCK_KEY)).modified


async def drop_segments(objects: Objects, before_seq: int, *, grace_s: float, now: float) -> list[str]:
    """Delete segments that parts hold, whose records are all below `before_seq`, and that are older than `grace_s`
    at `now`.

    `now` is the store's wall clock (`store_now`). The last two segments stay whatever happens: a writer that comes
    too late must find something beyond its slot (R4). `grace_s` must be at least the writers'
    (`JournalWriter.claim`). Oldest first, so that what a crash leaves has no gap. Returns the deleted keys.
    """
    ends = {e.number: e.first_seq + len(e.masks) for p in await load_parts(objects, 0) for e in p.footer.entries}
    metas = [m async for m in objects.list(SEGMENTS)]
    numbers = [n for m in metas if (n := number_of(m.key)) is not None]
    keep = set(sorted(numbers)[-2:])
    doomed = []
    for meta, number in zip(metas, map(number_of, [m.key for m in metas]), strict=True):
        if number is None or number in keep:
            continue
        if ends.get(number, before_seq + 1) > before_seq or meta.modified > now - grace_s:
            break
        doomed.append(segment_key(number))
    await objects.delete_many(doomed)
    return doomed

"""Proves a journal from end to end: every checksum, every segment's hash, the chain, the numbering, parts and segments alike.

Reads only, so it may run beside a leader. It goes on after a fault as far as the rest can still be judged, and names them all.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from towline.engine.errors import CorruptionError
from towline.stores.errors import SegmentGone
from towline.stores.journal.ahead import in_order
from towline.stores.journal.parts import PREFIX as PARTS
from towline.stores.journal.reader import JournalReader
from towline.stores.journal.segments import PREFIX, Segment, digest_of, number_of, segment_key
from towline.stores.objects.base import Meta, NotFound, Objects

_ATTEMPTS = 3


@dataclass
class Report:
    """What was proven. The journal is sound if `problems` is empty."""

    segments: int = 0
    """Segments in the chain, those without records included."""
    records: int = 0
    bytes: int = 0
    """Committed bytes of all segments."""
    parts: int = 0
    collected: int = 0
    """Segments whose own objects are gone: parts hold them, whole and in the chain."""
    epochs: int = 0
    """How many claims have left a segment."""
    head: int = 0
    """Number of the last segment."""
    leader: str = ""
    """Who made the last segment."""
    chain: str = ""
    """The chain hash over all determined segments, hex."""
    void_bytes: int = 0
    """Bytes behind what was accepted: torn or too late, never told."""
    problems: list[str] = field(default_factory=list)
    """Each names object and offset."""
    notes: list[str] = field(default_factory=list)
    """What is unusual and harmless."""

    @property
    def ok(self) -> bool:
        """Was everything proven?"""
        return not self.problems


async def verify(objects: Objects) -> Report:
    """Prove the journal in `objects`. Raises ObjectsError if it cannot be read; faults in it are in the report.

    A journal that garbage collection moves meanwhile is looked at again; SegmentGone if it never stands still.
    """
    for attempt in range(_ATTEMPTS):
        try:
            return await _verify(objects)
        except SegmentGone:
            if attempt == _ATTEMPTS - 1:
                raise
    raise AssertionError("unreachable")


async def _verify(objects: Objects) -> Report:
    report = Report()
    try:
        reader = await JournalReader.open(objects)
    except CorruptionError as e:
        report.problems.append(str(e))
        return report
    report.head, report.leader, report.chain = reader.last_segment, reader.leader, reader.chain.hex()
    report.parts = len([m async for m in objects.list(PARTS)])
    segments = reader.segments()
    async for segment, _, fault in reader.images(segments):
        report.records += segment.count if fault is None else 0
        report.problems += [str(fault)] if fault is not None else []
    report.segments, report.bytes = len(segments), reader.stored_bytes
    report.epochs = len({s.epoch for s in segments})
    await _leftovers(objects, {s.number: s for s in segments}, report)
    return report


async def _leftovers(objects: Objects, known: dict[int, Segment], report: Report) -> None:
    """Segments that lie in parts alone, void bytes behind what was accepted, and objects whose content a part holds by now."""
    twice: list[tuple[Meta, Segment]] = []
    gone = {number for number, segment in known.items() if segment.key != segment_key(number)}
    async for meta in objects.list(PREFIX):
        number = number_of(meta.key)
        if number is None:
            report.notes.append(f"{meta.key} is no segment")
        elif (segment := known.get(number)) is not None:
            report.void_bytes += max(0, meta.size - segment.length)
            gone.discard(number)
            if segment.key != meta.key:
                twice.append((meta, segment))
    report.collected = len(gone)
    async for (meta, segment), same in in_order(twice, lambda pair: _is_same(objects, *pair), lambda pair: pair[1].length):
        if not same:
            report.notes.append(f"{meta.key} differs from what {segment.key} holds of it; the part counts")


async def _is_same(objects: Objects, meta: Meta, segment: Segment) -> bool:
    try:
        return digest_of(await objects.get(meta.key, 0, segment.length)) == segment.digest
    except NotFound:
        return True  # it was collected just now

"""Proves a journal from end to end: every checksum, every segment's hash, the chain, the numbering, parts and segments alike.

Reads only, so it may run beside a leader. It goes on after a fault as far as the rest can still be judged, and names them all.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from towline.engine.errors import CorruptionError
from towline.stores.errors import SegmentGone
from towline.stores.journal.parts import PREFIX as PARTS
from towline.stores.journal.reader import JournalReader
from towline.stores.journal.segments import PREFIX, Segment, digest_of, number_of, segment_key
from towline.stores.objects.base import NotFound, Objects

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
    for segment in segments:
        await _prove(reader, segment, report)
    report.segments, report.bytes = len(segments), reader.stored_bytes
    report.epochs = len({s.epoch for s in segments})
    await _leftovers(objects, {s.number: s for s in segments}, report)
    return report


async def _prove(reader: JournalReader, segment: Segment, report: Report) -> None:
    try:
        await reader.image(segment)
    except CorruptionError as e:
        report.problems.append(str(e))
    else:
        report.records += segment.count


async def _leftovers(objects: Objects, known: dict[int, Segment], report: Report) -> None:
    """Void bytes behind what was accepted, and segment objects whose content a part holds by now."""
    async for meta in objects.list(PREFIX):
        number = number_of(meta.key)
        if number is None:
            report.notes.append(f"{meta.key} is no segment")
        elif (segment := known.get(number)) is not None:
            report.void_bytes += max(0, meta.size - segment.length)
            if segment.key != segment_key(number):
                await _compare(objects, segment, report)


async def _compare(objects: Objects, segment: Segment, report: Report) -> None:
    key = segment_key(segment.number)
    try:
        data = await objects.get(key, 0, segment.length)
    except NotFound:
        return
    if digest_of(data) != segment.digest:
        report.notes.append(f"{key} differs from what {segment.key} holds of it; the part counts")

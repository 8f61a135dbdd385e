"""The open segment: the one whose extent nobody has judged yet, as far as it is known to be committed."""

from __future__ import annotations

import bisect

from towline.stores.journal.records import Encoded, Parsed
from towline.stores.journal.segments import Head, Segment, new_hash


class OpenSegment:
    """The segment that no `Accepted` determines yet: what of it is known to be committed, and the hash of that."""

    __slots__ = ("hasher", "segment", "whole")

    def __init__(self, segment: Segment, whole: bool) -> None:
        self.segment = segment
        self.whole = whole
        self.hasher = new_hash()

    def grow(self, data: bytes, found: Parsed | Encoded, verified: bool) -> None:
        """`data` are committed bytes that follow those known so far; `found` are the records in them."""
        segment = self.segment
        assert segment.offsets is not None
        segment.offsets += found.offsets
        segment.lengths += found.lengths
        segment.masks += found.masks
        segment.verified += (b"\1" if verified else b"\0") * len(found.offsets)
        segment.count += len(found.offsets)
        segment.length += len(data)
        self.hasher.update(data)


def blank(number: int, head: Head) -> Segment:
    """An undetermined segment of which nothing was read but its head."""
    epoch, nonce = (head.header.epoch, head.header.nonce) if head.header else (0, b"")
    return Segment(number, epoch, nonce, head.accepted.first_seq if head.accepted else 0)


def cut(parsed: Parsed, end: int) -> Parsed:
    """Only the records before `end`."""
    if end >= parsed.end:
        return parsed
    count = bisect.bisect_left(parsed.offsets, end)
    return parsed._replace(offsets=parsed.offsets[:count], lengths=parsed.lengths[:count], masks=parsed.masks[:count])

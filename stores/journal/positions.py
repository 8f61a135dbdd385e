"""What a reader knows of the determined segments, as a value: to be kept beside a snapshot, so that a restart looks
only at segments that came later. Facts in it cannot change, except where a segment lies; the reader finds that out
by itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from towline.engine.errors import CorruptionError
from towline.stores.journal.parts import Entry, entry_of, segment_of
from towline.stores.journal.segments import Segment


class Place(msgspec.Struct, frozen=True, array_like=True):
    """One determined segment; its record positions only if the reader had them."""

    key: str
    count: int
    indexed: bool
    entry: Entry


class Positions(msgspec.Struct, frozen=True, array_like=True):
    """See `JournalReader.positions`."""

    chain_start: bytes
    max_epoch: int
    places: list[Place]

    @classmethod
    def of(cls, segments: Sequence[Segment], chain_start: bytes, max_epoch: int) -> Positions:
        """The facts about these segments."""
        return cls(chain_start, max_epoch, [_place(s) for s in segments])

    def segments(self) -> Iterator[Segment]:
        """Them again, as fresh objects."""
        for place in self.places:
            segment = segment_of(place.entry, place.key)
            segment.count = place.count
            if not place.indexed:
                segment.offsets = None
            yield segment

    def encode(self) -> bytes:
        """As bytes for a file."""
        return msgspec.msgpack.encode(self)

    @classmethod
    def decode(cls, data: bytes) -> Positions:
        """The value that `encode` wrote; CorruptionError if it is none."""
        try:
            return msgspec.msgpack.decode(data, type=cls)
        except msgspec.MsgspecError as e:
            raise CorruptionError(f"these are no journal positions: {e}, at offset 0") from e


def _place(segment: Segment) -> Place:
    if segment.offsets is not None:
        return Place(segment.key, segment.count, True, entry_of(segment, segment.base))
    entry = Entry(
        segment.number, segment.epoch, segment.nonce, segment.base, segment.length, segment.digest, segment.first_seq,
        b"", b"", b"",
    )  # fmt: skip
    return Place(segment.key, segment.count, False, entry)

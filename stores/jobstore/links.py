"""One link of the job table's chain, as bytes: a whole segment of the journal's format, judged by the next one.

Pure. `build` makes the segment that follows a position, `read` proves that a segment follows it. Since every segment is
created whole, each judges exactly the one before it: number, length, hash, and the chain up to there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from towline.engine.errors import CorruptionError
from towline.stores.journal import records
from towline.stores.journal.segments import (
    GENESIS,
    HEAD_BYTES,
    Accepted,
    Header,
    decode_accepted,
    digest_of,
    encode_accepted,
    fold,
    pack_header,
    segment_key,
    unpack_header,
)

EPOCH = 1
"""Of every segment: nobody leads here. Who wrote a segment is told by its nonce."""


class Position(msgspec.Struct, frozen=True, array_like=True):
    """A point of the chain: behind segment `number`."""

    number: int = 0
    length: int = 0
    """Bytes of that segment."""
    digest: bytes = b""
    """Their hash."""
    chain: bytes = GENESIS
    """The chain hash over all segments before it."""
    seq: int = 0
    """Number of the next record."""

    @property
    def key(self) -> str:
        """The object that the next commit creates."""
        return segment_key(self.number + 1)

    @property
    def through(self) -> bytes:
        """The chain hash over all segments up to and with this one."""
        return fold(self.chain, self.number, self.length, self.digest) if self.number else self.chain


class Link(NamedTuple):
    """A segment that follows a position."""

    image: bytes
    payloads: Sequence[bytes]
    after: Position


def build(position: Position, payloads: Sequence[bytes], nonce: bytes, name: str) -> Link:
    """The segment with these records that follows `position`; `nonce` tells its writer from all others, `name` is for people."""
    number, seed = position.number + 1, records.seed_of(nonce)
    first = b""
    if position.number:
        accepted = encode_accepted(_judgement(position))
        first = records.encode([accepted], kind=records.ACCEPTED, at=HEAD_BYTES, back=0, seq=position.seq, seed=seed).data
    at = HEAD_BYTES + len(first)
    body = records.encode(payloads, kind=records.PAYLOAD, at=at, back=len(first), seq=position.seq, seed=seed).data
    header = pack_header(Header(number, EPOCH, nonce, at + len(body), name))
    image = b"".join((header, first, body))
    return Link(image, payloads, _after(position, image, len(payloads)))


def read(position: Position, image: bytes, name: str) -> Link:
    """What the object behind `position` holds, every checksum proved. CorruptionError if it does not follow; NewerFormat."""
    number = position.number + 1
    if len(image) < HEAD_BYTES:
        raise CorruptionError(f"{name}: it is cut off, at offset {len(image)}")
    header = unpack_header(image[:HEAD_BYTES], name)
    if header.number != number:
        raise CorruptionError(f"{name}: it says that it is segment {header.number}, at offset 0")
    if header.size != len(image):
        raise CorruptionError(f"{name}: it has {len(image)} bytes but was written with {header.size}, at offset {len(image)}")
    seed = records.seed_of(header.nonce)
    parsed = records.parse(image[HEAD_BYTES:], at=HEAD_BYTES, seq=position.seq, seed=seed, name=name)
    if position.number:
        if parsed.accepted is None:
            raise CorruptionError(f"{name}: its first record is not `Accepted`, at offset {HEAD_BYTES}")
        if decode_accepted(parsed.accepted, name) != _judgement(position):
            raise CorruptionError(f"{name}: the chain to the segment before is broken, at offset {HEAD_BYTES}")
    return Link(image, parsed.payloads, _after(position, image, len(parsed.payloads)))


def follows(position: Position, head: bytes, name: str) -> bool:
    """Does the segment that begins with these bytes (its `Accepted` and more) judge `position` as it is? Never raises."""
    try:
        header = unpack_header(head[:HEAD_BYTES], name)
        length, seq = records.HEADER.unpack_from(head, HEAD_BYTES)[1:3]
        first = head[HEAD_BYTES : HEAD_BYTES + records.record_bytes(length)]
        parsed = records.parse(first, at=HEAD_BYTES, seq=seq, seed=records.seed_of(header.nonce), name=name)
        return parsed.accepted is not None and decode_accepted(parsed.accepted, name) == _judgement(position)
    except Exception:  # whatever is wrong with it: it does not prove that ours stands
        return False


def _judgement(position: Position) -> Accepted:
    entry = (position.number, position.length, position.digest)
    return Accepted([entry], position.seq, position.through)


def _after(position: Position, image: bytes, count: int) -> Position:
    return Position(position.number + 1, len(image), digest_of(image), position.through, position.seq + count)

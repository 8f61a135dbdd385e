"""What a segment says of itself and of the ones before it, and the pure rules that make a journal of segments.

Segments are objects `journal/<number>.seg`, counted from 1 without a gap. The conditional create of the next one is
the claim, the commit (on stores that cannot append) and the fence, all in one (R2). A segment's extent is said by a
later one: the first record of a segment, `Accepted`, gives length and hash of every earlier segment that was not yet
determined; bytes beyond are void. A segment without a readable `Accepted` holds nothing (its maker died, or was
fenced, before it could begin); segment 1 needs none. The hashes make a chain from segment 1 on.
"""

from __future__ import annotations

import hashlib
import struct
from array import array
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec

from towline.engine.errors import CorruptionError
from towline.stores.errors import NewerFormat
from towline.stores.journal import records

PREFIX = "journal/"
SUFFIX = ".seg"
MAGIC = b"TOWLSEG\n"
FORMAT = 1
"""Version of the journal's bytes (docs/FORMAT.md)."""
GENESIS = bytes(32)
"""The chain before segment 1."""
NONCE_BYTES = 16
_LEADER_BYTES = 64
_HEADER = struct.Struct("<8sIIQQ16s64s12sI")
HEAD_BYTES = records.HEAD_BYTES
assert _HEADER.size == HEAD_BYTES


class Header(NamedTuple):
    """The first 128 bytes of a segment."""

    number: int
    epoch: int
    nonce: bytes
    """16 bytes by which a writer knows its own segments; header checksums of records are bound to it."""
    size: int
    """Bytes of a segment that was written whole; 0: it grows by appending."""
    leader: str
    """Who made it, for people."""


class Accepted(msgspec.Struct, frozen=True, array_like=True):
    """First record of every segment but the first: the judgement on earlier segments (R2)."""

    segments: list[tuple[int, int, bytes]]
    """(number, accepted bytes, hash of them) of each earlier segment that was not determined before, in order."""
    first_seq: int
    """Number of the first payload record of this segment."""
    chain: bytes
    """The chain hash over all segments before this one."""


class Head(NamedTuple):
    """What the beginning of a segment says."""

    header: Header | None
    """None: the object ends inside its header (a torn create): it holds nothing."""
    accepted: Accepted | None
    accepted_end: int


class Segment:
    """Where a segment's accepted bytes lie and which records they hold. Mutable: a segment moves into a part."""

    __slots__ = (
        "base",
        "count",
        "digest",
        "epoch",
        "first_seq",
        "key",
        "length",
        "lengths",
        "masks",
        "nonce",
        "number",
        "offsets",
        "seed",
        "verified",
    )  # fmt: skip

    def __init__(self, number: int, epoch: int, nonce: bytes, first_seq: int) -> None:
        self.number = number
        self.epoch = epoch
        self.nonce = nonce
        self.first_seq = first_seq
        self.count = 0
        self.length = 0
        """Accepted bytes; of an open segment, the bytes known to be committed."""
        self.digest = b""
        """Hash of the accepted bytes; empty as long as the segment is open."""
        self.key = segment_key(number)
        self.base = 0
        """Where the segment begins inside the object `key`: 0, unless that is a part."""
        self.seed = records.seed_of(nonce)
        self.offsets: array[int] | None = None
        """Positions of its records, once somebody asked for one."""
        self.lengths: array[int] = array("I")
        self.masks = bytearray()
        self.verified = bytearray()
        """One byte a record: its checksum was seen to be right."""

    @property
    def end_seq(self) -> int:
        """Number after its last record."""
        return self.first_seq + self.count


def segment_key(number: int) -> str:
    """The object that holds segment `number`."""
    return f"{PREFIX}{number:020d}{SUFFIX}"


def number_of(key: str) -> int | None:
    """The segment's number, or None: the object is no segment."""
    digits = key[len(PREFIX) : -len(SUFFIX)]
    return int(digits) if len(digits) == 20 and digits.isdigit() and key == segment_key(int(digits)) else None


def first_gap(numbers: Iterable[int], after: int) -> tuple[int, bool]:
    """(the first number behind `after` that has no segment, are there segments beyond it?).

    The head of the journal is the first gap (R6); readers and writers both find it here. `after` is the last number
    that parts cover: a slot at or below it is never open, whatever a late writer puts there (R4).
    """
    gap = after + 1
    beyond = False
    for number in sorted(numbers):
        if number == gap:
            gap += 1
        elif number > gap:
            beyond = True
    return gap, beyond


def pack_header(header: Header) -> bytes:
    """Header to bytes. A leader's name is cut to 64 bytes."""
    import google_crc32c

    leader = header.leader.encode()[:_LEADER_BYTES]
    fields = (MAGIC, FORMAT, header.epoch, header.number, header.size, header.nonce, leader, b"")
    body = _HEADER.pack(*fields, 0)[:-4]
    return body + int(google_crc32c.value(body)).to_bytes(4, "little")


def unpack_header(data: bytes, name: str, base: int = 0) -> Header:
    """Bytes to header. CorruptionError if they are not one; NewerFormat if a newer towline wrote them."""
    import google_crc32c

    magic, version, epoch, number, size, nonce, leader, _, crc = _HEADER.unpack_from(data)
    if magic != MAGIC or crc != google_crc32c.value(data[: HEAD_BYTES - 4]):
        raise CorruptionError(f"{name}: the segment's header is damaged, at offset {base}")
    if version > FORMAT:
        raise NewerFormat(f"{name} has journal format {version}; this towline reads up to {FORMAT}: upgrade towline")
    return Header(number, epoch, nonce, size, leader.rstrip(b"\0").decode(errors="replace"))


def read_head(data: bytes, number: int, size: int, name: str) -> Head:
    """What the first bytes of segment `number` say, whose object has `size` bytes. `data` holds all of it or enough
    of it.

    A head that the object's end cuts off was never acted upon: such a segment holds nothing. `Accepted` that needs
    more bytes than `data` holds raises `MoreBytes`.
    """
    if size < HEAD_BYTES:
        if not MAGIC.startswith(data[: len(MAGIC)]):
            raise CorruptionError(f"{name}: this is no towline segment, at offset 0")
        return Head(None, None, 0)
    header = unpack_header(data, name)
    if header.number != number:
        raise CorruptionError(f"{name}: it says that it is segment {header.number}, at offset 0")
    if header.size and header.size != size:
        raise CorruptionError(f"{name}: it has {size} bytes but was written with {header.size}, at offset {size}")
    return Head(header, *read_accepted(data, size, header, name))


class MoreBytes(Exception):
    """The record needs this many bytes of the segment."""

    def __init__(self, need: int) -> None:
        super().__init__(need)
        self.need = need


def read_accepted(data: bytes, size: int, header: Header, name: str) -> tuple[Accepted | None, int]:
    """The `Accepted` record of a segment and its end; (None, HEAD_BYTES) if it has none (torn, or not written yet).

    Only the first record is looked at: what stands behind it may be void.
    """
    if header.number == 1 or size == HEAD_BYTES:
        return None, HEAD_BYTES
    seed, rest, whole = records.seed_of(header.nonce), data[HEAD_BYTES:], len(data) == size
    length, seq = records.HEADER.unpack_from(rest)[1:3] if len(rest) >= records.HEADER.size else (0, 0)
    need = records.record_bytes(length)
    if len(rest) < need and not whole:
        raise MoreBytes(min(HEAD_BYTES + need, size))
    try:
        parsed = records.parse(rest[:need], at=HEAD_BYTES, seq=seq, seed=seed, name=name)
    except CorruptionError:
        if not whole:
            raise MoreBytes(size) from None
        if header.size == 0 and records.is_torn(rest, 0, HEAD_BYTES, seed):
            return None, HEAD_BYTES
        raise
    if parsed.accepted is None:
        raise CorruptionError(f"{name}: its first record is not `Accepted`, at offset {HEAD_BYTES}")
    return decode_accepted(parsed.accepted, name), parsed.accepted_end


_decode = msgspec.msgpack.Decoder(Accepted).decode
encode_accepted = msgspec.msgpack.Encoder().encode


def decode_accepted(payload: bytes, name: str) -> Accepted:
    """The judgement in the record's payload."""
    try:
        accepted = _decode(payload)
    except msgspec.MsgspecError as e:
        raise CorruptionError(f"{name}: its `Accepted` record cannot be read ({e}), at offset {HEAD_BYTES}") from e
    numbers = [n for n, _, _ in accepted.segments]
    if not numbers or numbers != list(range(numbers[0], numbers[0] + len(numbers))):
        raise CorruptionError(f"{name}: its `Accepted` record lists segments {numbers}, at offset {HEAD_BYTES}")
    return accepted


def new_hash() -> hashlib.blake2b:
    """The hash of segments and of the chain: blake2b of 32 bytes."""
    return hashlib.blake2b(digest_size=32)


def digest_of(data: bytes) -> bytes:
    """Hash of a segment's accepted bytes."""
    return hashlib.blake2b(data, digest_size=32).digest()


_LINK = struct.Struct("<QQ")


def fold(chain: bytes, number: int, length: int, digest: bytes) -> bytes:
    """The chain with one more determined segment."""
    return hashlib.blake2b(chain + _LINK.pack(number, length) + digest, digest_size=32).digest()


def fold_all(chain: bytes, entries: Sequence[tuple[int, int, bytes]]) -> bytes:
    """The chain with the segments that an `Accepted` lists."""
    for number, length, digest in entries:
        chain = fold(chain, number, length, digest)
    return chain

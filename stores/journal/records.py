"""How a record lies in a segment, and the judgement on one that does not read well: torn, or corrupt?

A record is a header of 32 bytes, the payload, zeros up to a multiple of 8, and an end mark of 8 bytes. The header
has its own checksum (bound to the segment's nonce and to the offset) and holds the payload's: they are checked apart
(P7).

After a power loss the last append may have arrived in part: the file is too short, or sectors of it are still zero,
in any order. To tell that from damage the writer keeps one promise: **no sector that it writes is all zero, nor zero
but for one byte.** Marks break the runs of zeros at each record's ends, and a payload with a long run of zeros is
stored XORed with a byte of which it has no long run (`mask`). So a zero sector proves a write that never arrived,
and no single flipped byte can make one. A bad record is torn if the file ends inside it or if one of its sectors is
zero; then it and what follows was never acknowledged, unless a later append stands behind it: each header says how
far back its own append began, and an append begins only when the one before is durable. Everything else is
corruption, which is an error and is never cut.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Sequence
from typing import NamedTuple

from towline.engine.errors import CorruptionError

ALIGN = 8
HEAD_BYTES = 128
"""Bytes of a segment's header (`segments.Header`); its records begin there."""
SECTOR = 512
"""The unit that a disk writes whole or not at all, in bytes."""

PAYLOAD = 0
"""Kind of a record that holds an engine's payload; these are numbered."""
ACCEPTED = 1
"""Kind of the journal's own record: what this segment accepts of the ones before."""

MARK = b"\xf1rec"
END = b"\xf2recend\xf3"
HEADER = struct.Struct("<4sIQIBBHII")
"""mark, payload bytes, seq, bytes back to the start of its append, kind, mask, flags, crc of payload, crc of header."""
_BEFORE_CRC = HEADER.size - 4
_AT = struct.Struct("<Q")
_LONG_RUN = 200
"""A run of this many equal bytes is broken up by the mask; must stay well below SECTOR / 2 minus header and padding."""
_ZEROS = bytes(_LONG_RUN)
UNMASKABLE = 1
"""Flag: the payload has long runs of every byte value, so its zero sectors prove nothing."""
MAX_PAYLOAD = 0xFFFFFFFF

_TABLES: dict[int, bytes] = {}


class Parsed(NamedTuple):
    """What a stretch of a segment holds. Offsets count from the segment's first byte."""

    offsets: array[int]
    """Where the header of each payload record begins."""
    lengths: array[int]
    """Bytes of each payload."""
    masks: bytearray
    payloads: list[bytes]
    """Unmasked; empty if not asked for."""
    accepted: bytes | None
    """Payload of the ACCEPTED record, if it lies in this stretch."""
    accepted_end: int
    end: int
    """Where the last whole record ends."""
    appended_at: int
    """Where the last append that is seen began: all before it was durable when it was written."""
    torn: str
    """Why bytes from `end` on are void; empty if there are none."""


def record_bytes(length: int) -> int:
    """Bytes of a record whose payload has `length` bytes."""
    return HEADER.size + length + (-length % ALIGN) + len(END)


def seed_of(nonce: bytes) -> int:
    """What the header checksums of a segment begin with."""
    import google_crc32c

    return int(google_crc32c.value(nonce))


def unmask(data: bytes, mask: int) -> bytes:
    """Stored bytes to payload bytes and back; works on any slice."""
    if not mask:
        return data
    table = _TABLES.get(mask)
    if table is None:
        table = _TABLES[mask] = bytes(i ^ mask for i in range(256))
    return data.translate(table)


def choose_mask(payload: bytes) -> tuple[int, int]:
    """(mask, flags) under which the payload has no long run of zeros."""
    if _ZEROS not in payload:
        return 0, 0
    for mask in range(1, 256):
        if bytes([mask]) * _LONG_RUN not in payload:
            return mask, 0
    return 0, UNMASKABLE


class Encoded(NamedTuple):
    """Records ready to be written in one append."""

    data: bytes
    offsets: array[int]
    lengths: array[int]
    masks: bytearray


def encode(payloads: Sequence[bytes], *, kind: int, at: int, back: int, seq: int, seed: int) -> Encoded:
    """Records to stand at offset `at`, `back` bytes behind the start of their append; payloads are numbered from
    `seq`."""
    import google_crc32c

    value, extend, start = google_crc32c.value, google_crc32c.extend, at - back
    parts: list[bytes] = []
    out = Encoded(b"", array("Q"), array("I"), bytearray())
    for payload in payloads:
        length = len(payload)
        if length > MAX_PAYLOAD:
            raise ValueError(f"a journal record of {length} bytes is too long; at most {MAX_PAYLOAD}")
        mask, flags = choose_mask(payload)
        stored = unmask(payload, mask)
        head = HEADER.pack(MARK, length, seq, at - start, kind, mask, flags, value(stored), 0)[:_BEFORE_CRC]
        crc = extend(seed, head + _AT.pack(at))
        parts += (head, crc.to_bytes(4, "little"), stored, bytes(-length % ALIGN), END)
        out.offsets.append(at)
        out.lengths.append(length)
        out.masks.append(mask)
        at += record_bytes(length)
        seq += kind == PAYLOAD
    return out._replace(data=b"".join(parts))


def parse(
    data: bytes, *, at: int, seq: int, seed: int, name: str, base: int = 0, may_tear: bool = False, keep: bool = True
) -> Parsed:
    """The records of `data`, which begins at offset `at` of its segment, on a record's first byte.

    The first payload record must be number `seq`. `name` and `base` (where the segment begins in that object) are
    for errors. With `may_tear`, a torn tail ends the records; without it, it is a CorruptionError like every other
    fault.
    """
    import google_crc32c

    value, extend, unpack, pack = google_crc32c.value, google_crc32c.extend, HEADER.unpack_from, _AT.pack
    out = Parsed(array("Q"), array("I"), bytearray(), [], None, 0, at, at, "")
    accepted, accepted_end, appended_at, torn = None, 0, at, ""
    pos, size = 0, len(data)
    while pos < size:
        body = pos + HEADER.size
        fault = ""
        if body > size:
            fault = "the file ends inside a record's header"
        else:
            mark, length, number, back, kind, mask, _, crc, head_crc = unpack(data, pos)
            if mark != MARK or head_crc != extend(seed, data[pos : pos + _BEFORE_CRC] + pack(at + pos)):
                fault = "a record's header is damaged"
        if not fault:
            stored, end = data[body : body + length], pos + record_bytes(length)
            if end > size:
                fault = "the file ends inside a record"
            elif value(stored) != crc:
                fault = "a record's payload is damaged"
            elif data[body + length : end] != bytes(-length % ALIGN) + END:
                fault = "a record's end mark is damaged"
        if fault:
            if not (may_tear and is_torn(data, pos, at, seed)):
                raise CorruptionError(f"{name}: {fault}, at offset {base + at + pos}")
            torn = fault
            break
        if number != seq or kind > ACCEPTED or (kind == ACCEPTED and at + pos != HEAD_BYTES):
            raise CorruptionError(f"{name}: a record out of place (number {number}), at offset {base + at + pos}")
        appended_at = max(appended_at, at + pos - back)
        if kind == ACCEPTED:
            accepted, accepted_end = unmask(stored, mask), at + end
        else:
            out.offsets.append(at + pos)
            out.lengths.append(length)
            out.masks.append(mask)
            if keep:
                out.payloads.append(unmask(stored, mask))
            seq += 1
        pos = end
    return out._replace(accepted=accepted, accepted_end=accepted_end, end=at + pos, appended_at=appended_at, torn=torn)


def is_torn(data: bytes, pos: int, at: int, seed: int) -> bool:
    """Did the record at `data[pos]`, which does not read well, fail to arrive whole, and nothing was appended after
    it?"""
    if len(data) - pos < HEADER.size:
        lost = MARK.startswith(data[pos : pos + len(MARK)]) or not any(data[pos : pos + ALIGN])
    elif _back(data, pos, at, seed) is None:
        lost = _sector_missing(data, pos, pos + HEADER.size, at)
    else:
        _, length, _, _, _, _, flags, _, _ = HEADER.unpack_from(data, pos)
        end = pos + record_bytes(length)
        lost = end > len(data) or (not flags & UNMASKABLE and _sector_missing(data, pos, end, at))
    return lost and not _appended_later(data, pos, at, seed)


def _back(data: bytes, pos: int, at: int, seed: int) -> int | None:
    """How far behind the start of its append the record stands; None if its header is damaged."""
    import google_crc32c

    mark, _, _, back, _, _, _, _, crc = HEADER.unpack_from(data, pos)
    right = google_crc32c.extend(seed, data[pos : pos + _BEFORE_CRC] + _AT.pack(at + pos))
    return int(back) if mark == MARK and crc == right else None


def _sector_missing(data: bytes, start: int, stop: int, at: int) -> bool:
    """Is a sector that `data[start:stop]` touches all zero from `start` on?"""
    first = start - (at + start) % SECTOR
    for sector in range(first, stop, SECTOR):
        piece = data[max(sector, start) : sector + SECTOR]
        if len(piece) >= ALIGN and not piece.strip(b"\0"):
            return True
    return False


def _appended_later(data: bytes, pos: int, at: int, seed: int) -> bool:
    """Is there a record behind `pos` whose append began behind `pos`? Then what lies at `pos` was durable once."""
    found = data.find(MARK, pos + 1)
    while 0 <= found <= len(data) - HEADER.size:
        if (at + found) % ALIGN == 0 and (back := _back(data, found, at, seed)) is not None and found - back > pos:
            return True
        found = data.find(MARK, found + 1)
    return False

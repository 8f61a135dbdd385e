"""The bytes of a file object: the content first, then a footer that says what is where and proves every byte of it.

    content      buffers, each beginning at a multiple of 64 bytes; the last one is padded too
    footer       msgpack of `Footer`
    tail         16 bytes: length of the footer (u32), its crc32c (u32), magic

A file that was put in from disk has one buffer, so that it begins with the very bytes of the original. The checksums cover
the content in parts of 8 MiB (padding included), so that a remote reader can fetch and prove any stretch of it alone; the
footer holds those, the tail proves the footer, and a reference (`files.FileRef`) holds the tail's crc: a chain from the
journal down to each byte (P7). Nothing here does I/O; buffers come and go as Arrow buffers, without a copy.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import msgspec

from towline.engine.errors import CorruptionError

ALIGN = 64
"""Arrow's alignment in bytes: what is mapped from a page boundary suits every vector instruction."""
PART = 8 * 1024 * 1024
"""Bytes of content under one checksum. Part of the format: never change it, write it in the footer instead."""
MAGIC = b"TOWFILE\x01"
TAIL = struct.Struct("<II8s")

Buffer = Any
"""A pyarrow.Buffer (pyarrow ships no types)."""


class Footer(msgspec.Struct, frozen=True, array_like=True):
    """What stands behind the content. Only ever grows at its end."""

    kind: str
    """`value`: header and buffers of a codec; `file`: one buffer, the content of a file."""
    header: bytes
    """The codec's part of a value; empty for files."""
    offsets: bytes
    """uint64 a buffer, little-endian: where it begins."""
    lengths: bytes
    """uint64 a buffer: its bytes without the padding."""
    part: int
    """Bytes of content under one checksum."""
    crcs: bytes
    """uint32 a part: crc32c of its bytes."""
    executable: bool = False
    name: str = ""
    """What the file was called; a hint for people."""


class Sealed(NamedTuple):
    """What a reference must remember of a written file."""

    size: int
    """Bytes, footer and tail included."""
    crc32c: int
    """Of the footer."""


class Sealer:
    """Takes buffers, hands out the pieces to be written, and at the end the footer. One use.

    The caller writes every piece that `add` and `finish` yield, in order, and drains one before calling the other.
    """

    def __init__(self) -> None:
        self._at = 0
        self._offsets: array[int] = array("Q")
        self._lengths: array[int] = array("Q")
        self._crcs: array[int] = array("I")
        self._crc = 0

    def add(self, pieces: Iterable[Any]) -> Iterator[memoryview]:
        """One buffer, given in pieces (anything with a contiguous buffer, of any size)."""
        import pyarrow as pa

        begin = self._at
        for piece in pieces:
            buffer = pa.py_buffer(piece)
            yield from self._account(buffer)
        self._offsets.append(begin)
        self._lengths.append(self._at - begin)
        yield from self._account(pa.py_buffer(bytes(-self._at % ALIGN)))

    def _account(self, buffer: Buffer) -> Iterator[memoryview]:
        import google_crc32c

        done = 0
        while done < buffer.size:
            room = PART - self._at % PART
            piece = buffer.slice(done, min(room, buffer.size - done))
            self._crc = google_crc32c.extend(self._crc, piece)
            self._at += piece.size
            done += piece.size
            if not self._at % PART:
                self._crcs.append(self._crc)
                self._crc = 0
            yield memoryview(piece)

    def finish(self, kind: str, header: bytes = b"", *, executable: bool = False, name: str = "") -> tuple[bytes, Sealed]:
        """(footer and tail, what to remember)."""
        import google_crc32c

        if self._at % PART:
            self._crcs.append(self._crc)
        columns = (self._offsets.tobytes(), self._lengths.tobytes())
        footer = msgspec.msgpack.encode(Footer(kind, header, *columns, PART, self._crcs.tobytes(), executable, name))
        crc = google_crc32c.value(footer)
        return footer + TAIL.pack(len(footer), crc, MAGIC), Sealed(self._at + len(footer) + TAIL.size, crc)


class Opened(NamedTuple):
    """A file object whose every byte was proved."""

    footer: Footer
    buffers: Sequence[Buffer]
    """Slices of what was handed in: nothing is copied."""


_decode = msgspec.msgpack.Decoder(Footer).decode


def unseal(data: Buffer, sealed: Sealed, name: str) -> Opened:
    """The parts of a whole file object. CorruptionError names the object and the offset of what is wrong."""
    footer = read_footer(data, sealed, name)
    body = sealed.size - TAIL.size - _footer_bytes(data)
    check_parts(data, footer, body, name)
    return Opened(footer, slices(data, footer, body, name))


def _footer_bytes(data: Buffer) -> int:
    return int(TAIL.unpack_from(data, data.size - TAIL.size)[0])


def read_footer(data: Buffer, sealed: Sealed, name: str) -> Footer:
    """The footer, proved against what the reference remembers."""
    import google_crc32c

    if data.size != sealed.size or data.size < TAIL.size:
        raise CorruptionError(f"{name}: it has {data.size} bytes, {sealed.size} were written, at offset {data.size}")
    at = data.size - TAIL.size
    length, crc, magic = TAIL.unpack_from(data, at)
    if magic != MAGIC or crc != sealed.crc32c or length > at:
        raise CorruptionError(f"{name}: the tail of the file is damaged, at offset {at}")
    footer = data.slice(at - length, length)
    if google_crc32c.value(footer) != crc:
        raise CorruptionError(f"{name}: the footer of the file is damaged, at offset {at - length}")
    try:
        return _decode(footer)
    except msgspec.MsgspecError as error:
        raise CorruptionError(f"{name}: the footer of the file cannot be read ({error}), at offset {at - length}") from error


def check_parts(data: Buffer, footer: Footer, body: int, name: str) -> None:
    """Prove the content, which is the first `body` bytes of `data`."""
    import google_crc32c

    crcs: array[int] = array("I", footer.crcs)
    if footer.part <= 0 or len(crcs) != -(-body // footer.part):
        raise CorruptionError(f"{name}: the footer has {len(crcs)} checksums for {body} bytes of content, at offset {body}")
    for number, crc in enumerate(crcs):
        begin = number * footer.part
        if google_crc32c.value(data.slice(begin, min(footer.part, body - begin))) != crc:
            raise CorruptionError(f"{name}: the content is damaged, at offset {begin} or up to {footer.part} bytes later")


def slices(data: Buffer, footer: Footer, body: int, name: str) -> list[Buffer]:
    """The buffers that the footer names."""
    offsets: array[int] = array("Q", footer.offsets)
    lengths: array[int] = array("Q", footer.lengths)
    for offset, length in zip(offsets, lengths, strict=True):
        if offset + length > body:
            raise CorruptionError(f"{name}: the footer names bytes beyond the content, at offset {body}")
    return [data.slice(offset, length) for offset, length in zip(offsets, lengths, strict=True)]

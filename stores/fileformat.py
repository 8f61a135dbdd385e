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
        begin = self._at
        for piece in pieces:
            yield from self._account(piece)
        self._offsets.append(begin)
        self._lengths.append(self._at - begin)
        yield from self._account(bytes(-self._at % ALIGN))

    def _account(self, data: Any) -> Iterator[memoryview]:
        import google_crc32c
        import pyarrow as pa

        buffer, done = pa.py_buffer(data), 0
        while done < buffer.size:
            room = PART - self._at % PART
            piece = buffer.slice(done, min(room, buffer.size - done))
            self._crc = google_crc32c.extend(self._crc, piece)
            self._at += piece.size
            done += piece.size
            if not self._at % PART:
                self._crcs.append(self._crc)
                self._crc = 0
            # a bytes object goes out as itself: who needs one need not copy it
            yield memoryview(data if isinstance(data, bytes) and len(data) == piece.size else piece)

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


def unseal(data: Buffer, sealed: Sealed, name: str, *, proved: bool = False) -> Opened:
    """The parts of a whole file object. CorruptionError names the object and the offset of what is wrong.

    `proved`: the content has been proved before and is not looked at again.
    """
    if data.size != sealed.size:
        raise wrong_size(data.size, sealed, name)
    footer, body = read_footer(data, sealed, name)
    if not proved:
        check_parts(data, footer, body, name)
    return Opened(footer, slices(data, footer, body, name))


def wrong_size(size: int, sealed: Sealed, name: str) -> CorruptionError:
    """What to raise when there are not as many bytes as there should be."""
    return CorruptionError(f"{name}: it has {size} bytes, {sealed.size} were written, at offset {size}")


def end_bytes(end: Buffer, sealed: Sealed, name: str) -> int:
    """How many bytes footer and tail have, told from the last bytes of the object (`TAIL.size` at least)."""
    if sealed.size < TAIL.size:
        raise wrong_size(sealed.size, sealed, name)
    length, crc, magic = TAIL.unpack_from(end, end.size - TAIL.size)
    if magic != MAGIC or crc != sealed.crc32c or length > sealed.size - TAIL.size:
        raise CorruptionError(f"{name}: the tail of the file is damaged, at offset {sealed.size - TAIL.size}")
    return int(length) + TAIL.size


def read_footer(end: Buffer, sealed: Sealed, name: str) -> tuple[Footer, int]:
    """(footer, bytes of content), proved against what the reference remembers, from the last bytes of the object (`end_bytes`
    of them at least)."""
    import google_crc32c

    length = end_bytes(end, sealed, name)
    at = sealed.size - length
    footer = end.slice(end.size - length, length - TAIL.size)
    if google_crc32c.value(footer) != sealed.crc32c:
        raise CorruptionError(f"{name}: the footer of the file is damaged, at offset {at}")
    try:
        return _decode(footer), at
    except msgspec.MsgspecError as error:
        raise CorruptionError(f"{name}: the footer of the file cannot be read ({error}), at offset {at}") from error


def check_parts(data: Buffer, footer: Footer, body: int, name: str, start: int = 0, stop: int | None = None) -> None:
    """Prove the parts that hold the bytes from `start` to `stop` of the content, which is the first `body` bytes of `data`."""
    begin, end = touched(footer, body, name, start, body if stop is None else stop)
    prover = Prover(footer, body, name, begin)
    for at in range(begin, end, footer.part):
        prover.feed(data.slice(at, min(footer.part, body - at)))


def touched(footer: Footer, body: int, name: str, start: int, stop: int) -> tuple[int, int]:
    """The stretch of the content that must be read to prove these bytes of it: whole parts."""
    checksums(footer, body, name)
    if start >= stop:
        return (0, 0)
    return start // footer.part * footer.part, min(body, -(-stop // footer.part) * footer.part)


def checksums(footer: Footer, body: int, name: str) -> array[int]:
    """One a part."""
    crcs: array[int] = array("I", footer.crcs)
    if footer.part <= 0 or len(crcs) != -(-body // footer.part):
        raise CorruptionError(f"{name}: the footer has {len(crcs)} checksums for {body} bytes of content, at offset {body}")
    return crcs


class Prover:
    """Proves content as it comes, in pieces of any size, from the beginning of a part on."""

    def __init__(self, footer: Footer, body: int, name: str, start: int = 0) -> None:
        self._crcs = checksums(footer, body, name)
        self._part = footer.part
        self._body = body
        self._name = name
        self._at = start
        self._crc = 0

    def feed(self, piece: Any) -> None:
        """The next bytes. CorruptionError when a part that ends in them is not what was written."""
        import google_crc32c
        import pyarrow as pa

        buffer = pa.py_buffer(piece)
        done = 0
        while done < buffer.size:
            number = self._at // self._part
            end = min(self._body, (number + 1) * self._part)
            some = buffer.slice(done, min(end - self._at, buffer.size - done))
            if not some.size:
                raise CorruptionError(f"{self._name}: there is more content than was written, at offset {self._at}")
            self._crc = google_crc32c.extend(self._crc, some)
            self._at += some.size
            done += some.size
            if self._at == end:
                self._settle(number)

    def _settle(self, number: int) -> None:
        if self._crc != self._crcs[number]:
            begin = number * self._part
            raise CorruptionError(f"{self._name}: the content is damaged, at offset {begin} or up to {self._part} bytes later")
        self._crc = 0

    def ended(self, stop: int) -> None:
        """Everything up to `stop` must have come."""
        if self._at < stop:
            raise CorruptionError(f"{self._name}: the content ends too early, at offset {self._at}")


def slices(data: Buffer, footer: Footer, body: int, name: str) -> list[Buffer]:
    """The buffers that the footer names."""
    offsets: array[int] = array("Q", footer.offsets)
    lengths: array[int] = array("Q", footer.lengths)
    for offset, length in zip(offsets, lengths, strict=True):
        if offset + length > body:
            raise CorruptionError(f"{name}: the footer names bytes beyond the content, at offset {body}")
    return [data.slice(offset, length) for offset, length in zip(offsets, lengths, strict=True)]

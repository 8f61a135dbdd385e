"""File objects in places that are reached over a network: streamed in bounded memory, proved as they arrive.

Up to `fileformat.PART` bytes a file is one request each way. Above that it is uploaded in parts while it is read, and read by its
footer first, so that each part can be proved when it has come: nothing is believed before, and nothing but the parts that are
asked for is fetched. Checksums and disks are worked in threads, while the place reads ahead.

A write whose answer was lost is settled by looking (`_arrived`): keys are used once, so what lies under ours is either ours and
whole, or somebody has written to a key twice.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import aclosing
from typing import Any

from towline.engine.errors import UsageError
from towline.stores import fileformat
from towline.stores.fileformat import TAIL, Buffer, Footer, Opened, Prover, Sealed
from towline.stores.filewriting import LIGHT, Writing
from towline.stores.objects.base import ABSENT, Ambiguous, NotFound, Objects, PreconditionFailed
from towline.stores.objects.streaming import Piece, gathered, in_thread

END = 64 << 10
"""Bytes from the end of a long file that hold its footer, mostly: a checksum of 4 bytes for each 8 MiB."""
STEP = 1 << 20
"""Bytes that are proved in one hop to a thread, at least."""
ATTEMPTS = 3
"""Of a write whose answers are lost."""

Sink = Callable[[Any], None]
"""Takes the next bytes of the content; may block."""


# --------------------------------------------------------------------------------------------------------- writing


async def write(objects: Objects, key: str, begin: Callable[[], Writing], *, blocking: bool) -> Sealed:
    """Write under a key that nobody has used. PreconditionFailed if somebody has and the content is of one part; Ambiguous if the
    answers stay away.

    `begin` may be called several times; `blocking` says that it blocks.
    """
    for attempt in range(ATTEMPTS):
        writing = await in_thread(begin) if blocking else begin()
        try:
            await _send(objects, key, writing)
        except (Ambiguous, PreconditionFailed) as error:
            if isinstance(error, PreconditionFailed) and not attempt:
                raise
            if not await _arrived(objects, key, writing.sealed):
                if isinstance(error, PreconditionFailed) or attempt == ATTEMPTS - 1:
                    raise
                continue
        assert writing.sealed is not None
        return writing.sealed
    raise AssertionError("the last attempt returns or raises")


async def _send(objects: Objects, key: str, writing: Writing) -> None:
    pieces = writing.pieces()
    taken, whole = _take(pieces) if writing.light else await in_thread(_take, pieces)
    if whole:
        await objects.put(key, taken, ABSENT)
        return
    # unconditionally: not every server minds a condition at the end of an upload in parts, and keys are used once anyway
    async with aclosing(_onward(taken, pieces)) as onward:
        await objects.upload(key, onward)


def _take(pieces: Iterator[Piece]) -> tuple[list[Piece], bool]:
    """The first pieces, and whether they are all: small files go out whole."""
    taken: list[Piece] = []
    size = 0
    for piece in pieces:
        taken.append(piece)
        size += len(piece)
        if size > fileformat.PART:
            return taken, False
    return taken, True


async def _onward(taken: list[Piece], pieces: Iterator[Piece]) -> AsyncGenerator[Piece, None]:
    taken.reverse()
    while taken:
        yield taken.pop()
    while (further := await in_thread(next, pieces, None)) is not None:
        yield further


async def _arrived(objects: Objects, key: str, sealed: Sealed | None) -> bool:
    """Does this very content lie under the key? Proved by its tail, which covers all the rest."""
    if sealed is None:
        return False
    try:
        end = await objects.get(key, sealed.size - TAIL.size, TAIL.size + 1)
    except NotFound:
        return False
    return len(end) == TAIL.size and TAIL.unpack(end)[1:] == (sealed.crc32c, fileformat.MAGIC)


# --------------------------------------------------------------------------------------------------------- reading


async def read(objects: Objects, key: str, sealed: Sealed, name: str) -> Opened:
    """The whole content in memory, once."""
    import pyarrow as pa

    if sealed.size <= fileformat.PART:
        return await _small(objects, key, sealed, name)
    footer, body, _ = await _footer(objects, key, sealed, name)
    content = pa.allocate_buffer(body)
    view = memoryview(content).cast("B")
    at = 0

    def keep(piece: Any) -> None:
        nonlocal at
        view[at : at + len(piece)] = piece
        at += len(piece)

    await _stream(objects, key, name, footer, body, (0, body), keep)
    view.release()
    return Opened(footer, fileformat.slices(content, footer, body, name))


async def _small(objects: Objects, key: str, sealed: Sealed, name: str) -> Opened:
    import pyarrow as pa

    data = pa.py_buffer(await objects.get(key))
    if sealed.size <= LIGHT:
        return fileformat.unseal(data, sealed, name)
    return await in_thread(fileformat.unseal, data, sealed, name)


async def copy_file(objects: Objects, key: str, sealed: Sealed, name: str, open_sink: Callable[[Footer], Sink]) -> None:
    """The content of a file, without what stands behind it, into what `open_sink` (which blocks) gives. Nothing may be believed
    before this has returned: the last part may turn out to be damaged."""
    if sealed.size <= fileformat.PART:
        opened = await _small(objects, key, sealed, name)
        await in_thread(lambda: open_sink(opened.footer)(the_file(opened, name)))
        return
    footer, body, _ = await _footer(objects, key, sealed, name)
    sink = await in_thread(open_sink, footer)
    left = length_of_file(footer, body, name)

    def keep(piece: Any) -> None:
        nonlocal left
        sink(memoryview(piece)[:left])
        left -= min(left, len(piece))

    await _stream(objects, key, name, footer, body, (0, body), keep)


async def copy_object(objects: Objects, key: str, sealed: Sealed, name: str, fd: int) -> None:
    """The object as it is, proved, to an open file. OSError of the file; nothing may be believed before this has returned."""
    if sealed.size <= fileformat.PART:
        data = await objects.get(key)
        await in_thread(_keep_proved, fd, data, sealed, name)
        return
    footer, body, end = await _footer(objects, key, sealed, name)
    at = 0

    def keep(piece: Any) -> None:
        nonlocal at
        at += pwrite_all(fd, piece, at)

    await _stream(objects, key, name, footer, body, (0, body), keep)
    await in_thread(keep, memoryview(end)[end.size - (sealed.size - body) :])


def _keep_proved(fd: int, data: bytes, sealed: Sealed, name: str) -> None:
    import pyarrow as pa

    fileformat.unseal(pa.py_buffer(data), sealed, name)
    pwrite_all(fd, data, 0)


async def read_range(objects: Objects, key: str, sealed: Sealed, name: str, start: int, length: int) -> bytes:
    """Bytes of a file's content, fewer where it ends; only the parts that hold them are fetched and proved."""
    footer, body, _ = await _footer(objects, key, sealed, name)
    stop = min(start + length, length_of_file(footer, body, name))
    begin, end = fileformat.touched(footer, body, name, start, stop)
    kept: list[Any] = []
    await _stream(objects, key, name, footer, body, (begin, end), kept.append)
    return await in_thread(lambda: bytes(memoryview(b"".join(kept))[start - begin : stop - begin]))


def the_file(opened: Opened, name: str) -> memoryview:
    """A file's content."""
    length_of_file(opened.footer, 0, name)
    return memoryview(opened.buffers[0])


def length_of_file(footer: Footer, body: int, name: str) -> int:
    """Bytes of a file's content. UsageError if it is no file."""
    if footer.kind != "file" or len(footer.lengths) != 8:
        raise UsageError(f"{name} cannot be read as a file: the stored content is a value, not a file")
    return min(body, int.from_bytes(footer.lengths, "little"))


async def _footer(objects: Objects, key: str, sealed: Sealed, name: str) -> tuple[Footer, int, Buffer]:
    """(footer, bytes of content, the last bytes of the object)."""
    end = await _end(objects, key, sealed, name, min(END, sealed.size))
    need = fileformat.end_bytes(end, sealed, name)
    if need > end.size:
        end = await _end(objects, key, sealed, name, need)
    footer, body = fileformat.read_footer(end, sealed, name)
    return footer, body, end


async def _end(objects: Objects, key: str, sealed: Sealed, name: str, size: int) -> Buffer:
    import pyarrow as pa

    start = sealed.size - size
    data = await objects.get(key, start, size + 1)
    if len(data) != size:
        raise fileformat.wrong_size(start + len(data), sealed, name)
    return pa.py_buffer(data)


async def _stream(objects: Objects, key: str, name: str, footer: Footer, body: int, span: tuple[int, int], keep: Sink) -> None:
    """The content from a part's beginning to a part's end, proved as it comes."""
    begin, end = span
    prover = Prover(footer, body, name, begin)

    def take(batch: Sequence[Piece]) -> None:
        for piece in batch:
            prover.feed(piece)
            keep(piece)

    if begin < end:
        async with aclosing(objects.download(key, begin, end - begin)) as pieces, aclosing(gathered(pieces, STEP)) as batches:
            async for batch in batches:
                await in_thread(take, batch)
    prover.ended(end)


def pwrite_all(fd: int, data: Any, at: int) -> int:
    """Write every byte; return how many."""
    rest = memoryview(data)
    while len(rest):
        done = os.pwrite(fd, rest, at)
        at, rest = at + done, rest[done:]
    return len(memoryview(data))

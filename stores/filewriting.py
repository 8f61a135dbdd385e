"""Content on its way into a file object: what is written, made ready in pieces, and what a reference will say of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from towline.engine.errors import UsageError
from towline.stores.fileformat import PART, Sealed, Sealer

LIGHT = 256 << 10
"""Bytes in memory that are sealed faster than a thread is asked to."""


READ = PART
"""Bytes of a file that are read at once."""


class Writing:
    """Pieces first, then what to remember. One use."""

    def __init__(self, buffers: Iterable[Iterable[Any]], *, light: bool = False, **footer: Any) -> None:
        self.light = light
        """Are the pieces few and at hand, so that making them blocks nobody?"""
        self._buffers = buffers
        self._footer = footer
        self._sealed: Sealed | None = None

    def pieces(self) -> Iterator[bytes | memoryview]:
        """Everything to be written, in order; memory holds one piece of a file at a time."""
        sealer = Sealer()
        for buffer in self._buffers:
            yield from sealer.add(buffer)
        tail, self._sealed = sealer.finish(**self._footer)
        yield tail

    @property
    def sealed(self) -> Sealed | None:
        """What to remember, once all pieces were made."""
        return self._sealed


def of_value(header: bytes, buffers: Sequence[Any]) -> Writing:
    """A value that `codec.split` took apart."""
    light = len(header) + sum(memoryview(buffer).nbytes for buffer in buffers) <= LIGHT
    return Writing([[buffer] for buffer in buffers], light=light, kind="value", header=bytes(header))


def of_file(path: Path) -> Writing:
    """A regular file of this machine; UsageError if it is none or cannot be read. Blocks."""
    try:
        status = path.stat()
    except OSError as error:
        raise UsageError(f"{path} cannot be stored: {error.strerror}") from error
    if not path.is_file():
        raise UsageError(f"{path} cannot be stored: it is no regular file")
    return Writing([_chunks(path)], kind="file", executable=bool(status.st_mode & 0o111), name=path.name)


def _chunks(path: Path) -> Iterator[bytes]:
    # read, not mapped: somebody may cut the file short meanwhile, and that must not be a SIGBUS
    try:
        with path.open("rb", buffering=0) as file:
            while chunk := file.read(READ):
                yield chunk
    except OSError as error:
        raise UsageError(f"{path} cannot be stored: {error.strerror}") from error

"""Keeps what a job writes to stdout and stderr, with the job.

In a worker process the file descriptors 1 and 2 themselves are redirected, once, to unlinked files, so that C code and child
processes are caught too; a job's share is what was added while it ran. In the user's own process the text is copied on its
way to the terminal instead.
"""

from __future__ import annotations

import io
import os
import sys
import tempfile
from typing import IO, NamedTuple, Protocol

KEEP_BYTES = 64 << 10
"""Head and tail that are kept of a longer text, each."""

RESET_BYTES = 4 << 20
"""The files are emptied beyond this size (what they hold has been handed over)."""


class Said(NamedTuple):
    """What a job wrote."""

    stdout: bytes
    stderr: bytes


class Capture(Protocol):
    """Call `begin` before a body and `end` after it, in the same thread."""

    def begin(self) -> None: ...

    def end(self) -> Said | None:
        """What was written since `begin`, or None if nothing was."""
        ...

    def close(self) -> None: ...


def shorten(text: bytes) -> bytes:
    """Head and tail of a long text, with a line between that says how much was left out."""
    if len(text) <= 2 * KEEP_BYTES:
        return text
    out = len(text) - 2 * KEEP_BYTES
    return text[:KEEP_BYTES] + f"\n... {out} bytes left out ...\n".encode() + text[-KEEP_BYTES:]


class FileCapture:
    """Redirects descriptors 1 and 2 of this process until it ends."""

    def __init__(self) -> None:
        self._files: list[IO[bytes]] = []
        for fd, name in ((1, "stdout"), (2, "stderr")):
            file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - lives as long as the process
            os.set_blocking(file.fileno(), True)
            os.dup2(file.fileno(), fd)
            os.lseek(fd, 0, os.SEEK_SET)
            self._files.append(file)
            setattr(
                sys,
                name,
                io.TextIOWrapper(
                    io.FileIO(fd, "w", closefd=False), encoding="utf-8", errors="replace", write_through=True
                ),
            )
        self._at = [0, 0]

    def begin(self) -> None:
        self._at = [os.lseek(1, 0, os.SEEK_CUR), os.lseek(2, 0, os.SEEK_CUR)]
        for fd in (0, 1):
            if self._at[fd] > RESET_BYTES:
                os.lseek(fd + 1, 0, os.SEEK_SET)
                os.ftruncate(fd + 1, 0)
                self._at[fd] = 0

    def end(self) -> Said | None:
        sys.stdout.flush()
        sys.stderr.flush()
        ends = os.lseek(1, 0, os.SEEK_CUR), os.lseek(2, 0, os.SEEK_CUR)
        if ends[0] == self._at[0] and ends[1] == self._at[1]:
            return None
        return Said(*(self._read(i, self._at[i], ends[i]) for i in (0, 1)))

    def _read(self, i: int, start: int, end: int) -> bytes:
        fd, size = self._files[i].fileno(), end - start
        if size <= 2 * KEEP_BYTES:
            return os.pread(fd, size, start)
        head, tail = os.pread(fd, KEEP_BYTES, start), os.pread(fd, KEEP_BYTES, end - KEEP_BYTES)
        return head + f"\n... {size - 2 * KEEP_BYTES} bytes left out ...\n".encode() + tail

    def close(self) -> None:
        """Stays redirected: the process is about to end."""


class _Tee(io.TextIOBase):
    """A text stream that passes everything on and keeps a copy."""

    def __init__(self, onward: IO[str]) -> None:
        self.onward = onward
        self.kept: list[str] = []

    def write(self, text: str) -> int:
        self.kept.append(text)
        return self.onward.write(text)

    def flush(self) -> None:
        self.onward.flush()

    def isatty(self) -> bool:
        return self.onward.isatty()

    def fileno(self) -> int:
        return self.onward.fileno()

    def writable(self) -> bool:
        return True


class TeeCapture:
    """Copies sys.stdout and sys.stderr while a body runs; the user goes on seeing both."""

    def __init__(self) -> None:
        self._tees: list[_Tee] = []

    def begin(self) -> None:
        self._tees = [_Tee(sys.stdout), _Tee(sys.stderr)]
        sys.stdout, sys.stderr = self._tees

    def end(self) -> Said | None:
        out, err = self._tees
        sys.stdout, sys.stderr = out.onward, err.onward
        if not out.kept and not err.kept:
            return None
        return Said(*(shorten("".join(tee.kept).encode("utf-8", "replace")) for tee in (out, err)))

    def close(self) -> None:
        """Nothing stays redirected between jobs."""

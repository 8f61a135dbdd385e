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
from typing import IO, Any, NamedTuple, Protocol

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
    return text[:KEEP_BYTES] + _note(out) + text[-KEEP_BYTES:]


def _note(left_out: int) -> bytes:
    return f"\n... {left_out} bytes left out ...\n".encode()


def _is_broken(stream: io.TextIOWrapper) -> bool:
    try:
        return stream.closed
    except ValueError:
        return True  # a body has taken it apart


class FileCapture:
    """Redirects descriptors 1 and 2 of this process until it ends. A body that closes or replaces them does so for itself."""

    def __init__(self) -> None:
        self._files: list[IO[bytes]] = []
        self._streams: list[io.TextIOWrapper] = []
        for fd in (1, 2):
            file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - lives as long as the process
            os.set_blocking(file.fileno(), True)
            self._files.append(file)
            self._streams.append(self._redirect(fd))
        sys.stdout, sys.stderr = self._streams
        self._at = [0, 0]

    def _redirect(self, fd: int) -> io.TextIOWrapper:
        os.dup2(self._files[fd - 1].fileno(), fd)
        raw = io.FileIO(fd, "w", closefd=False)
        return io.TextIOWrapper(raw, encoding="utf-8", errors="replace", write_through=True)

    def begin(self) -> None:
        for i in (0, 1):
            try:
                at = os.lseek(i + 1, 0, os.SEEK_CUR)
            except OSError:  # the body before closed it
                self._streams[i] = self._redirect(i + 1)
                at = os.lseek(i + 1, 0, os.SEEK_CUR)
            if at > RESET_BYTES:
                os.lseek(i + 1, 0, os.SEEK_SET)
                os.ftruncate(i + 1, 0)
                at = 0
            self._at[i] = at
            if _is_broken(self._streams[i]):
                self._streams[i] = self._redirect(i + 1)
        sys.stdout, sys.stderr = self._streams

    def end(self) -> Said | None:
        for stream in (sys.stdout, sys.stderr):  # a body may have put others there
            try:
                stream.flush()
            except Exception:  # noqa: S110 - on the hot path
                pass  # it is closed, or none: what it held back is lost to the body itself
        # asked of our own descriptors: they share the place with 1 and 2, which the body may have closed
        ends = [os.lseek(file.fileno(), 0, os.SEEK_CUR) for file in self._files]
        if ends == self._at:
            return None
        return Said(*(self._read(i, self._at[i], ends[i]) for i in (0, 1)))

    def _read(self, i: int, start: int, end: int) -> bytes:
        fd, size = self._files[i].fileno(), end - start
        if size <= 2 * KEEP_BYTES:
            return os.pread(fd, max(0, size), start)
        head, tail = os.pread(fd, KEEP_BYTES, start), os.pread(fd, KEEP_BYTES, end - KEEP_BYTES)
        return head + _note(size - 2 * KEEP_BYTES) + tail

    def close(self) -> None:
        """Stays redirected: the process is about to end."""


class _Copy:
    """What one stream was given, as UTF-8: all of it while it is short, else head and tail. Never holds much more than both."""

    def __init__(self) -> None:
        self.size = 0
        self._head = b""
        self._parts: list[bytes] = []
        self._held = 0

    def add(self, data: bytes) -> None:
        self.size += len(data)
        self._held += len(data)
        self._parts.append(data)
        if self._held > 8 * KEEP_BYTES:
            self._squeeze()

    def _squeeze(self) -> None:
        data = b"".join(self._parts)
        if not self._head:
            self._head, data = data[:KEEP_BYTES], data[KEEP_BYTES:]
        self._parts = [data[-KEEP_BYTES:]]
        self._held = KEEP_BYTES

    def text(self) -> bytes:
        if not self._head:
            return shorten(b"".join(self._parts))
        self._squeeze()
        return self._head + _note(self.size - 2 * KEEP_BYTES) + self._parts[0]


class _TeeBytes(io.RawIOBase):
    """`sys.stdout.buffer` of a tee."""

    def __init__(self, onward: Any, copy: _Copy) -> None:
        self._onward = onward
        self._copy = copy

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._copy.add(bytes(data))
        written: int = self._onward.write(data)
        return written

    def flush(self) -> None:
        self._onward.flush()


class _Tee(io.TextIOBase):
    """A text stream that passes everything on and keeps a copy."""

    def __init__(self, onward: Any) -> None:
        self.onward = onward
        self.copy = _Copy()

    def write(self, text: str) -> int:
        self.copy.add(text.encode("utf-8", "replace"))
        if self.onward is not None:  # a program without a console has none
            self.onward.write(text)
        return len(text)

    def flush(self) -> None:
        if self.onward is not None:
            self.onward.flush()

    def isatty(self) -> bool:
        return self.onward is not None and bool(self.onward.isatty())

    def fileno(self) -> int:
        if self.onward is None:
            raise io.UnsupportedOperation("there is no console")
        number: int = self.onward.fileno()
        return number

    def writable(self) -> bool:
        return True

    def close(self) -> None:
        """The console is not the body's to close."""

    @property
    def buffer(self) -> _TeeBytes:
        return _TeeBytes(self.onward.buffer, self.copy)

    @property
    def encoding(self) -> str:  # type: ignore[override]  # a plain attribute there
        return getattr(self.onward, "encoding", None) or "utf-8"

    @property
    def errors(self) -> str | None:  # type: ignore[override]  # a plain attribute there
        return getattr(self.onward, "errors", None)


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
        if not out.copy.size and not err.copy.size:
            return None
        return Said(out.copy.text(), err.copy.text())

    def close(self) -> None:
        """Nothing stays redirected between jobs."""

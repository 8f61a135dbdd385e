"""A few bytes that a worker and its supervisor share: until when the worker may run, and by whose word.

A memory-mapped file, because the supervisor must be able to write while C code holds the worker's GIL, and the worker must be
able to read without a system call before each job. It has no path: nothing is left behind, whoever is killed first. But it has
a name (`mark`), and a process that the worker forks inherits the map: that is how it is known.

Both sides write deadlines, each in its own place, and the later one counts: nothing is lost between a read and a write. Numbers
are written by one store of eight bytes, so nobody ever reads half of one.
"""

from __future__ import annotations

import fcntl
import mmap
import os

_BYTES = 24


def mark(worker: str) -> str:
    """What `/proc/PID/maps` shows of the file in the worker, and in whatever it forks."""
    return f"towline-lease-{worker}"


class LeaseFile:
    """Deadline on CLOCK_BOOTTIME (seconds) and the epoch of the leader that the worker obeys."""

    def __init__(self, fd: int | None = None, *, worker: str = "") -> None:
        """A new one, of this worker, or the one behind a descriptor that was inherited."""
        self._mine = 0 if fd is None else 1
        if fd is None:
            made = os.memfd_create(mark(worker))
            fd = fcntl.fcntl(made, fcntl.F_DUPFD_CLOEXEC, 10)  # a shell that hands it on has the lower ones to itself
            os.close(made)
            os.ftruncate(fd, _BYTES)
        self.fd = fd
        """To be handed on to the other process, then closed by `hide`."""
        self._map = mmap.mmap(fd, _BYTES)
        self._deadlines = memoryview(self._map)[:16].cast("d")
        self._epoch = memoryview(self._map)[16:].cast("Q")

    @property
    def deadline(self) -> float:
        """0.0 before the first promise."""
        return max(self._deadlines)

    def extend(self, deadline: float) -> None:
        """Never backwards."""
        if deadline > self._deadlines[self._mine]:
            self._deadlines[self._mine] = deadline

    @property
    def epoch(self) -> int:
        """The highest epoch that has welcomed the worker."""
        return self._epoch[0]

    def obey(self, epoch: int) -> None:
        """From now on the supervisor believes only this epoch."""
        self._epoch[0] = epoch

    def hide(self) -> None:
        """Nobody else inherits the descriptor from now on; the map stays usable. Idempotent."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def close(self) -> None:
        """Let go of everything."""
        self.hide()
        self._deadlines.release()
        self._epoch.release()
        self._map.close()

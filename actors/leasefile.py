"""Sixteen bytes that a worker and its supervisor share: until when the worker may run, and by whose word.

A memory-mapped file, because the supervisor must be able to write while C code holds the worker's GIL, and the worker must be
able to read without a system call before each job.
"""

from __future__ import annotations

import mmap
import os
import struct
import tempfile

_DEADLINE = struct.Struct("<d")
_EPOCH = struct.Struct("<Q")


class LeaseFile:
    """Deadline on CLOCK_BOOTTIME (seconds) and the epoch of the leader that the worker obeys."""

    def __init__(self, path: str | None = None) -> None:
        if path is None:
            fd, self.path = tempfile.mkstemp(prefix="towline-lease-")
            os.ftruncate(fd, 16)
        else:
            self.path = path
            fd = os.open(path, os.O_RDWR)
        self._map = mmap.mmap(fd, 16)
        os.close(fd)

    @property
    def deadline(self) -> float:
        """0.0 before the first promise."""
        value: float = _DEADLINE.unpack_from(self._map, 0)[0]
        return value

    def extend(self, deadline: float) -> None:
        """Never backwards."""
        if deadline > self.deadline:
            _DEADLINE.pack_into(self._map, 0, deadline)

    @property
    def epoch(self) -> int:
        """The highest epoch that has welcomed the worker."""
        value: int = _EPOCH.unpack_from(self._map, 8)[0]
        return value

    def obey(self, epoch: int) -> None:
        """From now on the supervisor believes only this epoch."""
        _EPOCH.pack_into(self._map, 8, epoch)

    def unlink(self) -> None:
        """The file goes; both maps stay usable."""
        try:
            os.unlink(self.path)
        except FileNotFoundError:
            pass  # the other side was quicker

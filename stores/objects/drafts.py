"""Local writes that are not finished: temp files, whose names tell whose they are and what they were to become.

    MACHINE.BOOT.NAMESPACE.PID.COUNTER.KEY      the key with `+` for `/`, and cut where a file name may be no longer

Everything is written to a draft first. It counts for nothing until it is linked or renamed to its key (`LocalObjects._publish`),
so a crash leaves at most drafts behind; those of processes that are known to be dead are reaped by the next writer (P8). A
draft's methods block; each belongs to one writer, which calls them one at a time.
"""

# ruff: noqa: PTH116 - each call is one system call of the seam, on paths as text
from __future__ import annotations

import errno
import hashlib
import itertools
import os
import platform
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from towline.stores.objects.base import ObjectsError, Unfinished, Version
from towline.stores.objects.syscalls import Os, mapped, write_all

TEMP = ".tmp"
"""Hidden folder of unfinished writes; no key begins with a dot."""
FOREIGN_TEMP_S = 86400.0
"""Temp files of machines whose processes cannot be seen from here are reaped at this age, in seconds."""
NAME_MAX = 240
"""Bytes that a temp file's name may have; every file system takes that many."""
_STEP = 1 << 20
"""Bytes at once where the kernel cannot copy by itself."""
_CANNOT = {errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EBADF, errno.EPERM, errno.ETXTBSY}
"""What file systems say that have no copying of their own, or none between these two files."""

_counter = itertools.count()


class Draft:
    """One temp file on its way to become an object. Raises ObjectsError; `drop` must be called in the end, whatever happens."""

    def __init__(self, calls: Os, folder: str, key: str, name: str) -> None:
        self.path = f"{folder}/{temp_name(key)}"
        self._calls = calls
        self._name = name
        with mapped("write", name):
            self.fd = calls.create(self.path)
        self._clones = True

    def write(self, batch: Sequence[bytes | memoryview]) -> None:
        """Add these bytes."""
        with mapped("write", self._name):
            write_all(self._calls, self.fd, batch)

    def clone(self, source: int, start: int, count: int) -> None:
        """Add bytes of another open file: in the kernel, sharing the disk's blocks, where it can."""
        end = start + count
        with mapped("write", self._name):
            while start < end:
                done = self._clone(source, start, end - start)
                if not done:
                    raise ObjectsError(f"cannot write {self._name}: what it is copied from was cut short meanwhile")
                start += done

    def _clone(self, source: int, start: int, count: int) -> int:
        if self._clones:
            try:
                if done := self._calls.clone(source, self.fd, start, count):
                    return done
            except OSError as error:
                if error.errno not in _CANNOT:
                    raise
            self._clones = False
        data = os.pread(source, min(count, _STEP), start)
        return write_all(self._calls, self.fd, [data])

    def finish(self) -> Version:
        """Nothing more comes: make it durable, and say which version it will be."""
        with mapped("write", self._name):
            self._calls.stamp(self.fd, unique_ns())
            self._calls.fsync(self.fd)
            return version_of(os.fstat(self.fd))

    def unlink(self) -> None:
        """Take the temp file's own name away; what was linked stays."""
        with suppress(OSError):
            self._calls.unlink(self.path)

    def drop(self) -> None:
        """Close it and take its name away."""
        with suppress(OSError):
            self._calls.close(self.fd)
        self.unlink()


def version_of(found: os.stat_result) -> Version:
    """What tells this state of a local object from any other."""
    return Version(f"{found.st_ino:x}-{found.st_mtime_ns:x}-{found.st_size:x}")


_last_ns = 0


def unique_ns() -> int:
    """Wall clock in ns, never the same twice: inode numbers are used again, so the time must tell versions apart."""
    global _last_ns
    _last_ns = max(time.time_ns(), _last_ns + 1)
    return _last_ns


# -------------------------------------------------------------------------------------------------------- temp files


def temp_name(key: str) -> str:
    """A new name for a temp file of this process."""
    return f"{here()}.{os.getpid()}.{next(_counter)}.{key.replace('/', '+')}"[:NAME_MAX]


def unfinished(temp: Path) -> Iterator[Unfinished]:
    """The temp files, of the living too. Of a very long key only the beginning is known."""
    try:
        entries = sorted(os.scandir(temp), key=lambda entry: entry.name)
    except FileNotFoundError:
        return
    for entry in entries:
        with suppress(FileNotFoundError):
            fields = entry.name.split(".", 5)
            key = fields[5].replace("+", "/") if len(fields) == 6 else ""
            yield Unfinished(key, entry.name, entry.stat(follow_symlinks=False).st_mtime)


def abort(temp: Path, uploads: Sequence[Unfinished], calls: Os) -> None:
    """Unlink these temp files; their writers, if they live, fail at their end."""
    for upload in uploads:
        if "/" in upload.id or upload.id in ("", ".", ".."):
            raise ObjectsError(f"cannot abort {upload.id!r}: it is not the id of an unfinished write")
        with mapped("abort", f"{temp}/{upload.id}"), suppress(FileNotFoundError):
            calls.unlink(f"{temp}/{upload.id}")


def reap(temp: Path, calls: Os) -> None:
    """Remove the unfinished writes of dead processes; those of live or unknown ones stay (unknown: for a day)."""
    for entry in list(os.scandir(temp)):
        with suppress(OSError):
            if _is_dead(entry.name, time.time() - entry.stat().st_mtime):
                calls.unlink(entry.path)


def _is_dead(name: str, age_s: float) -> bool:
    """Does the temp file of this name belong to a process that is known to be gone?"""
    try:
        machine, boot, namespace, pid, *_ = name.split(".")
        mine = here().split(".")
        if machine == mine[0] and boot != mine[1]:
            return True
        if [machine, boot, namespace] == mine:
            return not _alive(int(pid))
    except ValueError:
        return False
    return age_s > FOREIGN_TEMP_S


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


_here_cache = ""


def here() -> str:
    """`machine.boot.namespace`: where a pid means something. Equal only for processes that see one another."""
    global _here_cache
    if not _here_cache:
        parts = [_read("/etc/machine-id") + platform.node(), _read("/proc/sys/kernel/random/boot_id") or "noboot"]
        hashed = [hashlib.sha256(p.encode()).hexdigest()[:12] for p in parts]
        try:
            namespace = str(os.stat("/proc/self/ns/pid").st_ino)
        except OSError:
            namespace = "0"
        _here_cache = ".".join([*hashed, namespace])
    return _here_cache


def _read(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""

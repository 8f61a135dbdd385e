"""The system calls that local durability rests on, behind one small seam, and what their errors mean to a user.

`Os` is the real thing; the tests' disk shim stands in its place and loses power between any two of these calls (R11).
"""

# ruff: noqa: PTH102, PTH105, PTH108 - plain system calls on paths as text are what this file is about
from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from towline.stores.objects.base import NotFound, ObjectsError

NETWORK_FILESYSTEMS = frozenset(
    {"nfs", "nfs4", "cifs", "smb", "smbfs", "smb2", "smb3", "9p", "afs", "ncpfs", "webdav", "davfs", "virtiofs"}
)
"""File systems that cache attributes: the look for segment n+1 proves nothing there, so nothing is appended (R2)."""

READS = frozenset({"read", "look at", "sync", "list"})
"""What may be tried with an object that does not exist, and then says NotFound."""

_WHY = {
    errno.ENOSPC: "the disk is full; free some space and resume",
    errno.EDQUOT: "the disk quota is used up; free some space and resume",
    errno.EIO: "the disk reports an input/output error; check it before going on",
    errno.EACCES: "permission denied; run as the user that owns the store",
    errno.EPERM: "the operation is not permitted; run as the user that owns the store",
    errno.EROFS: "the file system is read-only; choose another place or remount it",
    errno.EMFILE: "too many open files; raise the limit (ulimit -n)",
    errno.ENFILE: "too many open files on this machine",
    errno.EISDIR: "a folder stands where a file is needed",
    errno.ESTALE: "the network file system lost the file; try again",
}


class Os:
    """The calls that write. Each raises OSError and nothing else; paths are absolute."""

    def create(self, path: str) -> int:
        """A new file of mode 0600, open for writing at its end."""
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def write(self, fd: int, data: Sequence[bytes | memoryview]) -> int:
        """As writev: may write less."""
        return os.writev(fd, data)

    def clone(self, source: int, fd: int, start: int, count: int) -> int:
        """Append bytes of another open file without passing them through this process, sharing the blocks of the disk where the
        file system can. May do less; OSError where kernel or file system cannot do it at all."""
        # the kernel refuses descriptors in append mode; without it this one still stands at its end
        fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) & ~os.O_APPEND)
        if not hasattr(os, "copy_file_range"):
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
        return os.copy_file_range(source, fd, count, start)

    def fsync(self, fd: int) -> None:
        """Data and size are on the medium when it returns."""
        if sys.platform == "darwin":
            fcntl.fcntl(fd, fcntl.F_FULLFSYNC)
        else:
            os.fdatasync(fd)

    def fsync_dir(self, path: str) -> None:
        """The folder's entries are on the medium when it returns."""
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def sync_file(self, path: str) -> None:
        """Fsync of a file that someone else wrote."""
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            self.fsync(fd)
        finally:
            os.close(fd)

    def stamp(self, fd: int, ns: int) -> None:
        """Set the file's times, so that no two writes of a key look alike."""
        os.utime(fd, ns=(ns, ns))

    def close(self, fd: int) -> None:
        """Let go of the descriptor."""
        os.close(fd)

    def link(self, source: str, target: str) -> None:
        """A second name; FileExistsError if the name is taken: this is the conditional create."""
        os.link(source, target)

    def rename(self, source: str, target: str) -> None:
        """Replace the target."""
        os.replace(source, target)

    def unlink(self, path: str) -> None:
        """Take one name away."""
        os.unlink(path)

    def mkdir(self, path: str) -> None:
        """A new folder of mode 0700."""
        os.mkdir(path, 0o700)


@contextlib.contextmanager
def mapped(what: str, name: str) -> Iterator[None]:
    """Turn OSError into ObjectsError with one clear sentence: `what` was tried with the object `name`."""
    try:
        yield
    except (FileNotFoundError, NotADirectoryError) as e:
        if what in READS:
            raise NotFound(f"cannot {what} {name}: it does not exist") from e
        raise ObjectsError(f"cannot {what} {name}: a folder of the store is gone or is no folder") from e
    except OSError as e:
        why = _WHY.get(e.errno or 0) or os.strerror(e.errno or 0)
        raise ObjectsError(f"cannot {what} {name}: {why}") from e


def write_all(calls: Os, fd: int, data: Sequence[bytes | memoryview]) -> int:
    """Write every byte; return how many. One writev where the kernel takes all of it."""
    rest = [memoryview(d).cast("B") for d in data if len(d)]
    total = sum(len(r) for r in rest)
    while rest:
        done = calls.write(fd, rest[:512])
        while rest and done >= len(rest[0]):
            done -= len(rest.pop(0))
        if done:
            rest[0] = rest[0][done:]
    return total


def filesystem_of(path: Path) -> str:
    """The type of the file system that holds the path (or would hold it), lower case; empty when unknown."""
    try:
        mounts = Path("/proc/self/mounts").read_text(errors="replace").splitlines()
        table = [(fields[1], fields[2]) for fields in (line.split() for line in mounts) if len(fields) > 2]
    except OSError:
        import psutil

        table = [(part.mountpoint, part.fstype) for part in psutil.disk_partitions(all=True)]
    return match_mount(str(path), table)


def match_mount(path: str, table: Sequence[tuple[str, str]]) -> str:
    """The type of the longest mount point above `path`; the last one mounted wins among equals."""
    best, kind = "", ""
    for point, fstype in table:
        point = point.replace("\\040", " ").rstrip("/")
        if (path == point or path.startswith(point + "/")) and len(point) >= len(best):
            best, kind = point, fstype.lower()
    return kind


def may_append(fstype: str) -> bool:
    """R2: only where a stat sees at once what another process linked."""
    return fstype not in NETWORK_FILESYSTEMS and not fstype.startswith("fuse.")

"""A node's file cache: what was read from a distant store once is read from the local disk after that.

    BASE/towline-UID/HOST/account       bytes reserved so far; its lock is held while room is made
    BASE/towline-UID/HOST/NAME          one file object, as it lies in its store; memory-mapped when read
    BASE/towline-UID/HOST/NAME.part     one on its way; who holds its lock is fetching it

BASE is TOWLINE_CACHE_DIR, or the user's cache folder (XDG). NAME is a hash of the file's key, size and checksum, so a name has
one content for ever, and an entry is believed because it is proved by its reference: each process does that when it first meets
it, and nothing here needs an fsync. What does not prove is fetched again.

Room is reserved before a byte is fetched, and made by deleting what has not been used for longest (the access time, which a hit
sets), so the bound holds at every moment. What is mapped stays readable after its name is gone. Processes agree by flock, which
the kernel lets go when they die: a part without a holder is taken over or swept up. Two that want one entry fetch it once.

A cache must never be why a job fails: whatever is wrong with its disk, the caller reads from the store (`fetched` gives None).
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import logging
import os
import platform
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from enum import Enum
from pathlib import Path

from towline.engine.errors import CorruptionError, UsageError
from towline.stores import fileformat
from towline.stores.fileformat import Opened, Sealed
from towline.stores.objects.streaming import in_thread

log = logging.getLogger(__name__)

BYTES_MAX = 10 << 30
"""Default bound of a node's cache."""
SLACK = 0.1
"""Part of the bound that is made free at once when room is short, so that not each new entry looks at all the others."""
POLL_S = (0.01, 0.25)
"""First and longest pause between looks at an entry that another one is fetching, in seconds."""
PART = ".part"
ACCOUNT = "account"

Fill = Callable[[int], Awaitable[None]]
"""Writes the proved object to an open file. What it raises beside OSError is the source's and goes to the caller."""


def of_this_node() -> Cache | None:
    """The cache that the environment asks for: TOWLINE_CACHE_DIR and TOWLINE_CACHE_BYTES (0: none)."""
    said = os.environ.get("TOWLINE_CACHE_BYTES", "")
    if said and not said.isdigit():
        raise UsageError(f"TOWLINE_CACHE_BYTES is {said!r}: give a number of bytes, or 0 for no cache")
    bytes_max = int(said) if said else BYTES_MAX
    return Cache(bytes_max=bytes_max) if bytes_max else None


def default_base() -> Path:
    """Where caches lie if nobody says otherwise."""
    for name in ("TOWLINE_CACHE_DIR", "XDG_CACHE_HOME"):
        if path := os.environ.get(name):
            return Path(path).expanduser()
    return Path("~/.cache").expanduser()


class Cache:
    """Shared by all processes of a user on a node. Safe to use from several threads and event loops; makes nothing before it is
    used."""

    def __init__(self, base: str | os.PathLike[str] | None = None, *, bytes_max: int = BYTES_MAX) -> None:
        self.bytes_max = bytes_max
        self.folder = Path(base or default_base()).absolute() / f"towline-{os.geteuid()}" / (platform.node() or "node")
        self._prepared = False
        self._proved: dict[str, tuple[int, int]] = {}
        """By name: inode and time of entries that this process has proved."""
        self._warned = False

    # ----------------------------------------------------------------------------------------------------- reading

    def find(self, key: str, sealed: Sealed, title: str) -> Opened | None:
        """The file if it is here, proved; None if not. Blocks. `title` is what errors would call it."""
        try:
            return self._find(name_of(key, sealed), sealed, title)
        except OSError as error:
            self._warn(error)
            return None

    def _find(self, name: str, sealed: Sealed, title: str) -> Opened | None:
        import pyarrow as pa

        self._prepare()
        path = self.folder / name
        try:
            before = path.stat()
            # the name may be gone between any two of these calls; what is mapped stays
            with pa.memory_map(str(path), "r") as file:
                data = file.read_buffer()
            os.utime(path, ns=(time.time_ns(), before.st_mtime_ns))
            after = path.stat()
        except FileNotFoundError:
            return None
        mark = _mark(after)
        try:
            opened = fileformat.unseal(data, sealed, title, proved=_mark(before) == mark == self._proved.get(name))
        except CorruptionError as error:
            log.warning("a damaged entry of the file cache is dropped and fetched again: %s", error)
            self._discard(name)
            return None
        self._proved[name] = mark
        return opened

    async def fetched(self, key: str, sealed: Sealed, title: str, fill: Fill) -> Opened | None:
        """The file, from here or by `fill` and then from here; None: it cannot be kept here, read it yourself.

        Raises what `fill` raises.
        """
        name = name_of(key, sealed)
        try:
            for pause_s in _pauses():
                found = await in_thread(self._find, name, sealed, title)
                if found is not None:
                    return found
                match await self._try(name, sealed, fill):
                    case Claim.REFUSED:
                        return None
                    case Claim.BUSY:
                        await asyncio.sleep(pause_s)
        except OSError as error:
            self._warn(error)
        return None

    async def _try(self, name: str, sealed: Sealed, fill: Fill) -> Claim:
        part = _Part(self, name, sealed.size)
        try:
            claim = await in_thread(part.claim)
            if claim is Claim.OURS:
                await fill(part.fd)
                await in_thread(part.publish)
            return claim
        finally:
            await in_thread(part.drop)

    def _warn(self, error: OSError) -> None:
        if not self._warned:
            self._warned = True
            log.warning("the file cache in %s cannot be used, files are read from their store: %s", self.folder, error)

    # -------------------------------------------------------------------------------------------------------- room

    @contextmanager
    def _account(self) -> Iterator[_Account]:
        """Alone among all processes, with what is reserved so far."""
        self._prepare()
        fd = os.open(self.folder / ACCOUNT, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            account = _Account(self.folder, fd)
            yield account
            account.save()
        finally:
            os.close(fd)

    def _prepare(self) -> None:
        """The folder, ours alone: in a place that all may write to, somebody else may have made it first."""
        if self._prepared:
            return
        for folder in (self.folder.parent, self.folder):
            folder.parent.mkdir(parents=True, exist_ok=True)
            with suppress(FileExistsError):
                folder.mkdir(mode=0o700)
            found = folder.lstat()
            if not folder.is_dir() or folder.is_symlink() or found.st_uid != os.geteuid() or found.st_mode & 0o077:
                raise PermissionError(f"{folder} is not a folder of this user alone (mode 0700)")
        self._prepared = True

    def _discard(self, name: str) -> None:
        self._proved.pop(name, None)
        with self._account() as account:
            account.delete(name)


class Claim(Enum):
    """What came of wanting to fetch an entry."""

    OURS = "ours"
    BUSY = "busy"
    """Another one is at it, or was until now: look again."""
    REFUSED = "refused"
    """It is too large, or what is being fetched right now leaves no room."""


class _Part:
    """An entry on its way. Its methods block and are called one at a time; `drop` must be called in the end."""

    def __init__(self, cache: Cache, name: str, size: int) -> None:
        self._cache = cache
        self._name = name
        self._size = size
        self._path = cache.folder / (name + PART)
        self._claimed = False
        self.fd = -1

    def claim(self) -> Claim:
        """Become the one who fetches it, with room for all of it."""
        if self._size > self._cache.bytes_max:
            return Claim.REFUSED
        self._cache._prepare()
        self.fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        if not _lock(self.fd):
            return Claim.BUSY
        with self._cache._account() as account:
            # deleting needs the account's lock, so from here on what is there stays there
            if not self._is_there():
                return Claim.BUSY
            self._claimed = True
            if (self._cache.folder / self._name).exists():
                return Claim.BUSY
            # what a dead process had reserved for it is taken over, and what it wrote is overwritten
            more = self._size - os.fstat(self.fd).st_size
            if not account.make_room(more, self._cache.bytes_max, but=self._name + PART):
                return Claim.REFUSED
            os.ftruncate(self.fd, self._size)
            account.reserved += more
        return Claim.OURS

    def _is_there(self) -> bool:
        """Is the file that we hold the lock of still the one that has the name?"""
        try:
            return self._path.stat().st_ino == os.fstat(self.fd).st_ino
        except FileNotFoundError:
            return False

    def publish(self) -> None:
        """It is whole: it becomes an entry, proved by him who filled it."""
        status = os.fstat(self.fd)
        with self._cache._account():  # or who looks at what there is might see it twice, or not at all
            self._path.rename(self._cache.folder / self._name)
        self._claimed = False
        self._cache._proved[self._name] = _mark(status)

    def drop(self) -> None:
        """Let go; what was not published is gone, and its room free."""
        try:
            if self._claimed:
                self._claimed = False
                with self._cache._account() as account:
                    account.delete(self._name + PART)
        finally:
            fd, self.fd = self.fd, -1
            if fd >= 0:
                os.close(fd)


class _Account:
    """What is reserved, while its lock is held."""

    def __init__(self, folder: Path, fd: int) -> None:
        self._folder = folder
        self._fd = fd
        said = os.pread(fd, 32, 0)
        self.reserved = int(said) if said.strip().isdigit() else self._look()[1]
        """Bytes of all entries and parts. More than there are if a process died, until the next look."""

    def save(self) -> None:
        """Write it down."""
        os.pwrite(self._fd, b"%-31d\n" % max(0, self.reserved), 0)

    def delete(self, name: str) -> None:
        """Take an entry or part away."""
        with suppress(FileNotFoundError):
            path = self._folder / name
            size = path.stat().st_size
            path.unlink()
            self.reserved -= size

    def make_room(self, size: int, bytes_max: int, but: str) -> bool:
        """Is there room for so many bytes more, after deleting what was not used for longest?"""
        if self.reserved + size <= bytes_max:
            return True
        entries, self.reserved = self._look()
        goal = max(0, int(bytes_max * (1 - SLACK)) - size)
        for _, name in sorted(entries):
            if self.reserved <= goal:
                break
            if name != but and not (name.endswith(PART) and _is_held(self._folder / name)):
                self.delete(name)
        return self.reserved + size <= bytes_max

    def _look(self) -> tuple[list[tuple[int, str]], int]:
        """((time of last use, name) of all there is, the parts of the dead first; bytes)."""
        entries, total = [], 0
        for entry in os.scandir(self._folder):
            if entry.name == ACCOUNT:
                continue
            with suppress(FileNotFoundError):
                found = entry.stat(follow_symlinks=False)
                entries.append((0 if entry.name.endswith(PART) else found.st_atime_ns, entry.name))
                total += found.st_size
        return entries, total


def name_of(key: str, sealed: Sealed) -> str:
    """The entry's name."""
    return hashlib.blake2b(f"{key}\0{sealed.size}\0{sealed.crc32c}".encode(), digest_size=20).hexdigest()


def _mark(found: os.stat_result) -> tuple[int, int]:
    return found.st_ino, found.st_mtime_ns


def _lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_held(path: Path) -> bool:
    """Is somebody fetching it?"""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False
    try:
        return not _lock(fd)
    finally:
        os.close(fd)


def _pauses() -> Iterator[float]:
    """Longer and longer, for ever."""
    pause_s, longest_s = POLL_S
    while True:
        yield pause_s
        pause_s = min(longest_s, pause_s * 1.5)

"""Objects in a folder of a local disk (or NFS). What a call has returned from survives the loss of power (R11).

A write goes to a temp file in a hidden folder of the same file system, is fsynced, gets its name by link (ABSENT:
the kernel decides who was first) or by rename under the store's lock (OVERWRITE, Version), and then the folder is
fsynced: a name that is not durable is no object. Folders are never removed: a process that made sure once that a
folder is durable may rely on it. All file work runs in threads. Files are 0600, folders 0700.
"""

# ruff: noqa: PTH112, PTH116, PTH120 - paths are text here: each call is one system call of the seam, and Path objects would double the cost of listing
from __future__ import annotations

import asyncio
import fcntl
import itertools
import os
import stat
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TypeVar

from towline.stores.objects import drafts, syscalls
from towline.stores.objects.base import (
    ABSENT,
    Meta,
    Objects,
    ObjectsError,
    PreconditionFailed,
    Unfinished,
    Version,
    When,
    check_key,
)
from towline.stores.objects.drafts import TEMP as TEMP
from towline.stores.objects.drafts import Draft, version_of
from towline.stores.objects.streaming import copy_streamed, end, gathered, in_order, in_thread
from towline.stores.objects.syscalls import Os, mapped, write_all

T = TypeVar("T")

LOCK = ".lock"
_LIST_BATCH = 1000


class LocalObjects:
    """Objects below `root`, which the first write creates. Safe to share between threads, processes and (by link)
    NFS."""

    part_bytes = 4 << 20
    """Bytes that go to or come from the disk in one hop to a thread."""
    copy_bytes = 256 << 20
    """Bytes that the kernel copies in one hop."""

    def __init__(self, root: str | Path, *, calls: Os | None = None, appendable: bool | None = None) -> None:
        self.root = Path(root).expanduser().absolute()
        self.url = str(self.root)
        self._calls = calls or Os()
        self._durable: set[str] = set()
        self._prepared = False
        if appendable is None:
            appendable = syscalls.may_append(syscalls.filesystem_of(self.root))
        self.appendable = appendable

    # ------------------------------------------------------------------------------------------------------ writing

    async def put(self, key: str, data: bytes | Sequence[bytes | memoryview], when: When | Version = When.OVERWRITE) -> Version:
        """See `Objects.put`."""
        buffers = [data] if isinstance(data, bytes) else data
        return await asyncio.to_thread(self.put_blocking, key, [buffers], when)

    def put_blocking(
        self, key: str, batches: Iterable[Sequence[bytes | memoryview]], when: When | Version = When.OVERWRITE
    ) -> Version:
        """As `put`, for threads without an event loop; the content comes in batches, so that it need not fit in
        memory."""
        draft = self._draft(check_key(key))
        try:
            for batch in batches:
                draft.write(batch)
            return self._complete(draft, key, when)
        finally:
            draft.drop()

    async def upload(self, key: str, pieces: AsyncIterable[bytes | memoryview], when: When | Version = When.OVERWRITE) -> Version:
        """See `Objects.upload`. One batch is written while the next one is gathered."""
        draft = await self._begin(check_key(key))
        writing: list[asyncio.Task[None]] = []
        try:
            async for batch in gathered(pieces, self.part_bytes):
                await asyncio.gather(*writing)
                writing = [asyncio.create_task(in_thread(draft.write, batch))]
            await asyncio.gather(*writing)
            version = await in_thread(draft.finish)
            await in_thread(self._publish, draft.path, key, when)
            return version
        finally:
            await end(writing)
            await in_thread(draft.drop)

    async def copy(self, source: Objects, source_key: str, key: str, when: When | Version = When.OVERWRITE) -> Version:
        """See `Objects.copy`: between local places by the kernel, sharing the disk's blocks where the file system can."""
        if not isinstance(source, LocalObjects):
            return await copy_streamed(source, source_key, self, key, when)
        reading = _Reading(source, source_key)
        try:
            size = await in_thread(reading.open)
            draft = await self._begin(check_key(key))
            try:
                for at in range(0, size, self.copy_bytes):
                    await in_thread(draft.clone, reading.fd, at, min(self.copy_bytes, size - at))
                version = await in_thread(draft.finish)
                await in_thread(self._publish, draft.path, key, when)
                return version
            finally:
                await in_thread(draft.drop)
        finally:
            reading.close()

    async def _begin(self, key: str) -> Draft:
        """A draft made in a thread: one that was made in vain, for a caller that was cancelled, is dropped."""
        made: list[Draft] = []
        try:
            await in_thread(lambda: made.append(self._draft(key)))
        except asyncio.CancelledError:
            for draft in made:
                draft.drop()
            raise
        return made[0]

    def _draft(self, key: str) -> Draft:
        name = self._name(key)
        with mapped("write", name):
            self._prepare()
        return Draft(self._calls, f"{self.url}/{TEMP}", key, name)

    def _complete(self, draft: Draft, key: str, when: When | Version) -> Version:
        version = draft.finish()
        self._publish(draft.path, key, when)
        return version

    def _publish(self, temp: str, key: str, when: When | Version) -> None:
        """Give a durable temp file its name, and make the name durable."""
        path = self._path(key)
        with mapped("write", self._name(key)):
            folder = self._ensure_folder(path)
            if not os.path.lexists(temp):
                raise ObjectsError(f"cannot write {path}: what was written so far was removed (the write was aborted)")
            if when is ABSENT:
                self._create(temp, path, folder)
            else:
                self._replace(temp, path, when)
            self._calls.fsync_dir(folder)

    def _create(self, temp: str, path: str, folder: str) -> None:
        try:
            self._calls.link(temp, path)
        except FileExistsError:
            # the name may be new and not yet durable; whoever acts on it must be able to rely on it
            self._calls.fsync_dir(folder)
            raise PreconditionFailed(f"{path} exists already") from None

    def _replace(self, temp: str, path: str, when: When | Version) -> None:
        with self._locked():
            if isinstance(when, Version) and self._version_of(path) != when:
                raise PreconditionFailed(f"{path} is not the version that was read")
            self._calls.rename(temp, path)

    @staticmethod
    def _version_of(path: str) -> Version | None:
        try:
            return version_of(os.stat(path))
        except FileNotFoundError:
            return None

    async def appender(self, key: str, head: bytes) -> LocalAppender:
        """See `Objects.appender`."""
        if not self.appendable:
            raise ObjectsError(f"{self.url} lies on a network file system, where objects cannot be appended to (R2)")
        return await asyncio.to_thread(self._appender, check_key(key), head)

    def _appender(self, key: str, head: bytes) -> LocalAppender:
        draft = self._draft(key)
        try:
            draft.write([head])
            self._complete(draft, key, ABSENT)
        except BaseException:
            draft.drop()
            raise
        draft.unlink()
        return LocalAppender(self, key, draft.fd, len(head))

    async def delete_many(self, keys: Sequence[str]) -> None:
        """See `Objects.delete_many`. In the order given."""
        await asyncio.to_thread(self._delete, [check_key(k) for k in keys])

    def _delete(self, keys: Sequence[str]) -> None:
        if not self.root.is_dir():
            return
        folders = set()
        with self._locked():
            for key in keys:
                path = self._path(key)
                with mapped("delete", self._name(key)), suppress(FileNotFoundError, NotADirectoryError):
                    self._calls.unlink(path)
                    folders.add(os.path.dirname(path))
        with mapped("delete in", self.url):
            for folder in folders:
                self._calls.fsync_dir(folder)

    async def sync(self, key: str) -> None:
        """See `Objects.sync`: also of files that another process wrote, and of their names."""
        await asyncio.to_thread(self._sync, check_key(key))

    def _sync(self, key: str) -> None:
        with mapped("sync", self._name(key)):
            path = self._path(key)
            self._calls.sync_file(path)
            self._calls.fsync_dir(os.path.dirname(path))

    async def unfinished(self, prefix: str = "") -> AsyncIterator[Unfinished]:
        """See `Objects.unfinished`: temp files, of this process too."""
        for upload in await asyncio.to_thread(lambda: list(drafts.unfinished(self.root / TEMP))):
            if upload.key.startswith(prefix):
                yield upload

    async def abort(self, uploads: Sequence[Unfinished]) -> None:
        """See `Objects.abort`. Those under way fail at their end."""
        await asyncio.to_thread(drafts.abort, self.root / TEMP, uploads, self._calls)

    async def close(self) -> None:
        """Nothing is held open between calls."""

    # ------------------------------------------------------------------------------------------------------ reading

    async def get(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        """See `Objects.get`."""
        return await asyncio.to_thread(self._get, check_key(key), start, length)

    def _get(self, key: str, start: int, length: int | None) -> bytes:
        with mapped("read", self._name(key)):
            fd = os.open(self._path(key), os.O_RDONLY | os.O_CLOEXEC)
            try:
                want = max(0, _regular(os.fstat(fd)).st_size - start)
                return _pread(fd, start, want if length is None else min(want, length))
            finally:
                os.close(fd)

    async def download(self, key: str, start: int = 0, length: int | None = None) -> AsyncGenerator[bytes, None]:
        """See `Objects.download`: the open file is the one version, and ends where it ended when it was opened."""
        reading = _Reading(self, key)
        try:
            size = await in_thread(reading.open)
            stop = size if length is None else min(size, start + length)
            steps = range(start, stop, self.part_bytes)
            calls = (partial(in_thread, reading.read, at, min(self.part_bytes, stop - at)) for at in steps)
            async with aclosing(in_order(calls, 2)) as pieces:
                async for piece in pieces:
                    yield piece
        finally:
            reading.close()

    async def sign(self, key: str, *, expires_s: float = 3600.0) -> str:
        """See `Objects.sign`: for those who may read the file; it does not expire."""
        return Path(self._path(check_key(key))).as_uri()

    async def head(self, key: str) -> Meta:
        """See `Objects.head`."""
        return await asyncio.to_thread(self._head, check_key(key))

    def _head(self, key: str) -> Meta:
        with mapped("look at", self._name(key)):
            return _meta(key, _regular(os.stat(self._path(key))))

    async def list(self, prefix: str = "", start_after: str = "") -> AsyncIterator[Meta]:
        """See `Objects.list`. Each folder is read once; a batch of entries costs one hop to a thread."""
        walk = self._walk("", prefix, start_after)
        while batch := await asyncio.to_thread(_take, walk):
            for meta in batch:
                yield meta

    def _walk(self, folder: str, prefix: str, start_after: str) -> Iterator[Meta]:
        """Keys below `folder` (empty or ending in `/`) in key order: a folder sorts as its name with the slash."""
        with mapped("list", self._name(folder)):
            entries = self._entries(folder)
        for name, entry in entries:
            key = folder + name
            if name.endswith("/"):
                if (key.startswith(prefix) or prefix.startswith(key)) and not _wholly_before(key, start_after):
                    yield from self._walk(key, prefix, start_after)
            elif key.startswith(prefix) and key > start_after:
                with suppress(FileNotFoundError):
                    yield _meta(key, entry.stat())

    def _entries(self, folder: str) -> Sequence[tuple[str, os.DirEntry[str]]]:
        try:
            with os.scandir(self.root / folder) as found:
                named = [(e.name + "/" if e.is_dir() else e.name, e) for e in found if not e.name.startswith(".")]
        except FileNotFoundError:
            return []
        return sorted(named, key=lambda pair: pair[0])

    # ----------------------------------------------------------------------------------------------------- the place

    @property
    def plain(self) -> Objects:
        """Itself: nothing is encrypted."""
        return self

    def _path(self, key: str) -> str:
        return f"{self.url}/{key}"

    def _name(self, key: str) -> str:
        return f"{self.url}/{key}"

    def _prepare(self) -> None:
        """Once, before the first write: make the root and reap what dead processes left behind."""
        if self._prepared:
            return
        self._ensure_folder(f"{self.url}/{TEMP}/x")
        self._prepared = True
        drafts.reap(self.root / TEMP, self._calls)

    def _ensure_folder(self, path: str) -> str:
        """The folder of `path`, made if missing. That its own name is durable is made sure once in this process:
        another process may have made it and not have come to the fsync yet."""
        folder = os.path.dirname(path)
        if folder in self._durable:
            return folder
        parent = os.path.dirname(folder)
        inside = len(folder) > len(self.url)
        if inside or not os.path.isdir(parent):
            self._ensure_folder(folder)
        with suppress(FileExistsError):
            self._calls.mkdir(folder)
        try:
            self._calls.fsync_dir(parent)
        except PermissionError:
            if inside:
                raise  # above the store, a folder that we may not read is one that we have not made
        self._durable.add(folder)
        return folder

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Replacing and deleting exclude one another across processes, so that compare-and-rename is one act."""
        with mapped("lock", self.url):
            fd = os.open(f"{self.url}/{LOCK}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            with mapped("lock", self.url):
                fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)


class _Reading:
    """One file held open, and with it one version of an object. `close` must be called in the end, whatever happens."""

    def __init__(self, objects: LocalObjects, key: str) -> None:
        self._path = objects._path(check_key(key))
        self._name = objects._name(key)
        self.fd = -1

    def open(self) -> int:
        """The size of what is there now."""
        with mapped("read", self._name):
            self.fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
            return _regular(os.fstat(self.fd)).st_size

    def read(self, start: int, length: int) -> bytes:
        """So many bytes exactly."""
        with mapped("read", self._name):
            data = _pread(self.fd, start, length)
        if len(data) != length:
            raise ObjectsError(f"cannot read {self._name}: it was cut short meanwhile")
        return data

    def close(self) -> None:
        """Let go of the file; idempotent. Closing what was only read does not block."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)


class LocalAppender:
    """A file that grows: one write, one fsync and one stat a commit, in a thread of its own (commits wait for it)."""

    def __init__(self, objects: LocalObjects, key: str, fd: int, size: int) -> None:
        self._objects = objects
        self._calls = objects._calls
        self._name = objects._name(key)
        self._fd = fd
        self._size = size
        self._dead = ""
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="towline-append")

    async def append(self, data: bytes, absent: str | None = None) -> int:
        """See `Appender.append`."""
        if self._fd < 0:
            raise ObjectsError(f"{self._name}: this appender is closed")
        path = None if absent is None else self._objects._path(check_key(absent))
        return await self._hop(lambda: self._append(data, path))

    def _append(self, data: bytes, absent: str | None) -> int:
        if self._dead:
            raise ObjectsError(f"{self._name}: {self._dead}")
        # until it is known to be durable, nothing may be written behind it: a lost fsync is not repaired by another one
        self._dead = "an earlier append failed; nothing can be appended any more"
        with mapped("append to", self._name):
            self._size += write_all(self._calls, self._fd, [data])
            self._calls.fsync(self._fd)
            if absent is not None and os.path.lexists(absent):
                self._dead = "another writer has taken over"
                raise PreconditionFailed(f"{absent} exists")
        self._dead = ""
        return self._size

    async def close(self) -> None:
        """See `Appender.close`."""
        if self._fd >= 0:
            await self._hop(self._close)
            self._thread.shutdown(wait=False)

    def _close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            with suppress(OSError):
                self._calls.close(fd)

    async def _hop(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)


def _pread(fd: int, start: int, length: int) -> bytes:
    """Linux reads at most 2 GiB at once."""
    first = os.pread(fd, length, start)
    if len(first) == length or not first:
        return first
    parts, got = [first], len(first)
    while got < length and (more := os.pread(fd, length - got, start + got)):
        parts.append(more)
        got += len(more)
    return b"".join(parts)


def _regular(found: os.stat_result) -> os.stat_result:
    """A folder is no object."""
    if not stat.S_ISREG(found.st_mode):
        raise FileNotFoundError
    return found


def _take(walk: Iterator[Meta]) -> Sequence[Meta]:
    return list(itertools.islice(walk, _LIST_BATCH))


def _wholly_before(folder: str, start_after: str) -> bool:
    """Is every key below `folder` at or before `start_after`?"""
    return folder < start_after and not start_after.startswith(folder)


def _meta(key: str, found: os.stat_result) -> Meta:
    return Meta(key, found.st_size, version_of(found), found.st_mtime)

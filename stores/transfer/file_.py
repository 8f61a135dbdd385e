"""Files of this machine: read as they are, written whole or not at all.

A written file is a temp file beside its destination, made durable and renamed; its mode is what the user's umask makes of any
new file, executable or not. Folders are not made: a typing error in a path must not become a tree. A symlink at the
destination is replaced, not followed. Only regular files are read: a pipe would never end. All file work runs in threads.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

from towline.stores.objects.streaming import in_thread
from towline.stores.transfer.base import (
    PIECE,
    Fetched,
    Found,
    Piece,
    TransferError,
    directory,
    missing,
    no_directory,
    refused,
)
from towline.stores.transfer.url import Url

TEMP_PREFIX = ".towline-"
"""What a file is called that is being written."""


class FileScheme:
    """file: URLs and plain paths."""

    async def look(self, url: Url) -> Found:
        """See `Scheme.look`."""
        return await in_thread(_look, url)

    async def entries(self, url: Url) -> list[str]:
        """See `Scheme.entries`. A link to a directory is one; a broken link is not shown."""
        return await in_thread(_entries, url)

    @asynccontextmanager
    async def read(self, url: Url) -> AsyncIterator[Fetched]:
        """See `Scheme.read`."""
        file, found = await in_thread(open_regular, url)
        try:
            yield Fetched(_pieces(url, file), found.st_size, bool(found.st_mode & 0o111))
        finally:
            file.close()

    async def write(self, url: Url, pieces: AsyncIterable[Piece], size: int | None, executable: bool) -> None:
        """See `Scheme.write`."""
        draft = await in_thread(_Draft, url, executable)
        try:
            async for piece in pieces:
                await in_thread(draft.write, piece)
            await in_thread(draft.publish)
        finally:
            draft.drop()

    async def close(self) -> None:
        """Nothing is held open between calls."""


@contextmanager
def _named(url: Url) -> Iterator[None]:
    """Errors of the system as those that all schemes raise."""
    try:
        yield
    except (FileNotFoundError, NotADirectoryError) as error:
        # "x/y" where x is a file: nothing is there
        raise missing(url) from error
    except IsADirectoryError as error:
        raise directory(url) from error
    except PermissionError as error:
        raise refused(url) from error
    except OSError as error:
        raise TransferError(f"{url}: {error.strerror}") from error


def _look(url: Url) -> Found:
    with _named(url):
        found = Path(url.path).stat()
    if stat.S_ISDIR(found.st_mode):
        return Found(None, directory=True)
    if url.names_directory:
        raise missing(url)
    return Found(found.st_size, bool(found.st_mode & 0o111))


def _entries(url: Url) -> list[str]:
    if not _look(url).directory:
        raise no_directory(url)
    names = []
    with _named(url), os.scandir(url.path) as entries:
        for entry in entries:
            with suppress(OSError):
                is_dir = stat.S_ISDIR(entry.stat().st_mode)
                names.append(f"{entry.name}/" if is_dir else entry.name)
    return sorted(names)


def open_regular(url: Url) -> tuple[BinaryIO, os.stat_result]:
    """The file, open for reading, and what it is. Blocking."""
    if url.names_directory:
        raise directory(url) if _look(url).directory else missing(url)
    with _named(url):
        # NONBLOCK: to open a pipe would wait for its writer
        fd = os.open(url.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            found = os.fstat(fd)
            if stat.S_ISREG(found.st_mode):
                return os.fdopen(fd, "rb", buffering=0), found
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)
    if stat.S_ISDIR(found.st_mode):
        raise directory(url)
    raise TransferError(f"{url} is no regular file: copy what it gives to a file first")


async def _pieces(url: Url, file: BinaryIO) -> AsyncGenerator[bytes, None]:
    def step() -> bytes:
        with _named(url):
            return file.read(PIECE)

    while piece := await in_thread(step):
        yield piece


class _Draft:
    """A file that is being written beside where it will be. Blocking."""

    def __init__(self, url: Url, executable: bool) -> None:
        self._url = url
        self._target = Path(url.path)
        if url.names_directory or self._target.is_dir():
            raise directory(url)
        self._temp = self._target.with_name(f"{TEMP_PREFIX}{uuid4().hex}")
        self._file: BinaryIO | None = None
        mode = 0o777 if executable else 0o666
        try:
            fd = os.open(self._temp, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise FileNotFoundError(errno.ENOENT, "the folder to write to does not exist; make it first", str(url)) from error
        except PermissionError as error:
            raise refused(url) from error
        except OSError as error:
            raise TransferError(f"{url}: {error.strerror}") from error
        self._file = os.fdopen(fd, "wb", buffering=0)

    def write(self, piece: Piece) -> None:
        assert self._file is not None
        rest = memoryview(piece).cast("B")
        with _named(self._url):
            while rest:
                rest = rest[self._file.write(rest) :]

    def publish(self) -> None:
        """Durable under its own name: file first, then folder."""
        assert self._file is not None
        with _named(self._url):
            os.fsync(self._file.fileno())
            self._temp.replace(self._target)
            folder = os.open(self._target.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)

    def drop(self) -> None:
        """Close it, and take the temp file away if it was not published."""
        if self._file is not None:
            self._file.close()
        with suppress(OSError):
            self._temp.unlink()

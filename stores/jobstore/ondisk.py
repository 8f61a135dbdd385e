"""Between blobs and files of this machine: content in from a path, content out to a path, all or nothing.

What is written to a path stands beside it under a hidden name first and is renamed when every byte is proved. The store's own
copy is never what a user may write to: the default is a copy, sharing the disk's blocks where the file system can (FICLONE), so
that it costs no room. A hard link or a symlink is made only when the caller allows it, of a blob that is then made read-only
(0400, or 0500 if executable); it is proved first like any other read.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from array import array
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import aclosing, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

from towline.engine.errors import UsageError
from towline.stores.fileformat import PART
from towline.stores.jobstore.streams import Blob, Checksums, Content, landed, prove_blocking, proved_parts, put_to_the_end
from towline.stores.journal.parts import from_bytes
from towline.stores.objects.base import Ambiguous, Objects
from towline.stores.objects.local import LocalObjects
from towline.stores.objects.streaming import in_thread
from towline.stores.objects.syscalls import mapped

AnyPath = str | os.PathLike[str]

_FICLONE = 0x40049409
_SMALL_BYTES = 64 << 10
"""Files up to this size are read in the thread that looks at them."""


# ------------------------------------------------------------------------------------------------------------------- in


async def upload(objects: Objects, key: str, path: AnyPath) -> tuple[Content, bool]:
    """Make a blob of a file; (its content, is it executable). In bounded memory.

    Raises OSError as `open` does (FileNotFoundError, IsADirectoryError, PermissionError); UsageError for devices and pipes;
    ObjectsError. Then nothing is visible.
    """
    sums = Checksums()
    if isinstance(objects, LocalObjects):
        executable = await in_thread(_put_blocking, objects, key, Path(path), sums)
        return sums.content(), executable
    file, executable, size = await in_thread(_open, Path(path))
    try:
        if size <= PART:
            await put_to_the_end(objects, key, await in_thread(_read_all, file, sums))
        else:
            await _upload(objects, key, file, sums)
    finally:
        file.close()
    return sums.content(), executable


async def _upload(objects: Objects, key: str, file: BinaryIO, sums: Checksums) -> None:
    try:
        await objects.upload(key, _parts(file, sums))
    except Ambiguous:
        if not await landed(objects, key, sums.content().size):
            raise


def _put_blocking(objects: LocalObjects, key: str, path: Path, sums: Checksums) -> bool:
    file, executable, _ = _open(path)
    with file:
        objects.put_blocking(key, ([part] for part in _parts_blocking(file, sums)))
    return executable


def _open(path: Path) -> tuple[BinaryIO, bool, int]:
    found = path.stat()  # before opening: to open a pipe would wait for its writer
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(found.st_mode):
        raise UsageError(f"{path} cannot be stored: it is no regular file; copy what it gives into one first")
    return path.open("rb", buffering=0), bool(found.st_mode & 0o111), found.st_size


def _read_part(file: BinaryIO) -> bytes:
    """A whole part, less at the end only: an unbuffered read may be short."""
    first = file.read(PART)
    if len(first) in (0, PART):
        return first
    pieces, got = [first], len(first)
    while got < PART and (more := file.read(PART - got)):
        pieces.append(more)
        got += len(more)
    return b"".join(pieces)


def _parts_blocking(file: BinaryIO, sums: Checksums) -> Iterator[bytes]:
    while part := _read_part(file):
        yield sums.add(part)


def _read_all(file: BinaryIO, sums: Checksums) -> Sequence[bytes]:
    """One part or less; a file that has grown meanwhile is cut there, as if it had been read before."""
    return [sums.add(part) for part in [_read_part(file)] if part]


async def _parts(file: BinaryIO, sums: Checksums) -> AsyncGenerator[bytes, None]:
    while part := await in_thread(lambda: next(_parts_blocking(file, sums), b"")):
        yield part


# ------------------------------------------------------------------------------------------------------------------ out


async def write_to(blob: Blob, path: AnyPath, executable: bool) -> None:
    """Make `path` a copy of the blob, replacing what is there. Raises CorruptionError, NotFound, ObjectsError, OSError; then the
    path is as it was."""
    target = Path(path)
    if isinstance(blob.objects, LocalObjects):
        await in_thread(_copy_blocking, blob, blob.objects, target, executable)
        return
    beside = _beside(target)
    temp = await in_thread(beside.__enter__)
    try:
        file = await in_thread(_create, temp, executable)
        try:
            async with aclosing(proved_parts(blob)) as parts:
                async for part in parts:
                    await in_thread(_write, file, part)
        finally:
            await in_thread(file.close)
        await in_thread(temp.replace, target)
    finally:
        await in_thread(beside.__exit__, None, None, None)


async def link_to(blob: Blob, path: AnyPath, executable: bool, link: Callable[[Path, Path], None]) -> bool:
    """Make `path` another name of the proved blob, by `os.link` or `os.symlink`; False, and nothing done, where that cannot be:
    the blob is on no disk of this machine, on another device, or shared with the owner of an imported file."""
    if not isinstance(blob.objects, LocalObjects):
        return False
    return await in_thread(_link_blocking, blob, blob.objects, Path(path), executable, link)


def _link_blocking(blob: Blob, objects: LocalObjects, target: Path, executable: bool, link: Callable[[Path, Path], None]) -> bool:
    source = objects.root / blob.key
    with mapped("read", blob.name), source.open("rb", buffering=0) as file:
        _prove_all(blob, file)
        if not _make_read_only(source, file, executable):
            return False
    with _beside(target) as temp:
        try:
            link(source, temp)
        except OSError as error:
            if error.errno in (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP):
                return False
            raise
        temp.replace(target)
    return True


def _make_read_only(source: Path, file: BinaryIO, executable: bool) -> bool:
    """False, and nothing is changed, for a blob that is shared with the owner of an imported file: its mode is not ours."""
    found = os.fstat(file.fileno())
    if source.is_symlink() or (found.st_nlink > 1 and found.st_mode & 0o222):
        return False
    if found.st_nlink == 1:
        os.fchmod(file.fileno(), 0o500 if executable else 0o400)
    return True


def _copy_blocking(blob: Blob, objects: LocalObjects, target: Path, executable: bool) -> None:
    with mapped("read", blob.name):
        source = (objects.root / blob.key).open("rb", buffering=0)
    with source, _beside(target) as temp, _create(temp, executable) as file:
        if blob.content.size > _SMALL_BYTES and _clone(source, file):
            # what is proved is the clone: those are the bytes that will be read
            with temp.open("rb", buffering=0) as written:
                _prove_all(blob, written)
        else:
            _prove_all(blob, source, file)
        file.close()
        temp.replace(target)


def _clone(source: BinaryIO, file: BinaryIO) -> bool:
    """Share the blocks, where the file system can."""
    try:
        fcntl.ioctl(file.fileno(), _FICLONE, source.fileno())
    except OSError:
        return False
    return True


def _prove_all(blob: Blob, source: BinaryIO, out: BinaryIO | None = None) -> None:
    """Read the whole blob, prove each part, and write it to `out`."""
    crcs: array[int] = from_bytes("I", blob.content.crcs)
    at = 0
    while part := _read_part(source):
        prove_blocking(blob, crcs, at, part)
        at += len(part)
        if out is not None:
            _write(out, part)
    if at < blob.content.size:
        prove_blocking(blob, crcs, at, b"")


def _write(file: BinaryIO, part: bytes) -> None:
    rest = memoryview(part)
    while rest:
        rest = rest[file.write(rest) :]


def _create(temp: Path, executable: bool) -> BinaryIO:
    fd = os.open(temp, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o777 if executable else 0o666)
    return os.fdopen(fd, "wb", buffering=0)


@contextmanager
def _beside(target: Path) -> Iterator[Path]:
    """A free hidden name in the target's folder; what stands under it at the end goes."""
    if target.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(target))
    temp = target.with_name(f".towline-{uuid4().hex}")
    try:
        yield temp
    finally:
        with suppress(OSError):
            temp.unlink()

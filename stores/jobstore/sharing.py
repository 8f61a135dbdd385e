"""Files that a local store shares with their owner, by links; only where the caller or the configuration asks for it.

    import, hardlink=True                   the blob is one more name of the file (on the same device; else a copy)
    import, with `symlink_imports` set      the blob is a symlink to the file
    export, with `move_exports` set         the content moves to where it was exported, and the blob becomes a symlink to it

The store proves what it reads (P7): a shared file that its owner changes or takes away is found to be damaged or missing, never
believed. Deleting the job store's file takes the link away, not what it leads to.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

from towline.stores.fileformat import PART
from towline.stores.jobstore.ondisk import AnyPath
from towline.stores.jobstore.streams import Checksums, Content
from towline.stores.objects.base import OVERWRITE, Objects
from towline.stores.objects.drafts import TEMP, temp_name
from towline.stores.objects.local import LocalObjects
from towline.stores.objects.streaming import in_thread
from towline.stores.objects.syscalls import mapped
from towline.stores.transfer.file_ import open_regular
from towline.stores.transfer.url import parse

_CANNOT = {errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP}


async def link_in(objects: Objects, key: str, path: AnyPath, symbolic: bool) -> tuple[Content, bool] | None:
    """Make an object a link to a regular file of this machine: (its content, is it executable).

    None, and nothing is made, where no link can be: the store is no folder here, or lies on another device. FileNotFoundError,
    IsADirectoryError, ObjectsError.
    """
    if not isinstance(objects, LocalObjects):
        return None
    return await in_thread(_link_in, objects, key, Path(path), symbolic)


def _link_in(objects: LocalObjects, key: str, path: Path, symbolic: bool) -> tuple[Content, bool] | None:
    file, found = open_regular(parse(path))
    sums = Checksums()
    with file:
        if not _publish(objects, key, Path(os.path.realpath(path)), symbolic):
            return None
        os.fsync(file.fileno())
        while part := _part(file.fileno(), sums.content().size):
            sums.add(part)
    return sums.content(), bool(found.st_mode & 0o111)


async def lead_to(objects: Objects, key: str, path: AnyPath) -> None:
    """Make an object that was exported to this path a symlink to it, which sets its own room free; an object that is a link
    already, or on no disk of this machine, stays what it is."""
    if isinstance(objects, LocalObjects):
        await in_thread(_lead_to, objects, key, Path(path))


def _lead_to(objects: LocalObjects, key: str, path: Path) -> None:
    if not (objects.root / key).is_symlink():
        _publish(objects, key, Path(os.path.realpath(path.parent)) / path.name, True)


def _publish(objects: LocalObjects, key: str, target: Path, symbolic: bool) -> bool:
    """Give the store's name to a link, in one step; False where the file system cannot."""
    with mapped("write", f"{objects.url}/{key}"):
        objects._prepare()
        temp = objects.root / TEMP / temp_name(key)
        try:
            temp.symlink_to(target) if symbolic else os.link(target, temp)
        except OSError as error:
            if error.errno in _CANNOT:
                return False
            raise
    try:
        objects._publish(str(temp), key, OVERWRITE)
    finally:
        temp.unlink(missing_ok=True)
    return True


def _part(fd: int, at: int) -> bytes:
    """A whole part, less at the end only."""
    pieces: list[bytes] = []
    got = 0
    while got < PART and (piece := os.pread(fd, PART - got, at + got)):
        pieces.append(piece)
        got += len(piece)
    return b"".join(pieces)

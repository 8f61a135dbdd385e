"""The end of a store: all that lies in it goes, and what is left of an interrupted end is known as that.

`towline.json` is first made to say that the store is being destroyed, so that nobody takes half of it for a whole one, and goes
last. May be repeated at any time, also over a store of which parts are gone already. The caller sees to it that no leader
lives (`actors.standing`).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

from towline.stores.objects.base import NotFound, Objects, Unfinished
from towline.stores.objects.local import LOCK, TEMP, LocalObjects
from towline.stores.store import MARK, doomed, is_ours

BATCH = 1000
"""Keys deleted in one call."""


async def destroy(objects: Objects, progress: Callable[[int], None] | None = None) -> int:
    """Delete everything that a store wrote at this place; returns the number of objects. `progress` is told it as it grows.

    Idempotent. Of a directory nothing remains, unless somebody else's files lie in it. Raises ObjectsError.
    """
    try:
        mark = doomed(await objects.get(MARK))
        await objects.put(MARK, mark)
    except NotFound:
        pass  # it was destroyed before, or begun to be made
    count = 0
    batch: list[str] = []
    async for meta in objects.list():
        if meta.key != MARK and is_ours(meta.key):
            batch.append(meta.key)
        if len(batch) == BATCH:
            count += await _delete(objects, batch, progress, count)
            batch = []
    count += await _delete(objects, batch, progress, count)
    left: list[Unfinished] = [upload async for upload in objects.unfinished() if is_ours(upload.key)]
    await objects.abort(left)
    await objects.delete_many([MARK])
    if isinstance(objects, LocalObjects):
        await asyncio.to_thread(_remove_folders, objects)
    return count


async def _delete(objects: Objects, keys: list[str], progress: Callable[[int], None] | None, before: int) -> int:
    if keys:
        await objects.delete_many(keys)
        if progress is not None:
            progress(before + len(keys))
    return len(keys)


def _remove_folders(objects: LocalObjects) -> None:
    """The empty ones, from the bottom up; a folder with something of somebody else's in it stays."""
    root = objects.root
    for name in (LOCK,):
        (root / name).unlink(missing_ok=True)
    for folder, _, names in os.walk(root, topdown=False, followlinks=False):
        if os.path.basename(folder) == TEMP:  # noqa: PTH119 - os.walk gives text
            for name in names:
                os.unlink(os.path.join(folder, name))  # noqa: PTH108, PTH118 - unfinished writes of the store that is gone
        try:
            os.rmdir(folder)  # noqa: PTH106 - a path as os.walk gave it
        except OSError:
            continue

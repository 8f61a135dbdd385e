"""Is a place still the store that was opened there? One that was destroyed, or made anew, is written to no more.

Whoever destroys a store says so in `towline.json` before anything is deleted, and each store writes its own, once. So if the
file is what it was when the store was opened, nothing had been deleted until then: a segment that was created before that look
is part of the chain that was meant.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from towline.stores.objects.base import NotFound, Objects, ObjectsError, Version
from towline.stores.objects.local import LocalObjects
from towline.stores.objects.wrappers import Prefixed, unwrapped
from towline.stores.store import MARK


async def mark_of(objects: Objects) -> Version | None:
    """What `towline.json` is now; None: there is none. It is the store's, also where a table stands further down in it."""
    while isinstance(objects, Prefixed):
        objects = objects.inner
    try:
        return (await objects.head(MARK)).version
    except NotFound:
        return None


async def take_back(objects: Objects, keys: Sequence[str]) -> None:
    """Delete what was written into a place whose store is gone, and the folders that were made for it."""
    with suppress(ObjectsError):
        await objects.delete_many(keys)
    for key in keys:
        place, inside = unwrapped(objects, key)
        if isinstance(place, LocalObjects):
            await asyncio.to_thread(_remove_folders, place.root, place.root / inside)


def _remove_folders(root: Path, path: Path) -> None:
    with suppress(OSError):  # one is not empty, or gone
        while (path := path.parent).is_relative_to(root):
            path.rmdir()

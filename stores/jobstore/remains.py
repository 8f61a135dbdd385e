"""What may be left of a job store whose `towline.json` is gone: only what nobody else could have put there is deleted.

Without that file a place may be anybody's, so a folder's name proves nothing; the exact shape of a key does.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

from towline.stores.jobstore.chain import TABLE
from towline.stores.jobstore.hints import PREFIX as BLOBS
from towline.stores.objects.base import NotFound, Objects
from towline.stores.objects.local import LocalObjects
from towline.stores.store import MARK

_BATCH = 1000
_ours = re.compile(
    rf"{TABLE}(?:journal/\d{{20}}\.seg|parts/\d{{20}}-\d{{20}}\.part|snapshots/\d{{20}}-[0-9a-f]{{16}}\.state|clock/now)"
    rf"|{BLOBS}[0-9a-f]{{2}}/[0-9a-f]{{32}}\.[0-9a-f]{{16}}"
).fullmatch


async def is_store(objects: Objects) -> bool:
    """Is there anything that says that this place is a store (whole, or being destroyed)?"""
    try:
        await objects.head(MARK)
    except NotFound:
        return False
    return True


async def delete(objects: Objects) -> None:
    """Delete a job store's objects, by their shape alone, and abort its uploads. Idempotent."""
    for prefix in (TABLE, BLOBS):
        batch: list[str] = []
        async for key in _keys(objects, prefix):
            batch.append(key)
            if len(batch) == _BATCH:
                await objects.delete_many(batch)
                batch = []
        await objects.delete_many(batch)
        if isinstance(objects, LocalObjects):
            await asyncio.to_thread(_remove_folders, objects.root / prefix)
        await objects.abort([upload async for upload in objects.unfinished(prefix) if _ours(upload.key)])


async def _keys(objects: Objects, prefix: str) -> AsyncIterator[str]:
    async for meta in objects.list(prefix):
        if _ours(meta.key):
            yield meta.key


def _remove_folders(root: Path) -> None:
    """The empty ones, from the bottom up."""
    for folder, _, _ in os.walk(root, topdown=False, followlinks=False):
        with suppress(OSError):  # it is not empty
            Path(folder).rmdir()

"""Restart: the newest believed snapshot and the committed records after it, through the code that ran live.

`restore` is for a leader, which goes on replaying after its claim and then settles the core; `load` is for whoever reads
a store at rest. Both see the committed watermark only (R5).
"""

from __future__ import annotations

import asyncio
from typing import NamedTuple

from towline.engine.core import LeaderCore
from towline.engine.errors import CorruptionError
from towline.engine.image import ledger_from
from towline.stores import snapshots
from towline.stores.errors import SegmentGone
from towline.stores.journal.reader import JournalReader
from towline.stores.objects.base import NotFound
from towline.stores.snapshots import Made
from towline.stores.store import Store


class Loaded(NamedTuple):
    """A store at rest."""

    core: LeaderCore
    reader: JournalReader
    store: Store


async def restore(store: Store, reader: JournalReader) -> LeaderCore:
    """The core after every record that `reader` knows; not settled: the caller may replay more, then calls `settle` once.

    Raises CorruptionError, ObjectsError, NewerFormat.
    """
    last: Made | None = None
    gone: Exception | None = None
    while True:
        made = await snapshots.believed(store.objects, reader)
        if gone is not None and made == last:
            # R4: what a slow reader misses is in a newer snapshot; if there is none, it was lost
            raise CorruptionError(f"{store.url}: records are gone that no snapshot holds ({gone})") from gone
        last = made
        try:
            return await _restore(store, reader, made)
        except (SegmentGone, NotFound) as error:
            gone = error
            await reader.refresh()


async def _restore(store: Store, reader: JournalReader, made: Made | None) -> LeaderCore:
    image = await snapshots.read(store.objects, made) if made is not None else None
    core = await asyncio.to_thread(lambda: LeaderCore(ledger_from(image) if image is not None else None))
    await snapshots.fold(reader, core.ledger.next_seq, None, core.replay)
    return core


async def load(url: str) -> Loaded:
    """A store as it is now, for reading. Raises as `Store.open` and `restore` do."""
    store = await Store.open(url)
    reader = await JournalReader.open(store.objects)
    core = await restore(store, reader)
    reader.let_go()
    await asyncio.to_thread(core.settle)
    return Loaded(core, reader, store)


def load_blocking(url: str) -> Loaded:
    """As `load`, for scripts: in a loop of its own."""
    return asyncio.run(load(url))

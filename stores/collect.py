"""Files that nobody will ever name: found from committed state alone, and deleted (R10, P8).

A file belongs to an attempt, and is wanted if a committed outcome is that attempt's. It may only go once the journal has
*closed* the attempt, because a worker hands in outcomes late, even to a new leader (R3). An attempt is closed when

- its job has ended by another attempt: any other outcome of this generation is refused; or
- no worker is on the roster and the last leader has `Closed`: whoever held it is gone, and every attempt of that epoch or an
  earlier one will be refused.

Leases are not journaled, so this is all that the journal proves; whatever is not proven stays. Files of later epochs than the
state knows stay as well, so a state that is a little old never condemns what came after it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

from towline.engine.graph import NIL
from towline.engine.ids import unpack_uuid
from towline.engine.ledger import Ledger
from towline.engine.states import ENDED, JobState
from towline.stores import replay
from towline.stores.files import PREFIX, SHARED, Key, owner_of, parse_key
from towline.stores.objects.base import Objects
from towline.stores.store import Store, is_ours

BATCH = 1000
"""Keys deleted in one call."""
ABANDONED_S = 86400.0
"""An upload that is not complete after so many seconds was left."""


async def listed(objects: Objects) -> list[str]:
    """The keys of all files."""
    return [meta.key async for meta in objects.list(PREFIX)]


def orphans(keys: Iterable[str], ledger: Ledger) -> list[str]:
    """Those of these files that may go.

    `ledger` must hold committed records only (`replay.load`, never a leader's own state), and must have been read AFTER the
    keys were listed: else an attempt that a retry opened in between would look closed.
    """
    judge = Judge(ledger)
    return [name for name in keys if (key := parse_key(name)) is not None and judge.is_orphan(key)]


class Judge:
    """Tells for one committed state which files are wanted."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._epoch = ledger.led.epoch if ledger.led is not None else 0
        self._at_rest = ledger.closed and not ledger.roster
        self._odd: dict[str, list[int]] = {}
        """Folder names of uuids that are not canonical, to rows."""
        for row in ledger.graph.odd_uuids:
            self._odd.setdefault(owner_of(ledger.graph.uuid(row)), []).append(row)

    def is_orphan(self, key: Key) -> bool:
        """Will no committed outcome ever name this file?"""
        if key.owner == SHARED or key.attempt.epoch > self._epoch:
            return False
        rows = self._rows(key.owner)
        if any(self._outcome_of(row) == key.attempt for row in rows):
            return False
        if self._at_rest:
            return True
        # every job of this uuid must have ended: which of them (index) the attempt belonged to is not in the key
        return bool(rows) and all(JobState(self._ledger.graph.state[row]) in ENDED for row in rows)

    def _outcome_of(self, row: int) -> tuple[int, int] | None:
        graph = self._ledger.graph
        if graph.state[row] != JobState.COMPLETED:
            return None
        return graph.epoch[row], graph.counter[row]

    def _rows(self, owner: str) -> Sequence[int]:
        """All rows (generations of `index`) whose files lie in this folder."""
        if owner.startswith("x-"):
            return self._odd.get(owner, [])
        graph = self._ledger.graph
        try:
            packed = bytes.fromhex(owner.replace("-", ""))
        except ValueError:
            return []
        if len(packed) != 16 or unpack_uuid(packed) != owner or packed not in graph.latest:
            return []
        newest = graph.latest[packed]
        older = [graph.find(owner, index) for index in range(1, graph.index[newest])]
        return [newest, *(row for row in older if row != NIL)]


async def gc(url: str, *, dry_run: bool = False) -> list[str]:
    """Delete the orphans of a store (or only name them); returns their keys. May run beside a leader.

    Raises as `replay.load` does.
    """
    store = await Store.open(url)
    try:
        keys = await listed(store.objects)
        loaded = await replay.load(url)
        await loaded.store.close()
        doomed = await asyncio.to_thread(orphans, keys, loaded.core.ledger)
        if not dry_run:
            for start in range(0, len(doomed), BATCH):
                await store.objects.delete_many(doomed[start : start + BATCH])
        return doomed
    finally:
        await store.close()


async def abandoned(objects: Objects, *, now: float, dry_run: bool = False) -> list[str]:
    """Drop uploads that were begun and left (or only name them); `now` is the wall clock in seconds.

    Whoever still works on one that is older than ABANDONED_S fails cleanly.
    """
    left = [upload async for upload in objects.unfinished() if is_ours(upload.key) and upload.started < now - ABANDONED_S]
    if not dry_run:
        await objects.abort(left)
    return [upload.key for upload in left]

"""What a store holds, in numbers, for `towline store info`: plain data, from committed records only."""

from __future__ import annotations

from typing import Any

from towline.engine.states import JobState
from towline.stores import files, replay, snapshots
from towline.stores.objects.base import Objects


async def info(url: str) -> dict[str, Any]:
    """Sizes in bytes, times in seconds since 1970. Raises as `replay.load` does.

    `leader` is the last one that the journal knows; `closed` says that it left properly, and if it did not, it may live.
    """
    core, reader, store = await replay.load(url)
    ledger = core.ledger
    named = await snapshots.believed(store.objects, reader)
    led = ledger.led
    return {
        "url": store.url,
        "format": store.mark.format,
        "uuid": store.uuid,
        "towline": store.mark.towline,
        "records": reader.next_seq,
        "segments": len(reader.segments()),
        "journal_bytes": reader.stored_bytes,
        "epochs": reader.last_epoch,
        "jobs": {state.label: ledger.counts[state] for state in JobState if ledger.counts[state]},
        "total": ledger.graph.size,
        "flows": [{"uuid": flow.uuid, "name": flow.name, "jobs": flow.added} for flow in ledger.flows.values()],
        "snapshot": {"seq": named.seq, "key": named.key, "digest": named.digest} if named is not None else None,
        "snapshots": await _count(store.objects, snapshots.PREFIX),
        "files": await _count(store.objects, files.PREFIX),
        "leader": None
        if led is None
        else {"epoch": led.epoch, "host": led.host, "pid": led.pid, "since": led.wall, "closed": ledger.closed},
        "workers": len(ledger.roster),
    }


async def _count(objects: Objects, prefix: str) -> dict[str, int]:
    """How many objects begin with this, and their bytes."""
    count = size = 0
    async for meta in objects.list(prefix):
        count, size = count + 1, size + meta.size
    return {"count": count, "bytes": size}

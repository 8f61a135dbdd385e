"""Is a store at rest? The one judgement that stands before whoever would claim, move or destroy a store (R8).

A store whose last word is `Closed` is at rest. Else its leader may live: on this very host that is looked up, elsewhere the
head must stand still for a whole lease, because a healthy leader appends every third of it.
"""

from __future__ import annotations

import asyncio

from towline.actors.clock import Clock
from towline.actors.identity import host_id, is_alive
from towline.engine import model
from towline.engine.ledger import Ledger
from towline.stores.errors import StoreLocked
from towline.stores.journal.reader import JournalReader
from towline.stores.store import Store

LOOKS = 10
"""How often the head is looked at within a lease."""


async def at_rest(store: Store, reader: JournalReader, ledger: Ledger, clock: Clock, *, successor_of: str = "") -> bool:
    """Return when no leader works on the store; False: none has ever, or the last one has left properly.

    `ledger` is what `reader` has read. The leader of the name `successor_of` is known to be dead. True means that a leader has
    died here: a claim must then expect the head that `reader` saw last. Raises StoreLocked if a leader lives, or may.
    """
    led = ledger.led
    if led is None or ledger.closed or led.leader == successor_of:
        return False
    here = host_id()
    if (here.boot_id, here.pid_namespace) != (led.boot_id, led.pid_namespace):
        await _head_stands_still(store, reader, led, clock)
    elif is_alive(led.pid, led.started):
        raise StoreLocked.by(store.url, led.pid, led.host)
    return True


async def _head_stands_still(store: Store, reader: JournalReader, led: model.Led, clock: Clock) -> None:
    before = (reader.last_segment, reader.next_seq)
    until = clock.now().mono + led.lease_s
    while clock.now().mono < until:
        await asyncio.sleep(led.lease_s / LOOKS)
        await reader.refresh()
        if (reader.last_segment, reader.next_seq) != before:
            raise StoreLocked.by(store.url, led.pid, led.host)

"""Who may take a store that nobody seems to lead: what is dead here, what stands still elsewhere, and what does not."""

from __future__ import annotations

import asyncio
import os

import pytest

from tests.kit.journals import claim
from towline.actors.clock import SystemClock
from towline.actors.identity import host_id, start_time
from towline.actors.standing import at_rest
from towline.engine import model
from towline.stores import replay
from towline.stores.errors import StoreLocked
from towline.stores.journal.reader import JournalReader
from towline.stores.store import Store


async def led(store_dir, *, host="far.example", boot="b", namespace="n", pid=1, started=1.0, last=None, lease_s=0.2):
    """A store whose leader said this of itself; its writer stays open."""
    store = await Store.open(store_dir, create=True)
    writer = await claim(store.objects)
    said = model.Led(writer.epoch, "the leader", host, boot, namespace, pid, started, 1.0, lease_s)
    records = [model.Opened(store.uuid, "0", 0.0), said, *([last] if last else [])]
    await writer.commit([model.encode(record) for record in records])
    return store, writer


async def judged(store, **given):
    reader = await JournalReader.open(store.objects)
    core = await replay.restore(store, reader)
    return await at_rest(store, reader, core.ledger, SystemClock(), **given)


async def test_nobody_has_led_yet(store_dir):
    assert not await judged(await Store.open(store_dir, create=True))


async def test_who_has_closed_leads_no_more(store_dir):
    here = host_id()
    mine = {"boot": here.boot_id, "namespace": here.pid_namespace, "pid": os.getpid(), "started": start_time(os.getpid())}
    store, writer = await led(store_dir, **mine, last=model.Closed(2.0))
    assert not await judged(store)
    await writer.close()


async def test_who_lives_here_leads(store_dir):
    here = host_id()
    mine = {"boot": here.boot_id, "namespace": here.pid_namespace, "pid": os.getpid(), "started": start_time(os.getpid())}
    store, writer = await led(store_dir, **mine)
    with pytest.raises(StoreLocked, match=f"process {os.getpid()}"):
        await judged(store)
    assert not await judged(store, successor_of="the leader")
    await writer.close()


async def test_who_is_dead_here_does_not(store_dir):
    here = host_id()
    store, writer = await led(store_dir, boot=here.boot_id, namespace=here.pid_namespace, pid=os.getpid(), started=1.0)
    assert await judged(store)
    await writer.close()


async def test_a_head_that_stands_still_elsewhere_is_left_alone_by_its_leader(store_dir):
    store, writer = await led(store_dir)
    assert await judged(store)
    await writer.close()


async def test_a_head_that_moves_has_a_leader(store_dir):
    store, writer = await led(store_dir, lease_s=30.0)
    judging = asyncio.create_task(judged(store))
    number = 0
    while not judging.done():
        number += 1
        await writer.commit([model.encode(model.Beat(float(number)))])
        await asyncio.sleep(0.01)
    with pytest.raises(StoreLocked, match=r"on far\.example"):
        await judging
    await writer.close()

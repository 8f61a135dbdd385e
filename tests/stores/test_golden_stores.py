"""Whole stores of every released format, as a disk and as a bucket hold them: read, proved and gone on with on each run."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest

from docs import read_store
from tests.golden.stores.make import LARGE, folder_of, write
from tests.kit.book import uuid_of
from tests.kit.journals import claim
from towline.engine.states import JobState
from towline.stores import files, replay, snapshots
from towline.stores.objects.local import LocalObjects
from towline.stores.objects.memory import MemoryObjects
from towline.stores.store import Store
from towline.stores.verify import verify_store

GOLDEN = Path(__file__).parents[1] / "golden" / "stores"
CASES = sorted(str(p.relative_to(GOLDEN)) for p in GOLDEN.glob("format*/*"))


@pytest.fixture(params=CASES)
def golden(request, tmp_path):
    """A copy that may be written to."""
    shutil.copytree(GOLDEN / request.param, tmp_path / "s", copy_function=shutil.copyfile)
    return tmp_path / "s"


def test_both_modes_are_there():
    assert CASES[:4] == ["format1/appended", "format1/appended-2", "format1/linked", "format1/linked-2"]


async def check(store):
    """What every golden store of format 1 holds."""
    report = await verify_store(store, deep=True)
    assert report.problems == []
    assert (report.records, report.snapshots, report.files, report.epochs) == (23, 1, 1, 3)
    assert report.collected > 0
    reader = await replay.JournalReader.open(store.objects)
    made = await snapshots.believed(store.objects, reader)
    assert made is not None
    assert made.seq == 20
    core = await replay.restore(store, reader)
    graph = core.ledger.graph
    assert (graph.size, core.ledger.store, core.ledger.closed) == (15, "the-store", True)
    assert core.ledger.counts[JobState.COMPLETED] == 7
    place = graph.output(graph.find(uuid_of(5), 0))
    assert place is not None
    assert await files.load_async(store.files, await reader.read(place)) == LARGE
    return reader


async def test_it_is_read_and_proved(golden):
    store = await Store.open(golden)
    assert store.uuid == "golden"
    reader = await check(store)
    paths = [path for path in golden.glob("[jp]*/*") if path.is_file()]
    found = read_store.read({str(path.relative_to(golden)): path.read_bytes() for path in paths})
    assert found == [pair async for pair in reader.records()]


async def test_it_is_read_in_a_bucket(golden):
    memory = MemoryObjects(appendable=False)
    local = LocalObjects(golden)
    async for meta in local.list():
        await memory.put(meta.key, await local.get(meta.key))
    await check(Store(memory, (await Store.open(golden)).mark))


async def test_it_goes_on_in_either_mode(golden):
    for turn, appendable in enumerate((True, False, True)):
        objects = LocalObjects(golden, appendable=appendable)
        writer = await claim(objects, str(turn))
        assert writer.epoch == 4 + turn
        await writer.commit([b"on"])
        await writer.close()
    assert [payload for _, payload in read_store.read({m.key: await objects.get(m.key) async for m in objects.list()})][-3:] == [
        b"on"
    ] * 3


@pytest.mark.parametrize("mode", ["appended", "linked"])
def test_the_same_bytes_are_written_today(tmp_path, mode):
    """A change of the bytes is a change of the format, or a record has grown: see `tests.golden.stores.make`.

    Not compared: the snapshot, whose layout is Arrow's, and the segment that names it by its hash.
    """
    asyncio.run(write(tmp_path / "now", mode == "appended"))
    old = folder_of(mode)
    for path in sorted(p.relative_to(old) for p in old.rglob("*") if p.is_file()):
        data = (old / path).read_bytes()
        if path.parts[0] != "snapshots" and b"snapshotted" not in data and b"golden-2" not in data:
            assert (tmp_path / "now" / path).read_bytes() == data, path

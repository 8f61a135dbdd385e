"""Job tables of every released format, read on each run, continued, and written alike today."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.golden.table.make import CONFIG, changes, descriptions, write
from towline.stores.jobstore import records as r
from towline.stores.jobstore.chain import Chain, table
from towline.stores.jobstore.config import Config
from towline.stores.jobstore.description import JobDescription
from towline.stores.jobstore.state import State
from towline.stores.journal.verify import verify
from towline.stores.objects.local import LocalObjects
from towline.stores.objects.memory import MemoryObjects

GOLDEN = Path(__file__).parents[2] / "golden" / "table"
CASES = sorted(p.name for p in GOLDEN.glob("format*"))


@pytest.fixture(params=CASES)
def golden(request, tmp_path):
    shutil.copytree(GOLDEN / request.param, tmp_path / "s")
    return LocalObjects(tmp_path / "s")


def test_there_is_one():
    assert CASES[:1] == ["format1"]


async def test_it_is_read_by_way_of_a_snapshot(golden):
    state, expected = (await Chain.open(golden)).state, State()
    for seq, change in enumerate(changes()):
        expected.apply(seq, change)
    assert state.snapshot is not None
    expected.apply(99, state.snapshot)
    expected.apply(99, r.RootSet("checkpoint"))
    assert state.facts() == expected.facts()


async def test_what_it_holds_is_understood(golden):
    state = (await Chain.open(golden)).state
    assert Config.decode(state.config) == CONFIG
    for job, known in descriptions().items():
        found = JobDescription.decode(state.jobs[job].body, job, state.jobs[job].version)
        skip = {"job_store_id", "version", "_config"}
        assert {k: v for k, v in vars(found).items() if k not in skip} == {k: v for k, v in vars(known).items() if k not in skip}
        assert type(found) is type(known)


async def test_it_is_proved_and_goes_on(golden):
    report = await verify(table(golden))
    assert (report.problems, report.parts) == ([], 1)
    chain = await Chain.open(golden)
    await chain.commit(lambda state: [r.RootSet("service")])
    await chain.snapshot()
    assert (await Chain.open(golden)).state.root == "service"
    assert (await verify(table(golden))).problems == []


async def test_today_writes_the_same_bytes():
    objects = MemoryObjects()
    await write(objects)
    await objects.delete_many(["table/clock/now"])
    stored = {str(p.relative_to(GOLDEN / CASES[-1])): p.read_bytes() for p in (GOLDEN / CASES[-1]).rglob("*") if p.is_file()}
    assert {m.key: await objects.get(m.key) async for m in objects.list()} == stored

"""A place that is no longer the store that was opened there: nothing is acknowledged, and nothing stays of what was tried."""

from __future__ import annotations

import asyncio

import pytest

from towline.stores.destroy import destroy
from towline.stores.jobstore import records as r
from towline.stores.jobstore import standing
from towline.stores.jobstore.chain import Chain, Options, table
from towline.stores.jobstore.errors import NoSuchJobStoreException
from towline.stores.journal.verify import verify
from towline.stores.objects.base import Ambiguous
from towline.stores.objects.local import LocalObjects
from towline.stores.objects.memory import MemoryObjects
from towline.stores.objects.wrappers import REFUSED, Faults, Prefixed, Wrapped
from towline.stores.store import MARK

FAST = Options(pause_s=0.0)


@pytest.fixture(params=["memory", "local"])
def place(request, tmp_path):
    return MemoryObjects() if request.param == "memory" else LocalObjects(tmp_path / "store")


async def made(place, uuid):
    """A store with a table of two segments."""
    await place.put(MARK, b'{"format": 1, "store": "%s", "towline": "0"}' % uuid)
    chain = await Chain.create(place, r.Began(uuid.decode(), b""), options=FAST)
    await chain.commit(put("first"))
    return chain


def put(job):
    return lambda state: [r.JobPut(job, 0, b"body")]


async def keys(place):
    return [meta.key async for meta in place.list()]


class Meanwhile(Wrapped):
    """Lets something happen right before a segment is created."""

    act = None

    async def around(self, call, act):
        if call.verb == "put" and self.act is not None:
            happen, self.act = self.act, None
            await happen()
        return await act()


@pytest.mark.parametrize("verb", ["refresh", "commit"])
async def test_who_knows_nothing_of_the_destruction_is_refused_and_leaves_nothing(place, verb):
    await made(place, b"one")
    unaware = await Chain.open(place, options=FAST)
    await destroy(place)
    with pytest.raises(NoSuchJobStoreException):
        await (unaware.refresh() if verb == "refresh" else unaware.commit(put("late")))
    assert await keys(place) == []


async def test_a_destruction_while_a_segment_is_created(place):
    await made(place, b"one")
    slow = Meanwhile(place)
    unaware = await Chain.open(slow, options=FAST)
    await unaware.refresh()
    slow.act = lambda: destroy(place)
    with pytest.raises(NoSuchJobStoreException):
        await unaware.commit(put("late"))
    assert await keys(place) == []
    if isinstance(place, LocalObjects):
        assert not (place.root / "table").exists()


@pytest.mark.parametrize("verb", ["refresh", "commit"])
async def test_another_store_in_the_same_place_is_not_harmed(place, verb):
    await made(place, b"one")
    unaware = await Chain.open(place, options=FAST)
    await destroy(place)
    anew = await made(LocalObjects(place.root) if isinstance(place, LocalObjects) else place, b"two")
    assert anew.position.number == unaware.position.number  # the next slot is free to both
    with pytest.raises(NoSuchJobStoreException):
        await (unaware.refresh() if verb == "refresh" else unaware.commit(put("late")))
    await anew.commit(put("mine"))
    assert set((await anew.refresh()).jobs) == {"first", "mine"}
    assert (await verify(table(anew.objects))).ok


@pytest.mark.parametrize("looks", [1, 9])
async def test_a_look_without_an_answer_is_repeated_or_ambiguous(place, looks):
    await made(place, b"one")
    chain = await Chain.open(faulty := Faults(place, lambda call: None), options=FAST)
    left = [REFUSED] * looks
    faulty.plan = lambda call: left.pop() if call.verb == "head" and left else None
    if looks == 1:
        await chain.commit(put("x"))
    else:
        with pytest.raises(Ambiguous, match=r"3\.seg was created"):
            await chain.commit(put("x"))
        left.clear()
    assert "x" in (await chain.refresh()).jobs


async def test_what_was_written_is_taken_back_with_its_folders(tmp_path):
    place = LocalObjects(tmp_path / "store")
    await place.put("table/journal/00000000000000000007.seg", b"late")
    await place.put("files/mine", b"theirs")
    await standing.take_back(place, ["table/journal/00000000000000000007.seg"])
    assert await keys(place) == ["files/mine"]
    assert not (place.root / "table").exists()
    await asyncio.gather(*(standing.take_back(place, ["table/journal/00000000000000000007.seg"]) for _ in range(2)))


async def test_a_table_further_down_stands_and_falls_with_the_store(place):
    await place.put(MARK, b"{}")
    below = Prefixed(place, "documents/main")
    await Chain.create(below, r.Began("one", b""), options=FAST)
    unaware = await Chain.open(below, options=FAST)
    await destroy(place)
    with pytest.raises(NoSuchJobStoreException):
        await unaware.commit(put("late"))
    assert await keys(place) == []


async def test_the_mark(place):
    assert await standing.mark_of(place) is None
    await place.put(MARK, b"1")
    first = await standing.mark_of(place)
    await place.put(MARK, b"2")
    assert await standing.mark_of(place) not in (None, first)

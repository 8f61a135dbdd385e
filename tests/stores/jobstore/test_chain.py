"""The table's chain: many writers, lost races and answers, snapshots, collection, damage, and late writers (R4)."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from towline.engine.errors import CorruptionError
from towline.stores.jobstore import image, links
from towline.stores.jobstore import records as r
from towline.stores.jobstore.chain import Chain, Options, table
from towline.stores.jobstore.errors import (
    ConcurrentFileModificationException,
    JobStoreExistsException,
    NoSuchJobException,
    NoSuchJobStoreException,
)
from towline.stores.journal.segments import segment_key
from towline.stores.journal.verify import verify
from towline.stores.objects.base import Ambiguous, ObjectsError
from towline.stores.objects.memory import MemoryObjects
from towline.stores.objects.wrappers import LOST_AFTER, LOST_BEFORE, REFUSED, Counting, Fault, Faults, Wrapped, always, drawn, nth

BEGAN = r.Began("workflow", b"")
FAST = Options(pause_s=0.0)
EAGER = Options(pause_s=0.0, snapshot_segments=4, grace_s=0.0)


@pytest.fixture
def place():
    return MemoryObjects(appendable=False)


def put(job, expected=0, body=b"body"):
    return lambda state: [r.JobPut(job, expected, body)]


def puts(call):
    return call.verb == "put" and "journal/" in call.key


async def full_replay(place):
    """The state by every record there is, parts included, without any snapshot: read by the journal's own reader."""
    from towline.stores.jobstore.state import State
    from towline.stores.journal.reader import JournalReader

    state = State()
    async for seq, payload in (await JournalReader.open(table(place))).records():
        change = r.decode(payload, "")
        assert state.check(change) is None
        state.apply(seq, change)
    return state


async def test_of_many_who_create_one_succeeds(place):
    made = await asyncio.gather(*(Chain.create(place, BEGAN, options=FAST) for _ in range(5)), return_exceptions=True)
    assert sum(isinstance(m, Chain) for m in made) == 1
    assert sum(isinstance(m, JobStoreExistsException) for m in made) == 4


async def test_there_is_nothing_to_open(place):
    with pytest.raises(NoSuchJobStoreException, match="memory:"):
        await Chain.open(place)
    assert [m async for m in place.list()] == []


async def test_what_one_commits_the_other_sees(place):
    a = await Chain.create(place, BEGAN)
    b = await Chain.open(place)
    done = await a.commit(put("x"))
    assert "x" not in b.state.jobs
    assert (await b.refresh()).job("x").version == done.versions[0] == 1
    await b.commit(put("x", 1, b"new"))
    assert (await a.refresh()).job("x") == (2, b"new")


async def test_nothing_new_costs_one_request_and_a_commit_one_beside_the_look_at_the_mark(place):
    counting = Counting(place)
    chain = await Chain.create(counting, BEGAN)
    counting.tally.requests.clear()
    await chain.refresh()
    assert dict(counting.tally.requests) == {"get": 1, "head": 1}
    await chain.commit(put("x"))
    assert dict(counting.tally.requests) == {"get": 1, "put": 1, "head": 2}


async def test_what_others_wrote_is_made_durable_before_it_is_told(place):
    """A power loss may still take a name that was seen; our own are durable when the create returns."""
    counting = Counting(place)
    reader, writer = await Chain.create(counting, BEGAN), await Chain.open(place)
    await writer.commit(put("x"))
    await writer.commit(put("y"))
    counting.tally.requests.clear()
    await reader.refresh()
    assert dict(counting.tally.requests) == {"get": 3, "sync": 1, "head": 1}


async def test_commits_at_once_share_segments_and_one_that_fails_fails_alone(place):
    chain = await Chain.create(place, BEGAN)
    before = chain.position.number
    jobs = [f"{i % 40}" for i in range(50)]
    done = await asyncio.gather(*(chain.commit(put(job)) for job in jobs), return_exceptions=True)
    assert [isinstance(d, ConcurrentFileModificationException) for d in done] == [False] * 40 + [True] * 10
    assert len(chain.state.jobs) == 40
    assert chain.position.number - before == 1
    assert sorted(v for d in done[:40] for v in d.versions) == list(range(1, 41))


async def test_a_builder_sees_what_those_before_it_want(place):
    chain = await Chain.create(place, BEGAN)
    seen = []

    def second(state):
        seen.append("x" in state.jobs)
        return [r.JobDeleted("x")]

    await asyncio.gather(chain.commit(put("x")), chain.commit(second))
    assert seen[-1]
    assert not chain.state.jobs


async def test_all_changes_of_a_caller_or_none(place):
    """What a refused caller wanted is not there for those behind it either."""
    chain = await Chain.create(place, BEGAN)
    failed, done = await asyncio.gather(
        chain.commit(lambda state: [r.JobPut("a", 0, b""), r.JobPut("b", 99, b"")]),
        chain.commit(put("a")),
        return_exceptions=True,
    )
    assert isinstance(failed, NoSuchJobException)
    assert chain.state.job("a").version == done.versions[0]


async def test_no_failure_is_told_on_the_strength_of_an_old_state(place):
    a = await Chain.create(place, BEGAN)
    b = await Chain.open(place)
    version = (await b.commit(put("x"))).versions[0]
    await a.commit(put("x", version))
    assert (await b.commit(lambda state: [r.RootSet("x")] if "x" in state.jobs else [])).changes


async def test_a_failure_that_others_caused_is_told_only_when_they_are_durable(place):
    """The first caller deletes the job, the second therefore fails; the commit of the first does not come to be."""
    faults = Faults(place, lambda call: None)
    chain = await Chain.create(faults, BEGAN, options=FAST)
    version = (await chain.commit(put("x"))).versions[0]
    faults.plan = nth(1, REFUSED, puts)
    done = await asyncio.gather(
        chain.commit(lambda state: [r.JobDeleted("x")]), chain.commit(put("x", version)), return_exceptions=True
    )
    assert [type(d) for d in done] == [ObjectsError, ObjectsError]
    assert "x" in (await chain.refresh()).jobs


@pytest.mark.parametrize("fault", [LOST_BEFORE, LOST_AFTER])
async def test_a_lost_answer_is_settled(place, fault):
    faults = Faults(place, lambda call: None)
    chain = await Chain.create(faults, BEGAN, options=FAST)
    faults.plan = nth(1, fault, puts)
    done = await chain.commit(put("x"))
    assert (await Chain.open(place)).state.job("x").version == done.versions[0]
    assert chain.position.number == 2


async def test_what_cannot_be_settled_is_ambiguous_and_what_follows_is_sound(place):
    faults = Faults(place, lambda call: None)
    chain = await Chain.create(faults, BEGAN, options=FAST)
    faults.plan = always(LOST_BEFORE, puts)
    with pytest.raises(Ambiguous):
        await chain.commit(put("x"))
    faults.plan = lambda call: None
    await chain.commit(put("y"))
    assert list((await Chain.open(place)).state.jobs) == ["y"]


async def test_many_writers_lose_no_update(place):
    """Four instances, each with bad luck of its own, count one job up by the version rule."""
    await Chain.create(place, BEGAN)
    chains = [
        await Chain.open(Faults(place, drawn(seed, 0.1, (LOST_BEFORE, LOST_AFTER), puts)), options=FAST) for seed in range(4)
    ]
    await chains[0].commit(put("n", 0, b"0"))

    async def count(chain):
        while True:
            version, body = (await chain.refresh()).job("n")
            try:
                return await chain.commit(put("n", version, b"%d" % (int(body) + 1)))
            except ConcurrentFileModificationException:
                await asyncio.sleep(0)

    await asyncio.gather(*(count(chain) for chain in chains for _ in range(15)))
    assert (await chains[1].refresh()).job("n").body == b"60"
    assert (await verify(table(place))).problems == []


async def test_a_cancelled_caller_takes_nobody_with_it(place):
    chain = await Chain.create(place, BEGAN)
    first = asyncio.ensure_future(chain.commit(put("x")))
    second = asyncio.ensure_future(chain.commit(put("y")))
    await asyncio.sleep(0)
    first.cancel()
    await second
    with pytest.raises(asyncio.CancelledError):
        await first
    assert "y" in chain.state.jobs


async def test_a_builder_that_breaks_breaks_for_its_caller_only(place):
    chain = await Chain.create(place, BEGAN)

    def broken(state):
        raise KeyError("mine")

    done = await asyncio.gather(chain.commit(broken), chain.commit(put("x")), return_exceptions=True)
    assert isinstance(done[0], KeyError)
    assert "x" in chain.state.jobs


async def test_after_destroyed_every_instance_is_told(place):
    a = await Chain.create(place, BEGAN)
    b = await Chain.open(place)
    await a.commit(lambda state: [r.Destroyed()])
    with pytest.raises(NoSuchJobStoreException):
        await b.refresh()
    with pytest.raises(NoSuchJobStoreException):
        await b.commit(put("x"))
    with pytest.raises(NoSuchJobStoreException):
        await Chain.open(place)


# ----------------------------------------------------------------------------------------------- snapshots, collection


async def grown(place, count, options=EAGER):
    """A chain with jobs put one by one, and the snapshots that this made."""
    chain = await Chain.create(place, BEGAN, options=options)
    for i in range(count):
        await chain.commit(put(f"{i}", 0, b"x" * 50))
        await chain.kept()
    return chain


async def test_a_snapshot_and_the_rest_are_what_a_full_replay_is(place):
    chain = await grown(place, 40)
    await chain.commit(lambda state: [r.JobDeleted("3")])
    opened = await Chain.open(place)
    assert opened.state.snapshot is not None
    assert opened.state.facts() == chain.state.facts() == (await full_replay(place)).facts()
    assert opened.position == chain.position


async def test_an_open_reads_only_what_is_behind_the_snapshot(place):
    chain = await grown(place, 30, Options(snapshot_segments=1000))
    await chain.snapshot()
    counting = Counting(place)
    await Chain.open(counting)
    assert counting.tally.requests["get"] <= 3


async def test_old_segments_and_snapshots_go_and_the_chain_stays_proved(place):
    await grown(place, 60)
    keys = [m.key async for m in place.list("table/")]
    assert sum("journal/" in key for key in keys) < 30
    assert sum("snapshots/" in key for key in keys) == 2
    report = await verify(table(place))
    assert report.ok
    assert report.parts > 0
    assert report.records > 60


async def test_segments_are_kept_for_the_grace_period(place):
    await grown(place, 30, Options(snapshot_segments=4, grace_s=1000.0))
    assert len([m async for m in place.list("table/journal/")]) > 30


async def test_a_slow_reader_begins_anew(place):
    await Chain.create(place, BEGAN)
    slow = await Chain.open(place, options=EAGER)
    fast = await Chain.open(place, options=EAGER)
    for i in range(40):
        await fast.commit(put(f"{i}", 0, b"x" * 50))
        await fast.kept()
    assert segment_key(2) not in [m.key async for m in table(place).list("journal/")]
    assert len((await slow.refresh()).jobs) == 40
    await slow.commit(put("more"))
    assert (await fast.refresh()).facts() == slow.state.facts()


@pytest.mark.parametrize("sound", [True, False])
async def test_a_snapshot_that_no_record_names_does_not_count(place, sound):
    """Whatever it holds: only what the chain names is proved by the chain."""
    chain = await grown(place, 10, Options(snapshot_segments=1000))
    await chain.snapshot()
    await chain.commit(put("y"))
    forged = chain.state.copy()
    forged.apply(99, r.RootSet("forged"))
    named = await image.write(table(place), forged, chain.position)
    if not sound:
        await table(place).put(named.key, b"garbage")
    await chain.commit(put("z"))
    assert (await Chain.open(place)).state.facts() == chain.state.facts()


async def test_a_damaged_snapshot_that_counts_is_an_error(place):
    chain = await grown(place, 10, Options(snapshot_segments=1000))
    named = await chain.snapshot()
    await chain.commit(put("y"))
    data = bytearray(await table(place).get(named.key))
    data[len(data) // 2] ^= 4
    await table(place).put(named.key, bytes(data))
    with pytest.raises(CorruptionError, match=named.key):
        await Chain.open(place)


async def test_a_damaged_segment_is_an_error_that_names_it(place):
    chain = await grown(place, 5, Options(snapshot_segments=1000))
    data = bytearray(await table(place).get(segment_key(3)))
    data[-20] ^= 1
    await table(place).put(segment_key(3), bytes(data))
    with pytest.raises(CorruptionError, match=segment_key(3)):
        await Chain.open(place)
    await chain.commit(put("z"))  # who has read it already is none the wiser


async def test_a_missing_segment_is_an_error_that_names_it(place):
    await grown(place, 5, Options(snapshot_segments=1000))
    await table(place).delete_many([segment_key(3)])
    with pytest.raises(CorruptionError, match=segment_key(3)):
        await Chain.open(place)


class Clock:
    """A boottime that a test moves."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


class Held(Wrapped):
    """Calls `meanwhile` once, before a put into the journal goes through: the writer freezes there."""

    meanwhile = None

    async def around(self, call, act):
        if puts(call) and self.meanwhile is not None:
            meanwhile, self.meanwhile = self.meanwhile, None
            await meanwhile()
        return await act()


@pytest.mark.parametrize("slots", [1, 40])
async def test_a_late_writer_finds_out(place, slots):
    """It freezes before its create; others pass its slot, and collect it. Its create then succeeds, and must not be believed."""
    await Chain.create(place, BEGAN)
    clock, held = Clock(), Held(place)
    late = await Chain.open(held, options=Options(grace_s=100.0, boottime=clock, pause_s=0.0))
    fast = await Chain.open(place, options=EAGER)

    async def pass_by():
        for i in range(slots):
            await fast.commit(put(f"{i}", 0, b"x" * 50))
            await fast.kept()
        clock.now += 1000.0

    held.meanwhile = pass_by
    done = await late.commit(put("late"))
    emptied = slots == 40
    assert (late.position.number == 3) is not emptied
    assert (segment_key(2) in [m.key async for m in table(place).list("journal/")]) is not emptied
    assert (await fast.refresh()).job("late").version == done.versions[0]
    assert fast.state.facts() == late.state.facts() == (await Chain.open(place)).state.facts()
    assert (await verify(table(place))).problems == []
    assert len(fast.state.jobs) == slots + 1


async def test_a_slow_commit_that_nobody_passed_stands(place):
    await Chain.create(place, BEGAN)
    clock, held = Clock(), Held(place)
    slow = await Chain.open(held, options=Options(grace_s=100.0, boottime=clock))

    async def wait():
        clock.now += 1000.0

    held.meanwhile = wait
    assert (await slow.commit(put("x"))).versions == [1]
    assert slow.position.number == 2


async def test_a_reader_that_slept_asks_for_a_listing(place):
    await Chain.create(place, BEGAN)
    clock = Clock()
    sleeper = await Chain.open(place, options=Options(grace_s=100.0, boottime=clock))
    fast = await Chain.open(place, options=EAGER)
    for i in range(40):
        await fast.commit(put(f"{i}", 0, b"x" * 50))
        await fast.kept()
    clock.now += 1000.0
    assert len((await sleeper.refresh()).jobs) == 40


async def test_a_reader_that_meets_a_late_writers_segment_begins_anew(place):
    """Collection has emptied one slot so far; a late writer's segment stands there when a reader that slept comes by."""
    await Chain.create(place, BEGAN)
    clock = Clock()
    sleeper = await Chain.open(place, options=Options(grace_s=100.0, boottime=clock))
    stray = links.build(sleeper.position, [r.encode(r.RootSet("never"))], b"l" * 16, "late").image
    fast = await Chain.open(place, options=Options(snapshot_segments=4, grace_s=1000.0))
    for i in range(30):
        await fast.commit(put(f"{i}", 0, b"x" * 50))
        await fast.kept()
    clock.now += 1000.0
    await table(place).delete_many([segment_key(2)])
    await table(place).put(segment_key(2), stray)
    assert (await sleeper.refresh()).facts() == fast.state.facts()
    assert (await Chain.open(place)).state.root == ""


async def test_a_crash_while_a_snapshot_is_made_costs_nothing():
    """At each call of the store that the snapshot and the tidying make."""
    number = 0
    while True:
        number += 1
        place = MemoryObjects(appendable=False)
        chain = await grown(place, 8, Options(snapshot_segments=1000, grace_s=0.0))
        await chain.snapshot()
        await chain.commit(put("more"))
        faults = Faults(place, lambda call: None)
        doomed = await Chain.open(faults, options=Options(grace_s=0.0, pause_s=0.0))
        faults.plan = nth(number, Fault(done=number % 2 == 0, error=ObjectsError("crash")))
        before = len(faults.calls)
        with suppress(ObjectsError):
            await doomed.snapshot()
        if len(faults.calls) - before < number:
            break
        again = await Chain.open(place)
        expected = (await full_replay(place)).facts()
        assert again.state.facts() == expected
        assert (await verify(table(place))).problems == []
    assert number > 8


async def test_close_waits_for_what_runs(place):
    chain = await Chain.create(place, BEGAN)
    running = asyncio.ensure_future(chain.commit(put("x")))
    await asyncio.sleep(0)
    await chain.close()
    await chain.close()
    assert (await running).versions == [1]

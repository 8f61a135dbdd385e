"""Linked journals where answers get lost: at every single call, and at random in races of leaders. What was told is there."""

from __future__ import annotations

import asyncio
import random

import pytest

from docs import read_store
from tests.kit.journals import claim
from tests.stores.journal.racer import Racer, judge
from towline.engine.errors import FencedError, TowlineError
from towline.stores.journal import writer as writer_module
from towline.stores.journal.parts import drop_segments, make_part
from towline.stores.journal.reader import JournalReader
from towline.stores.journal.verify import verify
from towline.stores.objects.memory import MemoryObjects
from towline.stores.objects.wrappers import LOST_AFTER, LOST_BEFORE, REFUSED, Faults, Latency, drawn, nth


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch):
    monkeypatch.setattr(writer_module, "_PAUSE_S", 0.0)


def bucket():
    return MemoryObjects(appendable=False, clock=lambda: 1000.0)


async def proved(memory):
    """All payloads, by towline and by the reader that knows nothing of it."""
    report = await verify(memory)
    assert report.problems == []
    stored = {meta.key: await memory.get(meta.key) async for meta in memory.list()}
    found = [payload for _, payload in read_store.read(stored)]
    assert len(found) == report.records
    return found


# ------------------------------------------------------------------------------------------------------- at every call


class Story:
    """Two leaders one after the other, and what tidies up after them. Each step may fail; `told` is what was acknowledged."""

    def __init__(self, objects):
        self.objects = objects
        self.told = []
        self.begun = []

    async def play(self):
        a = await claim(self.objects, "A")
        await self.commit(a, 3)
        b = await claim(self.objects, "B")
        with pytest.raises(FencedError):
            await self.commit(a, 1)
        self.begun.pop()
        await self.commit(b, 2)
        reader = await JournalReader.open(self.objects)
        await make_part(self.objects, reader, 4, 1)
        await drop_segments(self.objects, 3, grace_s=1.0, now=5000.0)
        await b.check()
        await self.commit(b, 1)

    async def commit(self, writer, times):
        for _ in range(times):
            payload = b"%d" % len(self.begun) * 30
            self.begun.append(payload)
            await writer.commit([payload])
            self.told.append(payload)


async def calls_of_the_story():
    objects = Faults(bucket(), lambda call: None)
    await Story(objects).play()
    return objects.calls


@pytest.mark.parametrize("fault", [LOST_BEFORE, LOST_AFTER, REFUSED], ids=["before", "after", "refused"])
async def test_an_answer_lost_at_any_call(fault):
    calls = await calls_of_the_story()
    settled = 0
    for number, call in enumerate(calls, 1):
        memory = bucket()
        story = Story(Faults(memory, nth(number, fault)))
        failed: TowlineError | None = None
        try:
            await story.play()
        except TowlineError as error:
            failed = error
        if fault is not REFUSED and call.verb == "put" and call.key.startswith("journal/"):
            assert failed is None, (call, failed)  # a create is settled by reading back
            settled += 1
        found = await proved(memory)
        assert found[: len(story.told)] == story.told, call
        assert found[len(story.told) :] in ([], story.begun[len(story.told) :][:1]), call
        after = await claim(memory, "C")  # whatever happened, the next one leads
        await after.commit([b"on"])
        assert (await proved(memory))[-1] == b"on"
    assert len(calls) > 40
    assert settled > 5 or fault is REFUSED


async def test_two_lost_answers_one_after_the_other():
    calls = await calls_of_the_story()
    creates = [n for n, call in enumerate(calls, 1) if call.verb == "put" and call.key.startswith("journal/")]
    for number in creates:
        for first in (LOST_BEFORE, LOST_AFTER):
            seen = 0

            def plan(call, number=number, first=first):
                nonlocal seen
                seen += 1
                return first if seen == number else LOST_AFTER if seen == number + 2 and call.verb == "put" else None

            memory = bucket()
            story = Story(Faults(memory, plan))
            await story.play()
            assert await proved(memory) == story.told


# --------------------------------------------------------------------------------------------------------------- races


async def race(seed, contenders):
    """One race. Time is the order in which tasks are woken; it is drawn from the seed."""
    rng = random.Random(seed)

    async def turns(count):
        for _ in range(int(count)):
            await asyncio.sleep(0)

    memory = bucket()
    racers = []
    for number in range(contenders):
        # reads are tried again below the journal (`objects.retry`), so few of them fail here
        writes = drawn(rng.randrange(1 << 30), rng.choice([0.0, 0.1, 0.4]), (LOST_BEFORE, LOST_AFTER), lambda c: c.verb == "put")
        reads = drawn(rng.randrange(1 << 30), 0.005, (REFUSED,), lambda c: c.verb != "put")
        faulty = Faults(memory, lambda call, writes=writes, reads=reads: writes(call) or reads(call))
        slow = rng.choice([1, 3, 12])
        late = Latency(faulty, lambda call, slow=slow: rng.randint(0, slow), lambda call: rng.randint(0, 2), sleep=turns)
        racers.append(Racer(late, "ABC"[number], rng.randint(1, 5)))
    await asyncio.gather(*(racer.run() for racer in racers))
    return memory, racers


@pytest.mark.parametrize("contenders", [2, 3])
async def test_races(contenders):
    fenced = alone = 0
    for seed in range(150):
        memory, racers = await race(seed, contenders)
        await proved(memory)
        stored = {meta.key: await memory.get(meta.key) async for meta in memory.list()}
        assert judge(stored, [racer.said() for racer in racers]) == [], seed
        fenced += sum(racer.fenced for racer in racers)
        alone += not any(racer.fenced for racer in racers)
    assert fenced > 50
    assert alone > 5

"""Each wrapper keeps the contract over the model, and does what it is for."""

from __future__ import annotations

import asyncio
import logging

import pytest

from tests.kit.objects_contract import ObjectsContract, collected, content, odd_pieces
from towline.engine.errors import UsageError
from towline.stores.objects.base import ABSENT, Ambiguous, NotFound, ObjectsError, PreconditionFailed
from towline.stores.objects.local import LocalObjects
from towline.stores.objects.memory import MemoryObjects
from towline.stores.objects.wrappers import (
    LOST_AFTER,
    LOST_BEFORE,
    REFUSED,
    Counting,
    Fault,
    Faults,
    Latency,
    Logging,
    Prefixed,
    Wrapped,
    always,
    drawn,
    nth,
)

MAKE = {
    "wrapped": Wrapped,
    "latency": lambda objects: Latency(objects, lambda call: 0.0 if call.verb == "put" else 1e-6, 1e-6),
    "faults": lambda objects: Faults(objects, lambda call: None),
    "counting": Counting,
    "logging": Logging,
    "prefixed": lambda objects: Prefixed(objects, "below/here"),
    "all": lambda objects: Logging(Counting(Prefixed(Faults(Prefixed(objects, "a"), lambda call: None), "b/"))),
}


class TestWrappers(ObjectsContract):
    @pytest.fixture(params=MAKE)
    def objects(self, request):
        inner = MemoryObjects()
        wrapped = MAKE[request.param](inner)
        wrapped.part_bytes = inner.part_bytes = 100
        return wrapped

    async def peek(self, objects, key):
        while isinstance(objects, Wrapped):
            objects, key = objects.inner, objects.inside(key)
        held = objects._held.get(key)
        return None if held is None else bytes(held.data)

    async def fetch(self, objects, url):
        memory = objects
        while isinstance(memory, Wrapped):
            memory = memory.inner
        return await self.peek(memory, url.removeprefix(memory.url + "/"))


@pytest.fixture
def memory():
    return MemoryObjects()


class Encrypted(MemoryObjects):
    """A place with another side."""

    def __init__(self):
        super().__init__()
        self.other = MemoryObjects()

    @property
    def plain(self):
        return self.other


async def test_the_plain_side_is_wrapped_likewise():
    counting = Counting(Encrypted())
    await counting.put("k", b"secret")
    await counting.plain.put("k", b"plain")
    assert await counting.inner.other.get("k") == b"plain"
    assert counting.tally.requests == {"put": 2}
    assert counting.plain is not counting
    assert Counting(MemoryObjects()).plain.tally.total == 0


async def test_a_copy_between_wrapped_places_is_still_the_places_own(tmp_path, monkeypatch):
    """No byte may pass through this process because of a wrapper."""
    inner = LocalObjects(tmp_path)
    source, target = Prefixed(Counting(inner), "from"), Counting(Prefixed(inner, "to"))
    await source.put("k", b"1")
    monkeypatch.setattr(LocalObjects, "download", None)
    await target.copy(source, "k", "k")
    assert (tmp_path / "to" / "k").read_bytes() == b"1"
    assert target.tally.requests == {"copy": 1}


# -------------------------------------------------------------------------------------------------------- prefixed


async def test_a_prefix_hides_all_else(memory):
    await memory.put("a", b"outside")
    await memory.put("in/a", b"inside")
    await memory.put("inn", b"neighbour")
    inside = Prefixed(memory, "in/")
    assert [m.key async for m in inside.list()] == ["a"]
    assert await inside.get("a") == b"inside"
    await inside.delete_many(["a", "inn"])
    assert sorted(memory._held) == ["a", "inn"]
    assert inside.url == f"{memory.url}/in"
    with pytest.raises(UsageError):
        Prefixed(memory, "../up")


# --------------------------------------------------------------------------------------------------------- latency


async def test_requests_wait_there_and_back(memory):
    slept = []

    async def sleep(delay):
        slept.append((delay, len(memory._held)))

    slow = Latency(memory, lambda call: {"put": 2.0}.get(call.verb, 0.5), 0.25, sleep=sleep)
    await slow.put("k", b"1")
    assert slept == [(2.0, 0), (0.25, 1)]
    with pytest.raises(NotFound):
        await slow.get("other")
    assert slept[2:] == [(0.5, 1), (0.25, 1)]


async def test_a_late_answer_does_not_hold_the_deed(memory):
    answered = asyncio.Event()
    slow = Latency(memory, 0, 1, sleep=lambda delay: answered.wait())
    put = asyncio.create_task(slow.put("k", b"1"))
    while not memory._held:
        await asyncio.sleep(0)
    assert not put.done()
    answered.set()
    await put


# ---------------------------------------------------------------------------------------------------------- faults


@pytest.mark.parametrize(
    ("fault", "error", "done"), [(REFUSED, ObjectsError, False), (LOST_BEFORE, Ambiguous, False), (LOST_AFTER, Ambiguous, True)]
)
async def test_a_write_goes_wrong(memory, fault, error, done):
    faults = Faults(memory, nth(2, fault, lambda call: call.verb == "put"))
    await faults.put("a", b"1")
    assert await faults.get("a") == b"1"
    with pytest.raises(ObjectsError) as caught:
        await faults.put("b", b"1", ABSENT)
    assert caught.type is error
    assert ("b" in memory._held) is done
    await faults.put("c", b"1")
    assert [(call.verb, call.key) for call in faults.calls] == [("put", "a"), ("get", "a"), ("put", "b"), ("put", "c")]


async def test_a_read_that_fails_is_not_ambiguous(memory):
    await memory.put("k", b"1")
    for fault in (REFUSED, LOST_BEFORE, LOST_AFTER):
        with pytest.raises(ObjectsError) as caught:
            await Faults(memory, always(fault)).get("k")
        assert caught.type is ObjectsError


async def test_a_loser_learns_nothing_when_the_answer_is_lost(memory):
    await memory.put("k", b"first")
    with pytest.raises(PreconditionFailed):
        await Faults(memory, always(LOST_AFTER)).put("k", b"second", ABSENT)


async def test_streams_break_in_the_middle(memory):
    memory.part_bytes = 10
    await memory.put("k", content(40))

    def in_part(verb):
        faults = Faults(memory, nth(2, REFUSED, lambda call: call.verb == verb))
        faults.part_bytes = 10
        return faults

    with pytest.raises(ObjectsError):
        await in_part("upload.part").upload("new", odd_pieces(content(40), 10))
    assert sorted(memory._held) == ["k"]
    got = []
    with pytest.raises(ObjectsError):
        async for piece in in_part("download.part").download("k"):
            got.append(piece)
    assert b"".join(got) == content(40)[:20]


async def test_anything_can_be_raised(memory):
    class Crash(BaseException):
        pass

    with pytest.raises(Crash):
        await Faults(memory, always(Fault(done=True, error=Crash()))).put("k", b"1")
    assert "k" in memory._held


async def test_a_seed_draws_the_same_faults_again():
    async def struck(seed):
        faults, hit = Faults(MemoryObjects(), drawn(seed, 0.3)), []
        for number in range(100):
            try:
                await faults.put(str(number), b"")
            except ObjectsError as error:
                hit.append((number, type(error)))
        return hit

    first = await struck(1)
    assert first == await struck(1) != await struck(2)
    assert {kind for _, kind in first} == {ObjectsError, Ambiguous}
    assert 10 < len(first) < 60


# -------------------------------------------------------------------------------------------------------- counting


async def test_requests_and_bytes_are_counted(memory):
    counting = Counting(memory)
    counting.part_bytes = memory.part_bytes = 10
    await counting.put("a", [b"12", b"345"])
    await counting.get("a", 1, 3)
    with pytest.raises(NotFound):
        await counting.get("b")
    await counting.upload("long", odd_pieces(content(35), 10))
    assert len(await collected(counting.download("long"))) == 35
    assert len(await collected(counting.download("long", 0, 10))) == 10
    tally = counting.tally
    assert (tally.bytes_out, tally.bytes_in) == (5 + 35, 3 + 35 + 10)
    assert tally.requests == {"put": 1, "get": 2, "upload": 1, "upload.part": 3, "download": 2, "download.part": 3}
    await counting.sign("a")
    assert tally.total == 12
    assert tally.writes == {"a": 1, "long": 1}


@pytest.mark.parametrize(("entries", "pages"), [(0, 1), (1, 1), (1000, 1), (1001, 2), (2500, 3)])
async def test_pages_are_requests(memory, entries, pages):
    counting = Counting(memory)
    keys = [f"{number:04d}" for number in range(entries)]
    for key in keys:
        await memory.put(key, b"")
    assert [m.key async for m in counting.list()] == keys
    assert counting.tally.requests["list"] == pages
    await counting.delete_many(keys)
    assert counting.tally.requests["delete_many"] == (pages if entries else 0)
    assert not memory._held


async def test_writes_of_one_key_too_close_together_are_found(memory):
    now = 0.0
    counting = Counting(Faults(memory, lambda call: LOST_BEFORE if call.key == "lost" else None), clock=lambda: now)
    assert counting.tally.gap_s_min() == (float("inf"), "")
    for time in (0.0, 5.0, 6.5, 20.0):
        now = time
        await counting.put("a", b"1")
        await counting.put(f"b{time}", b"1")
    assert counting.tally.gap_s_min() == (1.5, "a")
    with pytest.raises(PreconditionFailed):
        await counting.put("a", b"1", ABSENT)
    assert counting.tally.gap_s_min() == (1.5, "a")
    for time in (20.0, 20.5):
        now = time
        with pytest.raises(Ambiguous):
            await counting.put("lost", b"1")
    assert counting.tally.gap_s_min() == (0.5, "lost")


# --------------------------------------------------------------------------------------------------------- logging


async def test_requests_are_said(memory, caplog):
    caplog.set_level(logging.DEBUG)
    times = iter([1.0, 1.5] * 10)
    said = Logging(memory, logging.getLogger("here"), clock=lambda: next(times))
    await said.put("k", b"123")
    with pytest.raises(NotFound):
        await said.get("other")
    with pytest.raises(ObjectsError):
        await Logging(Faults(memory, always(REFUSED)), logging.getLogger("here")).get("k")
    assert [(r.levelname, r.getMessage().split(": ")[0]) for r in caplog.records] == [
        ("DEBUG", f"put {memory.url}/k 3 bytes"),
        ("DEBUG", f"get {memory.url}/other 0 bytes"),
        ("WARNING", f"get {memory.url}/k 0 bytes"),
    ]
    assert "ok, 500.0 ms" in caplog.records[0].getMessage()
    assert "NotFound" in caplog.records[1].getMessage()

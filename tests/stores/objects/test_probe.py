"""The probe lets honest places pass and finds out each kind of liar; it leaves nothing behind."""

from __future__ import annotations

import asyncio

import pytest

from towline.engine.errors import UsageError
from towline.stores.objects.base import ABSENT, OVERWRITE, Ambiguous, ObjectsError, PreconditionFailed, Version
from towline.stores.objects.local import LocalObjects
from towline.stores.objects.memory import MemoryObjects
from towline.stores.objects.probe import PREFIX, STALE_S, probe


class Ignores(MemoryObjects):
    """Takes a condition and does not look."""

    def __init__(self, *kinds):
        super().__init__(appendable=False)
        self.kinds = kinds

    async def put(self, key, data, when=OVERWRITE):
        return await super().put(key, data, OVERWRITE if isinstance(when, self.kinds) else when)


class ChecksFirst(MemoryObjects):
    """Looks, and writes a moment later."""

    async def put(self, key, data, when=OVERWRITE):
        if when is not ABSENT:
            return await super().put(key, data, when)
        if key in self._held:
            raise PreconditionFailed(key)
        await asyncio.sleep(0)
        return await super().put(key, data)


class Refuses(MemoryObjects):
    """Knows no If-Match."""

    async def put(self, key, data, when=OVERWRITE):
        if isinstance(when, Version):
            raise ObjectsError("the server does not offer this")
        return await super().put(key, data, when)


class KeepsTheWrong(MemoryObjects):
    """Tells one that it has won, and keeps what another wrote."""

    async def put(self, key, data, when=OVERWRITE):
        try:
            return await super().put(key, data, when)
        except PreconditionFailed:
            await super().put(key, data)
            raise


class Forgets(MemoryObjects):
    """Carries writes out and loses every third answer, or does not carry them out and says the same."""

    count = 0

    async def put(self, key, data, when=OVERWRITE):
        self.count += 1
        if self.count % 3 == 1:
            raise Ambiguous("lost on its way there")
        version = await super().put(key, data, when)
        if self.count % 3 == 2 and when is not OVERWRITE:
            raise Ambiguous("lost on its way back")
        return version


async def left(objects):
    return [meta.key async for meta in objects.list()]


async def test_honest_places_pass(tmp_path):
    for objects in (MemoryObjects(), MemoryObjects(appendable=False), LocalObjects(tmp_path / "s")):
        await objects.put("other", b"1")
        await probe(objects)
        assert await left(objects) == ["other"]


@pytest.mark.parametrize(
    ("liar", "said"),
    [
        (Ignores(type(ABSENT)), "conditional create"),
        (Ignores(Version), "conditional replace"),
        (Refuses(), "conditional replace .the server does not offer this"),
        (ChecksFirst(), "16 of 16 racing creators"),
        (KeepsTheWrong(), "conditional create"),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_liars_are_refused(liar, said):
    with pytest.raises(UsageError, match=said) as caught:
        await probe(liar)
    assert "no run can be led from it" in str(caught.value)
    assert await left(liar) == []


async def test_lost_answers_are_not_lies():
    objects = Forgets()
    objects.count = 2  # so that the first put, a plain one, is answered
    await probe(objects, rounds=5)
    assert await left(objects) == []


async def test_what_dead_probes_left_goes_and_what_live_ones_need_stays():
    now = [1e9]
    objects = MemoryObjects(clock=lambda: now[0])
    await objects.put(f"{PREFIX}dead/race-0", b"")
    now[0] += STALE_S + 1
    await objects.put(f"{PREFIX}alive/race-0", b"")
    await probe(objects)
    assert await left(objects) == [f"{PREFIX}alive/race-0"]


async def test_a_place_that_cannot_be_asked_says_why():
    class Denied(MemoryObjects):
        async def put(self, key, data, when=OVERWRITE):
            raise ObjectsError("access is denied")

    with pytest.raises(ObjectsError, match="access is denied"):
        await probe(Denied())


@pytest.mark.parametrize("rounds", [0, 1])
async def test_a_race_is_what_finds_out_who_checks_first(rounds):
    """Guards the test above: without a race nobody would notice."""
    objects = ChecksFirst()
    if rounds:
        with pytest.raises(UsageError):
            await probe(objects, rounds=rounds)
    else:
        await probe(objects, rounds=rounds)

"""A store that moves: nothing is lost or left half, whatever stops it, and what cannot be proved is said."""

from __future__ import annotations

import json

import pytest

from tests.kit.journals import Wrapped, claim, payloads
from towline.engine.errors import CorruptionError, UsageError
from towline.stores import migrate as module
from towline.stores.errors import StoreDestroyed, StoreExists, StoreForeign, StoreMoving
from towline.stores.migrate import migrate
from towline.stores.objects.base import ObjectsError
from towline.stores.objects.local import LocalObjects
from towline.stores.objects.memory import MemoryObjects
from towline.stores.store import ENDPOINT, MARK, MOVING, Store

FILES = 40


async def made(objects):
    """A store with a journal, some files, and what belongs to its place alone."""
    await objects.put(MARK, b'{"format": 1, "store": "%s", "towline": "0"}\n' % (b"5" * 32))
    writer = await claim(objects)
    for number in range(3):
        await writer.commit([b"record %d" % number] * 5)
    await writer.close()
    for number in range(FILES):
        await objects.put(f"files/shared/0-0/{number:03}", bytes([number]) * (number * 1000))
    await objects.put(ENDPOINT, b"where the leader listens")
    await objects.put("clock/now", b"")
    return objects


async def everything(objects):
    return {meta.key: await objects.get(meta.key) async for meta in objects.list()}


@pytest.fixture(params=["folder to bucket", "bucket to folder", "bucket to bucket"])
async def pair(request, tmp_path):
    kinds = {
        "folder": lambda name: LocalObjects(tmp_path / name),
        "bucket": lambda name: MemoryObjects(appendable=False, name=name),
    }
    source, destination = request.param.split(" to ")
    return await made(kinds[source]("a")), kinds[destination]("b")


async def test_everything_arrives(pair):
    source, destination = pair
    seen = []
    moved = await migrate(source, destination, lambda *told: seen.append(told))
    wanted = {key: data for key, data in (await everything(source)).items() if key not in (ENDPOINT, "clock/now")}
    assert await everything(destination) == wanted
    assert (moved.objects, moved.copied) == (len(wanted), len(wanted) - 1)
    assert seen[-1] == (moved.objects - 1, moved.bytes)
    assert await payloads(destination) == await payloads(source)
    assert await everything(source) == {**wanted, ENDPOINT: b"where the leader listens", "clock/now": b""}


class Stops(Wrapped):
    """Its nth copy does not come to be."""

    def __init__(self, inner, left):
        super().__init__(inner)
        self.left = left

    async def copy(self, *args):
        if not self.left:
            raise ObjectsError("the line is dead")
        self.left -= 1
        return await self.inner.copy(*args)


async def test_what_was_interrupted_goes_on(pair, monkeypatch):
    monkeypatch.setattr(module, "WINDOW", 4)
    monkeypatch.setattr(module, "SAY_S", -1.0)
    monkeypatch.setattr(module, "AT_ONCE", 1)
    source, destination = pair
    with pytest.raises(ExceptionGroup):
        await migrate(source, Stops(destination, 10))
    proved = json.loads(await destination.get(MOVING))["proved"]
    assert sum(1 for key in await everything(destination) if key <= proved and key != MOVING) == 8
    moved = await migrate(source, destination)
    assert moved.copied == moved.objects - 1 - 10
    assert MOVING not in await everything(destination)
    assert (await everything(destination))["files/shared/0-0/039"] == bytes([39]) * 39000


async def test_half_a_store_is_no_store(tmp_path):
    source, destination = await made(MemoryObjects()), LocalObjects(tmp_path / "b")
    with pytest.raises(ExceptionGroup):
        await migrate(source, Stops(destination, 3))
    for create in (True, False):
        with pytest.raises(StoreMoving, match="migrate` again"):
            await Store.open(tmp_path / "b", create=create)


async def test_only_the_last_word_is_missing(pair):
    source, destination = pair
    await migrate(source, destination)
    await destination.put(MOVING, module._encode(module.Moving("5" * 32, source.url)))
    moved = await migrate(source, destination)
    assert moved.copied == 0
    assert MOVING not in await everything(destination)


async def test_what_differs_is_copied_again(pair):
    source, destination = pair
    await destination.put(MOVING, module._encode(module.Moving("5" * 32, source.url)))
    await destination.put("files/shared/0-0/007", bytes([8]) * 7000)  # the right size, other bytes
    await destination.put("files/shared/0-0/009", bytes([9]) * 9000)
    moved = await migrate(source, destination)
    assert moved.copied == moved.objects - 2
    assert await destination.get("files/shared/0-0/007") == bytes([7]) * 7000


class Lies(Wrapped):
    """Writes something else than it was given."""

    async def copy(self, source, source_key, key, *args):
        data = await source.get(source_key)
        return await self.inner.put(key, data[:-1] + bytes([data[-1] ^ 1]) if data else data)


async def test_what_reads_back_otherwise_is_said(pair):
    source, destination = pair
    with pytest.raises(ExceptionGroup) as caught:
        await migrate(source, Lies(destination))
    assert isinstance(caught.value.exceptions[0], CorruptionError)
    assert MARK not in await everything(destination)


class Grows(Wrapped):
    """A leader writes to it as soon as the first object was read."""

    async def download(self, key, *args):
        async for piece in self.inner.download(key, *args):
            yield piece
        await self.inner.put("files/shared/0-0/late", b"x")


async def test_a_source_that_changes_is_refused(pair):
    source, destination = pair
    with pytest.raises(UsageError, match="changed while it was copied"):
        await migrate(Grows(source), destination)
    assert MARK not in await everything(destination)
    await migrate(source, destination)
    assert await destination.get("files/shared/0-0/late") == b"x"


async def test_where_something_lies_nothing_is_written(pair):
    source, destination = pair
    await destination.put("somebody/elses", b"1")
    with pytest.raises(StoreForeign, match="somebody"):
        await migrate(source, destination)
    assert await everything(destination) == {"somebody/elses": b"1"}


async def test_another_store_stays(pair):
    source, destination = pair
    await made(destination)
    before = await everything(destination)
    with pytest.raises(StoreExists):
        await migrate(source, destination)
    assert await everything(destination) == before


async def test_another_migration_stays(pair):
    source, destination = pair
    await destination.put(MOVING, module._encode(module.Moving("6" * 32, "elsewhere")))
    with pytest.raises(StoreForeign, match="unfinished migration of elsewhere"):
        await migrate(source, destination)
    await destination.put(MOVING, b"{")
    with pytest.raises(StoreForeign, match="cannot be read"):
        await migrate(source, destination)


async def test_not_onto_itself_and_not_what_is_going(pair):
    source, destination = pair
    with pytest.raises(UsageError, match="to itself"):
        await migrate(source, source)
    await source.put(MARK, b'{"format": 1, "store": "5", "towline": "0", "destroyed": true}')
    with pytest.raises(StoreDestroyed):
        await migrate(source, destination)
    assert not await everything(destination)

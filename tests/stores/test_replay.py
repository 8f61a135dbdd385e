"""Restart: snapshot and tail give what all records give, whatever lies about, and never more than what is committed."""

from __future__ import annotations

import pytest

from tests.kit.book import story, write
from towline.engine import model
from towline.engine.core import LeaderCore
from towline.engine.errors import CorruptionError
from towline.engine.image import image_of
from towline.engine.states import JobState
from towline.stores import locate, replay, snapshots
from towline.stores.errors import SegmentGone, StoreMissing
from towline.stores.journal.reader import JournalReader
from towline.stores.store import Store


@pytest.fixture(params=["disk", "memory"])
async def store(request, tmp_path):
    locate._memories.pop("replay", None)
    return await Store.open(tmp_path / "s" if request.param == "disk" else "memory:replay", create=True)


def from_all(payloads):
    return LeaderCore.restore(None, enumerate(payloads))


def same(one, two):
    assert image_of(one.ledger) == image_of(two.ledger)
    assert one.ledger.counts == two.ledger.counts
    assert bytes(one.ledger.graph.state) == bytes(two.ledger.graph.state)


async def test_without_a_snapshot(store):
    book = story()
    reader = await write(store.objects, book.payloads)
    core = await replay.restore(store, reader)
    core.settle()
    same(core, from_all(book.payloads))


async def test_from_every_snapshot_the_same(tmp_path):
    count = len(story().payloads)
    for upto in range(count + 1):
        store = await Store.open(tmp_path / str(upto), create=True)
        book = story()
        await write(store.objects, book.payloads)
        made = await snapshots.make(store, upto)
        await write(store.objects, [book.named(*made)], nonce=2)
        loaded = await replay.load(store.url)
        assert await snapshots.believed(store.objects, loaded.reader) == made
        same(loaded.core, from_all(book.payloads))
        assert loaded.core.ledger.snapshot.key == made.key


async def test_the_records_before_the_snapshot_are_not_replayed(store, monkeypatch):
    book = story()
    await write(store.objects, book.payloads)
    made = await snapshots.make(store, 10)
    reader = await write(store.objects, [book.named(*made)], nonce=2)
    seen = []
    apply = LeaderCore.replay
    monkeypatch.setattr(LeaderCore, "replay", lambda core, seq, payload: (seen.append(seq), apply(core, seq, payload)))
    await replay.restore(store, reader)
    assert seen == list(range(10, len(book.payloads)))


async def test_an_unnamed_snapshot_is_not_believed(store):
    book = story()
    reader = await write(store.objects, book.payloads)
    made = await snapshots.make(store, 10)
    await store.objects.put(made.key, b"rubbish")
    same_core = await replay.restore(store, reader)
    same_core.settle()
    same(same_core, from_all(book.payloads))


async def test_a_damaged_snapshot_that_is_named_is_an_error(store):
    book = story()
    await write(store.objects, book.payloads)
    made = await snapshots.make(store, 10)
    reader = await write(store.objects, [book.named(*made)], nonce=2)
    await store.objects.put(made.key, b"rubbish")
    with pytest.raises(CorruptionError, match=made.key):
        await replay.restore(store, reader)


async def test_a_restore_goes_on_where_more_was_committed(store):
    """What a leader does: restore, claim, replay what came in between, settle."""
    book = story()
    reader = await write(store.objects, book.payloads[:9])
    core = await replay.restore(store, reader)
    assert JobState.READY not in core.ledger.graph.state
    later = await write(store.objects, book.payloads[9:], nonce=2)
    async for seq, payload in later.records(core.ledger.next_seq):
        core.replay(seq, payload)
    core.settle()
    same(core, from_all(book.payloads))


async def test_a_snapshot_that_vanishes_meanwhile_sends_the_reader_to_the_newer_one(store, monkeypatch):
    """R4: a slow reader starts again."""
    book = story()
    await write(store.objects, book.payloads)
    old = await snapshots.make(store, 5)
    reader = await write(store.objects, [book.named(*old)], nonce=2)
    read = snapshots.read
    asked = []

    async def slow(objects, made):
        asked.append(made.seq)
        if len(asked) == 1:
            new = await snapshots.make(store, 12)
            await write(objects, [book.named(*new)], nonce=3)
            await objects.delete_many([old.key])
        return await read(objects, made)

    monkeypatch.setattr(snapshots, "read", slow)
    core = await replay.restore(store, reader)
    assert asked == [5, 5, 12]  # the one in the middle is the maker of the newer snapshot
    core.settle()
    same(core, from_all(book.payloads))


async def test_records_that_no_snapshot_holds_are_corruption(store, monkeypatch):
    book = story()
    reader = await write(store.objects, book.payloads)

    async def gone(*_):
        raise SegmentGone("journal/1 was deleted")

    monkeypatch.setattr(snapshots, "fold", gone)
    with pytest.raises(CorruptionError, match="records are gone that no snapshot holds"):
        await replay.restore(store, reader)


async def test_an_empty_store(store):
    loaded = await replay.load(store.url)
    assert (loaded.core.ledger.next_seq, loaded.reader.next_seq, loaded.store.uuid) == (0, 0, store.uuid)


async def test_no_store(tmp_path):
    with pytest.raises(StoreMissing):
        await replay.load(str(tmp_path / "x"))


def test_blocking(tmp_path):
    import asyncio

    async def prepare():
        store = await Store.open(tmp_path / "s", create=True)
        await write(store.objects, story().payloads)

    asyncio.run(prepare())
    loaded = replay.load_blocking(str(tmp_path / "s"))
    same(loaded.core, from_all(story().payloads))


async def test_records_come_in_batches_that_hold_all_of_them(store, monkeypatch):
    monkeypatch.setattr(snapshots, "BATCH_RECORDS", 4)
    book = story()
    reader = await write(store.objects, book.payloads)
    assert isinstance(reader, JournalReader)
    sizes = [len(batch) async for batch in snapshots.batches(reader.records(), upto=10)]
    assert sizes == [4, 4, 2]
    seen = []
    await snapshots.fold(reader, 3, 17, lambda seq, payload: seen.append((seq, model.decode_record(payload))))
    assert [seq for seq, _ in seen] == list(range(3, 17))

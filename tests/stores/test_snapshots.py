"""Snapshots: folded from committed records alone, believed only when named, tidied in the right order."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from tests.kit.book import big_story, story, uuid_of, write
from towline.engine import model
from towline.engine.errors import CorruptionError, TowlineError
from towline.engine.image import image_of, ledger_from
from towline.engine.ledger import Ledger
from towline.stores import snapshots
from towline.stores.journal.reader import JournalReader
from towline.stores.objects.base import NotFound
from towline.stores.snapshots import Made
from towline.stores.store import Store

GOLDEN = Path(__file__).parents[1] / "golden" / "snapshots"


@pytest.fixture(params=["disk", "memory"])
async def store(request, tmp_path):
    from towline.stores import locate

    locate._memories.pop("snapshots", None)
    return await Store.open(tmp_path / "s" if request.param == "disk" else "memory:snapshots", create=True)


def folded(payloads):
    ledger = Ledger()
    for seq, payload in enumerate(payloads):
        ledger.apply(seq, payload, model.decode_record(payload))
    return image_of(ledger)


async def commit(store, payloads, nonce):
    return await write(store.objects, payloads, nonce=nonce)


async def name(store, book, made, nonce=9):
    return await commit(store, [book.named(*made)], nonce)


async def test_it_holds_what_the_records_below_it_say(store):
    book = story()
    await commit(store, book.payloads, 1)
    for upto in (0, 1, 5, len(book.payloads)):
        made = await snapshots.make(store, upto)
        assert (made.seq, snapshots.seq_of(made.key)) == (upto, upto)
        assert await snapshots.read(store.objects, made) == folded(book.payloads[:upto])


async def test_only_committed_records_go_in(store):
    book = story()
    await commit(store, book.payloads[:5], 1)
    assert (await snapshots.make(store, 1000)).seq == 5
    assert (await snapshots.make(store)).seq == 5


async def test_the_same_records_make_the_same_object(store):
    await commit(store, story().payloads, 1)
    assert await snapshots.make(store) == await snapshots.make(store)
    assert len(await snapshots.listed(store.objects)) == 1


async def test_it_counts_once_it_is_named(store):
    book = story()
    reader = await commit(store, book.payloads, 1)
    made = await snapshots.make(store)
    assert await snapshots.believed(store.objects, reader) is None
    reader = await name(store, book, made)
    assert await snapshots.believed(store.objects, reader) == made


async def test_a_name_with_another_digest_is_corruption(store):
    book = story()
    await commit(store, book.payloads, 1)
    made = await snapshots.make(store)
    reader = await name(store, book, made._replace(digest="0" * 64))
    believed = await snapshots.believed(store.objects, reader)
    with pytest.raises(CorruptionError, match=made.key):
        await snapshots.read(store.objects, believed)


async def test_the_newest_named_one_is_believed_whatever_lies_above_it(store):
    book = story()
    await commit(store, book.payloads, 1)
    old = await snapshots.make(store, 4)
    await name(store, book, old, 2)
    middle = await snapshots.make(store, 8)
    await name(store, book, middle, 3)
    unnamed = await snapshots.make(store)
    await store.objects.put("snapshots/99999999999999999999-0123456789abcdef.arrow", b"from the future")
    await store.objects.put("snapshots/notes.txt", b"")
    reader = await JournalReader.open(store.objects)
    assert await snapshots.believed(store.objects, reader) == middle
    assert unnamed.seq > middle.seq
    await store.objects.delete_many([middle.key])
    assert await snapshots.believed(store.objects, reader) == (old if old.key in await snapshots.listed(store.objects) else None)


async def test_the_next_one_is_made_from_the_last_believed(store, monkeypatch):
    book = story()
    await commit(store, book.payloads[:6], 1)
    made = await snapshots.make(store)
    await name(store, story_until(6), made, 2)
    await commit(store, book.payloads[6:], 3)
    started = []
    records = JournalReader.records

    def watched(reader, start=0):
        started.append(start)
        return records(reader, start)

    monkeypatch.setattr(JournalReader, "records", watched)
    monkeypatch.setattr(snapshots.Ledger, "apply", refuse_below(snapshots.Ledger.apply, made.seq))
    with pytest.raises(AssertionError, match="folded anew"):
        Ledger().apply(0, book.payloads[0], model.decode_record(book.payloads[0]))
    later = await snapshots.make(store)
    assert later.seq == len(book.payloads) + 1
    assert min(started) == made.seq


def story_until(count):
    """A book that has said the first records of the story."""
    from tests.kit.book import Book

    book = Book()
    for payload in story().payloads[:count]:
        book.say(model.decode_record(payload))
    return book


def refuse_below(apply, seq):
    def guarded(ledger, at, payload, record):
        assert at >= seq, "folded anew"
        return apply(ledger, at, payload, record)

    return guarded


async def test_a_believed_one_that_holds_as_much_is_given_back(store):
    book = story()
    await commit(store, book.payloads, 1)
    made = await snapshots.make(store)
    await name(store, book, made)
    assert await snapshots.make(store, made.seq) == made
    assert await snapshots.make(store, 3) == made


async def test_two_snapshots_stay_and_what_nobody_named_goes(store):
    book = story()
    await commit(store, book.payloads, 1)
    first = await snapshots.make(store, 3)
    await name(store, book, first, 2)
    unnamed = await snapshots.make(store, 5)
    second = await snapshots.make(store, 9)
    assert await snapshots.listed(store.objects) == [first.key, second.key]
    await name(store, book, second, 3)
    third = await snapshots.make(store)
    assert await snapshots.listed(store.objects) == [second.key, third.key]
    assert unnamed.key not in await snapshots.listed(store.objects)


async def test_old_segments_move_into_parts_and_go_after_their_grace(store):
    """R4: not a segment is deleted that no part holds, that no named snapshot is past, or that is young."""
    book = big_story(3000)
    await write(store.objects, book.payloads, segment_bytes=4096)
    before = await keys(store, "journal/")
    assert len(before) > 3
    first = await snapshots.make(store, grace_s=0)
    assert await keys(store, "journal/") == before
    await name(store, book, first)
    with_name = await keys(store, "journal/")
    second = await snapshots.make(store, grace_s=3600)
    assert await keys(store, "journal/") == with_name
    assert await keys(store, "parts/")
    book.say(model.Beat(0.0))
    await name(store, book, second, 10)  # R4: one claim more
    await snapshots.make(store, grace_s=-1)
    left = await keys(store, "journal/")
    assert len(left) < len(with_name)
    reader = await JournalReader.open(store.objects)
    assert [seq async for seq, _ in reader.records()] == list(range(reader.next_seq))


async def keys(store, prefix):
    return [meta.key async for meta in store.objects.list(prefix)]


@pytest.mark.parametrize("at", [0, 8, 1000, -1])
async def test_every_damage_is_found(store, at):
    await commit(store, story().payloads, 1)
    made = await snapshots.make(store)
    data = bytearray(await store.objects.get(made.key))
    data[at] ^= 4
    await store.objects.put(made.key, bytes(data))
    with pytest.raises(CorruptionError, match=r"at offset 0"):
        await snapshots.read(store.objects, made)
    await store.objects.put(made.key, b"")
    with pytest.raises(CorruptionError):
        await snapshots.read(store.objects, made)


async def test_bytes_with_the_right_digest_that_are_no_snapshot(store):
    await commit(store, story().payloads, 1)
    made = await snapshots.make(store)
    good = await store.objects.get(made.key)
    for data, why in ((b"ARROW1 nonsense", "cannot be read"), (good, "it holds the records up to")):
        with pytest.raises(CorruptionError, match=why):
            snapshots.image_from(data, Made(7, made.key, snapshots.digest_of(data)), made.key)


async def test_one_that_was_pruned(store):
    await commit(store, story().payloads, 1)
    made = await snapshots.make(store)
    await store.objects.delete_many([made.key])
    with pytest.raises(NotFound):
        await snapshots.read(store.objects, made)


@pytest.mark.parametrize(
    "key", ["snapshots/x.arrow", "snapshots/1-0123456789abcdef.arrow", f"snapshots/{0:020d}-0123456789ABCDEF.arrow", "x"]
)
def test_other_keys_are_no_snapshots(key):
    assert snapshots.seq_of(key) is None


async def test_a_process_of_its_own_makes_the_same(tmp_path):
    store = await Store.open(tmp_path / "s", create=True)
    await commit(store, story().payloads, 1)
    made = await snapshots.make_in_subprocess(store.url, 7)
    assert made == await snapshots.make(store, 7)
    assert await snapshots.read(store.objects, made) == folded(story().payloads[:7])


async def test_a_process_that_fails_says_why(tmp_path):
    with pytest.raises(TowlineError, match=r"was not made \(exit 1\): there is no store at"):
        await snapshots.make_in_subprocess(str(tmp_path / "none"))


async def test_a_cancelled_snapshot_leaves_no_process(tmp_path, monkeypatch):
    spawned, running = [], asyncio.Event()
    spawn = asyncio.create_subprocess_exec

    async def forever(*command, **options):
        assert command[:3] == (sys.executable, "-P", "-m")
        process = await spawn(sys.executable, "-c", "import time; time.sleep(1000)", **options)
        spawned.append(process)
        running.set()
        return process

    monkeypatch.setattr(asyncio, "create_subprocess_exec", forever)
    task = asyncio.create_task(snapshots.make_in_subprocess(str(tmp_path)))
    await running.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert spawned[0].returncode is not None


def test_the_command_prints_one_json_line(tmp_path, capsys):
    async def prepare():
        store = await Store.open(tmp_path / "s", create=True)
        await commit(store, story().payloads, 1)

    asyncio.run(prepare())
    assert snapshots.main([str(tmp_path / "s"), "--upto", "6"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line)["seq"] == 6
    assert snapshots.main([str(tmp_path / "none")]) == 1
    assert "there is no store" in capsys.readouterr().err


# ------------------------------------------------------------------------------------------------------------- golden


def test_format_1_is_read_for_ever():
    data = (GOLDEN / "story-1.arrow").read_bytes()
    digest = snapshots.digest_of(data)
    image = snapshots.image_from(data, Made(18, "story-1", digest), "story-1")
    ledger = ledger_from(image)
    graph = ledger.graph
    assert (ledger.next_seq, graph.size, ledger.store, ledger.led.epoch) == (18, 15, "the-store", 2)
    assert graph.uuid(8) == "job one"
    assert graph.find(uuid_of(3)) == 12
    assert graph.find(uuid_of(3), 1) == 3
    assert graph.out_seq[0] == 6
    assert ledger.flows["flow-a"].total == 8


def test_format_1_is_plain_arrow():
    with pa.ipc.open_file(GOLDEN / "story-1.arrow") as file:
        table = file.read_all()
    assert table.num_rows == 15
    assert table.column("uuid")[0].as_py() == uuid_of(0)
    assert table.column("state").to_pylist().count("completed") == 5

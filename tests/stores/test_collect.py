"""File GC: a file goes only when its attempt is closed and no committed outcome names it (R10)."""

from __future__ import annotations

import msgspec
import pytest

from tests.kit.book import Book, chunk, uuid_of, write
from towline.engine import codec, model
from towline.engine.states import JobState
from towline.stores import collect, replay
from towline.stores.files import Files, new_key, parse_key, reference_in
from towline.stores.objects.base import Unfinished
from towline.stores.store import Store

ODD = "an odd uuid"


def running() -> Book:
    """Four jobs: 0 done by attempt (1, 1), 1 failed by (1, 2), 2 delayed after (1, 3), 3 untouched; a worker lives."""
    book = Book()
    book.lead()
    book.add(chunk("flow", [uuid_of(0), uuid_of(1), uuid_of(2), ODD]))
    book.complete([0])
    book.end(1, JobState.FAILED)
    book.end(2, JobState.DELAYED)
    return book


def judged(book, *files):
    """Which of (uuid, attempt) are orphans."""
    keys = {new_key(uuid, attempt): (uuid, attempt) for uuid, attempt in files}
    return {keys[key] for key in collect.orphans(keys, book.ledger)}


def test_what_a_committed_outcome_names_stays():
    book = running()
    mine = (uuid_of(0), (1, 1))
    assert judged(book, mine) == set()
    book.leave()
    assert judged(book, mine) == set()


def test_other_attempts_of_a_job_that_has_ended_go():
    assert judged(running(), (uuid_of(0), (1, 9)), (uuid_of(1), (1, 9)), (uuid_of(1), (1, 2))) == {
        (uuid_of(0), (1, 9)),
        (uuid_of(1), (1, 9)),
        (uuid_of(1), (1, 2)),
    }


def test_open_attempts_stay_while_anybody_may_hand_them_in():
    book = running()
    files = [(uuid_of(2), (1, 3)), (uuid_of(2), (1, 9)), (ODD, (1, 5)), (uuid_of(77), (1, 6))]
    assert judged(book, *files) == set()
    book.leave(close=False)
    assert judged(book, *files) == set()
    book.say(model.Closed(book.wall))
    assert judged(book, *files) == set(files)


def test_a_worker_that_outlives_its_leader_keeps_its_files():
    book = running()
    book.say(model.Closed(book.wall))
    assert judged(book, (uuid_of(2), (1, 3))) == set()


def test_later_epochs_are_none_of_our_business():
    book = running()
    book.leave()
    assert judged(book, (uuid_of(0), (2, 1)), (uuid_of(77), (2, 1))) == set()


def test_shared_files_and_other_objects_stay():
    book = running()
    book.leave()
    assert judged(book, (None, (0, 0))) == set()
    assert collect.orphans(["files/README", "journal/1"], book.ledger) == []


def test_a_uuid_with_several_rows_is_judged_by_all_of_them():
    book = running()
    heir = chunk("flow", [uuid_of(2)], indices=[2])
    book.end(2, growth=model.Growth(replace=heir, heir=0))
    old = (uuid_of(2), (book.epoch, book.counter))
    other = (uuid_of(2), (1, 99))
    assert judged(book, old, other) == set()
    book.complete([4])
    assert judged(book, old, other, (uuid_of(2), (1, book.counter))) == {other}


def test_a_reopened_job_protects_its_new_attempts():
    book = running()
    file = (uuid_of(1), (1, 50))
    assert judged(book, file) == {file}
    book.ledger.graph.state[1] = JobState.WAITING  # as a retry would
    assert judged(book, file) == set()


def test_odd_uuids_find_their_rows():
    book = running()
    book.complete([3])
    mine = (ODD, (1, book.counter))
    assert judged(book, mine, (ODD, (1, 99))) == {(ODD, (1, 99))}


@pytest.mark.parametrize("dry_run", [True, False])
async def test_gc_deletes_orphans_only(tmp_path, dry_run):
    store = await Store.open(tmp_path / "s", create=True)
    book = Book()
    book.lead()
    book.add(chunk("flow", [uuid_of(0)]))
    files = Files(store.objects)
    wanted = await files.put_value(new_key(uuid_of(0), (1, 1)), codec.encode("large"))
    orphan = await files.put_value(new_key(uuid_of(0), (1, 7)), b"late")
    shared = await files.put_value(new_key(None), b"shared")
    output = codec.stub(msgspec.msgpack.encode(wanted))
    book.end(0, output=output)
    await write(store.objects, book.payloads)
    assert await collect.gc(store.url, dry_run=dry_run) == [orphan.key]
    left = set(await collect.listed(store.objects))
    assert left == {wanted.key, shared.key} | ({orphan.key} if dry_run else set())
    loaded = await replay.load(store.url)
    graph = loaded.core.ledger.graph
    place = model.Location(graph.out_seq[0], graph.out_offset[0], graph.out_length[0])
    assert reference_in(await loaded.reader.read(place)) == wanted


async def test_gc_lists_before_it_reads_the_state(tmp_path, monkeypatch):
    """Else a retry between the two would make a running attempt look closed."""
    store = await Store.open(tmp_path / "s", create=True)
    await write(store.objects, running().payloads)
    load = replay.load
    late = new_key(uuid_of(1), (1, 60))

    async def then_written(url):
        loaded = await load(url)
        await store.files.put_value(late, b"of a retry that was granted meanwhile")
        return loaded

    monkeypatch.setattr(replay, "load", then_written)
    await collect.gc(store.url)
    assert parse_key(late)
    assert await collect.listed(store.objects) == [late]


KEY = f"blobs/00/{'0' * 32}.%016d"


class Uploads:
    """A place with uploads that nobody has completed."""

    def __init__(self, *started):
        self.left = [Unfinished(KEY % number, str(number), at) for number, at in enumerate(started)]

    async def unfinished(self, prefix=""):
        for upload in self.left:
            yield upload

    async def abort(self, uploads):
        self.left = [upload for upload in self.left if upload not in uploads]


async def test_only_uploads_of_long_ago_are_dropped():
    place = Uploads(0.0, 50_000.0, 100_000.0)
    assert await collect.abandoned(place, now=140_000.0, dry_run=True) == [KEY % 0, KEY % 1]
    assert len(place.left) == 3
    assert await collect.abandoned(place, now=140_000.0) == [KEY % 0, KEY % 1]
    assert [upload.key for upload in place.left] == [KEY % 2]


async def test_uploads_of_others_in_the_same_bucket_are_left_alone():
    place = Uploads(0.0)
    place.left += [Unfinished(key, "1", 0.0) for key in ("run2/" + KEY % 0, "My Video.mp4", "blobs/mine")]
    assert await collect.abandoned(place, now=140_000.0) == [KEY % 0]
    assert len(place.left) == 3

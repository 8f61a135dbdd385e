"""Blobs beyond the contract of files: what a bucket does otherwise than a disk, costs, and every fault at every call."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from tests.kit.filestore_contract import opened, peek, read, write
from towline.engine.errors import CorruptionError, TowlineError
from towline.stores.fileformat import PART
from towline.stores.jobstore import blobs
from towline.stores.jobstore.chain import Chain, Options
from towline.stores.jobstore.errors import ConcurrentFileModificationException, NoSuchFileException
from towline.stores.jobstore.filestore import FileStore
from towline.stores.jobstore.records import Began, FileEntry
from towline.stores.objects.base import Ambiguous, ObjectsError
from towline.stores.objects.memory import MemoryObjects
from towline.stores.objects.wrappers import LOST_AFTER, LOST_BEFORE, REFUSED, Counting, Faults, Tally, nth


def bucket():
    return MemoryObjects(appendable=False)


async def test_long_replaced_content_stays_in_a_bucket_for_a_while():
    place = bucket()
    async with opened(place) as store:
        store.blobs._keeps_open = False
        long, short = await write(store, bytes(PART + 1)), await write(store, b"short")
        for name in (long, short):
            async with store.update_file_stream(name) as file:
                await file.write(b"new")
        assert len(await peek(place)) == 3
        assert len((await store.gc()).doomed) == 2  # the short one is deleted, and noted by the next commit
        store.blobs._graced = dict.fromkeys(store.blobs._graced, 0.0)
        await store.get_empty_file_store_id()
        assert len(await peek(place)) == 3


async def test_a_stream_whose_content_goes_away_says_so():
    place = bucket()
    async with opened(place) as store, opened(place) as other:
        name = await write(store, bytes(2 * PART))
        with pytest.raises(ConcurrentFileModificationException):
            async with store.read_file_stream(name) as file:
                await other.delete_file(name)
                await file.seek(PART + 1)
                await file.read()


class Overtaken(MemoryObjects):
    """Something happens just before a blob is fetched, once."""

    happens = None

    async def get(self, key, start=0, length=None):
        if key.startswith("blobs/") and self.happens is not None:
            happens, self.happens = self.happens, None
            await happens()
        return await super().get(key, start, length)


class Gate(Counting):
    """A bucket whose content of files can be held back, or the segments of its table."""

    def __init__(self, inner):
        super().__init__(inner)
        self.asked, self.held, self.open = [], "nothing", asyncio.Event()

    async def get(self, key, start=0, length=None):
        self.asked.append(key)
        if key.startswith(self.held):
            await self.open.wait()
        return await super().get(key, start, length)


async def test_a_small_file_is_fetched_while_the_table_is_asked():
    place = Gate(bucket())
    async with opened(place) as store:
        name = await write(store, b"content")
        place.asked.clear()
        place.held = "table/"
        reading = asyncio.create_task(read(store, name))
        while len(place.asked) < 2:
            await asyncio.sleep(0)
        assert {key.split("/")[0] for key in place.asked} == {"table", "blobs"}
        assert not reading.done()
        place.open.set()
        assert await reading == b"content"
        assert len(place.asked) == 2


@pytest.mark.parametrize("ends", ["update", "delete"])
async def test_what_was_fetched_too_early_is_dropped(ends):
    place = Gate(bucket())
    async with opened(place) as store, opened(place) as other:
        name = await write(store, b"old")
        if ends == "delete":
            await other.delete_file(name)
        else:
            async with other.update_file_stream(name) as file:
                await file.write(b"new")
        place.asked.clear()
        if ends == "delete":
            with pytest.raises(NoSuchFileException):
                await read(store, name)
        else:
            assert await read(store, name) == b"new"
        assert sum(key.startswith("blobs/") for key in place.asked) == (1 if ends == "delete" else 2)
        assert asyncio.all_tasks() - {asyncio.current_task()} == set()


@pytest.mark.parametrize("how", ["stream", "path"])
async def test_who_is_overtaken_on_the_way_to_the_content_gets_the_new_one(tmp_path, how):
    place = Overtaken(appendable=False)
    async with opened(place) as store, opened(place) as other:
        name = await write(store, b"old")
        place.happens = lambda: update(other, name, b"new")
        if how == "stream":
            assert await read(store, name) == b"new"
        else:
            await store.read_file(name, tmp_path / "out")
            assert (tmp_path / "out").read_bytes() == b"new"
        place.happens = lambda: other.delete_file(name)
        with pytest.raises(NoSuchFileException):
            await (read(store, name) if how == "stream" else store.read_file(name, tmp_path / "out"))


async def test_what_was_swept_is_noted_in_the_end_whatever_fails_in_between(monkeypatch):
    async with opened(bucket()) as store:
        await store.delete_file(await write(store, b"x"))

        async def fail(build):
            raise ObjectsError("no")

        with monkeypatch.context() as patch:
            patch.setattr(store.blobs.chain, "commit", fail)
            for call in (store.get_empty_file_store_id, store.blobs.note_swept):
                with pytest.raises(ObjectsError):
                    await call()
        await store.delete_file("unknown")
        assert len(store.blobs.chain.state.doomed) == 1
        await store.close()
        assert len(store.blobs.chain.state.doomed) == 0


@pytest.mark.parametrize("end", ["delete", "update"])
async def test_what_is_read_here_is_deleted_when_its_last_reader_has_gone(end):
    place = bucket()
    async with opened(place) as store:
        name = await write(store, b"a" * PART + b"b" * PART)
        async with store.read_file_stream(name) as one:
            async with store.read_file_stream(name) as two:
                await (store.delete_file(name) if end == "delete" else update(store, name, b"new"))
                await two.seek(PART + 1)
                assert await two.read() == b"b" * (PART - 1)
            await one.seek(PART + 1)
            assert await one.read() == b"b" * (PART - 1)
        assert len(await peek(place)) == (end == "update")


async def test_a_commit_that_may_have_come_to_pass_keeps_its_blob(monkeypatch):
    place = bucket()
    async with opened(place) as store:
        commit = store.blobs.chain.commit

        async def lost(build):
            await commit(build)
            raise Ambiguous("no answer")

        with monkeypatch.context() as patch:
            patch.setattr(store.blobs.chain, "commit", lost)
            with pytest.raises(Ambiguous):
                await write(store, b"content")
        (name,) = await store.get_all_file_ids()
        assert await read(store, name) == b"content"


async def test_another_error_of_the_store_stays_what_it_is():
    place = bucket()
    async with opened(place) as store:
        name = await write(store, bytes(2 * PART))
        with pytest.raises(CorruptionError):
            async with store.read_file_stream(name) as file:
                (key,) = await peek(place)
                await place.put(key, bytes(PART) + b"x" * PART)
                await file.seek(PART + 1)
                await file.read()


async def test_many_small_files_cost_one_put_each_and_share_commits():
    place = Counting(bucket())
    async with opened(place) as store:
        place.tally = Tally()
        names = await asyncio.gather(*(write(store, b"%d" % i) for i in range(2000)))
        assert place.tally.total < 2000 + 20
        place.tally = Tally()
        assert await asyncio.gather(*(read(store, name) for name in names)) == [b"%d" % i for i in range(2000)]
        assert place.tally.total < 2000 + 20


async def test_checksums_of_parts_that_this_version_does_not_know_are_an_error():
    async with opened(bucket()) as store:
        with pytest.raises(CorruptionError, match="checksums"):
            store.blobs.blob_of(FileEntry("x", "blobs/00/x", 5, 4096, b"1234"))


# -------------------------------------------------------------------------------------------------------------- faults


async def script(store, told):
    """One of everything. What was acknowledged is told; what a verb under way may have done is told as possible."""

    async def step(name, work, content):
        told.setdefault(name, set()).add(content)  # may be, from now on
        await work
        told[name] = {content}

    one = await write(store, b"one")
    told[str(one)] = {b"one"}
    long = await write(store, b"l" * (PART + 1))
    told[str(long)] = {b"l" * (PART + 1)}
    await step(str(one), update(store, one, b"two"), b"two")
    await step(str(long), update(store, long, b"m" * (PART + 2)), b"m" * (PART + 2))
    await step(str(one), store.delete_file(one), None)
    assert await read(store, long) == b"m" * (PART + 2)


async def update(store, name, data):
    async with store.update_file_stream(name) as file:
        await file.write(data)


@pytest.mark.parametrize("fault", [REFUSED, LOST_BEFORE, LOST_AFTER], ids=["refused", "lost before", "lost after"])
async def test_any_fault_at_any_call_breaks_no_promise(fault):
    options = Options(pause_s=0.0)
    for number in itertools.count(1):
        place = bucket()
        chain = await Chain.create(place, Began("w", b""))
        await chain.close()
        faulty = Faults(place, nth(number, fault))
        told: dict[str, set[bytes | None]] = {}
        try:
            broken = FileStore(faulty, await Chain.open(faulty, options=options))
            await script(broken, told)
            await broken.close()
        except TowlineError:
            pass
        await check(place, told)
        if len(faulty.calls) < number:
            break
    assert number > 20


async def check(place, told):
    """Everything acknowledged is there, nothing is half there, and the collector leaves what is named and nothing else."""
    async with opened(place) as store:
        names = {str(name) for name in await store.get_all_file_ids()}
        for name, possible in told.items():
            assert (await read(store, name) if name in names else None) in possible
        for name in names:
            await read(store, name)
        await store.gc(dry_run=False, older_than_s=-1)
        assert await peek(place) == (await store.blobs.chain.refresh()).blobs()
        assert (await store.gc(older_than_s=-1)) == blobs.Collected([], [], [], 0)

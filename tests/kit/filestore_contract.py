"""What the files of a job store must do on every place for bytes: one contract, inherited by a test class for each backend.

A subclass gives a fixture `place`: an empty place for bytes (`Objects`). `opened(place)` opens the job store there once more, as
another process would; `peek(place)` lists what lies there, behind the back of the code under test.
"""

from __future__ import annotations

import asyncio
import os
import random
from contextlib import asynccontextmanager

import pytest

from towline.engine.errors import CorruptionError, UsageError
from towline.stores.fileformat import PART
from towline.stores.jobstore import blobs, filestore, logs, ondisk, shared, streams
from towline.stores.jobstore.chain import Chain
from towline.stores.jobstore.errors import (
    ConcurrentFileModificationException,
    JobStoreExistsException,
    NoSuchFileException,
)
from towline.stores.jobstore.filestore import FileStore
from towline.stores.jobstore.records import Began, JobDeleted, JobPut
from towline.stores.objects.base import ObjectsError
from towline.stores.objects.local import LocalObjects

UNKNOWN = "0" * 32 + "-file"


@asynccontextmanager
async def opened(place, **options):
    """The files of the job store at this place, which is initialized if need be."""
    try:
        chain = await Chain.create(place, Began("workflow", b""))
    except JobStoreExistsException:
        chain = await Chain.open(place)
    store = FileStore(place, chain, **options)
    try:
        yield store
    finally:
        await store.close()
        await chain.close()


async def peek(place):
    """Keys of the blobs that lie there."""
    return {meta.key async for meta in place.list("blobs/")}


async def write(store, data, **options):
    async with store.write_file_stream(**options) as (file, name):
        await file.write(data)
    return name


async def read(store, name, **options):
    async with store.read_file_stream(name, **options) as file:
        return await file.read()


class FileStoreContract:
    """Inherit it, and give `place`."""

    part = PART
    """Bytes under one checksum. A subclass on a server takes less (`small_parts`): what is proved is the same."""

    @pytest.fixture(autouse=True)
    def small_parts(self, monkeypatch):
        for module in (blobs, filestore, logs, ondisk, shared, streams):
            monkeypatch.setattr(module, "PART", self.part)

    @pytest.fixture
    async def store(self, place):
        async with opened(place) as store:
            yield store

    @pytest.fixture
    async def other(self, place, store):
        """Another instance on the same place."""
        async with opened(place) as other:
            yield other

    async def clean(self, store, place):
        """No byte lies there that no record names."""
        state = await store.blobs.chain.refresh()
        assert await peek(place) == state.blobs()
        assert [upload async for upload in place.unfinished()] == []

    # --------------------------------------------------------------------------------------------- bytes in, bytes out

    @pytest.mark.parametrize(("parts", "more"), [(0, 0), (0, 1), (0, 100_000), (1, -1), (1, 0), (1, 1), (10, 0)])
    async def test_sizes_by_path_and_by_stream(self, store, other, place, tmp_path, parts, more):
        size = parts * self.part + more
        block = random.Random(size).randbytes(min(size, 1_000_003))
        data = (block * (size // max(1, len(block)) + 1))[:size]
        (tmp_path / "in").write_bytes(data)
        by_path, by_stream = await store.write_file(tmp_path / "in"), await write(store, data)
        for name in (by_path, by_stream):
            assert name.size == await other.get_file_size(name) == size
            assert await read(other, name) == data
            await other.read_file(name, tmp_path / "out")
            assert (tmp_path / "out").read_bytes() == data
        await self.clean(store, place)

    async def test_names(self, store, tmp_path):
        (tmp_path / "reads.fastq.gz").write_bytes(b"")
        assert (await store.write_file(tmp_path / "reads.fastq.gz")).endswith("-reads.fastq.gz")
        for hint in ["", ".", "..", "/", "a/../b\n.txt", "x" * 1000, "7", "7"]:
            name = await store.get_empty_file_store_id(basename=hint)
            assert len(name) < 200
            assert "/" not in name
            assert await read(store, name) == b""
        assert len(await store.get_all_file_ids()) == 9

    async def test_a_hint_never_brings_an_id_back(self, store):
        names = set()
        for _ in range(3):
            name = await store.get_empty_file_store_id(basename="1")
            await store.delete_file(name)
            names.add(str(name))
        assert len(names) == 3
        assert await store.get_all_file_ids() == []

    @pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "latin-1"])
    async def test_text(self, store, encoding):
        text = "grün\r\nnoch eine\nletzte"
        async with store.write_file_stream(encoding=encoding) as (file, name):
            await file.write(text)
        assert await read(store, name) == text.encode(encoding)
        assert await read(store, name, encoding=encoding) == text
        async with store.update_file_stream(name, encoding=encoding) as file:
            await file.writelines(["ü", "\n"])
        assert await read(store, name, encoding=encoding) == "ü\n"
        async with store.shared.write_stream("text", encoding=encoding) as file:
            await file.write(text)
        async with store.shared.read_stream("text", encoding=encoding) as file:
            assert [line async for line in file] == ["grün\r\n", "noch eine\n", "letzte"]
        async with store.write_file_stream(encoding="ascii", errors="ignore") as (file, name):
            await file.write(text)
        assert await read(store, name, encoding="ascii") == text.replace("ü", "")

    async def test_what_stays_unread_does_no_harm(self, store):
        name = await write(store, bytes(3 * self.part))
        async with store.read_file_stream(name) as file:
            assert await file.read(5) == bytes(5)
        async with store.read_file_stream(name):
            pass

    @pytest.mark.parametrize("executable", [False, True])
    async def test_the_executable_bit(self, store, tmp_path, executable):
        (tmp_path / "tool").write_bytes(b"#!/bin/sh\n")
        os.chmod(tmp_path / "tool", 0o755 if executable else 0o644)
        name = await store.write_file(tmp_path / "tool")
        assert name.executable == executable
        await store.read_file(name, tmp_path / "out")
        assert os.access(tmp_path / "out", os.X_OK) == executable
        async with store.update_file_stream(name) as file:
            await file.write(b"x")
        assert (await store.entry(name)).executable == executable
        os.chmod(tmp_path / "tool", 0o644 if executable else 0o755)
        await store.update_file(name, tmp_path / "tool")
        assert (await store.entry(name)).executable != executable

    async def test_a_path_that_is_no_file(self, store, place, tmp_path):
        with pytest.raises(FileNotFoundError):
            await store.write_file(tmp_path / "absent")
        with pytest.raises(IsADirectoryError):
            await store.write_file(tmp_path)
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(UsageError, match="regular"):
            await store.write_file(tmp_path / "pipe")
        name = await write(store, b"x")
        with pytest.raises(IsADirectoryError):
            await store.read_file(name, tmp_path)
        with pytest.raises(OSError, match="No such file"):
            await store.read_file(name, tmp_path / "no" / "folder")
        assert sorted(os.listdir(tmp_path)) in (["pipe"], ["pipe", "place"])
        await self.clean(store, place)

    async def test_a_read_replaces_what_is_there(self, store, tmp_path):
        (tmp_path / "out").write_bytes(b"something longer")
        await store.read_file(await write(store, b"new"), tmp_path / "out")
        assert (tmp_path / "out").read_bytes() == b"new"

    async def test_what_a_user_does_to_a_copy_never_reaches_the_store(self, store, tmp_path):
        name = await write(store, b"ours" * 50_000)
        await store.read_file(name, tmp_path / "out")
        (tmp_path / "out").write_bytes(b"theirs")
        assert await read(store, name) == b"ours" * 50_000

    # ------------------------------------------------------------------------------------------------------- atomicity

    @pytest.mark.parametrize(("parts", "more"), [(0, 0), (0, 10), (2, 1)])
    async def test_a_file_is_not_there_before_its_end_and_never_after_a_fault(self, store, other, place, parts, more):
        size = parts * self.part + more
        with pytest.raises(ZeroDivisionError):
            async with store.write_file_stream() as (file, name):
                await file.write(bytes(size))
                assert not await other.file_exists(name)
                raise ZeroDivisionError
        assert not await other.file_exists(name)
        assert await other.get_all_file_ids() == []
        await self.clean(store, place)

    async def test_a_fault_in_an_update_leaves_the_old_content(self, store, other, place):
        name = await write(store, b"old")
        with pytest.raises(ZeroDivisionError):
            async with store.update_file_stream(name) as file:
                await file.write(bytes(2 * self.part))
                raise ZeroDivisionError
        assert await read(other, name) == b"old"
        with pytest.raises(ZeroDivisionError):
            async with store.shared.write_stream("name") as file:
                await file.write(b"x")
                raise ZeroDivisionError
        assert not await other.shared.exists("name")
        await self.clean(store, place)

    async def test_a_cancelled_writer_leaves_nothing(self, store, place):
        started = asyncio.Event()

        async def body():
            async with store.write_file_stream() as (file, _):
                await file.write(bytes(2 * self.part))
                started.set()
                await asyncio.Event().wait()

        task = asyncio.create_task(body())
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await self.clean(store, place)

    async def test_a_caller_cancelled_in_the_commit_gets_a_whole_file_or_none(self, store, other, place):
        for steps in range(0, 40, 3):
            task = asyncio.create_task(write(store, b"content"))
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
        await store.close()
        for name in await other.get_all_file_ids():
            assert await read(other, name) == b"content"
        await self.clean(store, place)

    async def test_updates_are_seen_by_all(self, store, other, place, tmp_path):
        name = await store.get_empty_file_store_id(basename="x", job_id="job", cleanup=True)
        (tmp_path / "in").write_bytes(b"by path")
        await store.update_file(name, tmp_path / "in")
        assert await read(other, name) == b"by path"
        async with other.update_file_stream(name) as file:
            await file.write(b"by stream")
        assert await read(store, name) == b"by stream"
        entry = await store.entry(name)
        assert (entry.owner, entry.cleanup, entry.hint) == ("job", True, "x")
        await self.clean(store, place)

    async def test_of_many_updates_one_wins_whole_and_readers_see_one_version(self, store, other):
        name = await write(store, b"0" * 5000)
        seen = []

        async def update(who, digit):
            async with who.update_file_stream(name) as file:
                for _ in range(5):
                    await file.write(digit * 1000)
                    await asyncio.sleep(0)

        async def look(who):
            for _ in range(10):
                seen.append(await read(who, name))

        writers = [update(who, b"%d" % digit) for digit in range(1, 6) for who in (store, other)]
        await asyncio.gather(*writers, look(store), look(other))
        assert all(len(content) == 5000 and len(set(content)) == 1 for content in seen)
        assert await read(store, name) == await read(other, name)

    @pytest.mark.parametrize("ends", ["update", "delete"])
    async def test_a_reader_keeps_the_version_it_began_with(self, store, place, ends):
        old = random.Random(1).randbytes(2 * self.part + 5)
        name = await write(store, old)
        async with store.read_file_stream(name) as file:
            got = await file.read(10)
            if ends == "delete":
                await store.delete_file(name)
            else:
                async with store.update_file_stream(name) as new:
                    await new.write(b"new")
            got += await file.read()
        assert got == old
        await store.sweep()
        await self.clean(store, place)
        if ends == "update":
            assert await read(store, name) == b"new"

    # -------------------------------------------------------------------------------------------------- what is missing

    @pytest.mark.parametrize("unknown", [UNKNOWN, "", "../../etc/passwd", "x"])
    async def test_a_missing_file(self, store, tmp_path, unknown):
        (tmp_path / "in").write_bytes(b"")
        assert not await store.file_exists(unknown)
        assert await store.get_file_size(unknown) == 0
        await store.delete_file(unknown)
        for call in (
            lambda: store.read_file(unknown, tmp_path / "out"),
            lambda: store.update_file(unknown, tmp_path / "in"),
            lambda: store.get_public_url(unknown),
            lambda: store.get_file_job_association(unknown),
        ):
            with pytest.raises(NoSuchFileException):
                await call()
        for stream in (store.read_file_stream, store.update_file_stream, store.read_pieces):
            with pytest.raises(NoSuchFileException):
                await stream(unknown).__aenter__()
        assert not (tmp_path / "out").exists()

    async def test_deleting(self, store, other, place):
        name = await write(store, b"x")
        await other.delete_file(name)
        await store.delete_file(name)
        assert not await store.file_exists(name)
        with pytest.raises(NoSuchFileException):
            await read(store, name)
        await self.clean(store, place)

    async def test_a_file_deleted_during_its_update_stays_deleted(self, store, other, place):
        name = await write(store, b"x")
        with pytest.raises(NoSuchFileException):
            async with store.update_file_stream(name) as file:
                await file.write(b"y")
                await other.delete_file(name)
        assert not await store.file_exists(name)
        await self.clean(store, place)

    async def test_damage_is_found_by_every_way_of_reading(self, store, place, tmp_path):
        name = await write(store, b"good" * 100)
        (key,) = await peek(place)
        await place.put(key, b"evil" * 100)
        with pytest.raises(CorruptionError, match=key):
            await read(store, name)
        for options in ({}, {"symlink": True}):
            with pytest.raises(CorruptionError, match=key):
                await store.read_file(name, tmp_path / "out", **options)
        store.hardlinks = True
        with pytest.raises(CorruptionError, match=key):
            await store.read_file(name, tmp_path / "out")
        await place.delete_many([key])
        with pytest.raises(CorruptionError, match="missing"):
            await read(store, name)
        with pytest.raises(CorruptionError, match="missing"):
            await store.read_file(name, tmp_path / "out")
        assert not (tmp_path / "out").exists()

    # ------------------------------------------------------------------------------------------------------------ jobs

    async def test_files_belong_to_jobs_and_go_with_them(self, store, other, place):
        await store.commit(lambda state: [JobPut("job", 0, b"")])
        mine = await asyncio.gather(*(write(store, b"%d" % i, job_id="job", cleanup=True) for i in range(30)))
        kept = await write(store, b"kept", job_id="job")
        free = await write(store, b"free", cleanup=True)
        early = await write(store, b"early", job_id="not yet created", cleanup=True)
        assert await other.get_file_job_association(mine[0]) == "job"
        assert await other.get_file_job_association(free) is None
        assert await other.get_file_job_association(early) == "not yet created"
        await other.commit(lambda state: [JobDeleted("job")])
        assert set(await store.get_all_file_ids()) == {kept, free, early}
        assert await store.get_file_job_association(kept) == "job"
        await self.clean(store, place)

    # ---------------------------------------------------------------------------------------------------- shared files

    async def test_shared_files(self, store, other, place, tmp_path):
        async with store.shared.write_stream("pid.log") as file:
            await file.write(b"12345")
        async with other.shared.read_stream("pid.log") as file:
            assert await file.read() == b"12345"
        async with other.shared.write_stream("pid.log", encrypted=False) as file:
            await file.write(b"7")
        async with store.shared.read_stream("pid.log") as file:
            assert await file.read() == b"7"
        (tmp_path / "tool").write_bytes(b"tool")
        os.chmod(tmp_path / "tool", 0o755)
        await store.shared.write("tool", tmp_path / "tool")
        assert (await other.shared.entry("tool")).executable
        await self.clean(store, place)
        assert await store.get_all_file_ids() == []
        for _ in range(2):
            await other.shared.delete("pid.log")
        assert not await store.shared.exists("pid.log")
        await self.clean(store, place)

    async def test_shared_files_that_cannot_be(self, store):
        with pytest.raises(NoSuchFileException):
            await store.shared.read_stream("missing").__aenter__()
        with pytest.raises(NoSuchFileException):
            await store.get_shared_public_url("missing")
        for name in ("../x", "a b", ""):
            for stream in (store.shared.read_stream, store.shared.write_stream):
                with pytest.raises(ValueError, match="cannot name"):
                    await stream(name).__aenter__()

    async def test_encryption_is_refused_where_it_is_not_offered(self, store):
        if store.blobs.encrypts:
            pytest.skip("this store encrypts")
        with pytest.raises(UsageError, match="no key to encrypt"):
            await store.shared.write_stream("secret", encrypted=True).__aenter__()

    # ---------------------------------------------------------------------------------------------- imports and exports

    async def test_pieces(self, store):
        async def pieces():
            for i in range(20):
                yield bytes([i]) * 100_000

        name = await store.write_pieces(pieces(), basename="in.bin", executable=True)
        async with store.read_pieces(name) as (entry, got):
            assert b"".join([piece async for piece in got]) == b"".join([bytes([i]) * 100_000 for i in range(20)])
        assert (entry.size, entry.executable, entry.hint) == (2_000_000, True, "in.bin")

    async def test_pieces_that_fail_leave_nothing(self, store, place):
        async def pieces():
            yield bytes(self.part + 1)
            raise ObjectsError("the other side hung up")

        with pytest.raises(ObjectsError, match="hung up"):
            await store.write_pieces(pieces())
        await self.clean(store, place)

    async def test_copies_by_the_server(self, store, other, place):
        await place.put("elsewhere/data", b"x" * 1000)
        name = await store.copy_in(place, "elsewhere/data", basename="data")
        assert (name.size, await read(other, name)) == (1000, b"x" * 1000)
        source, entry = await other.source_of(name)
        assert await source.get(entry.blob) == b"x" * 1000
        with pytest.raises(ObjectsError):
            await store.copy_in(place, "elsewhere/missing")
        await self.clean(store, place)

    # ------------------------------------------------------------------------------------------------------ collecting

    async def test_the_collector_takes_orphans_only(self, store, place):
        name = await write(store, b"kept")
        orphan = "blobs/00/" + "0" * 32 + "." + "0" * 16
        await place.put(orphan, b"12345")
        assert (await store.gc()).orphans == []
        dry = await store.gc(older_than_s=-1)
        assert (dry.orphans, dry.size) == ([orphan], 5)
        assert orphan in await peek(place)
        assert await store.gc(dry_run=False, older_than_s=-1) == dry
        assert (await store.gc(older_than_s=-1)).orphans == []
        assert await read(store, name) == b"kept"
        await self.clean(store, place)

    async def test_a_slow_writer_that_the_collector_passed_is_refused(self, store, other, place):
        with pytest.raises(ConcurrentFileModificationException):
            async with store.write_file_stream() as (file, name):
                await file.write(b"x")
                finish = file.finish

                async def overtaken():
                    content = await finish()
                    assert len((await other.gc(dry_run=False, older_than_s=-1)).orphans) == 1
                    return content

                file.finish = overtaken
        assert not await store.file_exists(name)
        await self.clean(store, place)

    async def test_a_writer_that_the_collector_has_only_seen_keeps_its_file(self, store, other, place, monkeypatch):
        """Named between the collector's look and its condemnation."""
        collect = other.blobs._collect

        async def late(keys):
            hold.set()
            await named.wait()
            await collect(keys)

        hold, named = asyncio.Event(), asyncio.Event()
        monkeypatch.setattr(other.blobs, "_collect", late)
        async with store.write_file_stream() as (file, name):
            await file.write(b"x")
            finish = file.finish

            async def seen():
                content = await finish()
                nonlocal collecting
                collecting = asyncio.create_task(other.gc(dry_run=False, older_than_s=-1))
                await hold.wait()
                return content

            collecting, file.finish = None, seen
        named.set()
        await collecting
        assert await read(other, name) == b"x"
        await self.clean(store, place)

    async def test_deletions_that_a_crash_cut_short_are_made_up_for(self, store, other, place, monkeypatch):
        name, kept = await write(store, b"gone"), await write(store, b"kept")

        async def crash(keys):
            raise ObjectsError("gone away")

        with monkeypatch.context() as patch:
            patch.setattr(place, "delete_many", crash)
            await store.delete_file(name)
        assert len(await peek(place)) == 2
        assert len((await other.gc()).doomed) == 1
        await other.sweep()
        assert (await store.gc()).doomed == []
        assert await read(other, kept) == b"kept"
        await self.clean(store, place)

    async def test_what_was_swept_is_noted_by_the_next_commit(self, store, other):
        await store.delete_file(await write(store, b"x"))
        assert len((await other.blobs.chain.refresh()).doomed) == 1
        await store.get_empty_file_store_id()
        assert len((await other.blobs.chain.refresh()).doomed) == 0

    # -------------------------------------------------------------------------------------------------------- URLs

    async def test_public_urls(self, store, place):
        name = await write(store, b"content")
        url = await store.get_public_url(name)
        async with store.shared.write_stream("shared") as file:
            await file.write(b"shared content")
        shared = await store.get_shared_public_url("shared")
        if isinstance(place, LocalObjects):
            assert url.startswith("file:///")
            assert shared.startswith("file:///")
        assert url != shared

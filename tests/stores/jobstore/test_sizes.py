"""Sizes and numbers of files, on local disk, a Ceph gateway and the fake of Google's storage; `make sizes` takes the full ones.

CI takes 1,000 files where `make sizes` takes 100,000, and leaves out what is longer than two parts: the contract of files proves
that with small parts. Readers of logs at once: test_logs.py.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from time import monotonic

import pytest

from tests.kit.servers import bare, make_bucket
from tests.stores.jobstore.mover import peak, pieces
from towline.benchmarks.peers.stores import spread
from towline.stores import store as stores_store
from towline.stores.fileformat import PART
from towline.stores.jobstore.abstract import AbstractJobStore
from towline.stores.jobstore.config import Config
from towline.stores.locate import open_objects

FULL = bool(int(os.environ.get("SIZES_FULL", "0")))
LARGE = [10 * PART, 1 << 30] if FULL else []
FILES = 100_000 if FULL else 1_000
ENTRIES = 10_000 if FULL else 0
MEMORY_MAX = 200_000_000
"""Bytes of a process that moves a file of any size."""

needs_full = pytest.mark.skipif(not FULL, reason="make sizes")
pytestmark = pytest.mark.timeout(3600 if FULL else 300)


def told(what: str, since: float) -> None:
    """Seen with `-s`, as `make sizes` runs it."""
    print(f"\n{what}: {monotonic() - since:.1f} s, peak {peak() / 1e6:.0f} MB", flush=True)


async def honest(objects):
    """Instead of the probe, which has tests of its own and takes a second each time."""


class OnPlace:
    """A subclass gives `locator`, and `remains`, which looks behind the back of the code: all names that are there, and uploads
    that have not ended."""

    @pytest.fixture
    async def store(self, locator, monkeypatch):
        monkeypatch.setattr(stores_store, "probe", honest)
        async with AbstractJobStore(locator) as store:
            await store.initialize(Config())
            yield store
            await store.destroy()

    @pytest.mark.parametrize("size", [0, 1, PART - 1, PART, PART + 1, *LARGE])
    async def test_by_path_and_by_stream_it_is_the_same(self, store, tmp_path, size):
        began, right = monotonic(), hashlib.sha256()
        with (tmp_path / "in").open("wb") as file:
            async with store.write_file_stream() as (stream, streamed):
                for piece in pieces(size):
                    right.update(piece)
                    await asyncio.to_thread(file.write, piece)
                    await stream.write(piece)
        put = await store.write_file(tmp_path / "in")
        for name in (streamed, put):
            await store.read_file(name, tmp_path / "out")
            with (tmp_path / "out").open("rb") as file:
                assert hashlib.file_digest(file, "sha256").digest() == right.digest()
            got = hashlib.sha256()
            async with store.read_file_stream(name) as stream:
                while piece := await stream.read1():
                    got.update(piece)
            assert got.digest() == right.digest()
            assert await store.get_file_size(name) == size
            await store.delete_file(name)
        for file in ("in", "out"):
            (tmp_path / file).unlink()
        told(f"{type(self).__name__}: {size} bytes written and read, each by path and by stream", began)

    async def test_many_small_files_and_whose_they_are(self, store, locator):
        began = monotonic()

        async def write(number):
            async with store.write_file_stream(f"job-{number % 97}", basename=f"{number}.txt") as (stream, name):
                await stream.write(b"%d" % number)
            return name

        async def read(name):
            async with store.read_file_stream(name) as stream:
                return await stream.read()

        names = await spread(write, range(FILES), 64)
        told(f"{type(self).__name__}: {FILES} small files written", began)
        began = monotonic()
        async with AbstractJobStore(locator) as other:
            await other.resume()
            assert set(await other.get_all_file_ids()) == set(names)
            told(f"{type(self).__name__}: another instance opened, all ids listed", began)
            for number in range(0, FILES, max(1, FILES // 100)):
                assert await other.get_file_job_association(names[number]) == f"job-{number % 97}"
            began, some = monotonic(), range(0, FILES, max(1, FILES // (1000 if FULL else 100)))
            assert await spread(lambda number: read(names[number]), some, 64) == [b"%d" % number for number in some]
            told(f"{type(self).__name__}: {len(some)} of them read", began)
        objects, began = open_objects(f"{locator}"), monotonic()
        assert len([meta async for meta in objects.list("blobs/")]) == FILES
        await objects.close()
        told(f"{type(self).__name__}: {FILES} blobs listed", began)
        began = monotonic()
        await store.destroy()
        told(f"{type(self).__name__}: destroyed", began)

    @needs_full
    async def test_a_long_listing(self, locator):
        objects, keys = open_objects(locator), [f"many/{number:06d}" for number in range(ENTRIES)]
        await spread(lambda key: objects.put(key, b"x"), keys, 64)
        began = monotonic()
        assert [meta.key async for meta in objects.list("many/")] == keys
        assert [meta.key async for meta in objects.list("many/", keys[ENTRIES // 2])] == keys[ENTRIES // 2 + 1 :]
        told(f"{type(self).__name__}: {ENTRIES} entries listed one and a half times", began)
        await objects.delete_many(keys)
        await objects.close()

    @pytest.mark.parametrize("cut", ["raised", "cancelled"])
    async def test_what_was_aborted_leaves_nothing(self, store, locator, cut):
        objects = open_objects(locator)
        await store.get_empty_file_store_id()
        before = await self.remains(locator)

        async def broken():
            async with store.write_file_stream() as (stream, _):
                for piece in pieces(5 * PART + 1):
                    await stream.write(piece)
                if cut == "raised":
                    raise ZeroDivisionError
                reached.set()
                await asyncio.Event().wait()

        reached = asyncio.Event()
        task = asyncio.create_task(broken())
        if cut == "cancelled":
            await reached.wait()
            task.cancel()
        with suppress(asyncio.CancelledError, ZeroDivisionError):
            await task
        assert [upload async for upload in objects.unfinished()] == []
        assert await self.remains(locator) == before
        await objects.close()


class TestLocal(OnPlace):
    @pytest.fixture
    def locator(self, tmp_path):
        return str(tmp_path / "store")

    async def remains(self, locator):
        return sorted(str(path.relative_to(locator)) for path in Path(locator).rglob("*") if path.is_file())


class TestCeph(OnPlace):
    @pytest.fixture
    def locator(self, ceph, monkeypatch):
        for name, value in ceph.environment().items():
            monkeypatch.setenv(name, value)
        self.ceph, self.bucket = ceph, make_bucket(ceph)
        return f"s3://{self.bucket}/runs/one"

    async def remains(self, locator):
        async with bare(self.ceph) as client:
            objects = (await client.list_objects_v2(Bucket=self.bucket)).get("Contents", ())
            uploads = (await client.list_multipart_uploads(Bucket=self.bucket)).get("Uploads", ())
        return sorted(one["Key"] for one in objects), uploads


class TestGcs(OnPlace):
    @pytest.fixture
    def locator(self, gcs, monkeypatch):
        for name, value in gcs.environment().items():
            monkeypatch.setenv(name, value)
        self.gcs, self.bucket = gcs, gcs.new_bucket()
        return f"gs://{self.bucket}/runs/one"

    async def remains(self, locator):
        return await asyncio.to_thread(self.gcs.names, self.bucket)


# ---------------------------------------------------------------------------------------------------------------- memory


def moved(locator: str, size: int, **environment: str) -> dict[str, int]:
    """What a process tells that moved so many bytes. Both digests were equal."""
    command = [sys.executable, "-m", "tests.stores.jobstore.mover", locator, str(size)]
    root = Path(__file__).parents[3]
    done = subprocess.run(command, env={**os.environ, **environment}, cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    print(f"\n{done.stdout}", flush=True)
    found = json.loads(done.stdout)
    assert found["wrote"] == found["read"]
    assert not Path(locator).exists()
    return found


def test_the_memory_of_a_large_file_on_local_disk(tmp_path: Path) -> None:
    assert moved(str(tmp_path / "store"), 10_000_000_000 if FULL else 20 * PART)["peak"] < MEMORY_MAX


@needs_full
def test_the_memory_of_a_large_file_in_a_bucket(ceph) -> None:
    assert moved(f"s3://{make_bucket(ceph)}", 1 << 30, **ceph.environment())["peak"] < MEMORY_MAX

"""AbstractJobStore on memory and on a local disk, by the contract; and what only a path or a process has."""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from datetime import timedelta
from types import SimpleNamespace
from uuid import uuid4

import pytest

from tests.kit.jobstore_contract import JobStoreContract, names, two
from tests.kit.servers import make_bucket
from towline.engine.errors import UsageError
from towline.stores import locate
from towline.stores import store as stores_store
from towline.stores.errors import StoreForeign
from towline.stores.jobstore import records as r
from towline.stores.jobstore.abstract import AbstractJobStore, JobStoreSupport
from towline.stores.jobstore.config import Config
from towline.stores.jobstore.description import JobDescription
from towline.stores.jobstore.errors import ConcurrentFileModificationException, NoSuchJobStoreException
from towline.stores.objects.memory import MemoryObjects
from towline.stores.objects.wrappers import Fault, Faults, nth


class TestMemory(JobStoreContract):
    @pytest.fixture
    def locator(self):
        name = uuid4().hex
        yield f"memory:{name}"
        locate._memories.pop(name, None)


class TestLocal(JobStoreContract):
    @pytest.fixture
    def locator(self, tmp_path):
        return str(tmp_path / "store")

    async def test_a_symlink_stays_one(self, tmp_path):
        (tmp_path / "real").mkdir()
        link = tmp_path / "link"
        link.symlink_to("real")
        async with two(str(link)) as (first, _):
            assert first.locator == str(link)
            assert link.is_symlink()
            assert (tmp_path / "real" / "towline.json").exists()

    async def test_a_directory_of_somebody_elses(self, tmp_path):
        (tmp_path / "thesis.txt").write_text("mine")
        (tmp_path / "table").mkdir()
        (tmp_path / "table" / "notes").write_text("mine")
        store = AbstractJobStore(tmp_path)
        with pytest.raises(StoreForeign):
            await store.initialize(Config())
        await store.destroy()
        assert (tmp_path / "table" / "notes").read_text() == "mine"

    async def test_destroy_leaves_nothing(self, locator):
        async with two(locator) as (first, _):
            await first.create_job(JobDescription())
            await first.destroy()
        assert not os.path.exists(locator)


async def honest(objects):
    """Instead of the probe, which has tests of its own and takes a second each time."""


class OnBucket(JobStoreContract):
    """A prefix of its own in a bucket of a server on this machine."""

    @pytest.fixture
    def locator(self, server, monkeypatch):
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(stores_store, "probe", honest)
        bucket = self.make_bucket(server)
        return f"{self.scheme}://{bucket}/runs/one"


class TestMoto(OnBucket):
    scheme, make_bucket = "s3", staticmethod(make_bucket)

    @pytest.fixture
    def server(self, moto):
        return moto


class TestCeph(OnBucket):
    scheme, make_bucket = "s3", staticmethod(make_bucket)

    @pytest.fixture
    def server(self, ceph):
        return ceph


class TestGcs(OnBucket):
    scheme = "gs"

    @pytest.fixture
    def server(self, gcs):
        return gcs

    @staticmethod
    def make_bucket(server):
        return server.new_bucket()


@pytest.mark.parametrize("locator", ["aws:us-west-2:UPPER:prefix", "s3://b", "gs://bucket/bad prefix", "nowhere:x", ""])
def test_an_illegal_locator_is_a_value_error_before_anything(locator):
    with pytest.raises(ValueError, match=r"\S"):
        AbstractJobStore(locator)


def test_what_the_class_says():
    assert AbstractJobStore.rootJobStoreIDFileName == "rootJobStoreID"
    assert AbstractJobStore.publicUrlExpiration >= timedelta(hours=1)
    assert AbstractJobStore.sharedFileNameRegex.match("pid.log")
    assert not AbstractJobStore.sharedFileNameRegex.match("../x")
    assert AbstractJobStore("memory:x").default_caching() is False
    assert AbstractJobStore("s3://bucket/x").default_caching() is True


def test_get_env_tells_where_and_no_secret(monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush")
    assert AbstractJobStore("s3://bucket/x").get_env()["AWS_ENDPOINT_URL"] == "http://127.0.0.1:1"
    assert "hush" not in AbstractJobStore("s3://bucket/x").get_env().values()
    assert AbstractJobStore("memory:x").get_env() == {}
    monkeypatch.chdir("/")  # a worker runs elsewhere
    assert AbstractJobStore("s3://bucket/x", sse_key_file="key").get_env()["TOWLINE_SSE_KEY_FILE"] == "/key"


async def test_a_local_store_says_that_it_cannot_encrypt(tmp_path):
    with pytest.raises(UsageError, match="local"):
        await AbstractJobStore(tmp_path / "s").initialize(Config(sseKeyFile="/key"))
    assert list(tmp_path.iterdir()) == []


async def test_a_configuration_of_another_make_gets_the_ids():
    given = SimpleNamespace(name="x")
    async with AbstractJobStore(f"memory:{uuid4().hex}") as store:
        await store.initialize(given)
        assert given.workflow_id == store.config.workflow_id
        assert store.config.name == "x"


async def test_urls_need_no_job_store(tmp_path):
    (tmp_path / "file").write_bytes(b"12345")
    assert await JobStoreSupport.url_exists(tmp_path / "file")
    assert await JobStoreSupport.get_size(tmp_path / "file") == 5
    assert await JobStoreSupport.get_is_directory(tmp_path)
    assert await JobStoreSupport.list_url(tmp_path) == ["file"]


class Crash(BaseException):
    """The process is gone."""


@pytest.mark.parametrize("done", [False, True])
async def test_a_batch_is_all_or_nothing_whatever_call_it_dies_in(done):
    """Before and after each call of the store: the next instance finds the batch wholly or not at all."""
    number, calls, seen = 0, 0, set()
    while number <= calls:
        number += 1
        name = uuid4().hex
        faults = locate._memories[name] = Faults(MemoryObjects(appendable=False), lambda call: None)
        store = AbstractJobStore(f"memory:{name}")
        await store.initialize(Config())
        old = await store.create_root_job(JobDescription(job_name="old"))
        async with store.write_file_stream(old.job_store_id, cleanup=True) as (stream, file):
            await stream.write(b"content")
        faults.plan = nth(number, Fault(done=done, error=Crash()))
        before = len(faults.calls)
        with suppress(Crash, asyncio.CancelledError):
            async with store.batch():
                for i in range(5):
                    await store.create_job(JobDescription(job_name=f"new{i}"))
                await store.delete_job(old.job_store_id)
            await store.close()
        faults.plan, calls = lambda call: None, len(faults.calls) - before
        again = AbstractJobStore(f"memory:{name}")
        await again.resume()
        found = (await names(again), await again.file_exists(file))
        assert found in [(["old"], True), ([f"new{i}" for i in range(5)], False)]
        seen.add(found[1])
        await again.close()
        locate._memories.pop(name)
    assert seen == ({False} if done else {False, True})
    assert number >= 3


async def test_many_writers_race_for_many_jobs():
    """Five instances, six tasks each, count five jobs up by load and update: no count is lost."""
    locator = f"memory:{uuid4().hex}"
    stores = [AbstractJobStore(locator) for _ in range(5)]
    await stores[0].initialize(Config())
    for store in stores[1:]:
        await store.resume()
    jobs = [await stores[0].create_job(JobDescription(job_name="0")) for _ in range(5)]

    async def count(store, job):
        while True:
            desc = await store.load_job(job)
            desc.job_name = str(int(desc.job_name) + 1)
            try:
                return await store.update_job(desc)
            except ConcurrentFileModificationException:
                await asyncio.sleep(0)

    await asyncio.gather(*(count(s, j.job_store_id) for s in stores for j in jobs for _ in range(6)))
    assert await names(stores[3]) == ["30"] * 5
    for store in stores:
        await store.close()


async def test_a_deleted_stores_last_word_is_seen_by_others():
    locator = f"memory:{uuid4().hex}"
    async with two(locator) as (first, second):
        await first.chain.commit(lambda state: [r.Destroyed()])
        with pytest.raises(NoSuchJobStoreException):
            await second.job_exists("x")

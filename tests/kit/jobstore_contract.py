"""What AbstractJobStore's lifecycle and job verbs must do on every place for bytes: one contract, a test class for each backend.

A subclass gives a fixture `locator`: the text that names an empty place. (Files have their own, filestore_contract.)
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from uuid import UUID

import pytest

from towline.engine.errors import EncodingError, UsageError
from towline.stores.jobstore.abstract import AbstractJobStore, open_store
from towline.stores.jobstore.chain import table
from towline.stores.jobstore.config import Config
from towline.stores.jobstore.description import JobDescription
from towline.stores.jobstore.errors import (
    ConcurrentFileModificationException,
    JobException,
    JobStoreExistsException,
    NoSuchFileException,
    NoSuchJobException,
    NoSuchJobStoreException,
)
from towline.stores.jobstore.kinds import ServiceJobDescription
from towline.stores.journal.verify import verify

NEEDS = {"memory": "2Gi", "cores": 0.5, "disk": "500M", "preemptible": True, "accelerators": ["k80:2"]}


@asynccontextmanager
async def two(locator):
    """A new job store, and a second instance of it."""
    async with AbstractJobStore(locator) as first, AbstractJobStore(locator) as second:
        await first.initialize(Config(name="contract"))
        await second.resume()
        yield first, second


async def names(store):
    return sorted([job.job_name async for job in store.jobs()])


class JobStoreContract:
    """See the module."""

    # ------------------------------------------------------------------------------------------------------- lifecycle

    async def test_initialize_resume_and_what_is_equal(self, locator):
        config = Config(name="x", numbers=(1, 2), workflowAttemptNumber=7)
        async with AbstractJobStore(locator) as first, AbstractJobStore(locator) as second:
            await first.initialize(config)
            assert UUID(config.workflowID) == UUID(config.workflow_id)
            assert config.workflow_attempt_number == 0
            await second.resume()
            assert second.config == config
            assert second.config is not config
            assert first.locator == second.locator == locator
            with pytest.raises(JobStoreExistsException):
                await AbstractJobStore(locator).initialize(Config())
            assert second.config.numbers == (1, 2)

    async def test_of_two_who_initialize_at_once_one_succeeds(self, locator):
        stores = [AbstractJobStore(locator) for _ in range(4)]
        done = await asyncio.gather(*(s.initialize(Config()) for s in stores), return_exceptions=True)
        assert sorted(map(str, map(type, done))) == sorted(map(str, [type(None)] + [JobStoreExistsException] * 3))
        for store in stores:
            await store.close()

    async def test_resume_where_nothing_is_names_the_locator(self, locator):
        with pytest.raises(NoSuchJobStoreException) as told:
            await AbstractJobStore(locator).resume()
        assert locator in str(told.value)
        with pytest.raises(NoSuchJobStoreException):
            await open_store(locator)

    async def test_a_config_that_cannot_be_stored_creates_nothing(self, locator):
        with pytest.raises(EncodingError, match="bad"):
            await AbstractJobStore(locator).initialize(Config(bad=object()))
        with pytest.raises(NoSuchJobStoreException):
            await AbstractJobStore(locator).resume()

    async def test_write_config(self, locator):
        async with two(locator) as (first, second):
            first.config.maxCores = 8
            await first.write_config()
            assert "max_cores" not in second.config.attributes()
            await second.resume()
            assert second.config.max_cores == 8

    async def test_nothing_works_before_it_is_connected(self, locator):
        store = AbstractJobStore(locator)
        for call in (store.load_root_job, store.write_config, store.get_all_file_ids):
            with pytest.raises(UsageError, match="initialize or resume"):
                await call()

    async def test_destroy_again_and_again_by_anybody(self, locator):
        async with two(locator) as (first, second):
            await first.create_job(JobDescription())
            async with first.write_file_stream() as (stream, name):
                await stream.write(b"content")
            await second.delete_file(name)  # what it has still to note of that, nobody will read
            await second.destroy()
            await second.destroy()
            await AbstractJobStore(locator).destroy()
            with pytest.raises(NoSuchJobStoreException):
                await AbstractJobStore(locator).resume()
        async with two(locator) as (first, _):
            assert await names(first) == []

    async def test_destroy_of_what_is_gone_in_part(self, locator):
        async with two(locator) as (first, second):
            await first.create_job(JobDescription())
            objects = first.chain.objects
            await objects.delete_many(["towline.json"])
            await second.destroy()
            assert [m.key async for m in objects.list("table/")] == []
        async with two(locator) as (first, second):
            await first.chain.objects.delete_many([f"table/journal/{1:020d}.seg"])
            await AbstractJobStore(locator).destroy()
        with pytest.raises(NoSuchJobStoreException):
            await AbstractJobStore(locator).resume()

    async def test_open_store_makes_or_resumes(self, locator):
        async with await open_store(locator, create=True, config=Config(a=1)) as first:
            await first.create_job(JobDescription(job_name="j"))
        async with await open_store(locator, create=True) as second:
            assert (second.config.a, await names(second)) == (1, ["j"])

    # ------------------------------------------------------------------------------------------------------------ root

    async def test_the_root_job(self, locator):
        async with two(locator) as (first, second):
            with pytest.raises(JobException):
                await first.load_root_job()
            root = await first.create_root_job(JobDescription(job_name="root"))
            assert (await second.load_root_job()).job_store_id == root.job_store_id
            await second.delete_job(root.job_store_id)
            with pytest.raises(JobException, match="does not exist"):
                await first.load_root_job()
            other = await second.create_job(JobDescription(job_name="other"))
            await first.set_root_job(other.job_store_id)
            assert (await second.load_root_job()).job_name == "other"

    async def test_the_root_jobs_return_value(self, locator):
        async with two(locator) as (first, second):
            with pytest.raises(JobException, match="not returned"):
                await second.get_root_job_return_value()
            await first.set_root_job_return_value({"a": (1, {2})})
            assert await second.get_root_job_return_value() == {"a": (1, {2})}

    # ------------------------------------------------------------------------------------------------------------ jobs

    async def test_an_unknown_job(self, locator):
        async with two(locator) as (first, _):
            assert not await first.job_exists("nobody")
            with pytest.raises(NoSuchJobException, match="nobody"):
                await first.load_job("nobody")
            await first.delete_job("nobody")
            await first.delete_job("nobody")
            never = JobDescription()
            await first.assign_job_id(never)
            with pytest.raises(NoSuchJobException):
                await first.update_job(never)

    async def test_what_one_creates_the_other_loads(self, locator):
        async with two(locator) as (first, second):
            made = JobDescription(NEEDS, jobName="name", unitName="unit", displayName="shown")
            made.attach_body("file-1", "module")
            made.note = {"mine": [1, 2]}
            assert await first.create_job(made) is made
            found = await second.load_job(made.job_store_id)
            assert found is not made
            assert found.requirements == made.requirements
            assert (found.memory, found.cores, found.disk, found.preemptible) == (2 << 30, 0.5, 500_000_000, True)
            assert found.get_names() == made.get_names()
            assert found.get_body() == made.get_body()
            assert found.note == {"mine": [1, 2]}
            assert found.version == made.version

    async def test_loaded_objects_are_their_owners(self, locator):
        async with two(locator) as (first, second):
            made = await first.create_job(JobDescription(job_name="a"))
            mine, yours = await first.load_job(made.job_store_id), await second.load_job(made.job_store_id)
            yours.job_name = "b"
            yours.add_child("c")
            await second.update_job(yours)
            assert (mine.job_name, mine.child_ids) == ("a", set())
            assert (await first.load_job(made.job_store_id)).child_ids == {"c"}

    async def test_an_update_of_an_old_version_is_refused(self, locator):
        async with two(locator) as (first, second):
            made = await first.create_job(JobDescription(job_name="a"))
            old = await second.load_job(made.job_store_id)
            await first.update_job(made)
            await first.update_job(made)
            with pytest.raises(ConcurrentFileModificationException):
                await second.update_job(old)
            await first.delete_job(made.job_store_id)
            with pytest.raises(NoSuchJobException):
                await first.update_job(made)

    async def test_of_many_updates_of_one_version_one_wins(self, locator):
        async with two(locator) as stores:
            made = await stores[0].create_job(JobDescription())
            loaded = [(s, await s.load_job(made.job_store_id)) for s in stores for _ in range(10)]
            done = await asyncio.gather(*(s.update_job(d) for s, d in loaded), return_exceptions=True)
            assert sum(d is None for d in done) == 1
            assert {type(d) for d in done if d is not None} == {ConcurrentFileModificationException}

    async def test_ids_are_real_and_taken_once(self, locator):
        async with two(locator) as (first, second):
            a, b = JobDescription(), JobDescription()
            await first.assign_job_id(a)
            await second.assign_job_id(b)
            assert a.job_store_id != b.job_store_id
            async with first.write_file_stream(a.job_store_id, cleanup=True) as (_, file):
                pass
            assert await second.get_file_job_association(file) == a.job_store_id
            await second.create_job(a)
            b.job_store_id = a.job_store_id
            with pytest.raises(ConcurrentFileModificationException):
                await first.create_job(b)
            await first.delete_job(a.job_store_id)
            assert not await second.file_exists(file)

    async def test_a_deleted_parent_leaves_its_children(self, locator):
        async with two(locator) as (first, _):
            child = await first.create_job(JobDescription(job_name="child"))
            parent = JobDescription(job_name="parent")
            parent.add_child(child.job_store_id)
            await first.create_job(parent)
            await first.delete_job(parent.job_store_id)
            assert await names(first) == ["child"]

    async def test_a_body_that_grows_and_shrinks(self, locator):
        async with two(locator) as (first, second):
            job = await first.create_job(JobDescription())
            for size in (500_000, 3):
                job.command = "x" * size
                await first.update_job(job)
                assert (await second.load_job(job.job_store_id)).command == job.command

    async def test_a_service_gets_its_signals_with_its_id(self, locator):
        async with two(locator) as (first, second):
            service = ServiceJobDescription(job_name="s")
            await first.assign_job_id(service)
            await first.create_job(service)
            found = await second.load_job(service.job_store_id)
            assert found.signals == service.signals
            assert all([await second.file_exists(file) for file in found.signals])
            await first.delete_job(service.job_store_id)
            assert await second.get_all_file_ids() == []

    # ----------------------------------------------------------------------------------------------------------- batch

    async def test_a_batch(self, locator):
        async with two(locator) as (first, second):
            old = await first.create_job(JobDescription(job_name="old"))
            position = first.chain.position.number
            async with first.batch():
                made = [await first.create_job(JobDescription(job_name=f"{i:03}")) for i in range(100)]
                made[7].job_name = "007 changed"
                await first.update_job(made[7])
                await first.delete_job(old.job_store_id)
                await first.delete_job(made[8].job_store_id)
                await first.set_root_job(made[0].job_store_id)
                assert await names(second) == ["old"]
            expected = [f"{i:03}" for i in range(100) if i not in (7, 8)] + ["007 changed"]
            assert await names(second) == sorted(expected)
            assert first.chain.position.number == position + 1
            assert (await second.load_root_job()).job_name == "000"
            await first.update_job(made[7])

    async def test_an_exception_inside_a_batch_leaves_none(self, locator):
        async with two(locator) as (first, second):
            with pytest.raises(ZeroDivisionError):
                async with first.batch():
                    await first.create_job(JobDescription())
                    raise ZeroDivisionError
            assert await names(second) == []

    async def test_a_refused_batch_leaves_none(self, locator):
        async with two(locator) as (first, second):
            made = await first.create_job(JobDescription(job_name="a"))
            stale = await first.load_job(made.job_store_id)
            await second.update_job(await second.load_job(made.job_store_id))
            with pytest.raises(ConcurrentFileModificationException):
                async with first.batch():
                    await first.create_job(JobDescription(job_name="b"))
                    await first.update_job(stale)
            assert await names(second) == ["a"]

    async def test_a_batch_is_of_its_own_tasks(self, locator):
        async with two(locator) as (first, second):
            inside, go_on = asyncio.Event(), asyncio.Event()

            async def batch():
                async with first.batch():
                    await asyncio.gather(*(first.create_job(JobDescription(job_name="inside")) for _ in range(3)))
                    inside.set()
                    await go_on.wait()

            task = asyncio.create_task(batch())
            await inside.wait()
            await first.create_job(JobDescription(job_name="outside"))
            assert await names(second) == ["outside"]
            go_on.set()
            await task
            assert await names(second) == ["inside"] * 3 + ["outside"]

    async def test_a_task_that_outlives_its_batch_is_on_its_own(self, locator):
        async with two(locator) as (first, second):
            ended = asyncio.Event()

            async def late():
                await ended.wait()
                await first.create_job(JobDescription(job_name="late"))

            async with first.batch():
                task = asyncio.create_task(late())
            ended.set()
            await task
            assert await names(second) == ["late"]

    # ---------------------------------------------------------------------------------------------------------- leader

    async def test_what_a_leader_says_of_itself(self, locator):
        async with two(locator) as (first, second):
            with pytest.raises(NoSuchFileException):
                await second.read_leader_pid()
            with pytest.raises(NoSuchFileException):
                await second.read_leader_node_id()
            assert await second.read_kill_flag() is False
            await first.write_leader_pid()
            await first.write_leader_node_id()
            await first.write_kill_flag(True)
            assert await second.read_leader_pid() > 0
            assert UUID(await second.read_leader_node_id())
            assert await second.read_kill_flag() is True
            await second.write_kill_flag()
            assert await first.read_kill_flag() is False

    async def test_the_whole_is_proved(self, locator):
        async with two(locator) as (first, second):
            for i in range(5):
                await (first if i % 2 else second).create_root_job(JobDescription(job_name=f"{i}"))
            await first.clean()
            assert await names(second) == ["4"]
            assert (await verify(table(first.chain.objects))).problems == []

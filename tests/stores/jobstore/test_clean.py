"""What `clean` makes of what a crash left: each thing it puts right, all at once, at any point of interruption, at length."""

from __future__ import annotations

import asyncio
import sys
from contextlib import asynccontextmanager, suppress
from uuid import uuid4

import pytest

from towline.stores import locate
from towline.stores.jobstore.abstract import AbstractJobStore
from towline.stores.jobstore.config import Config
from towline.stores.jobstore.description import JobDescription
from towline.stores.jobstore.errors import JobException
from towline.stores.jobstore.kinds import CheckpointJobDescription, ServiceJobDescription
from towline.stores.jobstore.records import JobPut
from towline.stores.objects.memory import MemoryObjects
from towline.stores.objects.wrappers import Fault, Faults, nth


@asynccontextmanager
async def new():
    name = uuid4().hex
    async with AbstractJobStore(f"memory:{name}") as store:
        await store.initialize(Config(retry_count=2))
        yield store
    locate._memories.pop(name, None)


async def job(store, name, *children, kind=JobDescription, body=True, owner=None, **attributes):
    """A stored job of this name, which is its id, too."""
    desc = kind(job_name=name)
    desc.job_store_id = name
    desc.command = f"run {name}" if body else None
    for child in children:
        desc.add_child(child)
    for key, value in attributes.items():
        setattr(desc, key, value)
    return await store.create_job(desc)


async def file(store, owner=None, cleanup=False):
    return str(await store.get_empty_file_store_id(owner, cleanup))


async def facts(store):
    """What a job store holds, for comparisons: versions and ids of new files aside."""
    jobs = {j.job_store_id: j async for j in store.jobs()}
    shown = {
        name: (
            j.command,
            sorted(j.successors_and_service_hosts()),
            j._remaining_try_count,
            j.files_to_delete,
            j.log_job_store_file_id,
        )
        for name, j in jobs.items()
    }
    signals = {name: len(set(j.signals)) for name, j in jobs.items() if isinstance(j, ServiceJobDescription)}
    return shown, signals, len(await store.get_all_file_ids())


async def test_without_a_root_there_is_nothing_to_clean():
    async with new() as store:
        await job(store, "a")
        with pytest.raises(JobException, match="no root"):
            await store.clean()
        await store.set_root_job("gone")
        with pytest.raises(JobException, match="gone"):
            await store.clean()
        assert await store.job_exists("a")


async def test_unreachable_jobs_go_with_the_files_they_were_about_to_delete():
    async with new() as store:
        gone, stays = await file(store), await file(store)
        mine = await file(store, "orphan", True)
        await job(store, "root", "child")
        await job(store, "child", "root")
        await job(store, "orphan", "orphans child", files_to_delete=[gone])
        await job(store, "orphans child")
        await store.set_root_job("root")
        assert (await store.clean()).job_name == "root"
        assert sorted([j.job_name async for j in store.jobs()]) == ["child", "root"]
        assert [await store.file_exists(f) for f in (gone, stays, mine)] == [False, True, False]


async def test_pending_deletions_are_replayed_and_tries_and_logs_reset():
    async with new() as store:
        gone, log = await file(store), await file(store)
        await job(store, "root", files_to_delete=[gone, "never there"], remaining_try_count=0, log_job_store_file_id=log)
        await store.set_root_job("root")
        root = await store.clean()
        assert (root.files_to_delete, root.remaining_try_count, root.log_job_store_file_id) == ([], 3, None)
        assert await store.get_all_file_ids() == []
        assert root.version == (await store.load_root_job()).version


async def test_finished_successors_are_forgotten_only_when_the_body_has_run():
    async with new() as store:
        await job(store, "root", "done", "open", body=False, service_tree={"gone": []})
        await job(store, "open", "not yet created")
        await store.set_root_job("root")
        root = await store.clean()
        assert list(root.successors_and_service_hosts()) == ["open"]
        assert (await store.load_job("open")).child_ids == {"not yet created"}


async def test_a_started_checkpoint_begins_anew_and_what_followed_goes():
    async with new() as store:
        gone, kept = await file(store), await file(store)
        await job(store, "root", "checkpoint", body=False)
        await job(
            store, "checkpoint", "inner", kind=CheckpointJobDescription, body=False, checkpoint="run it",
            checkpoint_files_to_delete=[kept],
        )  # fmt: skip
        await job(store, "inner", "leaf", kind=CheckpointJobDescription, body=False, checkpoint="run inner")
        await job(store, "leaf", files_to_delete=[gone])
        await job(store, "fresh", kind=CheckpointJobDescription)
        await store.set_root_job("root")
        await store.clean()
        assert sorted([j.job_name async for j in store.jobs()]) == ["checkpoint", "root"]
        checkpoint = await store.load_job("checkpoint")
        assert (checkpoint.command, checkpoint.child_ids) == ("run it", set())
        assert [await store.file_exists(f) for f in (gone, kept)] == [False, True]


async def test_signals_of_services_are_made_anew():
    async with new() as store:
        present = await file(store, "service", True)
        await job(store, "root", service_tree={"service": []})
        await job(store, "service", kind=ServiceJobDescription, signals=["lost", present, None])
        await store.set_root_job("root")
        await store.clean()
        service = await store.load_job("service")
        assert service.terminate_job_store_id == present
        assert len(set(service.signals)) == 3
        assert all([await store.file_exists(signal) for signal in service.signals])


async def test_old_logs_are_dropped():
    async with new() as store:
        await job(store, "root")
        await store.set_root_job("root")
        await store.write_logs("old")
        await store.clean()
        heard = []
        assert await store.read_logs(heard.append, read_all=True) == 0
        await store.write_logs("new")
        assert await store.read_logs(heard.append) == 1


async def test_files_that_were_to_go_with_a_job_that_never_was():
    async with new() as store:
        await job(store, "root")
        await store.set_root_job("root")
        lost, kept, mine = await file(store, "never", True), await file(store, "never"), await file(store, "root", True)
        await store.clean()
        assert sorted(await store.get_all_file_ids()) == sorted([kept, mine])
        assert not await store.file_exists(lost)


async def test_a_cache_is_brought_up_to_date():
    async with new() as store:
        await job(store, "root", "child", remaining_try_count=1)
        await job(store, "child")
        await job(store, "orphan")
        await store.set_root_job("root")
        cache = {j.job_store_id: j async for j in store.jobs()}
        child = cache["child"]
        await store.clean(cache)
        assert sorted(cache) == ["child", "root"]
        assert cache["child"] is child
        assert cache["root"].remaining_try_count == 3
        await store.update_job(cache["root"])
        await store.clean(jobCache=cache)


async def test_a_clean_store_is_left_as_it_is():
    async with new() as store:
        await job(store, "root", "child")
        await job(store, "child")
        await store.set_root_job("root")
        await store.clean()
        before = store.chain.position
        await store.clean()
        assert store.chain.position == before


async def test_somebody_who_changes_a_job_meanwhile_is_not_overwritten(monkeypatch):
    async with new() as store:
        await job(store, "root", remaining_try_count=0)
        await store.set_root_job("root")
        commit, others = store._parts.files.commit, []

        async def late(build):
            if not others:
                held = store.chain.state.job("root")
                desc = JobDescription.decode(held.body, "root", held.version)
                desc.job_name = "renamed"
                others.append(await store.chain.commit(lambda state: [JobPut("root", held.version, desc.encode())]))
            await commit(build)

        monkeypatch.setattr(store._parts.files, "commit", late)
        root = await store.clean()
        assert (root.job_name, root.remaining_try_count) == ("renamed", 3)


async def test_a_job_that_somebody_takes_up_meanwhile_stays(monkeypatch):
    """It could not be reached when the plan was made; before the commit the root gets it as a child."""
    async with new() as store:
        root, orphan = await job(store, "root"), await job(store, "orphan")
        await store.set_root_job("root")
        commit, others = store._parts.files.commit, []

        async def late(build):
            if not others:
                root.add_child("orphan")
                others.append(root)
                await store.chain.commit(lambda state: [JobPut(d.job_store_id, d.version, d.encode()) for d in (root, orphan)])
            await commit(build)

        monkeypatch.setattr(store._parts.files, "commit", late)
        await store.clean()
        assert await store.job_exists("orphan")


async def ruined(store):
    """A store in which everything is wrong that `clean` knows of."""
    await job(store, "root", "checkpoint", "gone", body=False, service_tree={"service": []}, remaining_try_count=0)
    await job(store, "checkpoint", "inner", kind=CheckpointJobDescription, body=False, checkpoint="run it")
    await job(store, "inner", files_to_delete=[await file(store)])
    await job(store, "service", kind=ServiceJobDescription)
    await job(store, "orphan", log_job_store_file_id=await file(store))
    await file(store, "never", True)
    await store.write_logs("old")
    await store.set_root_job("root")


class Crash(BaseException):
    """The process is gone."""


@pytest.mark.parametrize("done", [False, True])
async def test_it_may_die_anywhere_and_be_repeated(done):
    async with new() as whole:
        await ruined(whole)
        await whole.clean()
        wanted = await facts(whole)
    number, calls = 0, 0
    while number <= calls:
        number += 1
        name = uuid4().hex
        faults = locate._memories[name] = Faults(MemoryObjects(appendable=False), lambda call: None)
        store = AbstractJobStore(f"memory:{name}")
        await store.initialize(Config(retry_count=2))
        await ruined(store)
        before = len(faults.calls)
        faults.plan = nth(number, Fault(done=done, error=Crash()))
        with suppress(Crash, asyncio.CancelledError):
            await store.clean()
        faults.plan, calls = lambda call: None, len(faults.calls) - before
        async with AbstractJobStore(f"memory:{name}") as again:
            await again.resume()
            await again.clean()
            assert await facts(again) == wanted
            there = {m.key async for m in again.chain.objects.list("blobs/")}
            assert again.chain.state.blobs() == there - await orphans(again)
        locate._memories.pop(name)
    assert number > 10


async def orphans(store):
    """Blobs that a crash left without a record: for `gc`, not for `clean`."""
    return set((await store.gc(older_than_s=0.0)).orphans)


async def test_a_chain_of_children_needs_no_recursion_and_no_request_each():
    count = 3000
    async with new() as store:
        async with store.batch():
            for i in range(count):
                await job(store, f"{i}", f"{i + 1}", body=False, remaining_try_count=1)
            await job(store, f"{count}", kind=CheckpointJobDescription)
            await store.set_root_job("0")
        limit = sys.getrecursionlimit()
        before = store.chain.position.number
        sys.setrecursionlimit(200 + len(__import__("inspect").stack()))
        try:
            await store.clean()
        finally:
            sys.setrecursionlimit(limit)
        assert store.chain.position.number == before + 1
        assert len([j async for j in store.jobs() if j.remaining_try_count == 3]) == count + 1
        checkpoint = CheckpointJobDescription(job_name="top")
        checkpoint.checkpoint = "run"
        checkpoint.add_child("0")
        await store.create_root_job(checkpoint)
        await store.clean()
        assert [j.job_name async for j in store.jobs()] == ["top"]

"""Random lives of a job store: two instances and a dict that must agree with them, after every step."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from towline.stores import locate
from towline.stores.jobstore.abstract import AbstractJobStore
from towline.stores.jobstore.chain import Chain, Options, table
from towline.stores.jobstore.config import Config
from towline.stores.jobstore.description import JobDescription
from towline.stores.jobstore.errors import ConcurrentFileModificationException, JobException, NoSuchJobException
from towline.stores.journal.verify import verify
from towline.stores.objects.memory import MemoryObjects

which = st.integers(0, 1)
names = st.text("ab", max_size=3)


class Broken(Exception):
    """Inside a batch."""


class JobsMachine(RuleBasedStateMachine):
    """`model` is id to name. An object is stale when the model knows a later write than the object does."""

    ids = Bundle("ids")

    @initialize()
    def begin(self):
        self.runner = asyncio.Runner()
        self.name = uuid4().hex
        locate._memories[self.name] = MemoryObjects(appendable=False)
        self.stores = [self.made(), self.made()]
        self.run(self.stores[0].initialize(Config()))
        self.run(self.stores[1].resume())
        self.model, self.root, self.writes, self.held = {}, None, {}, {}

    def made(self):
        return AbstractJobStore(f"memory:{self.name}")

    def run(self, work):
        return self.runner.run(work)

    def wrote(self, job, name):
        self.model[job] = name
        self.writes[job] = self.writes.get(job, 0) + 1

    def keep(self, at, desc):
        """This instance's object of a job, as of the writes that there were."""
        self.held[at, desc.job_store_id] = (desc, self.writes.get(desc.job_store_id, 0))

    @rule(target=ids, at=which, name=names, root=st.booleans())
    def create(self, at, name, root):
        desc = JobDescription(job_name=name)
        self.run((self.stores[at].create_root_job if root else self.stores[at].create_job)(desc))
        self.wrote(desc.job_store_id, name)
        self.root = desc.job_store_id if root else self.root
        self.keep(at, desc)
        return desc.job_store_id

    @rule(at=which, job=ids)
    def load(self, at, job):
        if job in self.model:
            desc = self.run(self.stores[at].load_job(job))
            assert desc.job_name == self.model[job]
            self.keep(at, desc)
        else:
            with pytest.raises(NoSuchJobException):
                self.run(self.stores[at].load_job(job))

    @rule(at=which, job=ids, name=names)
    def update(self, at, job, name):
        if (at, job) not in self.held:
            return
        desc, known = self.held[at, job]
        desc.job_name = name
        if job not in self.model:
            with pytest.raises(NoSuchJobException):
                self.run(self.stores[at].update_job(desc))
        elif known != self.writes[job]:
            with pytest.raises(ConcurrentFileModificationException):
                self.run(self.stores[at].update_job(desc))
        else:
            self.run(self.stores[at].update_job(desc))
            self.wrote(job, name)
            self.keep(at, desc)

    @rule(at=which, job=ids)
    def delete(self, at, job):
        self.run(self.stores[at].delete_job(job))
        self.model.pop(job, None)

    @rule(at=which, made=st.lists(names, max_size=3), gone=st.lists(ids, max_size=2), fails=st.booleans())
    def batch(self, at, made, gone, fails):
        async def act():
            async with self.stores[at].batch():
                descs = [await self.stores[at].create_job(JobDescription(job_name=name)) for name in made]
                for job in gone:
                    await self.stores[at].delete_job(job)
                if fails:
                    raise Broken
            return descs

        if fails:
            with pytest.raises(Broken):
                self.run(act())
            return
        for desc in self.run(act()):
            self.wrote(desc.job_store_id, desc.job_name)
        for job in gone:
            self.model.pop(job, None)

    @rule(at=which)
    def snapshot(self, at):
        chain = self.stores[at].chain
        chain._options = Options(grace_s=0.0)
        self.run(chain.refresh())
        self.run(chain.snapshot())

    @rule(at=which)
    def reopen(self, at):
        self.run(self.stores[at].close())
        self.stores[at] = self.made()
        self.run(self.stores[at].resume())

    @rule(at=which)
    def root_job(self, at):
        if self.root in self.model:
            assert self.run(self.stores[at].load_root_job()).job_store_id == self.root
        else:
            with pytest.raises(JobException):
                self.run(self.stores[at].load_root_job())

    @invariant()
    def both_agree_with_the_model(self):
        async def all_of(store):
            return {job.job_store_id: job.job_name async for job in store.jobs()}

        for store in getattr(self, "stores", []):
            assert self.run(all_of(store)) == self.model

    def teardown(self):
        if not hasattr(self, "stores"):
            return
        objects = self.stores[0].chain.objects
        opened = self.run(Chain.open(objects))
        assert opened.state.facts() == self.run(self.stores[0].chain.refresh()).facts()
        assert self.run(verify(table(objects))).problems == []
        for store in self.stores:
            self.run(store.close())
        self.runner.close()
        locate._memories.pop(self.name, None)


TestJobs = JobsMachine.TestCase
TestJobs.settings = settings(max_examples=25, stateful_step_count=30, deadline=None)


async def test_a_large_iteration_lets_others_have_their_turn():
    async with AbstractJobStore(f"memory:{uuid4().hex}") as store:
        await store.initialize(Config())
        async with store.batch():
            for i in range(600):
                await store.create_job(JobDescription(job_name=f"{i}"))
        turns = 0

        async def other():
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        task = asyncio.create_task(other())
        await asyncio.sleep(0)
        before = turns
        jobs = store.jobs()
        await anext(jobs)
        started = turns
        assert len([job async for job in jobs]) == 599
        assert turns > started >= before
        task.cancel()


async def test_what_is_deleted_during_an_iteration_is_still_in_it():
    async with AbstractJobStore(f"memory:{uuid4().hex}") as store:
        await store.initialize(Config())
        made = [await store.create_job(JobDescription(job_name=f"{i}")) for i in range(3)]
        seen = []
        async for job in store.jobs():
            seen.append(job.job_name)
            await store.delete_job(made[2].job_store_id)
        assert seen == ["0", "1", "2"]

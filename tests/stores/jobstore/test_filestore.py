"""The contract of files on memory and on a local disk, and what only a disk can do; random operations against a dict."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from tests.kit.filestore_contract import FileStoreContract, opened, peek, read, write
from towline.stores.jobstore.chain import Chain
from towline.stores.jobstore.errors import NoSuchFileException
from towline.stores.jobstore.filestore import FileStore
from towline.stores.jobstore.records import Began, JobDeleted
from towline.stores.objects.local import LocalObjects
from towline.stores.objects.memory import MemoryObjects
from towline.stores.objects.wrappers import Counting


class TestMemory(FileStoreContract):
    part = 64 << 10

    @pytest.fixture
    def place(self):
        return MemoryObjects(appendable=False)


class TestBucket(FileStoreContract):
    """What a delete takes from a reader is gone there, as in a bucket."""

    part = 64 << 10

    @pytest.fixture
    def place(self):
        return Counting(MemoryObjects(appendable=False))


class TestLocal(FileStoreContract):
    @pytest.fixture
    def place(self, tmp_path):
        return LocalObjects(tmp_path / "place")

    async def test_a_public_url_leads_to_the_bytes(self, store):
        url = urlsplit(await store.get_public_url(await write(store, b"content")))
        assert Path(url2pathname(url.path)).read_bytes() == b"content"

    @pytest.mark.parametrize("allowed", [False, True])
    @pytest.mark.parametrize("executable", [False, True])
    async def test_hard_links_are_made_where_they_are_allowed(self, place, tmp_path, allowed, executable):
        async with opened(place, hardlinks=allowed) as store:
            name = await write(store, b"content", executable=executable)
            await store.read_file(name, tmp_path / "out")
            (key,) = await peek(place)
            assert os.path.samefile(place.root / key, tmp_path / "out") == allowed
            assert (tmp_path / "out").read_bytes() == b"content"
            assert bool(os.stat(tmp_path / "out").st_mode & 0o100) == executable
            if allowed:
                assert not os.stat(tmp_path / "out").st_mode & 0o222
            async with store.update_file_stream(name) as file:
                await file.write(b"other")
            assert (tmp_path / "out").read_bytes() == b"content"

    @pytest.mark.parametrize(("allowed", "asked"), [(True, True), (True, False), (False, True)])
    async def test_symlinks_are_made_where_both_sides_allow_them(self, place, tmp_path, allowed, asked):
        async with opened(place, symlinks=allowed) as store:
            name = await write(store, b"content", executable=True)
            (tmp_path / "out").write_bytes(b"in the way")
            await store.read_file(name, tmp_path / "out", symlink=asked)
            assert (tmp_path / "out").is_symlink() == (allowed and asked)
            assert (tmp_path / "out").read_bytes() == b"content"
            assert os.access(tmp_path / "out", os.X_OK)

    async def test_another_device_gets_a_copy(self, place, tmp_path, monkeypatch):
        def refuse(*args):
            raise OSError(18, "Invalid cross-device link")

        async with opened(place, hardlinks=True) as store:
            name = await write(store, b"content")
            with monkeypatch.context() as patch:
                patch.setattr(os, "link", refuse)
                await store.read_file(name, tmp_path / "out")
        assert (tmp_path / "out").read_bytes() == b"content"
        assert sorted(os.listdir(tmp_path)) == ["out", "place"]


CONTENT = st.binary(max_size=20)


class Machine(RuleBasedStateMachine):
    """Two instances on one place, and a dict."""

    files = Bundle("files")

    @initialize()
    def begin(self):
        self.loop = asyncio.new_event_loop()
        self.model: dict[str, bytes] = {}
        self.owners: dict[str, str] = {}
        self.place = MemoryObjects(appendable=False)
        self.stores = self.run(self._open())

    async def _open(self):
        first = await Chain.create(self.place, Began("w", b""))
        return [FileStore(self.place, first), FileStore(self.place, await Chain.open(self.place))]

    def run(self, work):
        return self.loop.run_until_complete(work)

    @rule(target=files, who=st.integers(0, 1), data=CONTENT, job=st.sampled_from(["", "a", "b"]), cleanup=st.booleans())
    def write(self, who, data, job, cleanup):
        name = str(self.run(write(self.stores[who], data, job_id=job or None, cleanup=cleanup)))
        assert name not in self.model
        self.model[name] = data
        if cleanup and job:
            self.owners[name] = job
        return name

    @rule(who=st.integers(0, 1), name=files, data=CONTENT, fails=st.booleans())
    def update(self, who, name, data, fails):
        async def update():
            async with self.stores[who].update_file_stream(name) as file:
                await file.write(data)
                if fails:
                    raise ZeroDivisionError

        try:
            self.run(update())
            assert name in self.model
            assert not fails
            self.model[name] = data
        except NoSuchFileException:
            assert name not in self.model
        except ZeroDivisionError:
            assert fails

    @rule(who=st.integers(0, 1), name=files)
    def delete(self, who, name):
        self.run(self.stores[who].delete_file(name))
        self.model.pop(name, None)

    @rule(who=st.integers(0, 1), job=st.sampled_from(["a", "b"]))
    def delete_job(self, who, job):
        self.run(self.stores[who].commit(lambda state: [JobDeleted(job)]))
        self.model = {name: data for name, data in self.model.items() if self.owners.get(name) != job}

    @rule(who=st.integers(0, 1), name=files)
    def read(self, who, name):
        store = self.stores[who]
        assert self.run(store.file_exists(name)) == (name in self.model)
        assert self.run(store.get_file_size(name)) == len(self.model.get(name, b""))
        if name in self.model:
            assert self.run(read(store, name)) == self.model[name]
        else:
            with pytest.raises(NoSuchFileException):
                self.run(read(store, name))

    @rule(who=st.integers(0, 1))
    def collect(self, who):
        assert self.run(self.stores[who].gc(dry_run=False, older_than_s=-1)).orphans == []

    @invariant()
    def all_of_it_and_nothing_else_is_there(self):
        if hasattr(self, "stores"):
            assert set(self.run(self.stores[1].get_all_file_ids())) == set(self.model)
            assert len(self.run(peek(self.place))) == len(self.model)

    def teardown(self):
        if hasattr(self, "stores"):
            for store in self.stores:
                self.run(store.close())
            self.loop.close()


Machine.TestCase.settings = settings(max_examples=20, stateful_step_count=20, deadline=None)
TestMachine = Machine.TestCase

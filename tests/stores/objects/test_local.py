"""Local disk: the contract, the model, and what only a disk has (modes, temp files, locks, full disks, NFS)."""

from __future__ import annotations

import asyncio
import errno
import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from tests.kit.objects_contract import ObjectsContract
from towline.stores.objects import local
from towline.stores.objects.base import ABSENT, OVERWRITE, NotFound, ObjectsError, PreconditionFailed
from towline.stores.objects.local import LocalObjects
from towline.stores.objects.memory import MemoryObjects
from towline.stores.objects.syscalls import Os


class TestLocal(ObjectsContract):
    @pytest.fixture(params=[True, False], ids=["disk", "nfs"])
    def objects(self, request, tmp_path):
        return LocalObjects(tmp_path / "deep" / "store", appendable=request.param)

    async def peek(self, objects, key):
        try:
            return (objects.root / key).read_bytes()
        except FileNotFoundError:
            return None


async def test_only_the_owner_can_look_in(tmp_path):
    old = os.umask(0)
    try:
        objects = LocalObjects(tmp_path / "s")
        await objects.put("a/b", b"1")
        await (await objects.appender("log", b"")).close()
    finally:
        os.umask(old)
    for path in [tmp_path / "s", *(tmp_path / "s").rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


async def test_reading_makes_nothing(tmp_path):
    objects = LocalObjects(tmp_path / "s")
    assert [m async for m in objects.list()] == []
    with pytest.raises(NotFound):
        await objects.get("k")
    await objects.delete_many(["k"])
    assert not (tmp_path / "s").exists()


async def test_nothing_is_left_behind(tmp_path):
    objects = LocalObjects(tmp_path)
    await objects.put("k", b"1")
    with pytest.raises(PreconditionFailed):
        await objects.put("k", b"2", ABSENT)
    appender = await objects.appender("log", b"1")
    await appender.close()
    assert list((tmp_path / ".tmp").iterdir()) == []


async def test_a_file_where_a_folder_is_needed_is_one_sentence(tmp_path):
    objects = LocalObjects(tmp_path)
    await objects.put("a", b"1")
    with pytest.raises(ObjectsError, match="is no folder"):
        await objects.put("a/b", b"2")


class Broken(Os):
    """Fails one call of one name."""

    def __init__(self, call, code):
        self.code = code
        self.armed = False
        real = getattr(super(), call)

        def act(*args):
            if self.armed:
                raise OSError(self.code, os.strerror(self.code))
            return real(*args)

        setattr(self, call, act)


@pytest.mark.parametrize(
    ("call", "code", "says"),
    [
        ("write", errno.ENOSPC, "the disk is full"),
        ("fsync", errno.EIO, "input/output error"),
        ("create", errno.EACCES, "permission denied"),
        ("link", errno.EROFS, "read-only"),
        ("fsync_dir", errno.EIO, "input/output error"),
    ],
)
async def test_what_the_disk_refuses_is_said_and_leaves_no_temp_file(tmp_path, call, code, says):
    calls = Broken(call, code)
    objects = LocalObjects(tmp_path, calls=calls)
    await objects.put("before", b"1")
    calls.armed = True
    with pytest.raises(ObjectsError, match=says) as caught:
        await objects.put("k", b"2", ABSENT)
    assert "k" in str(caught.value)
    assert list((tmp_path / ".tmp").iterdir()) == []


async def test_after_a_failed_fsync_an_appender_is_dead_and_fsync_is_not_tried_again(tmp_path):
    calls = Broken("fsync", errno.EIO)
    objects = LocalObjects(tmp_path, calls=calls)
    appender = await objects.appender("log", b"head")
    calls.armed = True
    with pytest.raises(ObjectsError, match="input/output"):
        await appender.append(b"1")
    calls.armed = False
    size = (tmp_path / "log").stat().st_size
    with pytest.raises(ObjectsError, match="earlier append failed"):
        await appender.append(b"2")
    assert (tmp_path / "log").stat().st_size == size


async def test_short_writes_are_finished(tmp_path):
    class Slow(Os):
        def write(self, fd, data):
            return os.write(fd, bytes(data[0][:3]))

    objects = LocalObjects(tmp_path, calls=Slow())
    await objects.put("k", [b"0123456789", b"abcde"])
    assert (tmp_path / "k").read_bytes() == b"0123456789abcde"


def a_dead_pid():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


async def test_temp_files_of_the_dead_are_reaped_and_those_of_the_living_stay(tmp_path):
    temp = tmp_path / ".tmp"
    temp.mkdir(mode=0o700)
    dead = a_dead_pid()
    machine, boot, namespace = local._here().split(".")
    names = {
        f"{machine}.{boot}.{namespace}.{dead}.0": False,
        f"{machine}.{boot}.{namespace}.{os.getppid()}.0": True,
        f"{machine}.{'0' * 12}.{namespace}.{os.getpid()}.0": False,  # before a reboot
        f"{'0' * 12}.{'0' * 12}.1.{dead}.0": True,  # another machine
        f"{machine}.{boot}.1.{dead}.0": True,  # another container
        "something-else": True,
    }
    for name in names:
        (temp / name).write_bytes(b"")
    old = temp / f"{'0' * 12}.{'0' * 12}.1.1.1"
    old.write_bytes(b"")
    os.utime(old, (1, 1))
    await LocalObjects(tmp_path).put("k", b"1")
    assert {n: (temp / n).exists() for n in names} == names
    assert not old.exists()


async def test_two_processes_lose_no_step(tmp_path):
    """Compare-and-replace is one act across processes: the lock is real."""
    objects = LocalObjects(tmp_path)
    await objects.put("n", b"0")
    script = (
        "import asyncio, sys\n"
        "from towline.stores.objects.local import LocalObjects\n"
        "from towline.stores.objects.base import PreconditionFailed\n"
        "async def main():\n"
        "    o = LocalObjects(sys.argv[1]); done = 0\n"
        "    while done < 60:\n"
        "        v = (await o.head('n')).version; n = int(await o.get('n'))\n"
        "        if (await o.head('n')).version != v: continue\n"
        "        try: await o.put('n', b'%d' % (n + 1), v)\n"
        "        except PreconditionFailed: continue\n"
        "        done += 1\n"
        "asyncio.run(main())\n"
    )
    running = [await asyncio.create_subprocess_exec(sys.executable, "-c", script, str(tmp_path)) for _ in range(2)]
    assert [await p.wait() for p in running] == [0, 0]
    assert await objects.get("n") == b"120"


KEYS = st.sampled_from(["a", "b", "c/x", "c/y", "c-", "c/d/e"])


class AgainstTheModel(RuleBasedStateMachine):
    """Random operations on a disk and on the model must end alike."""

    def __init__(self):
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.real, self.model = LocalObjects(self.folder.name), MemoryObjects()
        self.versions = {}
        self.loop = asyncio.new_event_loop()

    def teardown(self):
        self.loop.close()
        self.folder.cleanup()

    def both(self, act):
        """Outcomes on both, errors by their type."""

        async def one(objects):
            try:
                return await act(objects)
            except ObjectsError as e:
                return type(e)

        real, model = (self.loop.run_until_complete(one(o)) for o in (self.real, self.model))
        return real, model

    @rule(key=KEYS, data=st.binary(max_size=9), when=st.sampled_from([OVERWRITE, ABSENT]))
    def put(self, key, data, when):
        real, model = self.both(lambda o: o.put(key, data, when))
        assert isinstance(real, type) == isinstance(model, type)
        if isinstance(real, type):
            assert real is model
        else:
            self.versions.setdefault(key, []).append((real, model))

    @rule(key=KEYS, data=st.binary(max_size=9), which=st.integers(0, 5))
    def replace(self, key, data, which):
        known = self.versions.get(key)
        if known:
            real, model = known[-1 - which % len(known)]
            outcome = self.both(lambda o: o.put(key, data, real if o is self.real else model))
            assert (outcome[0] is PreconditionFailed) == (outcome[1] is PreconditionFailed)
            if outcome[0] is not PreconditionFailed:
                known.append(outcome)

    @rule(key=KEYS, start=st.integers(0, 10), length=st.none() | st.integers(0, 10))
    def get(self, key, start, length):
        real, model = self.both(lambda o: o.get(key, start, length))
        assert real == model

    @rule(keys=st.lists(KEYS, max_size=3))
    def delete(self, keys):
        self.both(lambda o: o.delete_many(keys))

    @rule(prefix=st.sampled_from(["", "c", "c/", "c/d"]), after=st.just("") | KEYS)
    def list(self, prefix, after):
        async def found(objects):
            return [(m.key, m.size) async for m in objects.list(prefix, after)]

        real, model = self.both(found)
        assert real == model


TestAgainstTheModel = AgainstTheModel.TestCase
TestAgainstTheModel.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)


async def test_versions_carry_a_time_that_never_comes_twice(tmp_path, monkeypatch):
    """Inode numbers are used again, and a kernel's clock stands still for milliseconds."""
    times = [local._unique_ns() for _ in range(1000)]
    assert times == sorted(set(times))
    monkeypatch.setattr(local, "_unique_ns", lambda: 1234567890123456789)
    await LocalObjects(tmp_path).put("k", b"1")
    assert (tmp_path / "k").stat().st_mtime_ns == 1234567890123456789


def test_the_url_is_the_absolute_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert LocalObjects("here").url == str(Path(tmp_path) / "here")

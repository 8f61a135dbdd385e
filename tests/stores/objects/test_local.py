"""Local disk: the contract, the model, and what only a disk has (modes, temp files, locks, full disks, NFS)."""

from __future__ import annotations

import asyncio
import errno
import os
import random
import stat
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from tests.kit.disk_shim import DiskShim, PowerLoss
from tests.kit.objects_contract import ObjectsContract, collected, content, odd_pieces
from tests.kit.objects_machine import SETTINGS, ObjectsMachine
from towline.stores.objects import drafts
from towline.stores.objects.base import ABSENT, NotFound, ObjectsError, PreconditionFailed
from towline.stores.objects.local import LocalObjects
from towline.stores.objects.syscalls import Os


class TestLocal(ObjectsContract):
    @pytest.fixture(params=[True, False], ids=["disk", "nfs"])
    def objects(self, request, tmp_path):
        objects = LocalObjects(tmp_path / "deep" / "store", appendable=request.param)
        objects.part_bytes, objects.copy_bytes = 100, 150
        return objects

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


class AgainstTheModel(ObjectsMachine):
    def make(self):
        self.folder = tempfile.TemporaryDirectory()
        objects = LocalObjects(self.folder.name)
        objects.part_bytes = 5
        return objects

    def teardown(self):
        super().teardown()
        self.folder.cleanup()


TestAgainstTheModel = AgainstTheModel.TestCase
TestAgainstTheModel.settings = SETTINGS


async def test_versions_carry_a_time_that_never_comes_twice(tmp_path, monkeypatch):
    """Inode numbers are used again, and a kernel's clock stands still for milliseconds."""
    monkeypatch.setattr(drafts, "unique_ns", lambda: 1234567890123456789)
    await LocalObjects(tmp_path).put("k", b"1")
    assert (tmp_path / "k").stat().st_mtime_ns == 1234567890123456789


def test_the_url_is_the_absolute_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert LocalObjects("here").url == str(Path(tmp_path) / "here")


# --------------------------------------------------------------------------------------------------------- streams


def open_files():
    return sorted(os.listdir("/proc/self/fd"))


async def test_streams_leave_no_file_open(tmp_path):
    objects = LocalObjects(tmp_path)
    objects.part_bytes = 10
    await objects.upload("k", odd_pieces(content(100), 10))
    before = open_files()
    pieces = objects.download("k")
    await anext(pieces)
    assert len(open_files()) == len(before) + 1
    await pieces.aclose()
    with pytest.raises(NotFound):
        await anext(objects.download("other"))
    await objects.copy(objects, "k", "k2")

    async def fail():
        yield bytes(50)
        raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011 - our own
        await objects.upload("k3", fail())
    for act in (lambda: objects.upload("k3", odd_pieces(content(100), 10)), lambda: objects.copy(objects, "k", "k3")):
        for steps in range(40):  # cancelled at every point
            task = asyncio.create_task(act())
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
    assert open_files() == before
    assert list((tmp_path / ".tmp").iterdir()) == []


async def test_an_upload_holds_few_pieces(tmp_path):
    """A piece is made when there is room for it, not before."""
    gate = threading.Event()

    class Slow(Os):
        def write(self, fd, data):
            gate.wait()
            return super().write(fd, data)

    objects = LocalObjects(tmp_path, calls=Slow())
    objects.part_bytes = 10
    made = []

    async def pieces():
        for number in range(100):
            made.append(number)
            yield bytes(10)

    upload = asyncio.create_task(objects.upload("k", pieces()))
    while len(made) < 2:
        await asyncio.sleep(0)
    for _ in range(100):
        await asyncio.sleep(0)
    assert len(made) <= 3
    gate.set()
    await upload
    assert (tmp_path / "k").stat().st_size == 1000


@pytest.mark.parametrize("more", [True, False], ids=["with more to write", "waiting for more"])
async def test_a_cancelled_upload_is_over_when_its_thread_is(tmp_path, more):
    """The thread writes to a descriptor that must not be closed, and given to another file, under its hands."""
    gate, writing, ended = threading.Event(), asyncio.Event(), []
    loop = asyncio.get_running_loop()

    class Slow(Os):
        def write(self, fd, data):
            loop.call_soon_threadsafe(writing.set)
            gate.wait()
            ended.append(super().write(fd, data))
            return ended[-1]

    objects = LocalObjects(tmp_path, calls=Slow())
    objects.part_bytes = 10

    async def pieces():
        yield bytes(10)
        while more:
            yield bytes(10)
        await asyncio.Event().wait()

    upload = asyncio.create_task(objects.upload("k", pieces()))
    await writing.wait()
    upload.cancel()
    for _ in range(20):
        await asyncio.sleep(0)
    assert not upload.done()
    gate.set()
    with pytest.raises(asyncio.CancelledError):
        await upload
    assert ended
    assert list((tmp_path / ".tmp").iterdir()) == []


async def test_what_a_killed_process_was_uploading_is_listed_and_reaped(tmp_path):
    script = (
        "import asyncio, sys\n"
        "from towline.stores.objects.local import LocalObjects\n"
        "async def pieces():\n"
        "    yield bytes(5 << 20)\n"
        "    yield bytes(5 << 20)\n"
        "    print('going', flush=True)\n"
        "    await asyncio.Event().wait()\n"
        "asyncio.run(LocalObjects(sys.argv[1]).upload('files/a/k', pieces()))\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"going\n"
    process.kill()
    process.wait()
    process.stdout.close()
    objects = LocalObjects(tmp_path)
    assert [u.key async for u in objects.unfinished("files/")] == ["files/a/k"]
    assert [m async for m in objects.list()] == []
    await objects.put("k", b"1")
    assert [u async for u in objects.unfinished()] == []


async def test_a_download_of_what_grows_ends_where_it_began(tmp_path):
    objects = LocalObjects(tmp_path)
    objects.part_bytes = 10
    appender = await objects.appender("log", bytes(25))
    pieces = objects.download("log")
    first = await anext(pieces)
    await appender.append(b"more")
    await appender.close()
    assert first + await collected(pieces) == bytes(25)


async def test_a_download_of_what_shrinks_is_an_error(tmp_path):
    objects = LocalObjects(tmp_path)
    objects.part_bytes = 10
    await objects.put("k", bytes(100))
    pieces = objects.download("k")
    await anext(pieces)
    os.truncate(tmp_path / "k", 15)
    with pytest.raises(ObjectsError, match="cut short"):
        await collected(pieces)


async def test_copies_between_file_systems(tmp_path):
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        here, there = LocalObjects(tmp_path), LocalObjects(folder)
        await here.put("k", content(5000))
        await there.copy(here, "k", "k")
        assert (Path(folder) / "k").read_bytes() == content(5000)


async def test_uploads_and_copies_are_durable_when_they_return(tmp_path):
    """R11, with the disk cut at every call."""
    for cut in range(1, 80):
        root = tmp_path / f"disk-{cut}"
        root.mkdir()
        shim = DiskShim(root, random.Random(cut))
        shim.cut_at = cut
        objects, done = LocalObjects(root / "s", calls=shim), []
        objects.part_bytes = objects.copy_bytes = 600
        try:
            await objects.upload("a/k", odd_pieces(content(2000), 600))
            done.append("a/k")
            await objects.copy(objects, "a/k", "b/k")
            done.append("b/k")
        except PowerLoss:
            pass
        after = tmp_path / f"after-{cut}"
        shim.survivors(after)
        found = LocalObjects(after / "s")
        for key in ("a/k", "b/k"):
            try:
                assert await found.get(key) == content(2000)
            except NotFound:
                assert key not in done
        if len(done) == 2:
            return
    raise AssertionError("the power was always cut before the end")


def test_urls_of_files_are_escaped(tmp_path):
    assert asyncio.run(LocalObjects(tmp_path / "a b#ä").sign("k")).endswith("/a%20b%23%C3%A4/k")

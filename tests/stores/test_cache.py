"""A node's cache: bounded at every moment, fetched once by many, believed only when proved, never the reason of a failure."""

from __future__ import annotations

import asyncio
import errno
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.kit.book import uuid_of
from towline.engine.errors import CorruptionError, UsageError
from towline.stores import background, cache, fileformat, remotefiles
from towline.stores.cache import PART, Cache, name_of
from towline.stores.fileformat import Sealed
from towline.stores.files import Files, load, new_key, reference_in, store_output
from towline.stores.objects.base import NotFound, ObjectsError
from towline.stores.objects.local import LocalObjects
from towline.stores.objects.memory import MemoryObjects
from towline.stores.objects.wrappers import REFUSED, Counting, Faults, nth


def key(number=1):
    return new_key(uuid_of(number), (1, 2))


@pytest.fixture
def bucket():
    return Counting(MemoryObjects(appendable=False))


@pytest.fixture
def node(tmp_path):
    return Cache(tmp_path / "cache")


def entries(node):
    return sorted(p.name for p in node.folder.iterdir() if p.name != "account") if node.folder.exists() else []


def used(node):
    return sum((node.folder / name).stat().st_size for name in entries(node))


def looked(node):
    """Bytes there are, while nobody else changes it."""
    with node._account():
        return used(node)


def account(node):
    return int((node.folder / "account").read_text())


def entry(node, ref):
    return node.folder / name_of(ref.key, Sealed(ref.size, ref.crc32c))


async def put(bucket, number, size=1000):
    return await Files(bucket).put_value(key(number), str(number).encode(), [bytes([number % 256]) * size])


# ---------------------------------------------------------------------------------------------------------- reading


async def test_a_file_is_fetched_once(bucket, node):
    ref = await put(bucket, 1)
    for _ in range(3):
        files = Files(bucket, cache=Cache(node.folder.parents[1]))
        header, (found,) = await files.get_value(ref)
        assert (header, found.to_pybytes()) == (b"1", b"\1" * 1000)
    assert bucket.tally.requests == {"put": 1, "get": 1}
    assert used(node) == account(node) == ref.size


@pytest.mark.parametrize("size", [0, 1, 700, 1000, 5000])
async def test_every_way_of_reading_goes_through_it(bucket, node, tmp_path, size, monkeypatch):
    monkeypatch.setattr(fileformat, "PART", 1000)
    files, data = Files(bucket, cache=node), os.urandom(size)
    (tmp_path / "f").write_bytes(data)
    ref = await files.put_file(key(), tmp_path / "f")
    await files.read_file(ref, tmp_path / "g")
    bucket.tally.requests.clear()
    await files.read_file(ref, tmp_path / "g")
    assert (tmp_path / "g").read_bytes() == data
    assert await files.read_range(ref, size // 2, 10) == data[size // 2 :][:10]
    assert not bucket.tally.requests


def test_workers_read_without_an_event_loop(bucket, node, monkeypatch):
    files = Files(bucket, cache=node)
    data = store_output(files, (b"\x90", [bytes(100_000)]), uuid_of(1), (1, 1))
    first = load(files, data)
    monkeypatch.setattr(background, "run", None)
    assert load(files, data) == first
    assert entry(node, reference_in(data)).exists()


async def test_a_local_store_needs_none(node, tmp_path):
    files = Files(LocalObjects(tmp_path / "s"), cache=node)
    await files.get_value(await files.put_value(key(), b"h"))
    assert not node.folder.exists()


async def test_what_is_mapped_stays_readable_when_it_is_evicted(bucket, tmp_path):
    node = Cache(tmp_path, bytes_max=15_000)
    files = Files(bucket, cache=node)
    first = await put(bucket, 1, 10_000)
    _, (found,) = await files.get_value(first)
    await files.get_value(await put(bucket, 2, 10_000))
    assert not entry(node, first).exists()
    assert found.to_pybytes() == b"\1" * 10_000


async def test_it_belongs_to_the_user_alone(bucket, node):
    old = os.umask(0)
    try:
        await Files(bucket, cache=node).get_value(await put(bucket, 1))
    finally:
        os.umask(old)
    for path in (node.folder.parent, node.folder):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert {stat.S_IMODE(p.stat().st_mode) for p in node.folder.iterdir()} == {0o600}


# ------------------------------------------------------------------------------------------------------------ damage


@pytest.mark.parametrize("how", ["flip", "cut", "empty", "longer"])
@pytest.mark.parametrize("fresh", [True, False], ids=["a new process", "this process"])
async def test_a_damaged_entry_is_fetched_again(bucket, node, how, fresh, caplog):
    files = Files(bucket, cache=node)
    ref = await put(bucket, 1)
    await files.get_value(ref)
    path = entry(node, ref)
    data = path.read_bytes()
    path.write_bytes({"flip": b"x" + data[1:], "cut": data[:-1], "empty": b"", "longer": data + b"1"}[how])
    if fresh:
        files = Files(bucket, cache=Cache(node.folder.parents[1]))
    assert (await files.get_value(ref))[1][0].to_pybytes() == b"\1" * 1000
    assert path.read_bytes() == data
    assert bucket.tally.requests["get"] == 2
    assert "damaged" in caplog.text


async def test_damage_in_the_store_is_the_callers(bucket, node):
    ref = await put(bucket, 1)
    bucket.inner._held[ref.key].data = b"!" + bucket.inner._held[ref.key].data[1:]
    with pytest.raises(CorruptionError):
        await Files(bucket, cache=node).get_value(ref)
    assert entries(node) == []
    assert account(node) == 0


async def test_what_is_not_in_the_store(bucket, node):
    ref = await put(bucket, 1)
    await bucket.delete_many([ref.key])
    with pytest.raises(NotFound):
        await Files(bucket, cache=node).get_value(ref)
    assert entries(node) == []


async def test_an_entry_is_proved_once_by_a_process(bucket, node, monkeypatch):
    checks = []
    monkeypatch.setattr(fileformat, "check_parts", lambda *args: checks.append(args))
    ref = await put(bucket, 1)
    for _ in range(3):
        await Files(bucket, cache=node).get_value(ref)
    assert len(checks) == 1  # when it was fetched
    other = Files(bucket, cache=Cache(node.folder.parents[1]))
    for _ in range(3):
        await other.get_value(ref)
    assert len(checks) == 2


# -------------------------------------------------------------------------------------------------------------- room


async def test_what_was_not_used_for_longest_goes_first(bucket, tmp_path):
    refs = [await put(bucket, number) for number in range(6)]
    size = refs[0].size
    node = Cache(tmp_path, bytes_max=int(5.5 * size))
    files = Files(bucket, cache=node)
    for ref in refs[:5]:
        await files.get_value(ref)
    for number in (0, 2):
        await files.get_value(refs[number])
    await files.get_value(refs[5])
    held = [number for number, ref in enumerate(refs) if entry(node, ref).exists()]
    assert held == [0, 2, 4, 5]  # room for one, and a little more at once
    assert used(node) == account(node) == 4 * size


async def test_the_bound_holds_at_every_moment(bucket, tmp_path):
    refs = [await put(bucket, number, 500 + 37 * number % 900) for number in range(60)]
    node = Cache(tmp_path, bytes_max=6000)
    seen = []

    class Watched(Counting):
        async def get(self, name, start=0, length=None):
            seen.append(looked(node))
            data = await super().get(name, start, length)
            await asyncio.sleep(0)
            seen.append(looked(node))
            return data

    files = Files(Watched(bucket.inner), cache=node)
    for begin in range(0, 60, 4):
        await asyncio.gather(*(files.get_value(ref) for ref in refs[begin : begin + 4]))
    assert 4000 < max(seen) <= 6000
    assert used(node) == account(node) <= 6000


async def test_what_is_too_large_is_read_without(bucket, tmp_path):
    node = Cache(tmp_path, bytes_max=500)
    ref = await put(bucket, 1)
    assert (await Files(bucket, cache=node).get_value(ref))[0] == b"1"
    assert entries(node) == []


async def test_a_lost_account_is_made_anew(bucket, node):
    files = Files(bucket, cache=node)
    await files.get_value(await put(bucket, 1))
    size = account(node)
    for text in (None, "", "nonsense", "-1"):
        (node.folder / "account").unlink() if text is None else (node.folder / "account").write_text(text)
        await files.get_value(await put(bucket, 2))
        assert account(node) == used(node) > size


# --------------------------------------------------------------------------------------------------------- trouble


async def test_a_fetch_that_fails_leaves_nothing(bucket, node):
    ref = await put(bucket, 1)
    files = Files(Faults(bucket, nth(1, REFUSED)), cache=node)
    with pytest.raises(ObjectsError):
        await files.get_value(ref)
    assert (entries(node), account(node)) == ([], 0)
    assert (await files.get_value(ref))[0] == b"1"


async def test_a_fetch_that_is_cancelled_leaves_nothing(bucket, node):
    ref = await put(bucket, 1)
    reading = asyncio.Event()

    class Stuck(Counting):
        async def get(self, *args):
            reading.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(Files(Stuck(bucket), cache=node).get_value(ref))
    await reading.wait()
    assert entries(node) == [entry(node, ref).name + PART]
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (entries(node), account(node)) == ([], 0)


@pytest.mark.parametrize("why", ["full", "a file stands there", "another's folder", "a link"])
async def test_trouble_with_its_disk_is_no_ones(bucket, node, why, monkeypatch, caplog):
    if why == "full":

        def full(fd, data, at):
            raise OSError(errno.ENOSPC, "full")

        monkeypatch.setattr(remotefiles, "pwrite_all", full)
    elif why == "another's folder":
        node.folder.mkdir(parents=True)
        node.folder.chmod(0o755)
    elif why == "a link":
        node.folder.parent.mkdir(parents=True, mode=0o700)
        (node.folder.parents[1] / "elsewhere").mkdir(mode=0o700)
        node.folder.symlink_to(node.folder.parents[1] / "elsewhere")
    else:
        node.folder.parents[1].write_text("")
    files = Files(bucket, cache=node)
    for _ in range(2):
        assert (await files.get_value(await put(bucket, 1)))[0] == b"1"
    assert caplog.text.count("cannot be used") == 1
    assert node.find(key(), Sealed(1, 1), "x") is None


# ---------------------------------------------------------------------------------------------------------- others


async def test_many_who_want_one_file_fetch_it_once(bucket, node):
    ref = await put(bucket, 1)
    gate, waiting = asyncio.Event(), asyncio.Event()

    class Slow(Counting):
        async def get(self, name, start=0, length=None):
            waiting.set()
            await gate.wait()
            return await super().get(name, start, length)

    slow = Slow(bucket.inner)
    tasks = [asyncio.create_task(Files(slow, cache=Cache(node.folder.parents[1])).get_value(ref)) for _ in range(8)]
    await waiting.wait()
    gate.set()
    assert [header for header, _ in await asyncio.gather(*tasks)] == [b"1"] * 8
    assert slow.tally.requests == {"get": 1}
    assert used(node) == account(node) == ref.size
    assert entries(node) == [entry(node, ref).name]


def test_threads_too(bucket, node):
    ref = asyncio.run(put(bucket, 1))
    files, found = Files(bucket, cache=node), []
    threads = [threading.Thread(target=lambda: found.append(files.get_value_sync(ref)[0])) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [b"1"] * 8
    assert bucket.tally.requests["get"] == 1


SCRIPT = """
import asyncio, sys
from towline.stores.cache import Cache
from towline.stores.files import FileRef, Files
from towline.stores.objects.local import LocalObjects
from towline.stores.objects.wrappers import Wrapped

class Far(Wrapped):
    async def get(self, key, start=0, length=None):
        print("get", flush=True)
        if sys.argv[4] == "stuck":
            await asyncio.Event().wait()
        sys.stdin.readline()
        return await super().get(key, start, length)

async def main():
    store, base, ref = sys.argv[1:4]
    key, size, crc = ref.split(",")
    files = Files(Far(LocalObjects(store)), cache=Cache(base))
    header, (buffer,) = await files.get_value(FileRef(key, int(size), int(crc)))
    print(header.decode(), buffer.size, flush=True)

asyncio.run(main())
"""


@pytest.fixture
def process(tmp_path):
    """Starts a process that reads a file of a distant store; it says when it fetches, and goes on at a line."""
    started = []

    def start(ref, mode="go"):
        arguments = [str(tmp_path / "store"), str(tmp_path / "cache"), f"{ref.key},{ref.size},{ref.crc32c}", mode]
        found = subprocess.Popen(
            [sys.executable, "-c", SCRIPT, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        started.append(found)
        return found

    yield start
    for found in started:
        found.kill()
        found.communicate()


async def test_of_two_processes_one_fetches(tmp_path, process, node):
    ref = await put(LocalObjects(tmp_path / "store"), 7)
    pair = [process(ref), process(ref)]
    lines = [asyncio.create_task(asyncio.to_thread(p.stdout.readline)) for p in pair]
    done, _ = await asyncio.wait(lines, return_when=asyncio.FIRST_COMPLETED)
    assert {task.result() for task in done} == {"get\n"}
    assert entries(node) == [entry(node, ref).name + PART]
    first = lines.index(done.pop())
    pair[first].stdin.write("go\n")
    pair[first].stdin.flush()
    assert await lines[1 - first] == "7 1000\n"  # without having fetched
    assert await asyncio.to_thread(pair[first].stdout.readline) == "7 1000\n"
    assert entries(node) == [entry(node, ref).name]
    assert account(node) == ref.size


async def test_what_a_killed_process_was_fetching_is_taken_over(tmp_path, process, node):
    store = LocalObjects(tmp_path / "store")
    ref, other = await put(store, 7), await put(store, 8)
    for wanted in (ref, other):
        dead = process(wanted, "stuck")
        assert await asyncio.to_thread(dead.stdout.readline) == "get\n"
        dead.kill()
        dead.wait()
    assert len(entries(node)) == 2
    assert account(node) == used(node) == ref.size + other.size
    counting = Counting(store)
    assert (await Files(counting, cache=node).get_value(ref))[0] == b"7"
    assert entry(node, ref).exists()
    assert account(node) == used(node) == ref.size + other.size
    # the other is rubbish, and the first to go when room is needed
    small = Cache(tmp_path / "cache", bytes_max=int(2.5 * ref.size))
    await Files(counting, cache=small).get_value(await put(store, 9))
    assert not (node.folder / (entry(node, other).name + PART)).exists()
    assert entry(node, ref).exists()
    assert account(node) == used(node)


async def test_what_a_living_process_fetches_is_not_swept_up(tmp_path, process, node):
    store = LocalObjects(tmp_path / "store")
    ref, other = await put(store, 7), await put(store, 8)
    busy = process(ref)
    assert await asyncio.to_thread(busy.stdout.readline) == "get\n"
    small = Cache(tmp_path / "cache", bytes_max=int(1.5 * ref.size))
    assert (await Files(Counting(store), cache=small).get_value(other))[0] == b"8"  # without the cache: no room
    assert entries(node) == [entry(node, ref).name + PART]
    busy.stdin.write("go\n")
    busy.stdin.flush()
    assert await asyncio.to_thread(busy.stdout.readline) == "7 1000\n"
    assert entries(node) == [entry(node, ref).name]


# ----------------------------------------------------------------------------------------------------- environment


def test_the_environment_says_where_and_how_much(monkeypatch, tmp_path):
    for name in ("TOWLINE_CACHE_DIR", "TOWLINE_CACHE_BYTES", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache.default_base() == tmp_path / ".cache"
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert cache.default_base() == Path("/xdg")
    monkeypatch.setenv("TOWLINE_CACHE_DIR", str(tmp_path / "here"))
    monkeypatch.setenv("TOWLINE_CACHE_BYTES", "123")
    node = cache.of_this_node()
    assert node.bytes_max == 123
    assert node.folder.is_relative_to(tmp_path / "here" / f"towline-{os.geteuid()}")
    monkeypatch.setenv("TOWLINE_CACHE_BYTES", "0")
    assert cache.of_this_node() is None
    monkeypatch.setenv("TOWLINE_CACHE_BYTES", "10 GB")
    with pytest.raises(UsageError, match="TOWLINE_CACHE_BYTES"):
        cache.of_this_node()
    assert list(tmp_path.iterdir()) == []

"""Paths in and out: whole or not at all, short reads and clones included."""

from __future__ import annotations

import os

import pytest

from towline.engine.errors import CorruptionError
from towline.stores.jobstore import ondisk, streams
from towline.stores.jobstore.streams import Blob, Content
from towline.stores.objects.base import ObjectsError
from towline.stores.objects.local import LocalObjects
from towline.stores.objects.memory import MemoryObjects
from towline.stores.objects.wrappers import LOST_AFTER, LOST_BEFORE, Faults, nth

PART = 1000
KEY = "blobs/00/x"


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr(streams, "PART", PART)
    monkeypatch.setattr(ondisk, "PART", PART)


@pytest.fixture(params=["memory", "local"])
def objects(request, tmp_path):
    return MemoryObjects() if request.param == "memory" else LocalObjects(tmp_path / "store")


async def stored(objects, data):
    await objects.put(KEY, data)
    sums = streams.Checksums()
    for at in range(0, len(data), PART):
        sums.add(data[at : at + PART])
    return Blob(objects, KEY, sums.content())


@pytest.mark.parametrize("size", [0, 1, PART - 1, PART, PART + 1, 100 * PART])
async def test_in_and_out(objects, tmp_path, size):
    data = os.urandom(size)
    (tmp_path / "in").write_bytes(data)
    content, executable = await ondisk.upload(objects, KEY, tmp_path / "in")
    assert (content.size, executable) == (size, False)
    assert await objects.get(KEY) == data
    await ondisk.write_to(Blob(objects, KEY, content), tmp_path / "out", True)
    assert (tmp_path / "out").read_bytes() == data
    assert os.access(tmp_path / "out", os.X_OK)


class Dribble:
    """A file that gives a few bytes at a time."""

    def __init__(self, data):
        self.data = data

    def read(self, n):
        got, self.data = self.data[: min(n, 7)], self.data[min(n, 7) :]
        return got


def test_short_reads_make_whole_parts():
    data = os.urandom(2 * PART + 5)
    sums = streams.Checksums()
    assert b"".join(ondisk._parts_blocking(Dribble(data), sums)) == data
    assert sums.content().size == len(data)
    assert len(sums.content().crcs) == 12


@pytest.mark.parametrize("at", [0, PART, 3 * PART - 1])
async def test_a_damaged_blob_leaves_the_path_as_it_was(objects, tmp_path, at):
    data = bytearray(os.urandom(3 * PART))
    blob = await stored(objects, bytes(data))
    data[at] ^= 1
    await objects.put(KEY, bytes(data))
    (tmp_path / "out").write_bytes(b"before")
    with pytest.raises(CorruptionError, match=f"offset {at // PART * PART} "):
        await ondisk.write_to(blob, tmp_path / "out", False)
    assert (tmp_path / "out").read_bytes() == b"before"
    assert not [name for name in os.listdir(tmp_path) if name.startswith(".towline")]


@pytest.mark.parametrize("damaged", [False, True])
async def test_a_clone_is_proved_as_well(tmp_path, monkeypatch, damaged):
    def clone(source, file):
        file.write(source.read())
        return True

    monkeypatch.setattr(ondisk, "_clone", clone)
    monkeypatch.setattr(ondisk, "_SMALL_BYTES", 0)
    objects = LocalObjects(tmp_path / "store")
    blob = await stored(objects, os.urandom(3 * PART))
    if damaged:
        await objects.put(KEY, bytes(3 * PART))
        with pytest.raises(CorruptionError):
            await ondisk.write_to(blob, tmp_path / "out", False)
    else:
        await ondisk.write_to(blob, tmp_path / "out", False)
        assert (tmp_path / "out").read_bytes() == await objects.get(KEY)


@pytest.mark.parametrize("size", [PART - 1, PART + 1])
async def test_a_wrong_length_is_found(objects, tmp_path, size):
    blob = await stored(objects, bytes(PART))
    await objects.put(KEY, bytes(size))
    with pytest.raises(CorruptionError):
        await ondisk.write_to(blob, tmp_path / "out", False)


async def test_content_that_a_server_copied_has_no_checksums(objects, tmp_path):
    await objects.put(KEY, b"x" * 3 * PART)
    await ondisk.write_to(Blob(objects, KEY, Content(3 * PART, b"")), tmp_path / "out", False)
    assert (tmp_path / "out").read_bytes() == b"x" * 3 * PART


async def test_memory_has_nothing_to_link_to(tmp_path):
    blob = await stored(MemoryObjects(), b"x")
    assert not await ondisk.link_to(blob, tmp_path / "out", False, os.link)


@pytest.mark.parametrize("size", [10, 3 * PART])
@pytest.mark.parametrize("verb", ["put", "upload"])
async def test_a_lost_answer_is_settled(tmp_path, size, verb):
    (tmp_path / "in").write_bytes(bytes(size))
    objects = Faults(MemoryObjects(), nth(1, LOST_AFTER, lambda call: call.verb == verb))
    await ondisk.upload(objects, KEY, tmp_path / "in")
    assert await objects.get(KEY) == bytes(size)


async def test_an_upload_that_never_came_to_be_is_an_error(tmp_path):
    (tmp_path / "in").write_bytes(bytes(3 * PART))
    objects = Faults(MemoryObjects(), nth(1, LOST_BEFORE, lambda call: call.verb == "upload"))
    with pytest.raises(ObjectsError):
        await ondisk.upload(objects, KEY, tmp_path / "in")


async def test_the_mode_of_a_new_file_is_the_users(objects, tmp_path):
    blob = await stored(objects, b"x")
    before = os.umask(0o027)
    try:
        await ondisk.write_to(blob, tmp_path / "plain", False)
        await ondisk.write_to(blob, tmp_path / "tool", True)
    finally:
        os.umask(before)
    assert os.stat(tmp_path / "plain").st_mode & 0o777 == 0o640
    assert os.stat(tmp_path / "tool").st_mode & 0o777 == 0o750


@pytest.mark.parametrize("shared_by", [os.link, os.symlink])
@pytest.mark.parametrize("link", [os.link, os.symlink])
async def test_a_blob_that_is_somebodys_file_is_not_linked_to_and_keeps_its_mode(tmp_path, shared_by, link):
    objects = LocalObjects(tmp_path / "store")
    blob = await stored(objects, b"theirs")
    (tmp_path / "theirs").write_bytes(b"theirs")
    os.chmod(tmp_path / "theirs", 0o644)
    (objects.root / KEY).unlink()
    shared_by(tmp_path / "theirs", objects.root / KEY)
    assert not await ondisk.link_to(blob, tmp_path / "out", False, link)
    assert os.stat(tmp_path / "theirs").st_mode & 0o777 == 0o644
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("executable", [False, True])
async def test_a_blob_may_be_linked_to_many_times(tmp_path, executable):
    objects = LocalObjects(tmp_path / "store")
    blob = await stored(objects, b"ours")
    for name in ("a", "b", "c"):
        assert await ondisk.link_to(blob, tmp_path / name, executable, os.link)
    assert os.stat(tmp_path / "c").st_nlink == 4
    assert os.stat(tmp_path / "c").st_mode & 0o777 == (0o500 if executable else 0o400)

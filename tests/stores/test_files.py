"""Files: values and files of disk, written whole or not at all, mapped on reading, keyed by attempt; and the codec's glue."""

from __future__ import annotations

import asyncio
import errno
import os
import random
import stat
import threading
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tests.kit.book import uuid_of
from tests.kit.disk_shim import DiskShim, PowerLoss
from towline.engine import codec
from towline.engine.errors import CorruptionError, UsageError
from towline.engine.model import INLINE_LIMIT
from towline.stores import fileformat
from towline.stores.files import FileRef, Files, load, load_async, new_key, owner_of, parse_key, reference_in, store_output
from towline.stores.objects.base import NotFound, ObjectsError, PreconditionFailed
from towline.stores.objects.local import LocalObjects
from towline.stores.objects.memory import MemoryObjects
from towline.stores.objects.syscalls import Os

GOLDEN = Path(__file__).parents[1] / "golden" / "files"
GOLDEN_REF = (1444, 3557199751)
"""Size and crc32c of value-1.bin."""


@pytest.fixture(params=["disk", "memory"])
def files(request, tmp_path):
    return Files(LocalObjects(tmp_path / "s") if request.param == "disk" else MemoryObjects())


@pytest.fixture
def local(tmp_path):
    return Files(LocalObjects(tmp_path / "s"))


def key(number=1, attempt=(1, 2)):
    return new_key(uuid_of(number), attempt)


# ------------------------------------------------------------------------------------------------------------- keys


def test_a_key_says_whose_it_is():
    uuid = uuid_of(7)
    parsed = parse_key(new_key(uuid, (3, 44)))
    assert (parsed.owner, parsed.attempt) == (uuid, (3, 44))
    assert new_key(uuid, (3, 44)) != new_key(uuid, (3, 44))
    assert parse_key(new_key(None)).owner == "shared"


@pytest.mark.parametrize("uuid", ["shared", "../../etc", "a/b", "x" * 1000, "ä", "UPPER", ".hidden", " "])
def test_any_uuid_makes_a_safe_folder_of_its_own(uuid):
    owner = owner_of(uuid)
    assert parse_key(f"files/{owner}/1-1/x").owner == owner
    assert owner not in (owner_of(uuid + "y"), "shared", uuid)


@pytest.mark.parametrize("name", ["towline.json", "journal/1.seg", "files/x", "files/a/1-x/b", "files/a/1-1/b/c"])
async def test_a_reference_leads_to_files_only(files, name):
    with pytest.raises(UsageError, match="not the key of a file"):
        await files.get_value(FileRef(name, 100, 0))
    with pytest.raises(UsageError):
        await files.put_value("files/../towline.json", b"")


# ----------------------------------------------------------------------------------------------------------- values


@pytest.mark.parametrize("buffers", [[], [b""], [b"one"], [b"one", b"", os.urandom(100_000)]])
async def test_values_come_back(files, buffers):
    ref = await files.put_value(key(), b"header", buffers)
    header, found = await files.get_value(ref)
    assert header == b"header"
    assert [bytes(memoryview(b)) for b in found] == buffers
    assert all(memoryview(b).readonly for b in found)


def test_blocking_and_async_are_the_same(files):
    ref = files.put_value_sync(key(), b"h", [b"abc"])
    assert asyncio.run(files.get_value(ref))[0] == b"h"
    header, (buffer,) = files.get_value_sync(ref)
    assert (header, buffer.to_pybytes()) == (b"h", b"abc")


async def test_a_blocking_call_on_a_remote_place_refuses_to_block_a_loop():
    with pytest.raises(RuntimeError, match="await the async method"):
        Files(MemoryObjects()).put_value_sync(key(), b"h")


def test_on_a_local_disk_no_event_loop_is_met(local, monkeypatch):
    monkeypatch.setattr(asyncio, "run", None)
    monkeypatch.setattr(asyncio, "to_thread", None)
    assert local.get_value_sync(local.put_value_sync(key(), b"h", [b"abc"]))[0] == b"h"


def test_local_values_are_mapped_aligned_and_outlive_the_file(local):
    content = os.urandom(1 << 20)
    ref = local.put_value_sync(key(), b"", [b"x", content])
    before = pa.total_allocated_bytes()
    _, (_, found) = local.get_value_sync(ref)
    assert pa.total_allocated_bytes() - before < 4096
    assert found.address % 64 == 0
    (local._local.root / ref.key).unlink()
    assert found.to_pybytes() == content


def test_many_threads_write_at_once(local):
    refs = [None] * 8

    def work(i):
        refs[i] = local.put_value_sync(key(i), str(i).encode(), [bytes([i]) * 1000])

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [local.get_value_sync(ref)[0] for ref in refs] == [str(i).encode() for i in range(8)]


async def test_a_key_is_written_once(files):
    name = key()
    ref = await files.put_value(name, b"first")
    with pytest.raises(PreconditionFailed):
        await files.put_value(name, b"second")
    assert (await files.get_value(ref))[0] == b"first"


async def test_a_file_that_is_gone(files):
    ref = await files.put_value(key(), b"h", [b"x"])
    await files._objects.delete_many([ref.key])
    with pytest.raises(NotFound):
        await files.get_value(ref)


@pytest.mark.parametrize("at", [0, 70, -1, -20])
def test_damage_on_disk_names_the_file(local, at):
    ref = local.put_value_sync(key(), b"header", [b"x" * 100])
    path = local._local.root / ref.key
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)
    with pytest.raises(CorruptionError, match=r"at offset \d+") as caught:
        local.get_value_sync(ref)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("size", [0, 1, 100])
def test_a_cut_file_is_found_before_it_is_mapped(local, size):
    ref = local.put_value_sync(key(), b"header", [b"x" * 100])
    os.truncate(local._local.root / ref.key, size)
    with pytest.raises(CorruptionError, match=f"has {size} bytes"):
        local.get_value_sync(ref)


class FullDisk(Os):
    """Room for so many bytes."""

    def __init__(self, room):
        self.room = room

    def write(self, fd, data):
        if self.room <= 0:
            raise OSError(errno.ENOSPC, "full")
        done = super().write(fd, [memoryview(data[0])[: self.room]])
        self.room -= done
        return done


@pytest.mark.parametrize("room", [0, 50, 120, 260])
def test_a_failed_write_leaves_nothing(tmp_path, room):
    files = Files(LocalObjects(tmp_path / "s", calls=FullDisk(room)))
    with pytest.raises(ObjectsError, match="disk is full"):
        files.put_value_sync(key(), b"header", [b"x" * 100, b"y" * 100])
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []


def test_what_was_returned_survives_power_loss_and_the_rest_is_whole_or_absent(tmp_path):
    """R11, with the disk cut at every call."""
    content = [os.urandom(2000)]
    for cut in range(1, 60):
        root = tmp_path / f"disk-{cut}"
        root.mkdir()
        shim = DiskShim(root, random.Random(cut))
        shim.cut_at = cut
        files, refs = Files(LocalObjects(root / "s", calls=shim)), []
        try:
            for number in range(3):
                refs.append(files.put_value_sync(key(number), b"h", content))
        except PowerLoss:
            pass
        after = tmp_path / f"after-{cut}"
        shim.survivors(after)
        found = Files(LocalObjects(after / "s"))
        for ref in refs:
            assert found.get_value_sync(ref)[1][0].to_pybytes() == content[0]
        if len(refs) == 3:
            return
    raise AssertionError("the power was always cut before the end")


# ------------------------------------------------------------------------------------------------------------ files


@pytest.mark.parametrize("executable", [False, True])
async def test_files_keep_content_and_executable_bit(files, tmp_path, executable, monkeypatch):
    monkeypatch.setattr(fileformat, "PART", 1000)
    content = os.urandom(2500)
    source, target = tmp_path / "tool.sh", tmp_path / "copy"
    source.write_bytes(content)
    source.chmod(0o755 if executable else 0o644)
    target.write_text("old")
    ref = await files.put_file(key(), source)
    await files.read_file(ref, target)
    assert target.read_bytes() == content
    assert bool(target.stat().st_mode & stat.S_IXUSR) is executable
    assert sorted(p.name for p in tmp_path.iterdir() if p.is_file()) == ["copy", "tool.sh"]
    assert (await files._read(ref)).footer.name == "tool.sh"


def test_an_empty_file(files, tmp_path):
    (tmp_path / "empty").touch()
    files.read_file_sync(files.put_file_sync(key(), tmp_path / "empty"), tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == b""


@pytest.mark.parametrize("name", ["absent", "folder", "fifo"])
def test_what_is_no_regular_file_is_refused(files, tmp_path, name):
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(UsageError, match="cannot be stored"):
        files.put_file_sync(key(), tmp_path / name)


def test_values_and_files_are_not_taken_for_each_other(files, tmp_path):
    (tmp_path / "f").write_text("x")
    value, file = files.put_value_sync(key(), b"h", [b"x"]), files.put_file_sync(key(), tmp_path / "f")
    with pytest.raises(UsageError, match="read_file"):
        files.get_value_sync(file)
    with pytest.raises(UsageError, match="a value, not a file"):
        files.read_file_sync(value, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_target_that_cannot_be_written_leaves_no_temp_file(files, tmp_path):
    (tmp_path / "f").write_text("x")
    ref = files.put_file_sync(key(), tmp_path / "f")
    (tmp_path / "target").mkdir()
    with pytest.raises(ObjectsError):
        files.read_file_sync(ref, tmp_path / "target")
    assert sorted(p.name for p in tmp_path.iterdir()) in (["f", "target"], ["f", "s", "target"])


@pytest.mark.parametrize("size", [0, 1, 999, 1000, 1001, 5000])
def test_ranges_of_a_file(files, tmp_path, size, monkeypatch):
    monkeypatch.setattr(fileformat, "PART", 1000)
    content = os.urandom(size)
    (tmp_path / "f").write_bytes(content)
    ref = files.put_file_sync(key(), tmp_path / "f")
    for start in (0, 1, 999, 1000, size, size + 1):
        for length in (0, 1, 1000, size):
            assert files.read_range_sync(ref, start, length) == content[start : start + length]
            assert asyncio.run(files.read_range(ref, start, length)) == content[start : start + length]


def test_a_range_is_proved_and_the_rest_is_not(local, tmp_path, monkeypatch):
    monkeypatch.setattr(fileformat, "PART", 1000)
    (tmp_path / "f").write_bytes(bytes(5000))
    ref = local.put_file_sync(key(), tmp_path / "f")
    with open(local._local.root / ref.key, "r+b") as file:
        file.seek(2500)
        file.write(b"!")
    assert local.read_range_sync(ref, 500, 1500) == bytes(1500)
    assert local.read_range_sync(ref, 3000, 9999) == bytes(2000)
    with pytest.raises(CorruptionError, match="at offset 2000 or"):
        local.read_range_sync(ref, 1999, 2)
    with pytest.raises(UsageError, match="negative"):
        local.read_range_sync(ref, 0, -1)


# ------------------------------------------------------------------------------------------------------------- glue


def encoded(value):
    return codec.encode_content(value, INLINE_LIMIT)


@pytest.mark.parametrize("value", [None, 7, {"a": [1, 2]}, "x" * 1000])
def test_small_outputs_stay_inline(files, value):
    data = store_output(files, encoded(value), uuid_of(1), (1, 1))
    assert data == codec.encode(value)
    assert reference_in(data) is None
    assert load(files, data) == value


@pytest.mark.parametrize("value", ["x" * 40_000, b"y" * 40_000, list(range(20_000)), {"deep": [bytes(50_000), "tail"]}])
def test_large_outputs_are_files_of_their_attempt(files, value):
    data = store_output(files, encoded(value), uuid_of(1), (5, 6))
    assert len(data) < 200
    parsed = parse_key(reference_in(data).key)
    assert (parsed.owner, parsed.attempt) == (uuid_of(1), (5, 6))
    assert load(files, data) == value
    assert asyncio.run(load_async(files, data)) == value


def test_large_arrays_lie_on_the_mapped_file(local):
    value = np.arange(100_000, dtype="f8").reshape(100, 1000)
    found = load(local, store_output(local, encoded(value), uuid_of(1), (1, 1)))
    assert np.array_equal(found, value)
    assert not found.flags.writeable
    assert not found.flags.owndata


def mapping_of(path):
    """The address ranges at which this process has mapped the file."""
    ranges = []
    for line in Path("/proc/self/maps").read_text().splitlines():
        fields = line.split(maxsplit=5)
        if len(fields) == 6 and fields[5] == str(path):
            ranges.append(tuple(int(address, 16) for address in fields[0].split("-")))
    return ranges


def addresses(value):
    """Where the bytes of a value lie."""
    match value:
        case pa.Table() | pa.RecordBatch():
            batches = value.to_batches() if isinstance(value, pa.Table) else [value]
            return [b.address for batch in batches for column in batch.columns for b in column.buffers() if b is not None]
        case pa.Tensor():
            return [np.asarray(value.to_numpy()).ctypes.data]
        case _:
            return [value.ctypes.data]


FLOATS = np.arange(50_000, dtype="f8")
BATCH = pa.record_batch({"n": FLOATS, "text": [str(n) for n in range(50_000)]})


@pytest.mark.parametrize(
    "value",
    [pa.Table.from_batches([BATCH, BATCH]), BATCH, pa.Tensor.from_numpy(FLOATS.reshape(500, 100)), FLOATS],
    ids=["table", "batch", "tensor", "array"],
)
def test_what_lies_in_columns_comes_back_where_the_disk_put_it(local, value):
    """Zero-copy: every address is inside the mapped file, and none is in Arrow's pool."""
    data = store_output(local, encoded(value), uuid_of(1), (1, 1))
    before = pa.total_allocated_bytes()
    found = load(local, data)
    assert pa.total_allocated_bytes() - before < 10_000
    ranges = mapping_of(local._local.root / reference_in(data).key)
    places = addresses(found)
    assert len(places) >= 1
    assert all(any(begin <= place < end for begin, end in ranges) for place in places)
    assert (found == value).all() if isinstance(value, np.ndarray) else found.equals(value)


def test_references_to_nothing_are_corruption(files):
    with pytest.raises(CorruptionError, match="reference to a file"):
        reference_in(codec.stub(b"\x91\xa1x"))


# ----------------------------------------------------------------------------------------------------------- golden


def test_format_1_is_read_for_ever(local):
    name = key(1, (3, 7))
    path = local._local.root / name
    path.parent.mkdir(parents=True)
    path.write_bytes((GOLDEN / "value-1.bin").read_bytes())
    header, buffers = local.get_value_sync(FileRef(name, *GOLDEN_REF))
    assert header == b"the header"
    assert [b.to_pybytes() for b in buffers] == [b"first buffer", b"", bytes(range(256)) * 5]


def test_format_1_is_written_as_ever(local):
    ref = local.put_value_sync(key(), b"the header", [b"first buffer", b"", bytes(range(256)) * 5])
    assert (local._local.root / ref.key).read_bytes() == (GOLDEN / "value-1.bin").read_bytes()
    assert (ref.size, ref.crc32c) == GOLDEN_REF


@pytest.mark.parametrize(("locator", "cached"), [("s3://bucket/x", True), ("gs://bucket/x", True), ("memory:files-at", False)])
async def test_files_at_a_distant_place_come_through_the_nodes_cache(locator, cached, monkeypatch, tmp_path):
    monkeypatch.setenv("TOWLINE_CACHE_DIR", str(tmp_path))
    files = Files.at(locator)
    assert (files._cache is not None) is cached
    assert Files.at(tmp_path)._cache is None
    await files.close()

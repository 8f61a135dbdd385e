"""Files in a bucket: few requests, few bytes in memory, every part proved, lost answers settled."""

from __future__ import annotations

import asyncio
import os
import random

import pytest

from tests.kit.book import uuid_of
from towline.engine.errors import CorruptionError, UsageError
from towline.stores import fileformat, filewriting, remotefiles
from towline.stores.files import FileRef, Files, new_key
from towline.stores.objects.base import OVERWRITE, Ambiguous, NotFound, ObjectsError, PreconditionFailed
from towline.stores.objects.memory import MemoryObjects
from towline.stores.objects.wrappers import LOST_AFTER, LOST_BEFORE, REFUSED, Counting, Faults, always, nth

PART = 1000


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr(fileformat, "PART", PART)
    monkeypatch.setattr(remotefiles, "STEP", 300)
    monkeypatch.setattr(remotefiles, "END", 200)


@pytest.fixture
def bucket():
    objects = MemoryObjects(appendable=False)
    objects.part_bytes = 170
    return objects


def key(number=1):
    return new_key(uuid_of(number), (1, 2))


def content(size, seed=0):
    return random.Random(seed).randbytes(size)


SIZES = [0, 1, PART - 300, PART - 1, PART, PART + 1, 2 * PART, 10 * PART + 7]


@pytest.mark.parametrize("size", SIZES)
async def test_files_of_every_size(bucket, tmp_path, size):
    files, data = Files(bucket), content(size)
    (tmp_path / "f").write_bytes(data)
    ref = await files.put_file(key(), tmp_path / "f")
    assert bytes(bucket._held[ref.key].data).startswith(data)
    assert bucket._held[ref.key].data[-8:] == fileformat.MAGIC
    await files.read_file(ref, tmp_path / "g")
    assert (tmp_path / "g").read_bytes() == data
    for start in (0, 1, PART - 1, PART, size - 1, size, size + 5):
        for length in (0, 1, PART, size, size + 1):
            if start >= 0:
                assert await files.read_range(ref, start, length) == data[start : start + length], (start, length)


@pytest.mark.parametrize("size", SIZES)
async def test_values_of_every_size(bucket, size):
    files = Files(bucket)
    buffers = [content(size), b"", content(size // 2, 1)]
    ref = await files.put_value(key(), b"head" * 30, buffers)
    header, found = await files.get_value(ref)
    assert header == b"head" * 30
    assert [bytes(memoryview(b)) for b in found] == buffers
    assert all(memoryview(b).readonly for b in found)
    assert all(b.address % 64 == 0 for b in found if b.size and ref.size > PART)


async def test_a_small_file_is_one_request_each_way(bucket, tmp_path):
    counting = Counting(bucket)
    files = Files(counting)
    (tmp_path / "f").write_bytes(content(PART // 2))
    ref = await files.put_file(key(), tmp_path / "f")
    assert counting.tally.requests == {"put": 1}
    await files.read_file(ref, tmp_path / "g")
    assert counting.tally.requests == {"put": 1, "get": 1}
    value = await files.put_value(key(2), b"head", [b"x" * 100])
    await files.get_value(value)
    assert counting.tally.requests == {"put": 2, "get": 2}


async def test_only_what_is_asked_for_is_fetched_and_proved(bucket, tmp_path):
    counting = Counting(bucket)
    files, data = Files(counting), content(20 * PART)
    (tmp_path / "f").write_bytes(data)
    ref = await files.put_file(key(), tmp_path / "f")
    held = bytearray(bucket._held[ref.key].data)
    held[15 * PART] ^= 1  # elsewhere
    bucket._held[ref.key].data = bytes(held)
    counting.tally.bytes_in = 0
    assert await files.read_range(ref, 3 * PART + 10, 2 * PART) == data[3 * PART + 10 : 5 * PART + 10]
    assert counting.tally.bytes_in <= 3 * PART + 2 * 300
    with pytest.raises(CorruptionError, match=f"at offset {15 * PART} or"):
        await files.read_range(ref, 15 * PART + 500, 1)


async def test_a_long_footer_is_fetched_whole(bucket):
    files = Files(bucket)
    header = content(3 * PART)
    ref = await files.put_value(key(), header, [content(5 * PART)])
    assert (await files.get_value(ref))[0] == header


@pytest.mark.parametrize("size", [500, 5 * PART])
async def test_every_kind_of_damage_is_found_and_nothing_is_left(bucket, tmp_path, size):
    files = Files(bucket)
    (tmp_path / "f").write_bytes(content(size))
    ref = await files.put_file(key(), tmp_path / "f")
    whole = bytes(bucket._held[ref.key].data)
    target = tmp_path / "out"
    target.write_text("before")
    for at in [*range(0, len(whole), 97), *range(len(whole) - 60, len(whole))]:
        bad = bytearray(whole)
        bad[at] ^= 1
        bucket._held[ref.key].data = bytes(bad)
        with pytest.raises(CorruptionError, match=r"at offset \d+"):
            await files.read_file(ref, target)
    for bad in (whole[:-1], whole[: len(whole) // 2], b"", whole + b"1"):
        bucket._held[ref.key].data = bad
        with pytest.raises(CorruptionError):
            await files.read_file(ref, target)
        with pytest.raises(CorruptionError):
            await files._read(ref)
    assert target.read_text() == "before"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["f", "out"]


async def test_what_is_not_there_or_no_file(bucket, tmp_path):
    files = Files(bucket)
    for size in (10, 3 * PART):
        with pytest.raises(NotFound):
            await files.read_range(FileRef(key(), size, 0), 0, 1)
        value = await files.put_value(key(), b"", [content(size)])
        with pytest.raises(UsageError, match="a value, not a file"):
            await files.read_range(value, 0, 1)
        with pytest.raises(UsageError, match="a value, not a file"):
            await files.read_file(value, tmp_path / "out")
    with pytest.raises(UsageError, match="negative"):
        await files.read_range(value, -1, 1)
    assert list(tmp_path.iterdir()) == []


async def test_a_stream_that_ends_too_early_is_not_believed(bucket, tmp_path):
    class Short(MemoryObjects):
        async def download(self, name, start=0, length=None):
            yield await self.get(name, start, PART)

    files = Files(Short())
    (tmp_path / "f").write_bytes(content(3 * PART))
    ref = await files.put_file(key(), tmp_path / "f")
    with pytest.raises(CorruptionError, match=f"ends too early, at offset {PART}"):
        await files.read_file(ref, tmp_path / "g")
    assert not (tmp_path / "g").exists()


# ---------------------------------------------------------------------------------------------------------- faults


async def test_a_key_is_written_once_even_with_the_same_content(bucket):
    name, files = key(), Files(bucket)
    await files.put_value(name, b"h", [content(10)])
    with pytest.raises(PreconditionFailed):
        await files.put_value(name, b"h", [content(10)])


async def test_what_is_sent_in_parts_does_not_ask_for_a_condition_that_some_servers_mind_only_of_whole_objects(bucket):
    calls = []
    files = Files(Faults(bucket, calls.append))
    await files.put_value(key(), b"h", [content(4 * PART)])
    assert {(call.verb.partition(".")[0], call.when) for call in calls} == {("upload", OVERWRITE)}


@pytest.mark.parametrize("size", [10, 4 * PART])
@pytest.mark.parametrize("fault", [LOST_BEFORE, LOST_AFTER])
async def test_a_lost_answer_is_settled_by_looking(bucket, tmp_path, size, fault):
    files = Files(Faults(bucket, nth(1, fault, lambda call: call.verb in ("put", "upload"))))
    (tmp_path / "f").write_bytes(content(size))
    ref = await files.put_file(key(), tmp_path / "f")
    assert await files.read_range(ref, 0, size) == content(size)
    assert len(bucket._held) == 1


@pytest.mark.parametrize("size", [10, 4 * PART])
async def test_a_write_that_lands_late_is_still_ours(bucket, size):
    """The first answer is lost and the write is under way yet; the second try meets it."""

    class Late(MemoryObjects):
        late = None

        async def put(self, name, data, when=None):
            if self.late is None:
                self.late = b"".join(data)
                raise Ambiguous("lost")
            self._hold(name, self.late)
            return await super().put(name, data, when)

        async def upload(self, name, pieces, when=None):
            return await self.put(name, [bytes(p) async for p in pieces], when)

    late = Late()
    ref = await Files(late).put_value(key(), b"h", [content(size)])
    assert (await Files(late).get_value(ref))[0] == b"h"


async def test_anothers_content_is_not_taken_for_ours(bucket):
    files = Files(Faults(bucket, nth(1, LOST_BEFORE, lambda call: call.verb == "put")))
    name = key()
    await bucket.put(name, content(500))
    with pytest.raises(PreconditionFailed):
        await files.put_value(name, b"h", [b"x"])
    assert await bucket.get(name) == content(500)


async def test_answers_that_stay_away(bucket):
    faults = Faults(bucket, always(LOST_BEFORE, lambda call: call.verb == "put"))
    with pytest.raises(Ambiguous):
        await Files(faults).put_value(key(), b"h", [b"x"])
    assert [call.verb for call in faults.calls].count("put") == remotefiles.ATTEMPTS


async def test_a_failed_or_cancelled_write_leaves_nothing(bucket, tmp_path):
    (tmp_path / "f").write_bytes(content(50 * PART))
    refused = Faults(bucket, nth(3, REFUSED, lambda call: call.verb == "upload.part"))
    refused.part_bytes = PART
    with pytest.raises(ObjectsError):
        await Files(refused).put_file(key(), tmp_path / "f")
    for steps in range(0, 60, 7):
        task = asyncio.create_task(Files(bucket).put_file(key(), tmp_path / "f"))
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert bucket._held == {}
    assert bucket._begun == {}


async def test_memory_is_bounded(bucket, tmp_path, monkeypatch):
    """Neither way does anything hold more than a few parts: what is asked for next comes after what was taken."""
    (tmp_path / "f").write_bytes(content(100 * PART))
    reads, sent, ahead = 0, 0, []

    class Slow(MemoryObjects):
        async def upload(self, name, pieces, when=None):
            nonlocal sent
            kept = []
            async for piece in pieces:
                kept.append(bytes(piece))
                sent += len(piece)
                ahead.append(reads - sent)
            return await self.put(name, kept, when)

        async def download(self, name, start=0, length=None):
            nonlocal given
            async for piece in super().download(name, start, length):
                given += len(piece)
                ahead.append(given - kept)
                yield piece

    real = os.pwrite

    def pwrite(fd, data, at):
        nonlocal kept
        kept += len(data)
        return real(fd, data, at)

    given = kept = 0
    slow = Slow()
    slow.part_bytes = 200

    def chunks(path):
        nonlocal reads
        with path.open("rb") as file:
            while chunk := file.read(PART):
                reads += len(chunk)
                yield chunk

    monkeypatch.setattr(filewriting, "_chunks", chunks)
    ref = await Files(slow).put_file(key(), tmp_path / "f")
    assert reads == 100 * PART
    assert max(ahead) <= 4 * PART
    ahead.clear()
    monkeypatch.setattr(os, "pwrite", pwrite)
    await Files(slow).read_file(ref, tmp_path / "g")
    assert kept == 100 * PART
    assert max(ahead) <= 2 * PART
    assert (tmp_path / "g").read_bytes() == content(100 * PART)

"""Streams of one blob: every size, every way to read and write, ends that leave nothing, damage that is found."""

from __future__ import annotations

import asyncio
import io
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from towline.engine.errors import CorruptionError, UsageError
from towline.stores.jobstore import streams
from towline.stores.jobstore.streams import Blob, BlobReader, BlobWriter, TextReader, TextWriter
from towline.stores.objects.base import NotFound, ObjectsError
from towline.stores.objects.local import LocalObjects
from towline.stores.objects.memory import MemoryObjects

PART = 1000
KEY = "blobs/00/x"


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    """The logic is the same at any size of a part."""
    monkeypatch.setattr(streams, "PART", PART)


@pytest.fixture(params=["memory", "local"])
def objects(request, tmp_path):
    return MemoryObjects() if request.param == "memory" else LocalObjects(tmp_path / "store")


def content(size, seed=0):
    return random.Random(seed).randbytes(size)


async def written(objects, data, cut=333):
    writer = BlobWriter(objects, KEY)
    for at in range(0, len(data), cut):
        await writer.write(data[at : at + cut])
    return Blob(objects, KEY, await writer.finish())


async def keys(objects):
    return [meta.key async for meta in objects.list()]


SIZES = [0, 1, PART - 1, PART, PART + 1, 2 * PART, 10 * PART, 10 * PART + 7]


@pytest.mark.parametrize("kept", [1, 10, 10_000])
async def test_a_buffer_may_be_used_again_when_it_was_written(objects, monkeypatch, kept):
    """Bytes objects are kept as they are, anything else is copied."""
    monkeypatch.setattr(streams, "_KEPT_BYTES", kept)
    writer, data, buffer = BlobWriter(objects, KEY), content(5 * PART), bytearray(PART // 4)
    for at in range(0, len(data), len(buffer)):
        piece = data[at : at + len(buffer)]
        buffer[:] = piece
        step = len(buffer) // 5
        for odd, begin in enumerate(range(0, len(buffer), step)):
            of = memoryview(piece) if odd % 2 else memoryview(buffer)
            await writer.write(of[begin : begin + step])
        buffer[:] = bytes(len(buffer))
    await writer.finish()
    assert await objects.get(KEY) == data


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("cut", [333, PART, 100_000])
async def test_what_was_written_is_read(objects, size, cut):
    data = content(size)
    blob = await written(objects, data, cut)
    assert blob.content.size == size
    assert len(blob.content.crcs) == 4 * -(-size // PART)
    reader = BlobReader(blob)
    assert await reader.read() == data
    assert await reader.read() == b""
    await reader.close()


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, lambda b: memoryview(b).cast("I")])
async def test_any_buffer_may_be_written_and_changed_afterwards(objects, kind):
    data = content(3 * PART + 200)
    writer = BlobWriter(objects, KEY)
    buffer = bytearray(data) if kind is bytearray else kind(data)
    assert await writer.write(buffer) == len(data)
    if kind is bytearray:
        buffer[:] = bytes(len(data))
    blob = Blob(objects, KEY, await writer.finish())
    assert await BlobReader(blob).read() == data
    assert writer.tell() == len(data)


async def test_nothing_is_visible_before_the_end(objects):
    writer = BlobWriter(objects, KEY)
    await writer.write(content(5 * PART))
    assert await keys(objects) == []
    await writer.finish()
    assert await keys(objects) == [KEY]


@pytest.mark.parametrize("size", [0, 10, 5 * PART])
@pytest.mark.parametrize("finished", [False, True])
async def test_what_is_abandoned_leaves_nothing(objects, size, finished):
    writer = BlobWriter(objects, KEY)
    await writer.write(content(size))
    if finished:
        await writer.finish()
    await writer.abandon()
    assert await keys(objects) == []
    assert [u async for u in objects.unfinished()] == []
    with pytest.raises(UsageError, match="closed"):
        await writer.write(b"x")


class Refusing(MemoryObjects):
    """Takes two parts of an upload and then is full."""

    async def upload(self, key, pieces, when=None):
        taken = 0
        async for _ in pieces:
            taken += 1
            if taken == 2:
                raise ObjectsError("the disk is full")


async def test_a_store_that_fails_stops_the_writer_and_does_not_hang_it():
    writer = BlobWriter(Refusing(), KEY)
    with pytest.raises(ObjectsError, match="full"):
        for _ in range(50):
            await writer.write(content(PART))
    with pytest.raises(ObjectsError, match="full"):
        await writer.finish()
    await writer.abandon()


@pytest.mark.parametrize("parts", [2, 3, 4])
async def test_a_store_that_fails_at_the_end_is_found_out(parts):
    writer = BlobWriter(Refusing(), KEY)
    with pytest.raises(ObjectsError, match="full"):
        await writer.write(content(parts * PART))
        await writer.finish()
    await writer.abandon()


class Slow(MemoryObjects):
    """Takes a part only when it is told to."""

    def __init__(self):
        super().__init__()
        self.gate = asyncio.Event()

    async def upload(self, key, pieces, when=None):
        await self.gate.wait()
        await self.put(key, [piece async for piece in pieces])


async def test_a_writer_waits_for_a_slow_store():
    store = Slow()
    writer = BlobWriter(store, KEY)
    task = asyncio.create_task(writer.write(content(20 * PART)))
    for _ in range(100):
        await asyncio.sleep(0)
    assert not task.done()
    assert writer._queue.qsize() == streams.QUEUED_PARTS
    store.gate.set()
    await task
    assert (await writer.finish()).size == 20 * PART


async def test_a_writer_that_waits_for_a_store_that_fails_is_woken():
    class Failing(Slow):
        async def upload(self, key, pieces, when=None):
            await self.gate.wait()
            raise ObjectsError("the disk is full")

    store = Failing()
    writer = BlobWriter(store, KEY)
    task = asyncio.create_task(writer.write(content(20 * PART)))
    for _ in range(100):
        await asyncio.sleep(0)
    store.gate.set()
    with pytest.raises(ObjectsError, match="full"):
        await asyncio.wait_for(task, 10)
        await writer.write(b"x")
    await writer.abandon()


async def test_two_writers_at_once_tear_no_part(objects):
    writer = BlobWriter(objects, KEY)
    await asyncio.gather(*(writer.write(bytes([i]) * 700) for i in range(20)))
    blob = Blob(objects, KEY, await writer.finish())
    data = await BlobReader(blob).read()
    assert sorted(data[at] for at in range(0, 14000, 700)) == list(range(20))
    assert all(len(set(data[at : at + 700])) == 1 for at in range(0, 14000, 700))


# ------------------------------------------------------------------------------------------------------------- reading


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["read", "read1", "readline", "seek", "tell"]), st.integers(-1, 6000)), max_size=20))
def test_a_reader_reads_as_any_file_does(steps):
    data = b"".join(b"%d\n" % i + b"\n" * (i % 3) for i in range(1000))

    async def both():
        reader, model = BlobReader(await written(MemoryObjects(), data)), io.BytesIO(data)
        for verb, n in steps:
            match verb:
                case "read":
                    assert await reader.read(n) == model.read(n)
                case "read1":
                    got = await reader.read1(n)
                    assert got == model.read(len(got))
                    assert got or n == 0 or model.tell() >= len(data)
                case "readline":
                    assert await reader.readline() == model.readline()
                case "seek":
                    assert await reader.seek(max(n, 0)) == model.seek(max(n, 0))
            assert reader.tell() == model.tell()
        await reader.close()

    asyncio.run(both())


async def test_lines(objects):
    data = b"".join(b"line %d\n" % i for i in range(2000)) + b"last"
    reader = BlobReader(await written(objects, data))
    assert [line async for line in reader] == data.splitlines(keepends=True)


async def test_a_line_longer_than_parts(objects):
    data = b"x" * (3 * PART) + b"\n" + b"y"
    reader = BlobReader(await written(objects, data))
    assert await reader.readline() == b"x" * (3 * PART) + b"\n"
    assert await reader.readline() == b"y"
    assert await reader.readline() == b""


async def test_the_rest_may_stay_unread(objects):
    reader = BlobReader(await written(objects, content(10 * PART)))
    assert len(await reader.read(10)) == 10
    await reader.close()
    await reader.close()
    with pytest.raises(UsageError, match="closed"):
        await reader.read(PART)


async def test_a_missing_blob_shows_at_once(objects):
    blob = await written(objects, content(2 * PART))
    await objects.delete_many([KEY])
    with pytest.raises(NotFound):
        await BlobReader(blob).begin()


@pytest.mark.parametrize("damage", [0, PART - 1, PART, 2 * PART + 5])
async def test_damage_is_found_before_its_part_is_handed_out(objects, damage):
    data = bytearray(content(3 * PART - 7))
    blob = await written(objects, bytes(data))
    data[damage] ^= 1
    await objects.put(KEY, bytes(data))
    reader = BlobReader(blob)
    good = damage // PART * PART
    assert await reader.read(good) == data[:good]
    with pytest.raises(CorruptionError, match=f"offset {good} "):
        await reader.read(1)


@pytest.mark.parametrize("size", [0, 1, PART, 2 * PART, 2 * PART + 6, 2 * PART + 8, 9 * PART])
async def test_a_wrong_length_is_found(objects, size):
    data = content(2 * PART + 7)
    blob = await written(objects, data)
    await objects.put(KEY, content(size, 1) if size > len(data) else data[:size])
    with pytest.raises(CorruptionError):
        await BlobReader(blob).read()


async def test_content_without_checksums_is_measured_only(objects):
    blob = await written(objects, content(2 * PART))
    copied = blob._replace(content=streams.Content(2 * PART, b""))
    assert await BlobReader(copied).read() == content(2 * PART)
    with pytest.raises(CorruptionError):
        await BlobReader(copied._replace(content=streams.Content(2 * PART + 1, b""))).read()


# ---------------------------------------------------------------------------------------------------------------- text

TEXT = "".join(f"zeile {i} größe 日本 🚀\r\n" for i in range(300)) + "ende\rohne"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-8-sig", "utf-32"])
async def test_text_comes_back_as_it_was(objects, encoding):
    writer = BlobWriter(objects, KEY)
    text = TextWriter(writer, encoding)
    for at in range(0, len(TEXT), 17):
        await text.write(TEXT[at : at + 17])
    await text.close()
    blob = Blob(objects, KEY, await writer.finish())
    assert (await objects.get(KEY)) == TEXT.encode(encoding)
    assert await TextReader(BlobReader(blob), encoding).read() == TEXT
    lines = TextReader(BlobReader(blob), encoding)
    assert [line async for line in lines] == TEXT.replace("\n", "\n\0").split("\0")
    some = TextReader(BlobReader(blob), encoding)
    assert [await some.read(n) for n in (0, 1, 5000, 3)] == [*(TEXT[:0], TEXT[:1], TEXT[1:5001], TEXT[5001:5004])]


async def test_errors_is_the_rule_of_open(objects):
    writer = BlobWriter(objects, KEY)
    with pytest.raises(UnicodeEncodeError):
        await TextWriter(writer, "ascii").write("ü")
    await TextWriter(writer, "ascii", "replace").write("ü")
    await writer.write(b"\xff")
    blob = Blob(objects, KEY, await writer.finish())
    with pytest.raises(UnicodeDecodeError):
        await TextReader(BlobReader(blob), "ascii").read()
    assert await TextReader(BlobReader(blob), "ascii", "ignore").read() == "?"


async def test_an_unknown_encoding_is_said():
    with pytest.raises(LookupError, match="unknown encoding"):
        TextWriter(BlobWriter(MemoryObjects(), KEY), "klingon")

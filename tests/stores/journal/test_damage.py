"""A journal cut at every byte of its last segment, and with every byte of it flipped in turn (P7)."""

from __future__ import annotations

import re

import pytest

from tests.kit.journals import claim, payloads
from towline.engine.errors import CorruptionError
from towline.stores.journal.segments import HEAD_BYTES, segment_key
from towline.stores.journal.verify import verify
from towline.stores.objects.local import LocalObjects
from towline.stores.objects.memory import MemoryObjects


class Bytes:
    """One segment's bytes, to be damaged: on a disk, or in the model (the same bytes, without the cost of threads)."""

    def __init__(self, objects, number):
        self.objects, self.key = objects, segment_key(number)
        self.whole = self.read()

    def read(self):
        if isinstance(self.objects, MemoryObjects):
            return bytes(self.objects._held[self.key].data)
        return (self.objects.root / self.key).read_bytes()

    def write(self, data):
        if isinstance(self.objects, MemoryObjects):
            self.objects._held[self.key].data = bytes(data)
        else:
            (self.objects.root / self.key).write_bytes(data)


@pytest.fixture
def disk(tmp_path):
    return LocalObjects(tmp_path / "s")


@pytest.fixture
def memory():
    return MemoryObjects()


async def journal(objects, last):
    """A journal whose last segment is `last`; returns that, all payloads, and (bytes, records) at every acknowledgement."""
    want, told = [], []
    for number in range(1, last + 1):
        writer = await claim(objects, str(number))
        told = [(len(Bytes(objects, number).whole), len(want))]
        for i in range(5):
            batch = [bytes([number * 16 + i]) * (i * 97), b"|" * i, bytes(260 * (i == 3))][: 1 + i % 3]
            await writer.commit(batch)
            want += batch
            told.append((len(Bytes(objects, number).whole), len(want)))
    segment = Bytes(objects, last)
    assert len(segment.whole) <= 8192
    return segment, want, told


@pytest.mark.parametrize("last", [1, 2, 3])
async def test_cut_at_every_byte(memory, last):
    segment, want, told = await journal(memory, last)
    for cut in range(len(segment.whole) + 1):
        segment.write(segment.whole[:cut])
        found = await payloads(memory)
        # with the next segment's judgement cut off, only a claim may show the last append of the one before
        acknowledged = max([n for size, n in told if size <= cut], default=0)
        assert found == want[: len(found)]
        assert len(found) >= acknowledged


async def test_a_new_leader_goes_on_from_every_cut(disk):
    segment, want, told = await journal(disk, 2)
    for cut in range(0, len(segment.whole) + 1, 13):
        segment.write(segment.whole[:cut])
        shown = await payloads(disk)
        acknowledged = max([n for size, n in told if size <= cut], default=told[0][1])
        writer = await claim(disk, "next")
        found = await payloads(writer.reader)
        assert found == want[: len(found)]
        assert len(found) >= max(acknowledged, len(shown))
        assert writer.epoch == 3, "no epoch is used twice, although a torn header hides one"
        await writer.commit([b"next"])
        assert await payloads(disk) == [*found, b"next"]
        assert (await verify(disk)).problems == []
        await writer.close()
        await disk.delete_many([segment_key(3), segment_key(4)])


@pytest.mark.parametrize("flip", [0xFF, 0x01, 0x80])
@pytest.mark.parametrize("last", [1, 2])
async def test_every_flipped_byte(memory, last, flip):
    segment, want, _ = await journal(memory, last)
    for at in range(len(segment.whole)):
        bad = bytearray(segment.whole)
        bad[at] ^= flip
        segment.write(bad)
        with pytest.raises(CorruptionError) as caught:
            await payloads(memory)
        said = re.search(r"journal/(\d+)\.seg.*at offset (\d+)", str(caught.value))
        assert said, str(caught.value)
        assert int(said[1]) == last
        assert int(said[2]) <= at
        with pytest.raises(CorruptionError):
            await claim(memory, "C")
    segment.write(segment.whole)
    assert await payloads(memory) == want


async def test_every_flipped_byte_of_a_judged_segment(memory):
    await journal(memory, 2)
    segment = Bytes(memory, 1)
    for at in range(len(segment.whole)):
        bad = bytearray(segment.whole)
        bad[at] ^= 0x40
        segment.write(bad)
        problems = (await verify(memory)).problems
        assert problems, at
        assert all(segment.key in p and "offset" in p for p in problems), problems
        with pytest.raises(CorruptionError):
            await payloads(memory)


TAILS = [
    (bytes(1), True),
    (bytes(4096), True),
    (b"\xf1re", True),
    (b"\xf1rx", False),
    (b"x", False),
    (bytes(40) + b"x", False),
]


@pytest.mark.parametrize(("tail", "torn"), TAILS)
async def test_zeros_at_the_end_are_cut_and_anything_else_is_not(disk, tail, torn):
    segment, want, _ = await journal(disk, 2)
    segment.write(segment.whole + tail)
    if torn:
        assert await payloads(disk) == want
        assert (await verify(disk)).void_bytes == len(tail)
    else:
        with pytest.raises(CorruptionError, match=f"at offset {len(segment.whole)}$"):
            await payloads(disk)


async def test_a_judged_segment_that_lost_its_end_is_corrupt(disk):
    await journal(disk, 2)
    segment = Bytes(disk, 1)
    for cut in range(HEAD_BYTES, len(segment.whole), 29):
        segment.write(segment.whole[:cut])
        with pytest.raises(CorruptionError, match=segment.key):
            await payloads(disk)

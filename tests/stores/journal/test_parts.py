"""Parts hold old segments, provable as before; segments go only when nobody can need them (R4)."""

from __future__ import annotations

import asyncio

import pytest

from tests.kit.journals import claim, payloads
from towline.engine.errors import CorruptionError, FencedError
from towline.engine.model import Location
from towline.stores.journal import parts
from towline.stores.journal.parts import drop_segments, make_part, store_now
from towline.stores.journal.reader import JournalReader
from towline.stores.journal.segments import segment_key
from towline.stores.journal.verify import verify
from towline.stores.objects.memory import MemoryObjects


@pytest.fixture(params=[True, False], ids=["append", "link"])
def memory(request):
    return MemoryObjects(appendable=request.param, clock=lambda: 1000.0)


async def filled(memory, claims="ABCD"):
    """A journal of several claims; returns the last writer and all payloads."""
    want = []
    for who in claims:
        writer = await claim(memory, who, segment_bytes=400)
        for i in range(4):
            batch = [f"{who}{i}".encode() * 20, bytes(250)]
            await writer.commit(batch)
            want += batch
    return writer, want


async def keys(memory, prefix):
    return [m.key async for m in memory.list(prefix)]


async def collect(memory, upto, cut_bytes=600):
    reader = await JournalReader.open(memory)
    made = await make_part(memory, reader, upto, cut_bytes)
    dropped = await drop_segments(memory, upto, grace_s=50.0, now=1100.0)
    return made, dropped


@pytest.mark.parametrize("cut_bytes", [1, 600])
async def test_everything_is_read_from_parts_and_segments_alike(memory, cut_bytes):
    writer, want = await filled(memory)
    before = (await JournalReader.open(memory)).chain
    old = await JournalReader.open(memory)
    made, dropped = await collect(memory, len(want) - 5, cut_bytes)
    assert len(made) > 1
    assert len(dropped) > 3
    assert await keys(memory, "parts/") == made
    reader = await JournalReader.open(memory)
    assert reader.chain == before
    assert await payloads(reader) == want
    assert await payloads(reader, 5) == want[5:]
    assert await payloads(old) == want, "a reader from before finds the segments in the parts"
    for seq, payload in enumerate(want):
        assert await reader.read(Location(seq, 3, 9)) == payload[3:12]
        assert await writer.reader.read(Location(seq, 3, 9)) == payload[3:12]
    await writer.commit([b"on"])
    assert await payloads(memory) == [*want, b"on"]
    report = await verify(memory)
    assert report.problems == []
    assert (report.records, report.parts) == (len(want) + 1, len(made))


async def test_parts_go_on_where_the_last_one_ended(memory):
    writer, want = await filled(memory, "AB")
    first, _ = await collect(memory, len(want))
    for who in "CD":
        writer = await claim(memory, who, segment_bytes=400)
        for i in range(5):
            want.append(f"{who}{i}".encode() * 30)
            await writer.commit([want[-1]])
    second, _ = await collect(memory, len(want))
    assert first
    assert second
    assert not set(first) & set(second)
    assert await payloads(memory) == want
    assert (await verify(memory)).problems == []


async def test_names_tell_the_records(memory):
    _, want = await filled(memory)
    made, _ = await collect(memory, len(want) - 3)
    at = 0
    for key in made:
        first, last = key.removeprefix("parts/").removesuffix(".part").split("-")
        assert int(first) == at
        at = int(last) + 1
    assert at <= len(want) - 3


async def test_two_collectors_at_once_do_no_harm(memory):
    _, want = await filled(memory)
    readers = [await JournalReader.open(memory) for _ in range(3)]
    await asyncio.gather(*(make_part(memory, r, len(want) - i, 500 + 300 * i) for i, r in enumerate(readers)))
    await drop_segments(memory, len(want), grace_s=50.0, now=1100.0)
    assert await payloads(memory) == want
    assert (await verify(memory)).problems == []


async def test_a_collector_that_died_leaves_work_for_the_next(memory):
    _, want = await filled(memory)
    reader = await JournalReader.open(memory)
    await make_part(memory, reader, len(want), 500)
    await memory.delete_many([segment_key(1)])
    assert await payloads(memory) == want
    await collect(memory, len(want))
    assert await payloads(memory) == want


async def test_what_is_young_uncovered_or_last_stays(memory):
    _, want = await filled(memory)
    every = await keys(memory, "journal/")
    assert await drop_segments(memory, len(want), grace_s=50.0, now=1100.0) == [], "nothing is covered"
    reader = await JournalReader.open(memory)
    await make_part(memory, reader, len(want))
    assert await drop_segments(memory, len(want), grace_s=101.0, now=1100.0) == [], "all are too young"
    assert await drop_segments(memory, -1, grace_s=50.0, now=1100.0) == [], "all hold or precede records that are needed"
    dropped = await drop_segments(memory, len(want), grace_s=50.0, now=1100.0)
    assert every[: len(dropped)] == dropped, "oldest first"
    assert len(every) - len(dropped) >= 2
    assert set(every[-2:]) <= set(await keys(memory, "journal/"))


async def test_the_last_two_segments_stay_even_if_parts_cover_them():
    memory = MemoryObjects(appendable=False, clock=lambda: 1000.0)
    writer = await claim(memory)
    for i in range(3):
        await writer.commit([b"%d" % i])
    every = await keys(memory, "journal/")
    reader = await JournalReader.open(memory)
    await make_part(memory, reader, 99)
    await drop_segments(memory, 99, grace_s=1.0, now=5000.0)
    assert await keys(memory, "journal/") == every[-2:]
    assert await payloads(memory) == [b"0", b"1", b"2"]


async def test_a_late_writer_in_an_emptied_slot_changes_nothing():
    """R4: a slot that parts cover is not open, whatever stands in it."""
    memory = MemoryObjects(appendable=False, clock=lambda: 1000.0)
    _, want = await filled(memory)
    await collect(memory, len(want))
    assert segment_key(3) not in await keys(memory, "journal/")
    await memory.put(segment_key(3), b"from a frozen writer")
    assert await payloads(memory) == want
    b = await claim(memory, "E")
    await b.commit([b"e"])
    assert await payloads(memory) == [*want, b"e"]
    report = await verify(memory)
    assert report.problems == []
    assert any("differs" in note for note in report.notes)


async def test_a_leader_that_garbage_collection_has_passed_is_fenced(memory):
    now = [0.0]
    a = await claim(memory, "A", boottime=lambda: now[0], grace_s=100.0)
    await a.commit([b"a"])
    _, want = await filled(memory, "BCD")
    await collect(memory, len(want) + 1)
    now[0] += 60.0
    with pytest.raises(FencedError):
        await a.commit([b"late"])
    assert await payloads(memory) == [b"a", *want]


async def test_every_flipped_byte_of_a_part_is_found():
    memory = MemoryObjects(appendable=False, clock=lambda: 1000.0)
    writer = await claim(memory)
    for i in range(4):
        await writer.commit([b"%d" % i * 10])
    made, _ = await collect(memory, 3, 1 << 20)
    (key,) = made
    good = memory._held[key].data
    for at in range(len(good)):
        bad = bytearray(good)
        bad[at] ^= 0x20
        memory._held[key].data = bytes(bad)
        problems = (await verify(memory)).problems
        assert problems, at
        assert all(key in p and "offset" in p for p in problems), (at, problems)
    memory._held[key].data = good
    assert (await verify(memory)).problems == []


async def test_a_part_cut_anywhere_is_found():
    memory = MemoryObjects(appendable=False, clock=lambda: 1000.0)
    writer = await claim(memory)
    for i in range(4):
        await writer.commit([b"%d" % i * 10])
    (key,), _ = await collect(memory, 3, 1 << 20)
    good = memory._held[key].data
    for cut in range(0, len(good), 7):
        memory._held[key].data = good[:cut]
        with pytest.raises(CorruptionError, match=key):
            await JournalReader.open(memory)


async def test_the_stores_own_clock():
    memory = MemoryObjects(clock=lambda: 1234.5)
    assert await store_now(memory) == 1234.5


def test_arrays_are_little_endian():
    assert parts.to_bytes(parts.array("Q", [1, 258])) == b"\1" + bytes(7) + b"\2\1" + bytes(6)
    assert list(parts.from_bytes("I", b"\1\0\0\0\2\0\0\0")) == [1, 2]

"""What a reader believes (R5), how it finds records again, and what it does when segments vanish (R4)."""

from __future__ import annotations

import asyncio

import pytest

from tests.kit.journals import Wrapped, claim, payloads
from towline.engine.errors import CorruptionError
from towline.engine.model import Location
from towline.stores.errors import SegmentGone
from towline.stores.journal import records
from towline.stores.journal.positions import Positions
from towline.stores.journal.reader import JournalReader
from towline.stores.journal.segments import (
    HEAD_BYTES,
    Accepted,
    Header,
    encode_accepted,
    pack_header,
    segment_key,
    unpack_header,
)
from towline.stores.objects.local import LocalObjects
from towline.stores.objects.memory import MemoryObjects


@pytest.fixture(params=[True, False], ids=["append", "link"])
def memory(request):
    return MemoryObjects(appendable=request.param)


async def test_an_empty_place_has_an_empty_journal(memory):
    reader = await JournalReader.open(memory)
    assert (reader.next_seq, reader.last_epoch, reader.last_segment) == (0, 0, 0)
    assert await payloads(reader) == []


async def test_refresh_sees_what_was_committed_since(memory):
    reader = await JournalReader.open(memory)
    want = []
    for turn in range(3):
        writer = await claim(memory, str(turn), segment_bytes=700)
        for i in range(6):
            want.append(b"%d-%d" % (turn, i) * 30)
            await writer.commit([want[-1]])
            if i % 2:
                await reader.refresh()
                assert reader.next_seq == len(want)
                assert await payloads(reader) == want
        if turn == 1:
            await writer.close()
    assert reader.last_epoch == 3
    assert reader.leader == "leader-2"


async def test_records_from_any_number_on(memory):
    writer = await claim(memory, segment_bytes=500)
    want = [b"%d" % i * 50 for i in range(12)]
    for i in range(0, 12, 3):
        await writer.commit(want[i : i + 3])
    reader = await JournalReader.open(memory)
    for start in range(13):
        assert await payloads(reader, start) == want[start:]


async def test_an_abandoned_stream_leaves_no_task(memory):
    writer = await claim(memory, segment_bytes=200)
    for i in range(10):
        await writer.commit([b"%d" % i * 100])
    reader = await JournalReader.open(memory)
    stream = reader.records()
    assert await anext(stream) == (0, b"0" * 100)
    await stream.aclose()
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == {asyncio.current_task()}


class Counting(Wrapped):
    def __init__(self, inner):
        super().__init__(inner)
        self.gets = []

    async def get(self, key, start=0, length=None):
        self.gets.append((key, start, length))
        return await self.inner.get(key, start, length)


async def test_locations_are_read_and_a_record_is_fetched_once(memory):
    writer = await claim(memory)
    rows = [bytes([i]) * 1000 for i in range(5)]
    await writer.commit([b"".join(rows), b"", bytes(3000)])
    await writer.commit([b"second"])
    objects = Counting(memory)
    reader = await JournalReader.open(objects)
    await reader.read(Location(0, 0, 1))
    objects.gets.clear()
    for i, row in enumerate(rows):
        assert await reader.read(Location(0, i * 1000, 1000)) == row
    assert objects.gets == []
    assert await reader.read(Location(2, 10, 5)) == bytes(5)
    assert await reader.read(Location(1, 0, 0)) == b""
    assert await reader.read(Location(3, 1, 3)) == b"eco"


async def test_large_records_are_verified_once_and_then_read_in_slices():
    memory = MemoryObjects()
    objects = Counting(memory)
    writer = await claim(memory)
    big = bytes(range(256)) * 40
    await writer.commit([big, bytes(8000)])
    await claim(memory, "B")
    reader = JournalReader(objects, cache_bytes=4000)
    await reader.refresh()
    reader.determined()[0].offsets = None
    assert await reader.read(Location(0, 300, 20)) == big[300:320]
    objects.gets.clear()
    assert await reader.read(Location(0, 5000, 7)) == big[5000:5007]
    assert await reader.read(Location(1, 17, 4)) == bytes(4)
    assert [length for _, _, length in objects.gets] == [7, 4]


async def test_a_location_outside_its_record_is_corruption(memory):
    writer = await claim(memory)
    await writer.commit([b"12345"])
    reader = await JournalReader.open(memory)
    for wrong in (Location(0, 3, 3), Location(0, -1, 2), Location(1, 0, 1), Location(-1, 0, 1)):
        with pytest.raises(CorruptionError, match="record"):
            await reader.read(wrong)


async def test_a_damaged_record_is_found_by_read(memory):
    writer = await claim(memory)
    await writer.commit([b"12345678"])
    reader = await JournalReader.open(memory)
    key = segment_key(reader.last_segment)
    data = bytearray(memory._held[key].data)
    data[-20] ^= 1
    memory._held[key].data = data
    for segment in reader.segments():
        segment.verified = bytearray(segment.count)
    with pytest.raises(CorruptionError, match=rf"{key}: .* at offset \d+"):
        await reader.read(Location(0, 0, 8))


async def test_the_writers_own_reader_knows_every_commit(memory):
    writer = await claim(memory, segment_bytes=900)
    want = []
    for i in range(9):
        want.append(b"%d" % i * 200)
        await writer.commit([want[-1], b""])
        await writer.reader.refresh()
        assert await writer.reader.read(Location(2 * i, 1, 3)) == want[-1][1:4]
    assert (await payloads(writer.reader))[::2] == want
    fresh = await JournalReader.open(memory)
    assert fresh.chain == writer.reader.chain


async def test_bytes_are_made_durable_before_they_are_believed():
    """R5: read the open segment to its end, sync it, see that nothing follows, and only then believe."""
    memory = MemoryObjects()
    steps = []

    class Watching(Wrapped):
        async def get(self, key, start=0, length=None):
            steps.append("get")
            return await self.inner.get(key, start, length)

        async def sync(self, key):
            steps.append(f"sync {key}")
            await self.inner.sync(key)

        async def head(self, key):
            steps.append(f"head {key}")
            return await self.inner.head(key)

    writer = await claim(memory)
    await writer.commit([b"1"])
    await JournalReader.open(Watching(memory))
    assert steps[-3:] == ["get", f"sync {segment_key(1)}", f"head {segment_key(2)}"]


async def test_a_claim_in_the_middle_of_a_look_makes_the_reader_look_again():
    memory = MemoryObjects()

    class Overtaken(Wrapped):
        done = False

        async def sync(self, key):
            if not self.done:
                self.done = True
                b = await claim(self.inner, "B")
                await b.commit([b"b"])
            await self.inner.sync(key)

    writer = await claim(memory)
    await writer.commit([b"a"])
    reader = await JournalReader.open(Overtaken(memory))
    assert await payloads(reader) == [b"a", b"b"]


async def link_empty(memory, number):
    """A claim that has not judged yet."""
    await memory.put(segment_key(number), pack_header(Header(number, 9, b"z" * 16, 0, "B")))


async def test_with_an_unjudged_claim_behind_it_only_what_was_appended_upon_counts():
    memory = MemoryObjects()
    writer = await claim(memory)
    await writer.commit([b"1"])
    await writer.commit([b"2"])
    old = await JournalReader.open(memory)
    await writer.commit([b"3", b"4"])
    await link_empty(memory, 2)
    fresh = await JournalReader.open(memory)
    assert await payloads(fresh) == [b"1", b"2"], "the last append may become void"
    await old.refresh()
    assert await payloads(old) == [b"1", b"2"]
    assert fresh.last_segment == 2
    c = await claim(memory, "C")
    assert c.epoch == 10
    for reader in (old, fresh):
        await reader.refresh()
        assert await payloads(reader) == [b"1", b"2", b"3", b"4"], "C judged: it was in time"


async def test_a_judgement_that_a_later_claim_may_void_is_not_believed():
    memory = MemoryObjects()
    writer = await claim(memory, "A")
    await writer.commit([b"1"])
    await writer.commit([b"2"])
    await claim(memory, "B")
    assert await payloads(memory) == [b"1", b"2"]
    await link_empty(memory, 3)
    assert await payloads(memory) == [b"1"], "B's judgement is its last append, and C has not judged it"
    await claim(memory, "C")
    assert await payloads(memory) == [b"1", b"2"]


async def test_what_a_reader_has_shown_it_goes_on_showing():
    memory = MemoryObjects()
    writer = await claim(memory)
    await writer.commit([b"1"])
    reader = await JournalReader.open(memory)
    await link_empty(memory, 2)
    await reader.refresh()
    assert await payloads(reader) == [b"1"]


async def test_a_judgement_against_what_was_shown_is_corruption():
    """It cannot happen while the rules are kept; if it does, it is not passed over."""
    memory = MemoryObjects()
    writer = await claim(memory, "A")
    await writer.commit([b"1"])
    await writer.commit([b"2"])
    reader = await JournalReader.open(memory)
    held = memory._held[segment_key(1)]
    whole = bytes(held.data)
    held.data = bytearray(whole[: 128 + records.record_bytes(1)])
    await claim(memory, "B")
    held.data = bytearray(whole)
    with pytest.raises(CorruptionError, match="does not accept committed bytes of segment 1"):
        await reader.refresh()


async def test_a_missing_segment_is_named(memory):
    for who in "ABC":
        writer = await claim(memory, who, segment_bytes=1)
        await writer.commit([who.encode()])
    await memory.delete_many([segment_key(2)])
    with pytest.raises(CorruptionError, match=f"{segment_key(2)}: the segment is missing"):
        await JournalReader.open(memory)


async def test_a_segment_that_vanishes_under_the_reader_means_start_again(memory):
    for who in "ABC":
        writer = await claim(memory, who)
        await writer.commit([who.encode()])
    reader = await JournalReader.open(memory)
    reader.let_go()  # of what it has fetched for its heads
    await memory.delete_many([segment_key(2)])
    with pytest.raises(SegmentGone, match="start again"):
        await payloads(reader)


async def test_a_damaged_chain_is_named(memory):
    for who in "ABC":
        writer = await claim(memory, who)
        await writer.commit([who.encode()])
    other = MemoryObjects(appendable=memory.appendable)
    for who in "XB":
        writer = await claim(other, who)
        await writer.commit([who.encode()])
    memory._held[segment_key(2)] = other._held[segment_key(2)]
    with pytest.raises(CorruptionError):
        await payloads(memory)


async def test_other_content_with_right_checksums_breaks_the_hash(memory):
    other = MemoryObjects(appendable=memory.appendable)
    for objects, payload in ((memory, b"true"), (other, b"fake")):
        await (await claim(objects, "A")).commit([payload])
        await (await claim(objects, "B")).commit([b"b"])
    key = segment_key(1 if memory.appendable else 2)
    memory._held[key] = other._held[key]
    with pytest.raises(CorruptionError, match=f"{key}: its hash is not the one that was accepted, at offset 0"):
        await payloads(memory)


async def test_a_judgement_with_another_chain_is_refused():
    memory = MemoryObjects()
    for who in "ABC":
        writer = await claim(memory, who)
        await writer.commit([who.encode()])
    held = memory._held[segment_key(3)]
    header = unpack_header(bytes(held.data)[:HEAD_BYTES], "k")
    accepted = Accepted([(2, 1, bytes(32))], 2, bytes(32))
    seed = records.seed_of(header.nonce)
    first = records.encode([encode_accepted(accepted)], kind=records.ACCEPTED, at=HEAD_BYTES, back=0, seq=2, seed=seed).data
    held.data = bytearray(pack_header(header) + first)
    with pytest.raises(CorruptionError, match=f"{segment_key(3)}: its `Accepted` record, at offset 128, does not fit"):
        await payloads(memory)


async def test_positions_spare_the_old_segments(memory):
    want = []
    for who in "ABCD":
        writer = await claim(memory, who, segment_bytes=1)
        for i in range(3):
            want.append(f"{who}{i}".encode())
            await writer.commit([want[-1], bytes(300)])
            want.append(bytes(300))
    first = await JournalReader.open(memory)
    await payloads(first)
    saved = Positions.decode(first.positions().encode())
    await writer.commit([b"new"])
    objects = Counting(memory)
    reader = await JournalReader.open(objects, saved)
    known = {s.key for s in first.determined()}
    assert not known & {key for key, _, _ in objects.gets}
    assert (reader.next_seq, reader.last_epoch) == (len(want) + 1, 4)
    assert await reader.read(Location(3, 0, 300)) == bytes(300)
    assert await payloads(reader) == [*want, b"new"]
    assert reader.chain == (await JournalReader.open(memory)).chain


def test_positions_that_are_none_are_refused():
    with pytest.raises(CorruptionError, match="no journal positions"):
        Positions.decode(b"\x93\x01\x02\x03")


async def test_a_reader_beside_a_busy_writer_shows_prefixes_only(tmp_path):
    objects = LocalObjects(tmp_path)
    writer = await claim(objects, segment_bytes=20_000)
    told = []

    async def write():
        for i in range(60):
            payload = b"%d." % i * (1 + i * 37 % 600)
            await writer.commit([payload])
            told.append(payload)
        await writer.close()

    async def look():
        reader = await JournalReader.open(objects)
        while not writing.done():
            before = len(told)
            await reader.refresh()
            shown = await payloads(reader)
            assert len(shown) >= before, "told means that every reader sees it"
            assert all(p == b"%d." % i * (1 + i * 37 % 600) for i, p in enumerate(shown))

    writing = asyncio.ensure_future(write())
    await look()
    await writing
    assert await payloads(objects) == told


async def test_two_hundred_thousand_records(tmp_path):
    objects = LocalObjects(tmp_path)
    writer = await claim(objects)
    for i in range(20):
        await writer.commit([b"%d" % (i * 10_000 + k) for k in range(10_000)])
    reader = await JournalReader.open(objects)
    count = 0
    async for seq, payload in reader.records():
        assert seq == int(payload)
        count += 1
    assert count == 200_000

"""Reading ahead: in order, bounded, and few round trips for journals of many small segments."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

from tests.kit.book import big_story
from tests.kit.journals import claim, payloads
from towline.engine.model import Location
from towline.stores import replay, snapshots
from towline.stores.journal import ahead, parts
from towline.stores.journal.ahead import in_order, spans
from towline.stores.journal.reader import JournalReader
from towline.stores.journal.segments import Segment
from towline.stores.objects.memory import MemoryObjects
from towline.stores.objects.wrappers import Counting, Latency
from towline.stores.store import Mark, Store


class Rounds:
    """A sleep that ends for all sleepers at once, when nobody else has anything to do: counts round trips, not time."""

    def __init__(self) -> None:
        self.count = 0
        self.most = 0
        self._waiting: list[asyncio.Future[None]] = []

    async def sleep(self, _seconds: float) -> None:
        future = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        if len(self._waiting) == 1:
            self._end_soon(0)
        await future

    def _end_soon(self, seen: int) -> None:
        loop = asyncio.get_running_loop()
        if seen != len(self._waiting):
            loop.call_later(0.002, self._end_soon, len(self._waiting))
            return
        self.count += 1
        self.most = max(self.most, len(self._waiting))
        ended, self._waiting = self._waiting, []
        for future in ended:
            if not future.done():
                future.set_result(None)


# ------------------------------------------------------------------------------------------------------------ in order


async def test_results_come_in_order_whatever_ends_first():
    gates = [asyncio.Event() for _ in range(5)]

    async def work(n):
        await gates[n].wait()
        return n * n

    found = []
    for gate in gates[1:]:
        gate.set()
    asyncio.get_running_loop().call_soon(gates[0].set)
    async for item, result in in_order(range(5), work):
        found.append((item, result))
    assert found == [(n, n * n) for n in range(5)]


@pytest.mark.parametrize(("most", "most_bytes", "limit"), [(3, 10**9, 3), (100, 25, 2), (100, 5, 1)])
async def test_what_is_under_way_is_bounded(most, most_bytes, limit):
    running = peak = 0

    async def work(n):
        nonlocal running, peak
        running += 1
        peak = max(peak, running)
        await asyncio.sleep(0)
        running -= 1
        return n

    found = [n async for n, _ in in_order(range(40), work, lambda n: 10, most=most, most_bytes=most_bytes)]
    assert found == list(range(40))
    assert peak == limit


async def test_a_failure_comes_in_its_turn_and_ends_the_rest():
    async def work(n):
        if n == 2:
            raise LookupError("the third")
        if n > 2:
            await asyncio.Event().wait()
        return n

    found = []
    with pytest.raises(LookupError, match="the third"):
        async for n, _ in in_order(range(6), work, most=4):
            found.append(n)
    assert found == [0, 1]
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_whoever_stops_early_leaves_nothing_running():
    async with aclosing(in_order(range(100), lambda n: asyncio.sleep(0, n))) as items:
        async for n, _ in items:
            if n == 3:
                break
    assert asyncio.all_tasks() == {asyncio.current_task()}


# --------------------------------------------------------------------------------------------------------------- spans


def segments_in(*places):
    """Segments (key, base, length), numbered from 1."""
    made = []
    for number, (key, base, length) in enumerate(places, 1):
        segment = Segment(number, 1, bytes(16), 0)
        segment.key, segment.base, segment.length = key or segment.key, base, length
        made.append(segment)
    return made


def test_neighbours_in_a_part_are_fetched_together():
    made = segments_in(("p1", 16, 10), ("p1", 26, 10), ("p1", 46, 10), ("p2", 16, 10), ("", 0, 10), ("", 0, 10))
    assert [[s.segment.number for s in span] for span in spans(made)] == [[1, 2], [3], [4], [5], [6]]
    assert [ahead.length_of(span) for span in spans(made)] == [20, 10, 10, 10, 10]


def test_up_to_a_size():
    made = segments_in(*[("p", 16 + 10 * n, 10) for n in range(7)], ("p", 86, 99), ("p", 185, 1))
    assert [[s.segment.number for s in span] for span in spans(made, 30)] == [[1, 2, 3], [4, 5, 6], [7], [8], [9]]


def test_an_open_segment_is_read_as_far_as_it_was_known():
    (segment,) = segments_in(("", 0, 10))
    (span,) = spans([segment])
    segment.length, segment.count = 99, 99
    assert (span[0].length, span[0].records) == (10, 0)


# ------------------------------------------------------------------------------------------------- journals of segments


async def small_segments(count):
    """A bucket with as many commits, each a segment of its own; and what they hold."""
    memory = MemoryObjects(appendable=False, clock=lambda: 1000.0)
    writer = await claim(memory)
    want = [b"%d" % n * 20 for n in range(count)]
    for payload in want:
        await writer.commit([payload])
    return memory, want


async def test_a_thousand_segments_are_read_in_a_few_dozen_round_trips_and_once_each():
    memory, want = await small_segments(1000)
    rounds, counting = Rounds(), Counting(memory)
    slow = Latency(counting, 0.03, sleep=rounds.sleep)
    assert await payloads(slow) == want
    assert rounds.count <= 1000 / ahead.IN_FLIGHT * 1.5 + 10
    assert rounds.most <= ahead.IN_FLIGHT
    assert counting.tally.requests["get"] <= 1000 + 5


async def test_what_was_fetched_for_later_is_let_go(monkeypatch):
    memory, want = await small_segments(60)
    reader = await JournalReader.open(memory)
    assert sum(map(len, reader._kept.values())) > 60 * 40
    reader.let_go()
    assert reader._kept == {}
    assert await payloads(reader) == want
    monkeypatch.setattr("towline.stores.journal.reader._KEPT_BYTES", 2000)
    few = await JournalReader.open(memory)
    assert 0 < sum(map(len, few._kept.values())) <= 2000
    assert await payloads(few) == want


async def test_a_claim_reads_no_more_than_its_caller_has_not_read():
    memory, want = await small_segments(200)
    counting = Counting(memory)
    reader = await JournalReader.open(counting)
    before = counting.tally.requests["get"]
    writer = await claim(counting, "B", reader=reader)
    assert writer.reader is reader
    assert counting.tally.requests["get"] - before <= 3
    assert await payloads(reader) == want
    await writer.commit([b"on"])
    assert await payloads(memory) == [*want, b"on"]


async def test_parts_of_small_segments_are_read_in_few_requests():
    memory, want = await small_segments(500)
    reader = await JournalReader.open(memory)
    (made,) = await parts.make_part(memory, reader, reader.next_seq)
    assert await parts.drop_segments(memory, len(want), grace_s=1.0, now=5000.0)
    counting = Counting(memory)
    fresh = await JournalReader.open(counting)
    assert fresh.compacted == fresh.last_segment - 1
    assert await payloads(fresh) == want
    assert counting.tally.total < 20
    assert await fresh.read(Location(7, 0, 5)) == want[7][:5]
    assert [m.key async for m in memory.list("parts/")] == [made]


@pytest.mark.parametrize("put_bytes", [1, 1 << 30])
async def test_a_part_is_the_same_put_whole_or_in_pieces(monkeypatch, put_bytes):
    memory, want = await small_segments(40)
    monkeypatch.setattr(parts, "PUT_BYTES", put_bytes)
    reader = await JournalReader.open(memory)
    (key,) = await parts.make_part(memory, reader, reader.next_seq)
    assert await payloads(memory) == want
    other, _ = await small_segments(40)
    await parts.make_part(other, await JournalReader.open(other), reader.next_seq)
    assert await memory.get(key) == await other.get(key)


async def test_a_damaged_segment_goes_into_no_part():
    memory, _ = await small_segments(10)
    memory._held["journal/00000000000000000004.seg"].data = bytearray(await memory.get("journal/00000000000000000004.seg"))
    memory._held["journal/00000000000000000004.seg"].data[-10] ^= 1
    reader = await JournalReader.open(memory)
    with pytest.raises(Exception, match=r"0004.seg: .* at offset"):
        await parts.make_part(memory, reader, reader.next_seq)
    assert [m.key async for m in memory.list("parts/")] == []


async def test_a_restore_from_a_bucket_takes_few_round_trips(monkeypatch):
    """A run of 20,000 jobs in as many commits as its records, once as it was left, once after a snapshot."""
    monkeypatch.setattr(snapshots, "PIECE_BYTES", 100_000)
    memory = MemoryObjects(appendable=False, clock=lambda: 1000.0)
    book = big_story(20_000)
    writer = await claim(memory)
    for payload in book.payloads:
        await writer.commit([payload])
    rounds, counting = Rounds(), Counting(memory)
    slow = Latency(counting, 0.03, sleep=rounds.sleep)

    async def restored():
        reader = await JournalReader.open(slow)
        return (await replay.restore(Store(slow, Mark(1, "u", "0")), reader)).ledger

    ledger = await restored()
    assert ledger.counts == book.ledger.counts
    assert rounds.count <= 20
    made = await snapshots.make(Store(memory, Mark(1, "u", "0")))
    await writer.commit([book.named(*made)])
    assert [m.key async for m in memory.list("parts/")]
    rounds.count = 0
    counting.tally.requests.clear()
    assert (await restored()).counts == ledger.counts
    assert rounds.count <= 20
    assert counting.tally.total < len(book.payloads)

"""Pieces keep their order and their bytes; what is given up has ended when the giver-up goes on."""

from __future__ import annotations

import asyncio
import threading
from contextlib import aclosing
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.kit.objects_contract import collected
from towline.stores.objects.memory import MemoryObjects
from towline.stores.objects.streaming import copy_streamed, end, gathered, in_order, in_thread, joined, regrouped, settle


async def stream(pieces):
    for piece in pieces:
        yield piece


PIECES = st.lists(st.binary(max_size=30) | st.binary(max_size=30).map(memoryview), max_size=12)


@given(PIECES, st.integers(1, 40))
@settings(max_examples=60, deadline=None)
def test_parts_are_of_one_size(pieces, size):
    async def run():
        return [part async for part in regrouped(stream(pieces), size)]

    parts = asyncio.run(run())
    assert b"".join(parts) == b"".join(pieces)
    assert all(len(part) == size for part in parts[:-1])
    assert all(0 < len(part) <= size for part in parts)


@given(PIECES, st.integers(1, 40))
@settings(max_examples=60, deadline=None)
def test_batches_are_large_enough_and_not_larger_than_need_be(pieces, size):
    async def run():
        return [batch async for batch in gathered(stream(pieces), size)]

    batches = asyncio.run(run())
    assert [piece for batch in batches for piece in batch] == pieces
    for batch in batches[:-1]:
        assert len(b"".join(batch)) >= size > len(b"".join(batch[:-1]))


def test_a_whole_bytes_object_is_not_copied():
    data = bytes(10)
    assert joined([memoryview(data)]) is data
    assert joined([memoryview(data)[1:]]) == data[1:]
    changing = bytearray(b"abc")
    part = joined([memoryview(changing)])
    changing[0] = 0
    assert part == b"abc"


async def test_settling_waits_for_what_ends_by_itself_and_cancels_the_rest():
    gate, ended = asyncio.Event(), []

    async def quick():
        await gate.wait()
        ended.append("quick")

    async def broken():
        await gate.wait()
        raise ZeroDivisionError

    tasks = [asyncio.ensure_future(work) for work in (quick(), broken(), asyncio.Event().wait())]
    settling = asyncio.ensure_future(settle(tasks[:2], 60))
    for _ in range(3):
        await asyncio.sleep(0)
        settling.cancel()
    assert not settling.done()
    gate.set()
    await asyncio.wait([settling])
    assert ended == ["quick"]
    await settle(tasks, 0)
    assert tasks[2].cancelled()
    await settle([], 60)


async def test_a_source_is_closed_when_the_target_fails():
    closed = []

    class Source(MemoryObjects):
        async def download(self, key, start=0, length=None):
            try:
                yield b"1"
            finally:
                closed.append(key)

    class Target(MemoryObjects):
        async def upload(self, key, pieces, when=None):
            await anext(pieces)
            raise OSError("full")

    with pytest.raises(OSError, match="full"):
        await copy_streamed(Source(), "a", Target(), "b")
    assert closed == ["a"]


async def test_calls_overlap_and_their_results_keep_their_order():
    doors = [asyncio.Event() for _ in range(6)]
    begun = []

    async def call(number):
        begun.append(number)
        await doors[number].wait()
        return number

    async with aclosing(in_order((partial(call, n) for n in range(6)), 3)) as results:
        first = asyncio.ensure_future(anext(results))
        while len(begun) < 3:
            await asyncio.sleep(0)
        for number in (2, 1, 4, 5):
            doors[number].set()
        await asyncio.sleep(0)
        assert (begun, first.done()) == ([0, 1, 2], False)
        doors[0].set()
        doors[3].set()
        assert await first == 0
        assert [n async for n in results] == [1, 2, 3, 4, 5]


async def test_no_call_no_result():
    assert [n async for n in in_order(iter([]), 3)] == []


async def test_a_failed_call_ends_the_others():
    ended = []

    async def call(number):
        try:
            if number == 1:
                raise ValueError(number)
            if number > 1:
                await asyncio.Event().wait()
            return number
        finally:
            ended.append(number)

    before = asyncio.all_tasks()
    results = in_order((partial(call, n) for n in range(9)), 3)
    assert await anext(results) == 0
    with pytest.raises(ValueError, match="1"):
        await anext(results)
    assert sorted(ended) == [0, 1, 2]  # the fourth was called off before it began
    assert asyncio.all_tasks() == before


async def test_a_cancelled_caller_waits_for_its_thread():
    go, done = threading.Event(), []

    def work():
        go.wait()
        done.append(True)

    task = asyncio.create_task(in_thread(work))
    await asyncio.sleep(0)
    for _ in range(3):  # again and again: it must not be talked into leaving
        task.cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert not task.done()
    go.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert done == [True]


async def test_threads_return_and_raise():
    assert await in_thread(int, "7") == 7
    with pytest.raises(ValueError, match="x"):
        await in_thread(int, "x")


async def test_end_hears_what_nobody_asked_for(caplog):
    async def fail():
        raise ValueError

    task = asyncio.create_task(fail())
    await asyncio.sleep(0)
    await end([task])
    assert task.done()
    assert await collected(stream([])) == b""

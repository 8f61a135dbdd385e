"""Many at once: bounded, in order, told of, and all ended when one fails."""

from __future__ import annotations

import asyncio

import pytest

from towline.stores.transfer.bulk import Progress, many


async def test_results_are_in_the_order_of_the_names():
    gates = [asyncio.Event() for _ in range(5)]

    async def act(number, moved):
        if number + 1 < 5:
            await gates[number + 1].wait()  # each waits for the one after it
        gates[number].set()
        return number * 10

    assert await many(range(5), act, parallel=5) == [0, 10, 20, 30, 40]


async def test_no_more_than_asked_for_run_at_once():
    running = most = 0

    async def act(number, moved):
        nonlocal running, most
        running += 1
        most = max(most, running)
        for _ in range(3):
            await asyncio.sleep(0)
        running -= 1

    await many(range(50), act, parallel=3)
    assert most == 3


async def test_nothing_to_do():
    assert await many([], None) == []


async def test_progress_is_told_as_it_comes():
    told = []

    async def act(name, moved):
        moved(2)
        moved(5)

    await many(["a", "b"], act, parallel=1, progress=told.append, shown=str.upper)
    assert told == [
        Progress("A", 2, False, 0, 2, 2),
        Progress("A", 5, False, 0, 2, 5),
        Progress("A", 5, True, 1, 2, 5),
        Progress("B", 2, False, 1, 2, 7),
        Progress("B", 5, False, 1, 2, 10),
        Progress("B", 5, True, 2, 2, 10),
    ]


async def test_the_first_failure_ends_the_others_and_is_raised():
    begun, ended = [], []

    async def act(number, moved):
        begun.append(number)
        try:
            if number == 1:
                raise ZeroDivisionError
            await asyncio.Event().wait()
        finally:
            ended.append(number)

    with pytest.raises(ZeroDivisionError):
        await many(range(10), act, parallel=3)
    assert sorted(begun) == sorted(ended)
    assert len(begun) == 3


async def test_who_gives_up_leaves_none_running():
    ended = []

    async def act(number, moved):
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(number)

    task = asyncio.ensure_future(many(range(4), act, parallel=2))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert sorted(ended) == [0, 1]

"""Many transfers at once, each told of as it moves: some connections in parallel, results in the order of the names.

Stores only call back; who shows a bar is the command line's affair. A callback runs in the event loop: it must not block.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple, TypeVar

from towline.stores.objects.streaming import end

N = TypeVar("N")
T = TypeVar("T")

PARALLEL = 8
"""Transfers at once, by default: each holds a few parts in memory."""


class Progress(NamedTuple):
    """How far it has come."""

    name: str
    """Of the transfer that moved, without secrets."""
    name_bytes: int
    """It has moved so many."""
    name_done: bool
    """It has ended."""
    done: int
    """Transfers that have ended."""
    of: int
    """Transfers in all."""
    bytes: int
    """Moved in all."""


Tell = Callable[[Progress], None]
Act = Callable[[N, Callable[[int], None]], Awaitable[T]]
"""One transfer: of a name, telling how many bytes of it have moved."""


async def many(
    names: Sequence[N], act: Act[N, T], *, parallel: int = PARALLEL, progress: Tell | None = None, shown: Callable[[N], str] = str
) -> list[T]:
    """Do all, `parallel` at once; the results in the order of the names.

    The first failure ends the others and is raised when they have ended; what had ended well before it has happened.
    """
    course = _Course(len(names), progress or (lambda told: None))
    waiting = iter(list(enumerate(names)))
    results: dict[int, T] = {}

    async def work() -> None:
        for number, name in waiting:
            results[number] = await act(name, course.moved(number, shown(name)))
            course.ended(number, shown(name))

    tasks = [asyncio.ensure_future(work()) for _ in range(min(parallel, len(names)))]
    try:
        if tasks:
            ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
            for task in ended:
                task.result()
    finally:
        await end(tasks)
    return [results[number] for number in range(len(names))]


class _Course:
    """What was told so far."""

    def __init__(self, of: int, tell: Tell) -> None:
        self._of = of
        self._tell = tell
        self._at: dict[int, int] = {}
        self._bytes = 0
        self._done = 0

    def moved(self, number: int, name: str) -> Callable[[int], None]:
        def told(at: int) -> None:
            self._bytes += at - self._at.get(number, 0)
            self._at[number] = at
            self._tell(Progress(name, at, False, self._done, self._of, self._bytes))

        return told

    def ended(self, number: int, name: str) -> None:
        self._done += 1
        self._tell(Progress(name, self._at.pop(number, 0), True, self._done, self._of, self._bytes))

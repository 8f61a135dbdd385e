"""What the streaming verbs of all places for bytes have in common: order, bounds, and ends that leave nothing running.

Each helper holds a bounded number of pieces, and none returns before what it began has come to an end: a thread that still
writes to a file, or a request that still fills a buffer, must not outlive the call that a caller has given up. A piece belongs
to whoever took it: the one who made it may not change it any more.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Iterable, Sequence
from contextlib import aclosing, suppress
from typing import ParamSpec, TypeVar

from towline.stores.objects.base import OVERWRITE, Objects, Version, When

P = ParamSpec("P")
T = TypeVar("T")

Piece = bytes | memoryview


async def copy_streamed(source: Objects, source_key: str, target: Objects, key: str, when: When | Version = OVERWRITE) -> Version:
    """`Objects.copy` through this process: for any two places."""
    async with aclosing(source.download(source_key)) as pieces:
        return await target.upload(key, pieces, when)


async def gathered(pieces: AsyncIterable[Piece], size: int) -> AsyncGenerator[list[Piece], None]:
    """Small pieces together, uncopied: at least `size` bytes at a time, but for the last ones. No piece, no batch."""
    batch: list[Piece] = []
    held = 0
    async for piece in pieces:
        batch.append(piece)
        held += memoryview(piece).nbytes
        if held >= size:
            yield batch
            batch, held = [], 0
    if batch:
        yield batch


async def regrouped(pieces: AsyncIterable[Piece], size: int) -> AsyncGenerator[bytes, None]:
    """The same bytes in parts of exactly `size`, but for the last one; no part is empty. One copy, and none of a piece that is a
    part already."""
    part: list[memoryview] = []
    held = 0
    async for piece in pieces:
        rest = memoryview(piece).cast("B")
        while held + len(rest) >= size:
            cut = size - held
            yield joined([*part, rest[:cut]])
            part, held, rest = [], 0, rest[cut:]
        if len(rest):
            part.append(rest)
            held += len(rest)
    if part:
        yield joined(part)


def joined(views: Sequence[memoryview]) -> bytes:
    """These bytes in one; uncopied if they are all of a bytes object."""
    if len(views) == 1 and isinstance(views[0].obj, bytes) and len(views[0].obj) == len(views[0]):
        return views[0].obj
    return b"".join(views)


async def in_order(calls: Iterable[Callable[[], Awaitable[T]]], width: int) -> AsyncGenerator[T, None]:
    """The results in the order of the calls, of which up to `width` are under way or wait to be taken."""
    running: deque[asyncio.Future[T]] = deque()
    try:
        for call in calls:
            running.append(asyncio.ensure_future(call()))
            while len(running) >= width:
                yield await _first(running)
        while running:
            yield await _first(running)
    finally:
        await end(running)


async def _first(running: deque[asyncio.Future[T]]) -> T:
    done = await running[0]
    running.popleft()
    return done


async def end(running: Iterable[asyncio.Future[T]]) -> None:
    """Cancel these and wait until they have ended, whatever they say and however often the caller is cancelled."""
    for task in (tasks := list(running)):
        task.cancel()
    await _ended(tasks)
    for task in tasks:
        if not task.cancelled():
            task.exception()


async def settle(running: Iterable[asyncio.Future[T]], within_s: float) -> None:
    """Let these come to an end by themselves, and `end` those that take longer.

    A request that is broken off may have arrived, and be carried out when the caller has tidied up behind it.
    """
    tasks = list(running)
    if tasks:
        waiting = asyncio.ensure_future(asyncio.wait(tasks, timeout=within_s))
        await _ended([waiting])
    await end(tasks)


async def _ended(tasks: Sequence[asyncio.Future[T]]) -> None:
    while waiting := [task for task in tasks if not task.done()]:
        with suppress(asyncio.CancelledError):
            await asyncio.wait(waiting)


async def in_thread(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """As `asyncio.to_thread`, but a cancelled caller is held until the thread has come to its end: only then may what it uses be
    let go."""
    running = asyncio.ensure_future(asyncio.to_thread(work, *args, **kwargs))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await _ended([running])
        if not running.cancelled():
            running.exception()
        raise

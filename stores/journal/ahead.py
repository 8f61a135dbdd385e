"""Reading ahead: many requests under way at once, their answers in order, and what lies side by side in one request.

A bucket answers after tens of milliseconds, whatever it is asked. A journal there is thousands of small segments, so they are
fetched some dozens at a time; and once they are gathered in a part, neighbours are fetched together.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator
from typing import NamedTuple, TypeVar

from towline.stores.journal.segments import Segment, segment_key

T = TypeVar("T")
R = TypeVar("R")

IN_FLIGHT = 32
"""Requests under way at once."""
IN_FLIGHT_BYTES = 128 << 20
"""What they may bring, unless a single one brings more."""
SPAN_BYTES = 8 << 20
"""Neighbours in a part are fetched together up to this size."""


async def in_order(
    todo: Iterable[T],
    work: Callable[[T], Awaitable[R]],
    size: Callable[[T], int] = lambda _: 0,
    *,
    most: int = IN_FLIGHT,
    most_bytes: int = IN_FLIGHT_BYTES,
) -> AsyncGenerator[tuple[T, R], None]:
    """Each item with what `work` made of it, in order; several are worked on ahead. `size`: bytes that an item's work holds.

    What `work` raises is raised in its turn; what was begun behind it is cancelled.
    """
    left, ahead, held = iter(todo), deque[tuple[T, int, asyncio.Future[R]]](), 0
    item = next(left, None)
    try:
        while item is not None or ahead:
            while item is not None and (not ahead or (len(ahead) < most and held + size(item) <= most_bytes)):
                held += (weight := size(item))
                ahead.append((item, weight, asyncio.ensure_future(work(item))))
                item = next(left, None)
            done, weight, task = ahead[0]
            result = await task
            ahead.popleft()
            held -= weight
            yield done, result
    finally:
        for _, _, task in ahead:
            task.cancel()
        await asyncio.gather(*(task for _, _, task in ahead), return_exceptions=True)


class Stretch(NamedTuple):
    """Accepted bytes of one segment, as they were known when the reading was planned: the open one goes on growing."""

    segment: Segment
    length: int
    records: int


Span = list[Stretch]
"""Stretches that one request brings."""


def length_of(span: Span) -> int:
    """Bytes of a span."""
    return sum(stretch.length for stretch in span)


def spans(segments: Iterable[Segment], most: int = SPAN_BYTES) -> Iterator[Span]:
    """The segments as they are to be fetched: neighbours in one part together, all others alone."""
    span: Span = []
    end, total = 0, 0
    for segment in segments:
        stretch = Stretch(segment, segment.length, segment.count)
        beside = span and segment.key == span[0].segment.key and segment.base == end and not _is_alone(segment)
        if span and not (beside and total + segment.length <= most):
            yield span
            span, total = [], 0
        span.append(stretch)
        total += segment.length
        end = segment.base + segment.length
    if span:
        yield span


def _is_alone(segment: Segment) -> bool:
    return segment.key == segment_key(segment.number)

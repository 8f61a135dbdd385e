"""The ready queue and the delayed heap: who may go next (P5), and when the next one may.

Both delete lazily: a job that was paused, stopped or adopted while it stood here is skipped when it comes up, because its
state is no longer READY (or DELAYED). That makes removal free and keeps every operation O(1) (O(log n) for delays).
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable


class ReadyQueue:
    """Rows by priority (0..255, higher first), first in, first out within one."""

    def __init__(self) -> None:
        self._lanes: dict[int, deque[int]] = {}
        self._order: list[int] = []
        """Priorities in use, highest first."""

    def _lane(self, priority: int) -> deque[int]:
        lane = self._lanes.get(priority)
        if lane is None:
            lane = self._lanes[priority] = deque()
            self._order = sorted(self._lanes, reverse=True)
        return lane

    def push(self, row: int, priority: int) -> None:
        """Behind all others of this priority."""
        self._lane(priority).append(row)

    def extend(self, rows: Iterable[int], priority: int) -> None:
        """Many at once, in order."""
        self._lane(priority).extend(rows)

    def push_back(self, row: int, priority: int) -> None:
        """In front of all others of this priority: it had its turn before and comes back."""
        self._lane(priority).appendleft(row)

    def lanes(self) -> list[deque[int]]:
        """The lanes, highest priority first. The caller pops from their left ends."""
        return [self._lanes[p] for p in self._order]

    def __len__(self) -> int:
        return sum(map(len, self._lanes.values()))


class DelayHeap:
    """Rows that will be ready at a known wall time."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int]] = []

    def push(self, until: float, row: int) -> None:
        heapq.heappush(self._heap, (until, row))

    def first(self) -> float | None:
        """When the next one is due, or None."""
        return self._heap[0][0] if self._heap else None

    def pop_due(self, wall: float) -> list[int]:
        """Everything due at `wall`."""
        due = []
        while self._heap and self._heap[0][0] <= wall:
            due.append(heapq.heappop(self._heap)[1])
        return due

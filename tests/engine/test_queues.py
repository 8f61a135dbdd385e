"""Who goes next: priority, then first in first out; and when the next delayed one is due."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from towline.engine.queues import DelayHeap, ReadyQueue


def drain(queue: ReadyQueue) -> list[int]:
    return [lane.popleft() for lane in queue.lanes() for _ in range(len(lane))]


@given(st.lists(st.tuples(st.integers(0, 255), st.booleans()), max_size=40))
def test_the_order_is_priority_then_arrival(pushes: list[tuple[int, bool]]) -> None:
    queue, model = ReadyQueue(), list[tuple[int, int, int]]()
    for row, (priority, back) in enumerate(pushes):
        if back:
            queue.push_back(row, priority)
        else:
            queue.push(row, priority)
        model.append((-priority, -row if back else row + 1, row))
    assert len(queue) == len(pushes)
    assert drain(queue) == [row for _, _, row in sorted(model)]
    assert len(queue) == 0


def test_many_at_once_keep_their_order() -> None:
    queue = ReadyQueue()
    queue.extend([5, 3, 4], 7)
    queue.push(1, 200)
    queue.extend([9], 7)
    assert drain(queue) == [1, 5, 3, 4, 9]


@given(st.lists(st.tuples(st.floats(0, 100), st.integers(0, 9)), max_size=30), st.floats(0, 100))
def test_due_are_exactly_those_whose_time_has_come(pushes: list[tuple[float, int]], at: float) -> None:
    heap = DelayHeap()
    assert heap.first() is None
    for until, row in pushes:
        heap.push(until, row)
    due = heap.pop_due(at)
    assert due == [row for until, row in sorted(pushes) if until <= at]
    later = sorted(until for until, _ in pushes if until > at)
    assert heap.first() == (later[0] if later else None)

"""Plans of leases: order, share, budget, and what is towed."""

from __future__ import annotations

from collections import deque
from collections.abc import Container

import pytest

from tests.kit.builders import chunk, graph_of, spec
from towline.engine import ropes
from towline.engine.graph import Graph
from towline.engine.model import Chunk
from towline.engine.ropes import Planned
from towline.engine.states import JobState

S = JobState


def planned(
    graph: Graph, ready: list[int], *, seconds: float = 1e-5, target: float = 1.0, alone: Container[int] = ()
) -> list[Planned]:
    for row in ready:
        graph.state[row] = S.READY
    return ropes.plan(graph, [deque(ready)], 10**6, [0, 0], [seconds], [True, False], target, alone)


def rows(plan: list[Planned]) -> list[int]:
    return [one.row for one in plan]


def graph(parents: list[list[int]] | int, **what: object) -> Graph:
    made: Chunk = chunk(parents, **what)  # type: ignore[arg-type]  # as given
    return graph_of(made)


def test_ready_jobs_are_taken_in_the_order_of_the_lanes() -> None:
    one = graph(6)
    for row in range(6):
        one.state[row] = S.READY
    lanes = [deque([4, 2]), deque([5, 0, 1, 3])]
    assert rows(ropes.plan(one, lanes, 4, [0], [1e-5], [True])) == [4, 2, 5, 0]
    assert [list(lane) for lane in lanes] == [[], [1, 3]]
    assert [one.state[row] for row in (4, 2, 5, 0)] == [S.LEASED] * 4
    assert [one.state[row] for row in (1, 3)] == [S.READY] * 2


def test_what_is_ready_no_longer_is_skipped_and_a_row_is_taken_once() -> None:
    one = graph(3)
    one.state[1] = S.STOPPED
    for row in (0, 2):
        one.state[row] = S.READY
    assert rows(ropes.plan(one, [deque([0, 1, 0, 2, 2])], 9, [0], [1e-5], [True])) == [0, 2]


def test_a_budget_of_time_ends_the_lease() -> None:
    assert rows(planned(graph(10), list(range(10)), seconds=0.25, target=1.0)) == [0, 1, 2, 3]
    assert rows(planned(graph(10), list(range(10)), seconds=5.0, target=1.0)) == [0], "one job always goes"


def test_a_chain_goes_in_one_lease_as_far_as_the_budget_reaches() -> None:
    chain = [[i - 1] if i else [] for i in range(10)]
    plan = planned(graph(chain), [0])
    assert plan == [Planned(0, []), *[Planned(i, [i - 1]) for i in range(1, 10)]]
    assert rows(planned(graph(chain), [0], seconds=0.25)) == [0, 1, 2, 3]


def test_a_towed_job_is_leased_at_once() -> None:
    one = graph([[], [0]])
    planned(one, [0])
    assert list(one.state) == [S.LEASED, S.LEASED]


def test_of_a_fan_out_one_child_is_towed() -> None:
    plan = planned(graph([[], *[[0]] * 5]), [0])
    assert len(plan) == 2
    assert plan[1].needs == [0]


def test_a_fan_in_is_towed_when_all_its_parents_are_in_the_lease() -> None:
    shape = [[], [], [], [0, 1, 2]]
    assert planned(graph(shape), [0, 1, 2])[3] == Planned(3, [0, 1, 2])
    assert rows(planned(graph(shape), [0, 1])) == [0, 1]


def test_a_parent_that_is_done_counts_as_in_hand() -> None:
    one = graph([[], [], [0, 1]])
    one.state[0] = S.COMPLETED
    one.pending[2] = 1
    assert planned(one, [1]) == [Planned(1, []), Planned(2, [1])]


def test_of_a_stencil_a_trapezoid_is_towed() -> None:
    width, height = 5, 4
    shape = [[]] * width + [
        [(step - 1) * width + at for at in (x - 1, x, x + 1) if 0 <= at < width]
        for step in range(1, height)
        for x in range(width)
    ]
    plan = planned(graph(shape), [0, 1, 2])
    by_step = [sorted(row % width for row in rows(plan) if row // width == step) for step in range(height)]
    assert by_step == [[0, 1, 2], [0, 1], [0], []]
    for one in plan[3:]:
        assert one.needs == shape[one.row], "parents in the lease, all of them"
        assert all(rows(plan).index(need) < rows(plan).index(one.row) for need in one.needs)


@pytest.mark.parametrize("state", sorted(set(JobState) - {S.WAITING}))
def test_only_waiting_children_are_towed(state: JobState) -> None:
    one = graph([[], [0]])
    one.state[1] = state
    assert rows(planned(one, [0])) == [0]


def test_a_job_that_waits_for_committed_inputs_is_not_towed() -> None:
    one = graph([[], [0]], specs=[spec("a"), spec("b", release="committed")], spec_of=[0, 1])
    assert rows(planned(one, [0])) == [0]


def test_suspects_are_neither_taken_nor_towed() -> None:
    one = graph([[], [], [0], [1]])
    assert rows(planned(one, [0, 1], alone={0, 3})) == [1]
    assert one.state[0] == S.READY


def test_a_lease_has_an_end() -> None:
    n = ropes.MOST_JOBS + 100
    plan = planned(graph([[i - 1] if i else [] for i in range(n)]), [0], seconds=0.0)
    assert len(plan) == ropes.MOST_JOBS

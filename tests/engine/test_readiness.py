"""Which jobs may go: gates, delays, suspects; the counts stay in step with the states."""

from __future__ import annotations

import pytest

from tests.kit.builders import chunk, spec
from towline.engine import model
from towline.engine.ledger import Ledger
from towline.engine.prices import Prices
from towline.engine.readiness import Readiness
from towline.engine.states import JobState

S = JobState


@pytest.fixture
def ledger() -> Ledger:
    """Rows 0..3 are free, 4 waits for 0, 5 is free and wants committed inputs."""
    made = Ledger()
    specs = [spec("a"), spec("b", release="committed")]
    one = chunk([[], [], [], [], [0], []], specs=specs, spec_of=[0, 0, 0, 0, 0, 1])
    made.apply(0, b"", model.Added(0, 0.0, one))
    return made


def plan(ledger: Ledger, readiness: Readiness, workers: int = 1) -> list[int]:
    prices = Prices()
    prices.refresh(ledger)
    prices.seconds[:] = [1e-6]
    found = [one.row for one in readiness.plan(prices, workers)]
    for state in JobState:
        assert ledger.counts[state] == ledger.graph.state.count(state)
    return found


def test_after_a_restore_all_that_waits_for_nobody_is_ready(ledger: Ledger) -> None:
    ledger.become(1, S.STOPPED)
    readiness = Readiness(ledger)
    readiness.settle()
    assert [S(state).label for state in ledger.graph.state] == ["ready", "stopped", "ready", "ready", "waiting", "ready"]
    assert ledger.counts[S.READY] == 4
    assert not readiness.gated


def test_a_share_is_half_of_a_worker_s_part(ledger: Ledger) -> None:
    readiness = Readiness(ledger)
    assert plan(ledger, readiness) == []
    readiness.free([0, 1, 2, 3], 0, 0)
    assert plan(ledger, readiness) == [0, 1, 4], "and a child of one of them"
    assert plan(ledger, readiness, workers=9) == [2]


def test_what_comes_back_goes_to_the_front(ledger: Ledger) -> None:
    readiness = Readiness(ledger)
    readiness.free([1, 2], 0, 0)
    readiness.free([3], 0, 0, front=True)
    assert [plan(ledger, readiness) for _ in range(3)] == [[3], [1], [2]]


def test_who_wants_committed_inputs_waits_for_all_that_is_appended(ledger: Ledger) -> None:
    readiness = Readiness(ledger)
    readiness.free([3, 5], 7, 6)
    assert readiness.gated
    assert plan(ledger, readiness) == [3]
    readiness.open_gates(6)
    assert plan(ledger, readiness) == []
    readiness.open_gates(7)
    assert not readiness.gated
    assert plan(ledger, readiness) == [5]


def test_gates_open_in_their_order_and_only_for_who_still_waits(ledger: Ledger) -> None:
    readiness = Readiness(ledger)
    readiness.hold_back([0, 1, 4], 2)
    readiness.hold_back([2], 3)
    ledger.become(1, S.STOPPED)
    readiness.open_gates(2)
    assert [row for row in range(6) if ledger.graph.state[row] == S.READY] == [0]
    readiness.open_gates(3)
    assert [row for row in range(6) if ledger.graph.state[row] == S.READY] == [0, 2]


def test_a_delayed_row_is_due_at_its_time_unless_it_ended_meanwhile(ledger: Ledger) -> None:
    readiness = Readiness(ledger)
    for row, at in ((0, 5.0), (1, 4.0), (2, 9.0)):
        ledger.become(row, S.READY)
        ledger.become(row, S.DELAYED)
        ledger.until[row] = at
        readiness.delay(row, at)
    ledger.become(1, S.STOPPED)
    assert readiness.next_due == 4.0
    assert readiness.due(3.9) == []
    assert readiness.due(5.0) == [0]
    assert S(ledger.graph.state[0]) is S.WAITING
    assert ledger.until == {1: 4.0, 2: 9.0}
    assert readiness.next_due == 9.0


def test_suspects_stand_apart(ledger: Ledger) -> None:
    ledger.suspects |= {0, 2, 3}
    readiness = Readiness(ledger)
    readiness.free([0, 1, 2, 3], 0, 0)
    ledger.become(0, S.STOPPED)
    assert plan(ledger, readiness) == [1]
    assert [readiness.next_suspect() for _ in range(3)] == [2, 3, None]
    assert [S(ledger.graph.state[row]) for row in (2, 3)] == [S.LEASED] * 2

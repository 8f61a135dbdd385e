"""Which rows a verb changes, when, and what is told of it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.kit.builders import chunk
from towline.engine import model
from towline.engine.effects import Send, Tell
from towline.engine.events import Steer
from towline.engine.leases import Session
from towline.engine.ledger import Ledger
from towline.engine.states import ENDED, HELD, JobState
from towline.engine.steering import Steering

STOPPED = int(JobState.STOPPED)


class Deck:
    """Rows in given states, held by one worker where they are HELD; records change states as the core's do."""

    def __init__(self, *states: JobState) -> None:
        self.ledger = Ledger()
        self._seq = 0
        self.records: list[Any] = []
        self.said: list[Any] = []
        self.append(model.Added(0, 1.0, chunk(len(states))))
        self.records.clear()
        self.ledger.graph.state[:] = bytes(states)
        for state in states:
            self.ledger.counts[state] += 1
        self.worker = Session("w1", 0, 0.0, 9.0)
        self.worker.held = {row: None for row, state in enumerate(states) if state in HELD}
        self.steering = Steering(self.ledger, {"w1": self.worker}, self.append, self.said.append)

    def append(self, record: Any) -> None:
        self.records.append(record)
        self.ledger.apply(self._seq, model.encode(record), record)
        self._seq += 1

    def order(self, *rows: int, sure: bool = True) -> None:
        assert not self.steering.order(Steer(5, "stop", list(rows)), 2.0, sure=sure)

    def become(self, row: int, state: JobState) -> None:
        self.ledger.become(row, state)
        if state not in HELD:
            del self.worker.held[row]
        self.steering.settle(3.0)


@pytest.mark.parametrize("state", set(JobState) - {JobState.LEASED})
def test_a_named_job_is_stopped_if_it_has_not_begun(state: JobState) -> None:
    deck = Deck(state)
    deck.order(0, 0)
    may = state not in ENDED | HELD
    assert deck.said == [Tell(5, True, {"stopped": [0] if may else []})]
    assert deck.records == ([model.Steered("stop", b"\0\0\0\0", STOPPED, 2.0)] if may else [])


def test_what_a_worker_has_not_begun_is_asked_back() -> None:
    deck = Deck(JobState.LEASED, JobState.READY, JobState.LEASED, JobState.LEASED)
    deck.order(0, 1, 2)
    assert deck.said == [Send("w1", model.Revoke([0, 2]))]
    deck.become(0, JobState.READY)
    assert [record.rows for record in deck.records] == [b"\1\0\0\0", b"\0\0\0\0"]
    assert len(deck.said) == 1
    deck.become(2, JobState.RUNNING)
    assert deck.said[1:] == [Tell(5, True, {"stopped": [1, 0]})]
    deck.steering.settle(4.0)
    assert len(deck.said) == 2


def test_two_who_ask_for_one_job_are_both_told() -> None:
    deck = Deck(JobState.LEASED)
    deck.order(0)
    deck.order(0)
    deck.become(0, JobState.READY)
    told = [said.value for said in deck.said if isinstance(said, Tell)]
    assert told == [{"stopped": [0]}, {"stopped": []}]


def test_a_leader_that_does_not_know_yet_who_runs_what_stops_none() -> None:
    deck = Deck(JobState.WAITING)
    deck.order(0, sure=False)
    assert deck.records == []
    assert deck.said == [Tell(5, True, {"stopped": []})]


def test_the_whole_run_is_told_of_later() -> None:
    deck = Deck(JobState.RUNNING, JobState.FAILED, JobState.READY)
    assert deck.steering.order(Steer(5, "stop"), 2.0, sure=False)
    assert deck.said == []
    assert deck.records == [model.Steered("stop", b"\0\0\0\0\2\0\0\0", STOPPED, 2.0, run="stopped")]


@pytest.mark.parametrize(("event", "said"), [(Steer(5, "dance"), "known: stop"), (Steer(5, "stop", [1]), "there are 1 jobs")])
def test_what_cannot_be_is_refused(event: Steer, said: str) -> None:
    deck = Deck(JobState.WAITING)
    assert not deck.steering.order(event, 2.0, sure=True)
    (tell,) = deck.said
    assert (tell.ok, said in tell.value, deck.records) == (False, True, [])

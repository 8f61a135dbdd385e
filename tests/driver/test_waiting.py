"""Waiting ends with the run, at the deadline, or when somebody asks; never by polling the clock."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from tests.kit.fake_leader import FakeWire
from towline.client import Line
from towline.progress import Silent
from towline.waiting import STEP_S, Interrupted, Watcher, watch


class Recorder(Silent):
    def __init__(self) -> None:
        self.seen: list[str] = []

    def update(self, status: dict[str, object]) -> None:
        self.seen.append(str(status["state"]))


def test_every_status_is_shown_and_the_last_one_returned() -> None:
    wire, shown = FakeWire(("running", "running", "completed")), Recorder()
    assert watch(Line(wire), shown)["state"] == "completed"
    assert shown.seen == ["running", "running", "completed"]


def test_the_deadline_cuts_the_last_question_short() -> None:
    asked: list[float] = []
    times: Iterator[float] = iter([0.0, 0.3, 0.9, 1.0])

    class Wire(FakeWire):
        def ask(self, verb: str, payload: object = None, timeout_s: float | None = None) -> object:
            asked.append(payload["timeout_s"])  # type: ignore[index]  # the payload of "wait"
            return super().ask(verb, payload)

    with pytest.raises(TimeoutError):
        watch(Line(Wire(("running",))), Silent(), deadline=1.0, clock=lambda: next(times))
    assert asked == [STEP_S, pytest.approx(0.1)]


def test_a_run_that_ends_at_its_deadline_has_ended() -> None:
    assert watch(Line(FakeWire()), Silent(), deadline=1.0, clock=lambda: 1.0)["state"] == "completed"


def test_a_request_from_elsewhere_ends_the_wait() -> None:
    stop = threading.Event()
    wire = FakeWire(("running",))
    wire.on_wait = stop.set
    with pytest.raises(Interrupted):
        watch(Line(wire), Silent(), stopped=stop.is_set)


def test_the_watcher_closes_a_run_that_is_out_of_time() -> None:
    wire = FakeWire(("running",))
    with Watcher(Line(wire), Silent(), deadline=0.0) as watcher:
        pass
    assert isinstance(watcher.error, TimeoutError)
    assert wire.asked == ["wait", "close"]


def test_the_watcher_leaves_a_run_alone_that_ends() -> None:
    wire = FakeWire(("running", "completed"))
    with Watcher(Line(wire), Silent()) as watcher:
        pass
    assert watcher.error is None
    assert "close" not in wire.asked


def test_the_watcher_ends_quietly_when_the_jobs_thread_breaks_off() -> None:
    wire = FakeWire(("running",))
    with pytest.raises(KeyboardInterrupt), Watcher(Line(wire), Silent()) as watcher:
        raise KeyboardInterrupt
    assert watcher.error is None
    assert "close" not in wire.asked


def test_a_leader_that_goes_away_ends_the_watcher() -> None:
    wire = FakeWire()
    wire.gone = True
    with Watcher(Line(wire), Silent()) as watcher:
        pass
    assert watcher.error is None

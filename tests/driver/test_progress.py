"""What people see of a run: figures, lines and bar, on a clock of the test's own."""

from __future__ import annotations

import io
from typing import Any

import pytest

from towline.progress import LINES_EVERY_S, Bar, Figures, Lines, Meter, Silent, duration, pace, show, summary


def status(state: str = "running", total: int = 100, **counts: int) -> dict[str, Any]:
    return {"state": state, "counts": counts, "total": total, "flows": []}


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_the_rate_is_that_of_the_last_seconds() -> None:
    meter = Meter()
    meter.add(status(completed=0), 0.0)
    for second in range(1, 21):
        figures = meter.add(status(completed=second), float(second))
    assert figures.rate == pytest.approx(1.0)
    for second in range(21, 41):
        figures = meter.add(status(completed=20 + 2 * (second - 20), failed=0), float(second))
    assert figures.rate == pytest.approx(2.0)
    assert figures.eta_s == pytest.approx(20.0)


def test_what_had_ended_before_counts_for_nothing() -> None:
    meter = Meter()
    meter.add(status(completed=50), 0.0)
    assert meter.add(status(completed=50), 1.0) == Figures(50, 100, 0.0, None)


def test_jobs_still_being_handed_in_count_in_the_total() -> None:
    said = status(total=10, completed=4) | {"flows": [["f1", "flow", 1000, 10]]}
    assert Meter().add(said, 0.0).total == 1000


def test_lines_are_few_and_the_last_one_says_how_it_ended() -> None:
    out, clock = io.StringIO(), Clock()
    lines = Lines("runs/x", out, clock)
    lines.begin("starting")
    clock.now += LINES_EVERY_S * 2
    for ended in range(21):
        lines.update(status(completed=ended, running=2, failed=1))
        clock.now += 1.0
    lines.finish(status("failed", completed=99, failed=1), 99)
    said = out.getvalue().splitlines()
    assert len(said) == 20 // LINES_EVERY_S + 2
    assert said[0] == "towline: starting"
    assert said[1] == "towline: 6/100 ended, 2 running, 1 failed, 1.0 jobs/s, 94 s left"
    assert said[-1] == "towline: failed: 99 jobs in 31 s (99 completed, 1 failed), store runs/x"


def test_a_run_broken_off_says_nothing_at_its_end() -> None:
    out = io.StringIO()
    Lines("runs/x", out).finish(None)
    assert out.getvalue() == ""


def test_the_bar_shows_counts_and_pace_and_leaves_one_line() -> None:
    from rich.console import Console

    out, clock = io.StringIO(), Clock()
    console = Console(file=out, force_terminal=True, width=150, color_system=None)
    bar = Bar("runs/[x]", clock, console)
    bar.begin("starting")
    bar._bar.refresh()
    assert "starting" in out.getvalue()
    bar.update(status(completed=0, running=3))
    clock.now += 2.0
    bar.update(status(completed=50, running=3))
    bar._bar.refresh()
    assert "50/100" in out.getvalue()
    assert "3 running, 25 jobs/s, 2.0 s left" in out.getvalue()
    bar.finish(status("completed", completed=100), 100)
    bar.finish(None)
    assert out.getvalue().rstrip().endswith("towline: completed: 100 jobs in 2.0 s (100 completed), store runs/[x]")


def test_a_terminal_gets_the_bar_and_a_pipe_the_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    assert isinstance(show(True, "runs/x"), Lines)
    monkeypatch.setattr(stream, "isatty", lambda: True)
    assert isinstance(show(True, "runs/x"), Bar)
    assert isinstance(show(False, "runs/x"), Silent)


@pytest.mark.parametrize(("seconds", "text"), [(0.04, "0.0 s"), (9.94, "9.9 s"), (42.4, "42 s"), (150, "2 min"), (9000, "2.5 h")])
def test_durations_are_for_people(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_no_pace_and_no_time_left_where_none_is_known() -> None:
    assert pace(Figures(0, 10, 0.0, None)) == ""
    assert pace(Figures(10, 10, 5.0, 0.0)) == ", 5.0 jobs/s"


def test_the_summary_counts_what_was_done_now() -> None:
    assert summary(status("completed", completed=7), 1.0, 4, "s") == "completed: 4 jobs in 1.0 s (7 completed), store s"
    assert summary(status("failed", failed=1), 1.0, 1, "s") == "failed: 1 job in 1.0 s (1 failed), store s"

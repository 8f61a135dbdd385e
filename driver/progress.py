"""How a run goes, for people: a live bar on a terminal, else plain lines, few of them. All of it on stderr.

`Meter` is the arithmetic (time is an argument); `Lines` and `Bar` show it. rich is loaded for the bar only. Nobody
polls for this: whoever waits for the run (`waiting`) hands in each status that comes by.
"""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TextIO

from towline.client import Status

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

ENDED = ("completed", "failed", "stopped")
SHOWN = ("running", "leased", "ready", "waiting", "delayed", "lost", "paused", "failed", "stopped")
"""States that are named beside the bar, when some job is in them."""

WINDOW_S = 10.0
"""The rate is that of the last so many seconds."""

LINES_EVERY_S = 5.0


class Figures(NamedTuple):
    """What is shown."""

    ended: int
    total: int
    """All jobs that are known of, those included that are still being handed in."""
    rate: float
    """Jobs ended per second, lately."""
    eta_s: float | None
    """Seconds until all have ended at this rate; None: nobody knows."""


class Meter:
    """Statuses in, figures out."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()

    def add(self, status: Status, now: float) -> Figures:
        """Take a status that came at `now` (monotonic, seconds)."""
        ended = ended_in(status)
        coming = sum(max(0, total - added) for _uuid, _name, total, added in status["flows"])
        total = status["total"] + coming
        self._seen.append((now, ended))
        while len(self._seen) > 2 and self._seen[1][0] <= now - WINDOW_S:
            self._seen.popleft()
        since, before = self._seen[0]
        rate = max(0.0, (ended - before) / (now - since)) if now > since else 0.0
        return Figures(ended, total, rate, (total - ended) / rate if rate > 0 else None)


class Progress(Protocol):
    """What shows a run."""

    def begin(self, what: str) -> None:
        """Something has begun that takes some seconds and has no figures. The first call, if it is made."""
        ...

    def update(self, status: Status) -> None: ...

    def finish(self, status: Status | None, done: int = 0) -> None:
        """The run has ended with this status, `done` jobs of it just now; None: it was broken off. The last call."""
        ...


class Silent:
    """Shows nothing."""

    def begin(self, what: str) -> None: ...

    def update(self, status: Status) -> None: ...

    def finish(self, status: Status | None, done: int = 0) -> None: ...


class Lines:
    """One line each LINES_EVERY_S at most, and a last one."""

    def __init__(self, store: str, out: TextIO | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._store, self._out, self._clock = store, out, clock
        self._meter = Meter()
        self._began = clock()
        self._last: float | None = None
        """When a line was due last: the first status, while the run has only just begun, makes none."""

    def begin(self, what: str) -> None:
        self._say(what)

    def update(self, status: Status) -> None:
        now = self._clock()
        figures = self._meter.add(status, now)
        if self._last is None:
            self._last = now
        elif now - self._last >= LINES_EVERY_S:
            self._last = now
            self._say(f"{figures.ended}/{figures.total} ended, {beside(status)}{pace(figures)}")

    def finish(self, status: Status | None, done: int = 0) -> None:
        if status is not None:
            self._say(summary(status, self._clock() - self._began, done, self._store))

    def _say(self, text: str) -> None:
        print(f"towline: {text}", file=self._out or sys.stderr, flush=True)


class Bar:
    """A live bar with counts by state, jobs/s and the time that is left."""

    def __init__(self, store: str, clock: Callable[[], float] = time.monotonic, console: Any = None) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        self._store, self._clock = store, clock
        self._meter = Meter()
        self._began = clock()
        self._bar: RichProgress = Progress(
            TextColumn("towline"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.description}"),
            console=console or Console(stderr=True),
            transient=True,
        )
        self._task: TaskID | None = None

    def begin(self, what: str) -> None:
        self._task = self._start(what)

    def _start(self, what: str) -> TaskID:
        self._bar.start()
        return self._bar.add_task(what, total=None)

    def update(self, status: Status) -> None:
        figures = self._meter.add(status, self._clock())
        if self._task is None:
            self._task = self._start("")
        text = beside(status) + pace(figures)
        self._bar.update(self._task, completed=figures.ended, total=figures.total, description=text)

    def finish(self, status: Status | None, done: int = 0) -> None:
        self._bar.stop()
        if status is not None:
            text = summary(status, self._clock() - self._began, done, self._store)
            self._bar.console.print(f"towline: {text}", markup=False, highlight=False, soft_wrap=True)


def show(wanted: bool, store: str) -> Progress:
    """The right kind of progress for stderr as it is now."""
    if not wanted:
        return Silent()
    return Bar(store) if sys.stderr.isatty() else Lines(store)


def beside(status: Status) -> str:
    """`3 running, 1 failed`: what stands beside the bar."""
    counts = status["counts"]
    return ", ".join(f"{counts[label]} {label}" for label in SHOWN if counts.get(label))


def pace(figures: Figures) -> str:
    """`, 1250 jobs/s, 3 min left`, as far as it is known."""
    if figures.rate <= 0:
        return ""
    left = "" if figures.eta_s is None or figures.ended >= figures.total else f", {duration(figures.eta_s)} left"
    return f", {figures.rate:.{0 if figures.rate >= 10 else 1}f} jobs/s{left}"


def summary(status: Status, elapsed_s: float, done: int, store: str) -> str:
    """The last line: how the run ended, what was done now, and where it is."""
    by_state = ", ".join(f"{number} {label}" for label, number in status["counts"].items() if number)
    jobs = "1 job" if done == 1 else f"{done} jobs"
    return f"{status['state']}: {jobs} in {duration(elapsed_s)} ({by_state or 'no jobs'}), store {store}"


def ended_in(status: Status) -> int:
    """How many jobs have ended."""
    return sum(status["counts"].get(label, 0) for label in ENDED)


def duration(seconds: float) -> str:
    """Seconds for people: `0.4 s`, `42 s`, `3 min`, `2.5 h`."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"

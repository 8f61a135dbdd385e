"""The simulated world: hosts with clocks of their own, processes that crash and freeze, and the seed that decides it all.

A process's code runs only through `Process.enter`: if the process is dead nothing happens, if it is frozen it happens after
the thaw. At every `step` (before and after each store operation and message) a crash may be planned; it unwinds the code that
runs by `Crashed`, which no code of the product catches, and from then on nothing of that process reaches disk or network.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import Callable
from typing import Any

from tests.simulation.loop import Call, VirtualLoop
from towline.engine.events import Now

DRIFT_EACH = 0.0243
"""A clock's rate is within 1 ± this: two clocks then differ by less than the engine's allowance of 5 %."""


class Crashed(BaseException):
    """SIGKILL: unwinds whatever runs."""


class Violation(Exception):
    """A promise is broken; the message says which and how."""


class World:
    """One simulation's state that everybody shares."""

    def __init__(self, seed: int, trace: bool = False) -> None:
        self.seed = seed
        self.rng = random.Random(seed)
        self.loop = VirtualLoop()
        self.counts: Counter[str] = Counter()
        self.tracing = trace
        self.story: list[str] = []
        self.recent: list[tuple[float, str, tuple[Any, ...]]] = []
        self.hosts: list[Host] = []
        self.tasks: list[asyncio.Task[Any]] = []
        self.calm = False
        """Are the faults over?"""
        self.broken: Violation | None = None
        self.ended = False
        self._numbers = 0

    @property
    def now(self) -> float:
        """True time, seconds."""
        return self.loop.now

    def note(self, what: str, *args: Any) -> None:
        """A line of the story; kept unformatted until somebody wants to read it."""
        self.recent.append((self.loop.now, what, args))

    def told_story(self) -> list[str]:
        """All that happened, one line each."""
        return [f"{at:9.4f}  {what.format(*args)}" for at, what, args in self.recent]

    def count(self, what: str) -> None:
        """A fault or a rule's decision has happened."""
        self.counts[what] += 1

    def violate(self, sentence: str) -> None:
        """The first violation ends the simulation."""
        if self.broken is None:
            self.broken = Violation(sentence)
            self.note("VIOLATION {}", sentence)

    def number(self) -> int:
        """1, 2, 3, ... for names."""
        self._numbers += 1
        return self._numbers

    def later(self, delay: float, what: Callable[..., object], *args: Any) -> Call:
        """Call back after so many true seconds, whoever is dead by then."""
        return self.loop.call_later(delay, what, *args)

    def spawn(self, coroutine: Any) -> asyncio.Task[Any]:
        """A task of the world itself."""
        task = self.loop.create_task(coroutine)
        self.tasks.append(task)
        return task

    def chance(self, probability: float) -> bool:
        return self.rng.random() < probability


class Host:
    """A machine: one kernel, one boot clock, one wall clock."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        rng = world.rng
        self.rate = 1.0 + rng.choice((-1.0, 1.0, rng.uniform(-1, 1), 0.0)) * DRIFT_EACH
        self.base = rng.uniform(10.0, 5000.0)
        self.since = world.now
        self.wall_at_0 = 1.7e9 + rng.uniform(-3600, 3600)
        self.boots = 1
        self.processes: list[Process] = []
        self.frozen_times: list[float] = []
        world.hosts.append(self)

    @property
    def boot_id(self) -> str:
        return f"{self.name}-boot{self.boots}"

    def mono(self) -> float:
        """The boot clock."""
        return self.base + (self.world.loop.now - self.since) * self.rate

    def wall(self) -> float:
        """The wall clock, which may have been set meanwhile."""
        return self.wall_at_0 + self.world.loop.now

    def jump(self, seconds: float) -> None:
        """Somebody sets the wall clock."""
        self.wall_at_0 += seconds
        self.world.count("fault: wall clock jumps")
        self.world.note("{}: the wall clock jumps by {:.0f} s", self.name, seconds)

    def crash(self, why: str) -> None:
        """Power loss: everything on the machine ends; it comes back with a new boot id and a boot clock near zero."""
        self.world.note("{}: the machine goes down: {}", self.name, why)
        for process in list(self.processes):
            process.kill(why)
        self.boots += 1
        self.base, self.since = self.world.rng.uniform(1.0, 20.0), self.world.now

    def freeze(self, seconds: float) -> None:
        """Everything on the machine stands still, but its clocks do not."""
        self.world.count("fault: machine frozen")
        self.world.note("{}: frozen for {:.2f} s", self.name, seconds)
        self.frozen_times.append(self.world.now)
        for process in list(self.processes):
            process.freeze()
        self.world.later(seconds, self._thaw, list(self.processes))

    def _thaw(self, processes: list[Process]) -> None:
        self.world.note("{}: thawed", self.name)
        self.world.rng.shuffle(processes)  # the kernel wakes them in any order
        for process in processes:
            process.thaw()


class Process:
    """Something that runs on a host until it is killed."""

    def __init__(self, host: Host, name: str) -> None:
        self.host = host
        self.world = host.world
        self.name = name
        self.pid = host.world.number()
        self.alive = True
        self.frozen = 0
        self.steps = 0
        self.passed = 0
        self.crash_at = 0
        """Number of the step at which it is killed; 0: none."""
        self.crash_machine = False
        """Does that crash take the machine with it?"""
        self.crash_where = ""
        """Name of a step: it is killed when it comes there for the `crash_at`-th time. Empty: steps of all names count."""
        self.freeze_at = 0
        """Number of the step at which its machine is frozen for `freeze_s` seconds; 0: none."""
        self.freeze_s = 0.0
        self.boot_id = host.boot_id
        self.ended_at = -1.0
        self.frozen_spans: list[tuple[float, float]] = []
        self._frozen_since = 0.0
        self._backlog: list[tuple[Callable[..., object], tuple[Any, ...]]] = []
        self._waits: dict[asyncio.Future[None], None] = {}
        self._on_death: list[Callable[[], object]] = []
        self.on_thaw: Callable[[], object] | None = None
        host.processes.append(self)

    # ------------------------------------------------------------------------------------------------- running code

    def enter(self, what: Callable[..., object], *args: Any) -> None:
        """Run code of this process now, or after its thaw, or never."""
        if not self.alive:
            return
        if self.frozen:
            self._backlog.append((what, args))
            return
        with contextlib.suppress(Crashed):  # the rest of this process's code never happens
            what(*args)

    def later(self, seconds: float, what: Callable[..., object], *args: Any) -> Call:
        """Call back after so many true seconds in this process."""
        return self.world.loop.call_later(seconds, self.enter, what, *args)

    def spawn(self, coroutine: Any) -> asyncio.Task[Any]:
        """A task of this process; an engine error in it ends the simulation, a crash ends it silently."""
        task = self.world.loop.create_task(coroutine)
        task.add_done_callback(self._task_ended)
        self.world.tasks.append(task)
        return task

    def _task_ended(self, task: asyncio.Task[Any]) -> None:
        if task.cancelled() or self.world.ended:
            return
        error = task.exception()
        if error is not None and not isinstance(error, Crashed):
            self.world.loop.unhandled.append(error)

    async def wait(self, seconds: float) -> None:
        """Pass time in this process's code; Crashed if it dies meanwhile."""
        if not self.alive:
            raise Crashed(self.name)
        future: asyncio.Future[None] = self.world.loop.create_future()
        self._waits[future] = None
        self.world.loop.call_later(seconds, self.enter, self._wake, future)
        await future

    def _wake(self, future: asyncio.Future[None]) -> None:
        self._waits.pop(future, None)
        if not future.done():
            future.set_result(None)

    def future(self) -> asyncio.Future[None]:
        """Something to wait for until `enter(wake, future)`; Crashed if the process dies first."""
        if not self.alive:
            raise Crashed(self.name)
        future: asyncio.Future[None] = self.world.loop.create_future()
        self._waits[future] = None
        return future

    def wake(self, future: asyncio.Future[None]) -> None:
        """Let the waiting code go on, if the process can run."""
        self.enter(self._wake, future)

    # ------------------------------------------------------------------------------------------------- faults

    def step(self, where: str) -> None:
        """A place where the process may be killed by plan."""
        if not self.alive:
            raise Crashed(self.name)
        self.steps += 1
        if self.steps == self.freeze_at and not self.world.calm:
            self.world.note("{}: planned freeze at step {} ({})", self.name, self.steps, where)
            self.host.freeze(self.freeze_s)
        if self.crash_where:
            if self.crash_where != where:
                return
            self.passed += 1
        if (self.passed if self.crash_where else self.steps) == self.crash_at and not self.world.calm:
            self.world.count(f"crash at: {where}")
            self.world.note("{}: planned crash at step {} ({})", self.name, self.steps, where)
            if self.crash_machine:
                self.world.power_loss(self.host)  # type: ignore[attr-defined]  # set by the scenario
            self.kill(f"crash at {where}")
            raise Crashed(self.name)

    async def point(self, where: str) -> None:
        """A step in code that can stand still: if the process is frozen here, it goes on after the thaw."""
        self.step(where)
        if self.frozen:
            await self.wait(0.0)

    def on_death(self, what: Callable[[], object]) -> None:
        """What the kernel does when the process ends (closes its streams, tells who watches)."""
        self._on_death.append(what)

    def kill(self, why: str) -> None:
        """SIGKILL."""
        if not self.alive:
            return
        self.alive = False
        self.ended_at = self.world.now
        if self.frozen:
            self.frozen_spans.append((self._frozen_since, self.world.now))
        self.world.note("{}: ends: {}", self.name, why)
        if self in self.host.processes:
            self.host.processes.remove(self)
        self._backlog.clear()
        for future in list(self._waits):
            if not future.done():
                future.set_exception(Crashed(self.name))
                future.exception()
        self._waits.clear()
        for what in self._on_death:
            what()

    def freeze(self) -> None:
        """SIGSTOP."""
        if self.alive:
            if not self.frozen:
                self._frozen_since = self.world.now
            self.frozen += 1

    def thaw(self) -> None:
        """SIGCONT: what came meanwhile happens now, in order."""
        if not self.alive or not self.frozen:
            return
        self.frozen -= 1
        if self.frozen:
            return
        self.frozen_spans.append((self._frozen_since, self.world.now))
        if self.on_thaw is not None:
            self.on_thaw()
        backlog, self._backlog = self._backlog, []
        for what, args in backlog:
            self.enter(what, *args)


class _Timer:
    def __init__(self) -> None:
        self.handle: Call | None = None

    def cancel(self) -> None:
        if self.handle is not None:
            self.handle.cancel()


class ProcessClock:
    """`actors.clock.Clock` on the host's clocks."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._host = process.host

    def now(self) -> Now:
        return Now(self._host.mono(), self._host.wall())

    def call_at(self, mono: float, callback: Callable[[], None]) -> _Timer:
        timer = _Timer()
        # a hair late rather than a hair early: rounding must not make a timer fire before its time
        delay = max(0.0, (mono - self._host.mono()) / self._host.rate) + 1e-6
        timer.handle = self._process.later(delay, callback)
        return timer

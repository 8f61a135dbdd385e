"""One flow of 2,000 jobs, run to its end while everything that works on it is killed or frozen, one fault after the other.

A trial owns a folder, the driver that works on the store at present, and the subscriber. Faults are methods; each returns when
it has done its harm, and `recover` then waits until a body ends that began after it. What must hold afterwards is for the
oracle to say; what must hold meanwhile (somebody dies in time, somebody goes on) is noted here.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from tests.torture import oracle, processes
from tests.torture.body import HURRY, boottime
from tests.torture.processes import Process

ROOT = Path(__file__).parents[2]
LEASE_S, TOUCH_S = 2.0, 0.5

PAUSE_S = 0.1

STUCK_S = 120.0
"""A run that does nothing for so long is stuck (Ray takes its time on a busy machine)."""

GONE_S = 20.0
"""What must end by itself has so long."""

RAY_GONE_S = 60.0
"""So have the agents that a Ray whose driver was killed leaves behind: they end when they give up to reach it."""


class Fault(NamedTuple):
    """One fault, and what came of it."""

    kind: str
    recovery_s: float | None
    """Until the first body that began afterwards has ended; None: the run was over before."""


class Driver(NamedTuple):
    """A process of `tests.torture.subject`."""

    process: subprocess.Popen[bytes]
    said: Path

    def tail(self) -> str:
        """The end of what it said."""
        return self.said.read_text(errors="replace")[-1500:]


class Trial:
    """See the module. Use as a context manager: whatever still lives at the end is ended."""

    def __init__(self, seed: int, jobs: int, long: int, log: Callable[[str], None]) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="tw-", dir="/tmp"))
        self.seed, self.jobs, self.long = seed, jobs, long
        self.rng = random.Random(seed)
        self.violations: list[str] = []
        self.faults: list[Fault] = []
        self.found: oracle.Found | None = None
        self._log = log
        self._drivers: list[Driver] = []
        self._listener: subprocess.Popen[bytes] | None = None
        for name in ("log", "locks", "out", "t"):
            (self.folder / name).mkdir()
        self.driver = self._drive("run")

    def __enter__(self) -> Trial:
        return self

    def __exit__(self, *error: object) -> None:
        for popen in self._popens():
            popen.kill()
            popen.wait()
        for process in processes.of(self.folder):
            processes.send(process, signal.SIGKILL)
        processes.wait_gone(processes.of(self.folder), GONE_S)
        if not self.violations and error[0] is None:
            shutil.rmtree(self.folder)

    # ------------------------------------------------------------------------------------------------- its processes

    def _environment(self) -> dict[str, str]:
        own = {key: value for key, value in os.environ.items() if not key.startswith(("TOWLINE_", "RAY_"))}
        return {
            **own,
            "TMPDIR": str(self.folder / "t"),
            "TOWLINE_LEASE_S": str(LEASE_S),
            "TOWLINE_TOUCH_S": str(TOUCH_S),
            "TOWLINE_PROGRESS": "0",
        }

    def _start(self, module: str, said: Path, *arguments: str) -> subprocess.Popen[bytes]:
        with said.open("wb") as file:
            return subprocess.Popen(
                [sys.executable, "-m", f"tests.torture.{module}", *arguments],
                cwd=ROOT, env=self._environment(), stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True,
            )  # fmt: skip

    def _drive(self, verb: str) -> Driver:
        said = self.folder / "out" / f"{len(self._drivers):03}-{verb}"
        driver = Driver(
            self._start("subject", said, verb, str(self.folder), str(self.jobs), str(self.long), str(self.seed)), said
        )
        self._drivers.append(driver)
        return driver

    def listen(self) -> None:
        """Start the subscriber, once there is a store."""
        self._listener = self._start("listener", self.folder / "out" / "listener", str(self.folder))

    def _popens(self) -> list[subprocess.Popen[bytes]]:
        return [driver.process for driver in self._drivers] + ([self._listener] if self._listener else [])

    def roles(self, *wanted: str) -> list[Process]:
        """The processes of these roles."""
        return [process for process in processes.of(self.folder) if process.role in wanted]

    def driven(self) -> list[Process]:
        """Everything but the subscriber: what a driver has started, as long as there is one driver only."""
        return [process for process in processes.of(self.folder) if process.role != "listener"]

    def endpoint(self) -> dict[str, Any]:
        """What `leader.json` says, or nothing."""
        try:
            said: dict[str, Any] = json.loads((self.folder / "store" / "leader.json").read_bytes())
            return said
        except (OSError, ValueError):
            return {}

    def over(self) -> bool:
        """Has the driver ended?"""
        return self.driver.process.poll() is not None

    def ends_after(self, at: float) -> bool:
        """Has a body ended that began after this boot time?"""
        found = oracle.executions(list(oracle.read_log(self.folder / "log")))
        return any(run.began > at and run.ended is not None for run in found.values())

    def _ran_under_next(self, epoch: int, at: float) -> bool:
        """Has a worker of a leader after `epoch` ended a body? (One of the old leader may have started late.)"""
        theirs = {one.pid for one in oracle.roster(self.folder / "store", epoch)}
        found = oracle.executions(list(oracle.read_log(self.folder / "log")))
        return any(run.began > at and run.ended is not None and run.pid in theirs for run in found.values())

    def note(self, text: str) -> None:
        """A violation."""
        self.violations.append(text)
        self._log(f"VIOLATION {text}")

    def wait(self, what: str, holds: Callable[[], bool], patience_s: float = STUCK_S) -> bool:
        """Wait for something; a violation if it does not come. False also if the driver ends before."""
        until = time.monotonic() + patience_s
        while not holds():
            if time.monotonic() > until:
                self.note(f"{what}: not within {patience_s:.0f} s (seed {self.seed})")
                return False
            if self.over():
                return False
            time.sleep(PAUSE_S)
        return True

    # ------------------------------------------------------------------------------------------------------ the trial

    def begin(self) -> None:
        """Return when the run goes on, and the subscriber listens. Idempotent."""
        if self._listener is None:
            self.wait("the first body", lambda: self.ends_after(0.0))
            self.listen()

    def torment(self, kinds: list[str]) -> None:
        """Run to the end; commit these faults, in this order, as long as it lasts."""
        self.begin()
        for kind in kinds:
            time.sleep(self.rng.choice([0.05, 0.3, 1.0]) * self.rng.random() * 2)
            if self.over():
                break
            self.fault(kind)
        (self.folder / HURRY).touch()
        self.finish()

    def fault(self, kind: str) -> None:
        """One fault, and the recovery from it."""
        before = time.monotonic()
        if not getattr(self, "do_" + kind.replace("-", "_"))():
            return
        recovered = self.recover(boottime())
        self.faults.append(Fault(kind, time.monotonic() - before if recovered else None))
        self._log(f"{kind}: {'the run was over' if not recovered else f'{time.monotonic() - before:.1f} s'}")

    def recover(self, at: float) -> bool:
        """Wait until a body has begun and ended after `at`; start a new driver if the old one is gone. False: it is over."""
        if self.over() and not self._go_on():
            return False
        if self.wait("a body that begins and ends after the fault", lambda: self.ends_after(at)):
            return True
        return not self.over()

    def _go_on(self) -> bool:
        if self.driver.process.returncode == 0:
            return False
        self.driver = self._drive("resume")
        return True

    def finish(self) -> None:
        """To the end of the run, whoever drives it; then the verdict."""
        for _ in range(3):
            self.wait("the end of the run", self.over)
            if not self.over() or self.driver.process.returncode == 0:
                break
            self.note(f"the driver ended with {self.driver.process.returncode}: {self.driver.tail()}")
            self._go_on()
        if not self.over():
            self.note(f"the run does not end: {self.driver.tail()}")
            return
        time.sleep(0.5)
        if self._listener is not None:
            if self._listener.poll() is not None:
                self.note(f"the subscriber ended: {(self.folder / 'out' / 'listener').read_text()}")
            self._listener.kill()
            self._listener.wait()
        for left in processes.wait_gone(processes.of(self.folder), RAY_GONE_S):
            self.note(f"P8: process {left.pid} ({left.role}) was left behind: {left.text[:200]}")
        self.found = oracle.judge(self.folder, self.jobs)
        for violation in self.found.violations:
            self.note(violation)

    # ------------------------------------------------------------------------------------------------------ the faults

    def _victim(self, role: str, number: signal.Signals) -> Process | None:
        """One process of a role, as soon as there is one, with this signal sent; None: the run was over before."""
        sent: list[Process] = []

        def one() -> bool:
            found = self.roles(role)
            if found and processes.send(victim := self.rng.choice(found), number):
                sent.append(victim)
            return bool(sent)

        self.wait(f"a {role}", one)
        return sent[0] if sent else None

    def do_leader(self) -> bool:
        """The leader's process alone; Ray restarts it."""
        return self._victim("leader", signal.SIGKILL) is not None

    def do_worker(self) -> bool:
        """One worker; the pool replaces it."""
        return self._victim("worker", signal.SIGKILL) is not None

    def do_supervisor(self) -> bool:
        """One supervisor; its worker must not outlive it for long."""
        before = self.roles("worker")
        victim = self._victim("supervisor", signal.SIGKILL)
        if victim is None:
            return False
        roster = {one.supervisor_pid: one.pid for one in oracle.roster(self.folder / "store")}
        for left in processes.wait_gone([one for one in before if one.pid == roster.get(victim.pid)], GONE_S):
            self.note(f"P2: worker {left.pid} outlives its supervisor")
        return True

    def do_driver(self) -> bool:
        """The driver; its Ray and all that runs there must end by itself. Who resumes at once is not refused."""
        everything = self.driven()
        self.driver.process.kill()
        self.driver.process.wait()
        self.driver = self._drive("resume")
        self._all_gone(everything, "its driver was killed")
        return True

    def _all_gone(self, those: list[Process], why: str) -> None:
        """All of ours at least: Ray's own agents take half a minute to see that they are alone."""
        for left in processes.wait_gone([one for one in those if one.role != "ray"], GONE_S):
            self.note(f"P8: process {left.pid} ({left.role}) lives on although {why}: {left.text[:200]}")
            processes.send(left, signal.SIGKILL)

    def do_ray(self) -> bool:
        """All processes of Ray; the driver sees it, and ends."""
        everything = self.driven()
        for process in everything:
            if process.role in ("ray", "leader", "worker"):
                processes.send(process, signal.SIGKILL)
        self._ends("all of Ray was killed")
        self._all_gone(everything, "all of Ray was killed")
        return True

    def _ends(self, why: str) -> None:
        try:
            self.driver.process.wait(GONE_S)
        except subprocess.TimeoutExpired:
            self.note(f"the driver lives on although {why}: {self.driver.tail()}")
            self.driver.process.kill()
            self.driver.process.wait()

    def do_freeze_leader(self) -> bool:
        """The leader is frozen, a second driver takes over, the leader thaws: it must find out, stop its workers and exit."""
        leader = self._victim("leader", signal.SIGSTOP)
        return leader is not None and self._take_over(leader)

    def do_takeover(self) -> bool:
        """A second driver takes over from a leader that is well: it must find out, stop its workers and exit."""
        return self._take_over(None)

    def _take_over(self, frozen: Process | None) -> bool:
        first, at, epoch = self.driver, boottime(), self.endpoint().get("epoch", 0)
        everything = self.driven()
        old = {one.pid for one in everything if one.role == "worker"}
        self.driver = self._drive("takeover")
        self.wait("a takeover", lambda: self.endpoint().get("epoch", 0) > epoch and self._ran_under_next(epoch, at))
        joined = {one.pid for one in oracle.roster(self.folder / "store")} & old
        for left in processes.wait_gone([one for one in everything if one.pid in joined], 0.0):
            self.note(f"P2: worker {left.pid} of the replaced leader lives while another leader grants")
        if frozen is not None:
            time.sleep(self.rng.random())
            processes.send(frozen, signal.SIGCONT)
        second, self.driver = self.driver, first
        self._ends("its leader was replaced")
        if first.process.returncode == 0 and second.process.poll() != 0:
            self.note("the driver of the replaced leader says that its run has completed")
        self.driver = second
        self._all_gone(everything, "its leader was replaced")
        return True

    def do_freeze_worker(self) -> bool:
        """A worker is frozen for a while, shorter or longer than its lease."""
        victim = self._victim("worker", signal.SIGSTOP)
        if victim is None:
            return False
        time.sleep(self.rng.choice([0.3, 1.0, 2.0]) * LEASE_S * self.rng.random())
        processes.send(victim, signal.SIGCONT)
        return True

    def do_freeze_supervisor(self) -> bool:
        """A supervisor is frozen until after the end of its lease: it cannot kill its worker, and yet nothing may overlap."""
        victim = self._victim("supervisor", signal.SIGSTOP)
        if victim is None:
            return False
        time.sleep(LEASE_S * (1 + self.rng.random()))
        processes.send(victim, signal.SIGCONT)
        return True


KINDS = sorted(name[3:].replace("_", "-") for name in vars(Trial) if name.startswith("do_"))

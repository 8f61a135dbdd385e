"""A chain of a million jobs: built, submitted, run half of the way, everything killed, restored, run to the end.

The measuring process runs nothing itself. It starts a driver (`chain_driver`) that tells of each step on its stdout, kills
all that the driver has started once the job half way has begun, and starts a second driver that goes on from the store. The
job half way is a gate: it says that it is reached and stays until it is opened, so that the kill always finds a run half
done, at any size and on any machine, with the newest outcomes not yet handed in. Time per job is compared with that of a
chain of 10,000 run to its end.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import msgspec
import psutil

from towline.benchmarks import killing, machine, tables
from towline.benchmarks.chain_driver import GATE_OPEN, GATE_REACHED
from towline.benchmarks.peers.base import WrongOutcome
from towline.benchmarks.report import ChainMeasured, Report, save

SMALL_JOBS = 10_000
SMALL_REPEATS = 3

STEP_S = 1800.0
"""Longest wait for a driver's next word."""

_LOCAL: dict[bool, list[str]] = {True: ["--local"], False: []}

LOOK_S = 0.002
"""How often the gate is looked at."""


class Driver:
    """A driver process that can be listened to."""

    def __init__(self, mark: str, errors: Path, *arguments: str) -> None:
        self._errors = errors
        environment = {**os.environ, killing.MARK: mark}
        with errors.open("ab") as stderr:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "towline.benchmarks.chain_driver", *arguments],
                stdout=subprocess.PIPE, stderr=stderr, text=True, env=environment, start_new_session=True,
            )  # fmt: skip

    def hears(self, step: str) -> dict[str, Any]:
        """The driver's next word, which must be of this step. WrongOutcome if it ends or says something else."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        said: dict[str, Any] = msgspec.json.decode(line) if line else {}
        if said.get("step") != step:
            raise WrongOutcome(f"expected {step!r} of the driver, heard {line!r}; its last words: {self._last_words()}")
        return said

    def alive(self) -> bool:
        return self._process.poll() is None

    def wait(self) -> None:
        """Until it ends by itself. WrongOutcome if it failed."""
        if self._process.wait(STEP_S):
            raise WrongOutcome(f"the driver ended with {self._process.returncode}: {self._last_words()}")

    def reap(self) -> None:
        """Of a driver that was killed: nothing is left of it."""
        self._process.wait(STEP_S)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def _last_words(self) -> str:
        return self._errors.read_text(errors="replace")[-2000:]


def measure(
    jobs: int,
    root: Path,
    here: machine.Machine,
    *,
    local: bool = False,
    restore_local: bool | None = None,
    small_jobs: int = SMALL_JOBS,
    small_repeats: int = SMALL_REPEATS,
    say: Callable[[str], None] = lambda text: None,
) -> ChainMeasured:
    """The whole measurement; stores are made below `root` and removed again. Raises WrongOutcome.

    `local`: leader and worker in the driver's process, without Ray; `restore_local`: those that go on (None: alike).
    """
    small = [_run_small(small_jobs, root, local) for _ in range(small_repeats)]
    if small:
        say(f"{small_jobs:,} jobs: {median(small) / small_jobs * 1e6:.1f} µs each")
    store, gate = root / "long", root / "gate"
    gate.mkdir()
    how = ["--store", str(store), "--jobs", str(jobs), "--gate", str(gate)]
    with _driver(root, *how, *_LOCAL[local]) as (first, mark):
        built = first.hears("built")
        say(f"{jobs:,} jobs built in {built['s']:.2f} s")
        leading = first.hears("leading")
        empty = _resident(leading["leader"])
        submitted = first.hears("submitted")
        say(f"submitted in {submitted['s']:.2f} s")
        first_s = _until_reached(first, gate) - submitted["began"]
        full = _resident(leading["leader"])
        killing.kill_marked(mark)
        first.reap()
    killed_at = jobs // 2
    say(f"killed at job {killed_at:,} after {first_s:.2f} s")
    (gate / GATE_OPEN).touch()
    with _driver(root, "--resume", *how, *_LOCAL[local if restore_local is None else restore_local]) as (second, _mark):
        restored = second.hears("leading")
        say(f"restored in {restored['s']:.2f} s with {restored['completed']:,} outcomes")
        restored_bytes = _resident(restored["leader"])
        ended = second.hears("ended")
        second.wait()
    say(f"the rest in {ended['s']:.2f} s")
    _check(store, jobs, built["last"])
    made = ChainMeasured(
        jobs=jobs,
        local=local,
        machine=here,
        small_jobs=small_jobs,
        small_run_s=small,
        build_s=built["s"],
        submit_s=submitted["s"],
        killed_at=killed_at,
        first_s=first_s,
        kept=restored["completed"],
        restore_s=restored["s"],
        rest_s=ended["s"],
        leader_bytes=full,
        leader_empty_bytes=empty,
        restored_bytes=restored_bytes,
        store_bytes=sum(path.stat().st_size for path in store.rglob("*") if path.is_file()),
    )
    shutil.rmtree(store)
    return made


@contextmanager
def _driver(root: Path, *arguments: str) -> Iterator[tuple[Driver, str]]:
    """A driver, and its mark; however this ends, nothing that it started is left."""
    mark = uuid.uuid4().hex
    try:
        yield Driver(mark, root / "driver.err", *arguments), mark
    finally:
        killing.kill_marked(mark)


def _run_small(jobs: int, root: Path, local: bool) -> float:
    """Seconds from handing in a chain to its end, with leader and worker up."""
    store = root / "small"
    with _driver(root, "--store", str(store), "--jobs", str(jobs), *_LOCAL[local]) as (driver, _mark):
        built = driver.hears("built")
        driver.hears("leading")
        driver.hears("submitted")
        ended = driver.hears("ended")
        driver.wait()
    _check(store, jobs, built["last"])
    shutil.rmtree(store)
    return float(ended["s"])


def _until_reached(driver: Driver, gate: Path) -> float:
    """When the job half way began, by the wall clock."""
    reached = gate / GATE_REACHED
    until = time.monotonic() + STEP_S
    while not reached.exists():
        if not driver.alive() or time.monotonic() > until:
            raise WrongOutcome("the driver ended, or stood still, before the chain was half way")
        time.sleep(LOOK_S)
    return reached.stat().st_mtime


def _check(store: Path, jobs: int, last: str) -> None:
    """Nothing is missing, and the last job saw all before it: its output is the number of jobs."""
    from towline import connect

    run = connect(store)
    counts, output = run.counts(), run.output(last)
    if counts != {"completed": jobs} or output != jobs:
        raise WrongOutcome(f"a chain of {jobs} ended with {counts}, the last output {output!r}")


def _resident(pid: int) -> int:
    """Resident bytes of a process."""
    size: int = psutil.Process(pid).memory_info().rss
    return size


def main(arguments: Sequence[str] | None = None) -> int:
    """`python -m towline.benchmarks.chain`. Returns 1 if jobs of the long chain take more than twice the time."""
    parser = argparse.ArgumentParser(prog="python -m towline.benchmarks.chain", description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=1_000_000)
    parser.add_argument("--local", action="store_true", help="leader and worker in the driver's process, without Ray")
    parser.add_argument("--out", type=Path, default=Path("results/chain.json"))
    parser.add_argument("--stores", type=Path, default=Path("results"), help="where stores are made; should be a disk")
    parser.add_argument("--publish", action="store_true", help="write baseline.json and docs/BENCHMARKS.md too")
    given = parser.parse_args(arguments)
    given.stores.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="chain-", dir=given.stores) as name:
        root = Path(name).resolve()
        here = machine.describe(root)
        found = measure(given.jobs, root, here, local=given.local, say=lambda text: print(text, file=sys.stderr, flush=True))
    report = Report(machine=here, repeats=len(found.small_run_s), chain=found)
    save(report, given.out)
    tables.show(report)
    print(f"raw numbers: {given.out}")
    if given.publish:
        from towline.benchmarks import document

        document.publish(report)
    if found.ratio > RATIO_MAX:
        print(f"jobs of the long chain take {found.ratio:.2f} times as long, more than {RATIO_MAX:g}")
        return 1
    return 0


RATIO_MAX = 2.0
"""What growth may cost a job."""

if __name__ == "__main__":
    sys.exit(main())

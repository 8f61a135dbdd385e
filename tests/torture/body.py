"""The flow that is tortured: jobs that leave proof of each execution in files, beside everything that is under test.

Each execution has a nonce. It is the job's output, so that what was committed can be compared with what was executed, and with
what its children were given. A line of the log goes to the kernel in one write: SIGKILL loses none of it.
"""

from __future__ import annotations

import fcntl
import os
import random
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from towline import CURRENT_JOB, Flow, job

if TYPE_CHECKING:
    from towline import Job

LAYERS = 20
LONG_S = 3.0
"""Longer than the lease of 2 s that the runs are given."""

HURRY = "hurry"
"""Name of a file; once it is there, bodies sleep no more."""


class Line(NamedTuple):
    """One line of an execution's log."""

    what: str
    """B: the body begins. E: it ends. R: its lock was refused."""
    uuid: str
    nonce: str
    at: float
    """CLOCK_BOOTTIME, seconds."""
    pid: int
    inputs: str = ""
    """Nonces of the inputs, joined by commas."""


def boottime() -> float:
    """CLOCK_BOOTTIME in seconds."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def execute(folder: str, seconds: float, padding: int, inputs: list[str]) -> str:
    """One execution: hold the lock of this job, sleep, and hand on a nonce (with `padding` characters behind it)."""
    running = CURRENT_JOB.job
    assert running is not None
    uuid, nonce = running.uuid, os.urandom(8).hex()
    given = ",".join(text.split(" ")[0] for text in inputs)
    log = os.open(f"{folder}/log/{os.getpid()}", os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
    lock = os.open(f"{folder}/locks/{uuid}", os.O_CREAT | os.O_RDWR, 0o600)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            write(log, Line("R", uuid, nonce, boottime(), os.getpid()))
            raise
        write(log, Line("B", uuid, nonce, boottime(), os.getpid(), given))
        doze(seconds, Path(folder, HURRY))
        write(log, Line("E", uuid, nonce, boottime(), os.getpid()))
    finally:
        os.close(lock)
        os.close(log)
    return nonce + " " * bool(padding) + "." * padding


def doze(seconds: float, hurry: Path) -> None:
    """Sleep, unless it is time to come to an end."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0 and not hurry.exists():
        time.sleep(min(left, 0.1))


def write(file: int, line: Line) -> None:
    """Append a line, whole."""
    os.write(file, (" ".join(map(str, line)).rstrip() + "\n").encode())


def parse(text: str) -> Line:
    """The line that `write` wrote."""
    what, uuid, nonce, at, pid, *inputs = text.split(" ")
    return Line(what, uuid, nonce, float(at), int(pid), inputs[0] if inputs else "")


# a worker that is killed time and again while it runs the same job alone is to blame the job for it only after very many
@job(retries=1000, backoff_s=0.02, backoff_max_s=0.1)
def early(folder: str, seconds: float, padding: int, inputs: list[str]) -> str:
    """May begin on inputs that are not committed yet."""
    return execute(folder, seconds, padding, inputs)


@job(retries=1000, backoff_s=0.02, backoff_max_s=0.1, release="committed")
def late(folder: str, seconds: float, padding: int, inputs: list[str]) -> str:
    """Begins on committed inputs only."""
    return execute(folder, seconds, padding, inputs)


def build(folder: str, count: int, long: int, rng: random.Random) -> Flow:
    """`count` jobs in layers, `long` of them longer than the lease; up to three parents each, now and then in a chain."""
    jobs: list[Job] = []
    slow = set(rng.sample(range(count), long))
    width = max(1, count // LAYERS)
    for n in range(count):
        seconds = LONG_S if n in slow else rng.choice([0.0] * 17 + [0.02, 0.05, 0.1])
        padding = 20_000 if rng.random() < 0.02 else 0  # becomes a file, being longer than what a record holds
        make = late if rng.random() < 0.1 else early
        jobs.append(make(folder, seconds, padding, [jobs[parent].output for parent in parents(n, width, rng)]))
    return Flow(jobs, name="torture")


def parents(n: int, width: int, rng: random.Random) -> Iterable[int]:
    """Numbers of the jobs that job `n` waits for."""
    if n and rng.random() < 0.2:
        return [n - 1]
    first = n // width * width
    return rng.sample(range(max(0, first - width), first), rng.randint(1, 3)) if first else []


def counts(status: dict[str, Any]) -> str:
    """The counts of a status in one line."""
    return ", ".join(f"{number} {label}" for label, number in status["counts"].items())

"""What follows a failed attempt: another one after a delay, or the end. Pure arithmetic; jitter is a hash (DESIGN 7)."""

from __future__ import annotations

import zlib
from typing import NamedTuple

from towline.engine.model import Failure, Options
from towline.engine.states import OF_THE_MACHINE, FailureKind, JobState

LONE_DEATHS = 3
"""A job that kills its worker when it runs alone is tried this often beyond its own retries before it fails (R9)."""

MACHINE_TRIES = 8
"""Faults of the machine cost no retry, but not for ever: after this many in all the job fails."""


UPLOAD_TRIES = 4
"""An outcome that cannot be written is no fault of its job: after so many tries in a row the run ends, and no job fails."""


class Decision(NamedTuple):
    """What follows."""

    state: JobState
    """FAILED or DELAYED."""
    attempts: int
    """Charged attempts, this one included if it is charged."""
    delay_s: float
    halt: bool = False
    """The store takes no outcomes: the run ends rather than the job, and goes on when that is mended."""


def decide(options: Options, failure: Failure, attempts: int, deaths: int, row: int) -> Decision:
    """What follows `failure` of a job with `attempts` charged before and `deaths` lone deaths or machine faults before.

    The job's own faults use up `options.retries`; a machine's fault does not (DESIGN section 3), a lone death only
    after LONE_DEATHS of them.
    """
    if failure.kind == FailureKind.UPLOAD:
        return Decision(JobState.DELAYED, attempts, backoff_s(options, deaths, row), halt=deaths + 1 >= UPLOAD_TRIES)
    kind = failure.kind  # a kind that a newer worker made up is the job's own fault
    if kind in OF_THE_MACHINE:
        allowed = LONE_DEATHS if kind == FailureKind.LOST else MACHINE_TRIES
        if deaths + 1 >= allowed + options.retries:
            return Decision(JobState.FAILED, attempts + 1, 0.0)
        return Decision(JobState.DELAYED, attempts, backoff_s(options, deaths, row))
    charged = attempts + 1
    if failure.retry and charged <= options.retries:
        return Decision(JobState.DELAYED, charged, backoff_s(options, attempts, row))
    return Decision(JobState.FAILED, charged, 0.0)


def backoff_s(options: Options, attempts: int, row: int) -> float:
    """Seconds until the next attempt: doubling from `backoff_s`, capped, with up to 10 % jitter from (row, attempts)."""
    base = min(options.backoff_s * 2.0 ** min(attempts, 60), options.backoff_max_s)
    jitter = zlib.crc32(f"{row}:{attempts}".encode()) / 0xFFFFFFFF
    return base * (1.0 + 0.1 * jitter)

"""The states of a job and the one table of legal transitions. The docs print this table.

`become` in the core goes through `LEGAL`; whatever is not in it is a broken invariant, not a new feature.
"""

from __future__ import annotations

from enum import IntEnum, StrEnum


class JobState(IntEnum):
    """Where a job stands. The number is what journal and snapshot hold: never renumber."""

    WAITING = 0
    """Some parent is not finished."""
    DELAYED = 1
    """Will be ready at a known time (retry backoff)."""
    READY = 2
    """May be pulled."""
    LEASED = 3
    """A worker holds it; its body has not begun as far as the leader knows."""
    RUNNING = 4
    """Its body runs."""
    LOST = 5
    """Its worker is silent; it may still run, so it is not granted again before its lease has ended."""
    COMPLETED = 6
    """Its outcome is recorded."""
    FAILED = 7
    """Will not run again unless someone retries or reruns it."""
    PAUSED = 8
    """Held by a user; can go on."""
    STOPPED = 9
    """Ended by a Response or a user; not a failure."""

    @property
    def label(self) -> str:
        """The lower-case name that users see."""
        return self.name.lower()


S = JobState

HELD = frozenset({S.LEASED, S.RUNNING, S.LOST})
"""A worker may be running the body: nothing else may be granted."""

ENDED = frozenset({S.COMPLETED, S.FAILED, S.STOPPED})
"""The run does not wait for these."""

ACTIVE = frozenset({S.READY, S.DELAYED, S.LEASED, S.RUNNING, S.LOST})
"""The run goes on while any job is in one of these."""

LEGAL: dict[JobState, frozenset[JobState]] = {
    # a rope leases a child before its parents are done, hence WAITING -> LEASED
    S.WAITING: frozenset({S.READY, S.LEASED, S.PAUSED, S.STOPPED, S.FAILED, S.COMPLETED}),
    S.DELAYED: frozenset({S.READY, S.PAUSED, S.STOPPED, S.LEASED, S.COMPLETED, S.FAILED, S.WAITING}),
    S.READY: frozenset({S.LEASED, S.PAUSED, S.STOPPED, S.WAITING, S.COMPLETED, S.FAILED, S.DELAYED}),
    S.LEASED: frozenset({S.RUNNING, S.READY, S.WAITING, S.LOST, S.COMPLETED, S.FAILED, S.DELAYED, S.PAUSED, S.STOPPED}),
    S.RUNNING: frozenset({S.LOST, S.READY, S.WAITING, S.COMPLETED, S.FAILED, S.DELAYED, S.STOPPED}),
    S.LOST: frozenset({S.READY, S.WAITING, S.COMPLETED, S.FAILED, S.DELAYED, S.RUNNING, S.STOPPED}),
    S.COMPLETED: frozenset({S.READY, S.WAITING}),
    S.FAILED: frozenset({S.READY, S.WAITING, S.DELAYED}),
    S.PAUSED: frozenset({S.READY, S.WAITING, S.STOPPED}),
    # a worker that held it under an earlier leader says so, and may hand in its outcome
    S.STOPPED: frozenset({S.READY, S.WAITING, S.LEASED, S.COMPLETED}),
}


def transitions_table() -> str:
    """LEGAL as the Markdown table that docs/ARCHITECTURE.md shows: one row a state, a mark where it may go."""
    head = "| from \\ to | " + " | ".join(to.label for to in JobState) + " |"
    rule = "| --- |" + " :-: |" * len(JobState)
    rows = [
        f"| **{old.label}** | " + " | ".join("x" if new in LEGAL[old] else " " for new in JobState) + " |" for old in JobState
    ]
    return "\n".join([head, rule, *rows, ""])


class EdgeKind(IntEnum):
    """What a parent means to its child (low two bits of the stored byte)."""

    DATA = 0
    ORDER = 1
    GROUP = 2


class Missing(IntEnum):
    """What a child does when a parent ends without output (bits 4..5 of the stored byte; jobflow's OnMissing)."""

    ERROR = 0
    NONE = 1
    PASS = 2


def edge_byte(kind: EdgeKind, missing: Missing) -> int:
    """The byte that the graph and the chunk keep for an edge."""
    return int(kind) | int(missing) << 4


class FailureKind(StrEnum):
    """Why an attempt failed (DESIGN section 3 and 7; wr's reasons one to one)."""

    ERROR = "error"
    EXIT = "exit"
    SIGNAL = "signal"
    OUT_OF_MEMORY = "out_of_memory"
    OUT_OF_DISK = "out_of_disk"
    OUT_OF_TIME = "out_of_time"
    NOT_FOUND = "not_found"
    PERMISSION = "permission"
    LOST = "lost"
    PREEMPTED = "preempted"
    KILLED = "killed"
    UNRESOLVED_REFERENCE = "unresolved_reference"
    SCHEMA = "schema"
    UPLOAD = "upload"
    MOUNT = "mount"
    ENVIRONMENT = "environment"
    CWD = "cwd"
    START = "start"
    DOCKER = "docker"
    RESOURCE = "resource"


OF_THE_MACHINE = frozenset({FailureKind.LOST, FailureKind.PREEMPTED, FailureKind.UPLOAD, FailureKind.MOUNT, FailureKind.DOCKER})
"""Faults that are not the job's own: they cost no retry (except a job that dies alone as a suspect)."""

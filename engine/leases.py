"""A worker's session with this leader: what it holds, until when it may run, and how much it is given at a time.

A lease belongs to the worker, not to the job: one deadline a worker, moved on by its supervisor's touches. When it has
passed (with the allowance for a slow clock) the supervisor has killed everything, so all that was held is free (R1).
"""

from __future__ import annotations

DRIFT = 0.05
"""How much slower than the leader's a worker's boot clock may run; deadlines wait this much longer."""

KILL_S = 1.0
"""How long a supervisor's SIGKILL may take from the end of the lease to the end of the process, on a machine that is busy."""


def surely_over_s(lease_s: float) -> float:
    """Seconds after which nothing runs any more on a promise of `lease_s` (R1)."""
    return lease_s * (1.0 + DRIFT) + KILL_S


class Session:
    """One worker that has said Hello to this leader."""

    def __init__(self, worker: str, joined_at: int, now: float, deadline: float) -> None:
        self.worker = worker
        self.joined_at = joined_at
        """Appends that must be committed before the first grant (R1)."""
        self.held: dict[int, None] = {}
        """Rows, in the order they were granted."""
        self.granted = 0
        """Jobs of the last lease."""
        self.deadline = deadline
        """Boot clock of the leader: the worker is surely dead after this unless it touches."""
        self.heard = now
        self.silent = False
        self.alone = False
        """It holds one suspect and gets nothing else."""
        self.revoking = False
        self.leaving = False
        self.stream = 0
        """Number of the newest stream on which it said Hello."""
        self.known_specs: set[int] = set()
        self.known_functions: set[str] = set()

    def promise(self, now: float, valid_s: float) -> None:
        """The worker is told that it may run for `valid_s`."""
        self.deadline = max(self.deadline, now + surely_over_s(valid_s))

    def wants(self) -> bool:
        """May it be given more? It may when it is idle, or half way through its last lease (prefetch)."""
        if self.leaving or self.alone or self.silent:
            return False
        return 2 * len(self.held) <= self.granted or not self.held

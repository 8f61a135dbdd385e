"""Rule R1 in one place: until when this leader may promise anything, and from when on it may grant at all.

Authority ends T after the start of the last committed append, whatever else the leader believes. A new leader waits until
every worker of the journaled roster has answered it, or until nothing that an earlier leader promised can still be running.
"""

from __future__ import annotations

from collections.abc import Iterable

from towline.engine.leases import surely_over_s


class Authority:
    """Times are the leader's boot clock, in seconds."""

    def __init__(self) -> None:
        self.lease_s = 60.0
        """T of this leader."""
        self.wait_s = 0.0
        """How long a worker may still run on what an earlier leader promised, with the allowance for a slow clock."""
        self.until = 0.0
        """No grant and no renewal may reach beyond this."""
        self.grace_until: float | None = None
        """No grant before this time, or before all of `awaited` have answered."""
        self.awaited: set[str] = set()

    def begin(self, now: float, lease_s: float, before_s: float, roster: Iterable[str], *, closed: bool) -> None:
        """A claim at `now`; `before_s` is the T of the leader before, `closed` says that it stopped its workers."""
        self.lease_s = lease_s
        self.wait_s = surely_over_s(max(lease_s, before_s))
        self.until = 0.0
        self.awaited = set(roster)
        self.grace_until = now + self.wait_s if self.awaited and not closed else None

    def committed(self, started: float) -> None:
        """An append that began at `started` is durable."""
        self.until = max(self.until, started + self.lease_s)

    def answered(self, worker: str) -> None:
        """A worker of the roster obeys this epoch now, or is proven dead."""
        self.awaited.discard(worker)
        if not self.awaited:
            self.grace_until = None

    def allows(self, now: float) -> bool:
        """May a job be granted at `now`?"""
        return self.grace_until is None and now < self.until

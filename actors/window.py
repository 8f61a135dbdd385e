"""How long a leader gathers before it commits again, where a commit is slow and costs a request (DESIGN section 4, group commit).

While a commit is under way the next batch gathers anyhow. On a bucket more can be had: as long as nobody waits for an answer,
the next commit may begin some commits' length later, and what would have been five requests is one. The window follows the
measured latency and is bounded, so that little is run again after a crash. On a local disk there is none: an fsync is cheap.
Pure: times come in.
"""

from __future__ import annotations

QUICK_S = 0.005
"""A store that commits faster than this has nothing to save."""
FACTOR = 4.0
"""The window in commits' lengths: a leader that nobody waits for spends a fifth of the time committing."""
_WEIGHT = 0.3
"""Of the newest commit in the running mean."""


class CommitWindow:
    """The time from the end of one commit to the beginning of the next."""

    def __init__(self, limit_s: float) -> None:
        """`limit_s`: never longer than this, in seconds; 0: no window."""
        self._limit_s = limit_s
        self._ended = float("-inf")
        self.latency_s = 0.0
        """Running mean of how long a commit takes; 0: none has been seen."""

    def took(self, started: float, ended: float) -> None:
        """A commit went through (any clock that goes on, in seconds)."""
        took = max(0.0, ended - started)
        self.latency_s = took if self.latency_s == 0.0 else (1 - _WEIGHT) * self.latency_s + _WEIGHT * took
        self._ended = ended

    @property
    def length_s(self) -> float:
        """The window now."""
        return 0.0 if self.latency_s < QUICK_S else min(self._limit_s, FACTOR * self.latency_s)

    def opens_at(self) -> float:
        """When the next commit may begin if nobody presses for it, on the clock of `took`."""
        return self._ended + self.length_s

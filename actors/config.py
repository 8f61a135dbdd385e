"""The settings of a leader, as they travel from the driver to wherever it runs."""

from __future__ import annotations

import msgspec


class LeaderConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Times are in seconds, sizes in bytes."""

    lease_s: float = 60.0
    """T of rule R1: a worker that cannot renew within this time is killed by its supervisor."""
    touch_s: float = 15.0
    """How often a supervisor renews."""
    segment_bytes: int = 64 << 20
    """A journal segment is closed beyond this size."""
    snapshot_bytes: int = 256 << 20
    """A snapshot is made after this much journal; 0 means never."""
    snapshot_segments: int = 4096
    """A snapshot is made, and old segments are put together, after this many (on a bucket each commit is one); 0: never."""
    commit_delay_ms: float = 250.0
    """A commit is put off by at most so many milliseconds to gather more, where commits are slow and nobody waits for one."""
    grace_s: float = 3600.0
    """Journal segments that a snapshot covers are kept at least this long (R4)."""
    documents: bytes = b""
    """cloudpickle of the JobStore in whose additional stores jobs lay parts of their outputs; empty: they lay none aside."""
    allow_pickle: bool = True
    """May values and functions travel as pickles?"""
    exit_when_idle_s: float = 30.0
    """A detached leader closes after this long without anything to run; 0 means only when it is told to."""

"""What may happen to a leader: the events that the shells feed to `LeaderCore.handle`. Time comes beside them."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from towline.engine import model


class Now(NamedTuple):
    """The time that comes in: `mono` (boot clock, seconds; leases and timers) and `wall` (for users; may jump)."""

    mono: float
    wall: float


class Leading(msgspec.Struct, frozen=True):
    """The shell has claimed the journal under this epoch; always the first event. `led.lease_s` is T of rule R1."""

    led: model.Led


class Submitted(msgspec.Struct, frozen=True):
    """A driver hands in a piece of a flow. Answered by Tell after the commit."""

    token: int
    chunk: bytes
    """An encoded `model.Chunk`."""
    again: bool = False
    """It may have been handed in before (to the leader before this one): then it is told what that one would have told."""


class Said(msgspec.Struct, frozen=True):
    """A worker's frame arrived."""

    frame: model.Hello | model.Pull | model.Touch | model.Goodbye


class WorkerDied(msgspec.Struct, frozen=True):
    """Proof that no body of this worker runs any more (its process is gone, seen on its own host)."""

    worker: str
    cause: str


class Disconnected(msgspec.Struct, frozen=True):
    """The worker's stream broke. Proves nothing: its lease goes on until it says Hello again or its time is up."""

    worker: str


class Committed(msgspec.Struct, frozen=True):
    """The first `count` appends of this core are durable; the commit that made them so began at `started` (boot clock)."""

    count: int
    started: float


class Steer(msgspec.Struct, frozen=True):
    """A user's verb (`stop` in this version). Answered by Tell after the commit."""

    token: int
    verb: str
    rows: list[int] | None = None
    """None: every job, and the run with them. Of named ones, those that no worker holds."""


class SnapshotMade(msgspec.Struct, frozen=True):
    """A snapshot of committed records was written and may be named in the journal."""

    seq: int
    key: str
    digest: str


class Closing(msgspec.Struct, frozen=True):
    """The shell wants to leave: stop the workers; `Finish` follows when none is left on the roster."""

    token: int


class Tick(msgspec.Struct, frozen=True):
    """The time that the core asked for by `next_deadline` has come (or any other time: harmless)."""


Event = Leading | Submitted | Said | WorkerDied | Disconnected | Committed | Steer | SnapshotMade | Closing | Tick

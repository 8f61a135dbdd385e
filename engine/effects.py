"""What a leader's core wants done: plain values that `actors.perform` carries out in the order given.

`Append` numbers the core's records from 0; `Tell` and every effect with `after=True` is held back until all appends before
it in the order of effects are durable (P1: append before you tell). The others go out at once: a worker may be handed
uncommitted inputs (R3), a user may not.
"""

from __future__ import annotations

import msgspec

from towline.engine import model


class Append(msgspec.Struct, frozen=True):
    """Write this encoded record; commits are serial and in order (R6)."""

    payload: bytes


class Send(msgspec.Struct, frozen=True):
    """A frame to a worker."""

    worker: str
    frame: model.ToWorker
    after: bool = False
    """Only once everything appended so far is durable."""


class Tell(msgspec.Struct, frozen=True):
    """The answer to a driver's event, after the commit."""

    token: int
    ok: bool
    value: object
    """Plain data (msgpack), or the refusal's sentence when `ok` is False."""


class Kill(msgspec.Struct, frozen=True):
    """End this worker's processes; `WorkerDied` comes back when that is proven."""

    worker: str
    why: str


class Idle(msgspec.Struct, frozen=True):
    """Nothing is left to run: every job has ended or waits for one that failed. Held back until committed."""


class Finish(msgspec.Struct, frozen=True):
    """`Closing` is done: no worker is left and Closed is durable. Held back until committed."""

    token: int


class Halt(msgspec.Struct, frozen=True):
    """The store does not take what jobs yield: the leader ends, as after a failed append (R5), and nothing is lost. Held back
    until committed."""

    why: str


Effect = Append | Send | Tell | Kill | Idle | Finish | Halt

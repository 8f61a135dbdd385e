"""A leader's core at a desk: its effects are carried out on lists, time and commits move when the test says so.

It keeps the one rule of the real shell (`actors.perform`): `Tell` and what is marked `after` wait until the appends before
them are durable, and go out before the core hears of the commit.
"""

from __future__ import annotations

from collections import deque
from typing import TypeVar

from tests.kit.builders import hello, led, plain
from towline.engine import effects as fx
from towline.engine import events as ev
from towline.engine import model
from towline.engine.core import LeaderCore
from towline.engine.events import Now
from towline.engine.model import Held, LeasedJob
from towline.engine.states import JobState

Frame = TypeVar("Frame", bound=model.ToWorker)

WALL = 1_700_000_000.0
"""Wall clock when the boot clock shows 0: far away, so that a mix-up of the two shows."""


class Desk:
    """`auto` commits after each event; else `commit` does."""

    def __init__(
        self,
        core: LeaderCore | None = None,
        *,
        log: list[bytes] | None = None,
        epoch: int = 1,
        lease_s: float = 60.0,
        auto: bool = True,
        at: float = 0.0,
        grants: bool = True,
    ) -> None:
        self.core = core or LeaderCore()
        self.log = log if log is not None else []
        self.base = len(self.log)
        """Records of earlier leaders."""
        self.auto = auto
        self.mono = at
        self.sent: list[tuple[str, model.ToWorker]] = []
        self.told: dict[int, fx.Tell] = {}
        self.kills: list[str] = []
        self.idle = self.finished = False
        self._waiting: deque[tuple[int, fx.Effect]] = deque()
        self._token = 0
        self.feed(ev.Leading(led(epoch, lease_s=lease_s, grants=grants)))

    # ---- time and commits

    def now(self) -> Now:
        return Now(self.mono, WALL + self.mono)

    @property
    def appended(self) -> int:
        return len(self.log) - self.base

    def commit(self, count: int | None = None, *, started: float | None = None) -> None:
        """The first `count` appends (all) are durable now; the write began at `started` (now)."""
        upto = self.appended if count is None else count
        while self._waiting and self._waiting[0][0] <= upto:
            self._deliver(self._waiting.popleft()[1])
        self.feed(ev.Committed(upto, self.mono if started is None else started))

    def pass_time(self, seconds: float) -> None:
        """Time passes, and the core is woken each time it has asked for it."""
        end = self.mono + seconds
        while (at := self.core.next_deadline()) is not None and at <= end:
            self.mono = max(self.mono, at)
            self.feed(ev.Tick())
        self.mono = end

    # ---- events and effects

    def feed(self, event: ev.Event) -> list[fx.Effect]:
        effects = self.core.handle(event, self.now())
        for effect in effects:
            if isinstance(effect, fx.Append):
                self.log.append(effect.payload)
            elif isinstance(effect, fx.Kill):
                self.kills.append(effect.worker)
            elif self.core.committed == self.appended or (isinstance(effect, fx.Send) and not effect.after):
                self._deliver(effect)
            else:
                self._waiting.append((self.appended, effect))
        if not self.core.idle():
            self.idle = False
        if self.auto and self.core.committed < self.appended:
            self.commit()
        return effects

    def _deliver(self, effect: fx.Effect) -> None:
        if isinstance(effect, fx.Send):
            self.sent.append((effect.worker, effect.frame))
        elif isinstance(effect, fx.Tell):
            self.told[effect.token] = effect
        elif isinstance(effect, fx.Idle):
            self.idle = self.core.idle()
        elif isinstance(effect, fx.Finish):
            self.finished = True

    # ---- words for tests

    def token(self) -> int:
        self._token += 1
        return self._token

    def submit(self, chunk: model.Chunk) -> int:
        token = self.token()
        self.feed(ev.Submitted(token, model.encode(chunk)))
        return token

    def join(self, worker: str = "w1", *held: model.Held) -> None:
        self.feed(ev.Said(hello(worker, held)))

    def touch(self, worker: str = "w1") -> list[model.Touched]:
        """Ask for more time; what is answered."""
        self.feed(ev.Said(model.Touch(worker, self.mono)))
        return self.take(worker, model.Touched)

    def take(self, worker: str, kind: type[Frame]) -> list[Frame]:
        """The frames of one kind sent to a worker so far; they are gone then."""
        found = [frame for to, frame in self.sent if to == worker and isinstance(frame, kind)]
        self.sent = [(to, frame) for to, frame in self.sent if to != worker or not isinstance(frame, kind)]
        return found

    def leased(self, worker: str = "w1") -> list[model.LeasedJob]:
        """The jobs of the leases that the worker got since the last call."""
        return [job for lease in self.take(worker, model.Lease) for job in lease.jobs]

    def pull(self, worker: str = "w1", number: int = 0, *, epoch: int | None = None, **what: object) -> None:
        """A Pull frame; see `model.Pull` for the rest."""
        frame = model.Pull(worker, number, self.core.epoch if epoch is None else epoch, **what)  # type: ignore[arg-type]  # as given
        self.feed(ev.Said(frame))

    def complete(self, jobs: list[model.LeasedJob], worker: str = "w1", number: int = 1) -> None:
        self.pull(worker, number, plain=plain([(job.row, job.counter) for job in jobs]))

    def fail(self, job: model.LeasedJob, failure: model.Failure, worker: str = "w1", number: int = 1) -> None:
        self.pull(worker, number, endings=[model.Ending(job.row, job.counter, failure=failure)])

    def grow(self, job: model.LeasedJob, growth: model.Growth, worker: str = "w1", number: int = 1) -> None:
        self.pull(worker, number, endings=[model.Ending(job.row, job.counter, b"\xc0", growth=growth)])

    def die(self, worker: str = "w1") -> None:
        self.feed(ev.WorkerDied(worker, "killed"))

    def states(self) -> list[str]:
        return [JobState(state).label for state in self.core.ledger.graph.state]

    def records(self, kind: type[model.Record]) -> list[model.Record]:
        """The records of one kind that this leader appended."""
        return [r for r in map(model.decode_record, self.log[self.base :]) if isinstance(r, kind)]

    def successor(self, *, epoch: int, keep: int | None = None, auto: bool = True, lease_s: float = 60.0) -> Desk:
        """Another leader over the first `keep` records of this log (all of them)."""
        log = self.log[: len(self.log) if keep is None else keep]
        core = LeaderCore.restore(None, enumerate(log))
        return Desk(core, log=log, epoch=epoch, auto=auto, at=self.mono, lease_s=lease_s)


SLOW = 100.0
"""Seconds a job, so that a lease holds one."""


def desk_with(*chunks: model.Chunk, workers: int = 1, **what: object) -> Desk:
    """A leader with these submissions and workers w1, w2, ..., all committed."""
    desk = Desk(**what)  # type: ignore[arg-type]  # as given
    for one in chunks:
        desk.submit(one)
    for number in range(workers):
        desk.join(f"w{number + 1}")
    if not desk.auto:
        desk.commit()
    return desk


def one_by_one(desk: Desk) -> None:
    """From now on a lease holds one job: all functions are dear."""
    desk.core._prices.refresh(desk.core.ledger)
    desk.core._prices.seconds[:] = [SLOW] * len(desk.core._prices.seconds)


def rows(jobs: list[LeasedJob]) -> list[int]:
    return [job.row for job in jobs]


def held_by(job: LeasedJob, epoch: int = 1, *, running: bool = True) -> Held:
    return Held(job.row, epoch, job.counter, [(i.row, i.epoch, i.counter) for i in job.inputs], running)

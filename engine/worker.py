"""The worker's side of the protocol: frames in, frames out, and which job comes next. Pure, like the leader's core.

The shells (the Ray worker, the in-process one, the simulator) feed it what arrives and what their bodies yield, and send
what it returns. It begins nothing after its deadline (R1), keeps every outcome until it is told committed and hands it in
again, oldest first, to a new leader (R3), answers Revoke with what it has not begun (R7), and obeys no epoch lower than the
highest that welcomed it (R1).
"""

from __future__ import annotations

from array import array
from collections import deque
from typing import NamedTuple, assert_never

import msgspec

from towline.engine import model
from towline.engine.ids import NO_ROW
from towline.engine.model import Ending, Held, Identity, LeasedJob, Log, Plain, Pull

FLUSH_S = 0.03
"""Outcomes wait at most this long for company."""

REPORT_S = 0.001
"""Outcomes that others wait for go at once, but not more often than this."""

FLUSH_BYTES = 1 << 20


class Todo(NamedTuple):
    """A job that the shell shall run now."""

    job: LeasedJob
    inputs: list[bytes | model.Input | None]
    """One a reference number: the bytes, or None where the worker must fetch `Location` or file, or the missing Input."""
    epoch: int


class _Item(NamedTuple):
    job: LeasedJob
    epoch: int
    lease: int


class WorkerCore:
    """One worker. Not thread-safe: the shell holds a lock around each call."""

    def __init__(self, identity: Identity) -> None:
        self.identity = identity
        self.epoch = 0
        self.lease_s = 60.0
        self.touch_s = 15.0
        self.deadline = 0.0
        """Own boot clock: nothing begins after it, and everything is killed at it."""
        self.refused = ""
        """Set when the leader gave this worker up: kill everything and exit."""
        self.stopping = False
        self.specs: list[tuple[int, model.Spec]] = []
        """Specs and functions that came with leases and that the shell has not taken yet (`take_specs`)."""
        self.functions: list[model.Function] = []
        self._connected = False
        self._joined = False
        self._streams = 0
        self._queue: deque[_Item] = deque()
        self._leases = 0
        self._running: dict[int, tuple[_Item, float]] = {}
        self._results: dict[int, bytes] = {}
        """Outputs of this lease's plain outcomes, for the rope behind them."""
        self._results_lease = 0
        self._unacked: deque[tuple[Pull, list[Held]]] = deque()
        self._number = 0
        self._flushed = 0.0
        self._returned: list[tuple[int, int, int]] = []
        self._clear()

    # ------------------------------------------------------------------------------------------------- the stream

    def connected(self, now: float) -> list[model.ToLeader]:
        """A stream to a leader is up: say who we are and what we hold."""
        self._connected, self._joined = True, False
        self._flush(now)
        self._returned.clear()  # the leader finds them missing in what follows
        held = [self._held(item, running=False) for item in self._queue]
        held += [self._held(item, running=True) for item, _ in self._running.values()]
        for _, kept in self._unacked:
            held += kept
        self._streams += 1
        return [model.Hello(**msgspec.structs.asdict(self.identity), held=held, stream=self._streams)]

    def disconnected(self) -> None:
        """The stream broke; jobs run on until the deadline."""
        self._connected = self._joined = False

    def received(self, frame: model.ToWorker, now: float) -> list[model.ToLeader]:
        """A frame arrived on the present stream."""
        match frame:
            case model.Lease():
                return self._leased(frame, now)
            case model.Ack():
                while self._unacked and self._unacked[0][0].number <= frame.number:
                    self._unacked.popleft()
            case model.Touched():
                if frame.epoch >= self.epoch and not self.refused:
                    self.deadline = max(self.deadline, frame.sent + frame.valid_s)  # R1: from sending
            case model.Welcome():
                return self._welcomed(frame, now)
            case model.Revoke():
                return self._revoked(frame, now)
            case model.Refused():
                self.refused = frame.why
                self._queue.clear()
            case model.Stop():
                self.stopping = True
                self._queue.clear()
            case model.Answer():
                pass  # the shell's own questions
            case _:
                assert_never(frame)
        return []

    def _welcomed(self, frame: model.Welcome, now: float) -> list[model.ToLeader]:
        if frame.epoch < self.epoch:
            return []  # R1: a leader that was replaced and does not know it yet
        self.epoch, self.lease_s, self.touch_s = frame.epoch, frame.lease_s, frame.touch_s
        self._joined = True
        out: list[model.ToLeader] = [self.touch(now)]
        out += [pull for pull, _ in self._unacked]
        return [*out, *self._flush(now, force=True)]

    def touch(self, now: float) -> model.Touch:
        """Ask for more time."""
        return model.Touch(self.identity.worker, now)

    def _leased(self, frame: model.Lease, now: float) -> list[model.ToLeader]:
        if frame.epoch < self.epoch or self.refused or self.stopping or not self._joined:
            return []
        self._leases += 1
        self.specs += frame.specs
        self.functions += frame.functions
        self._queue.extend(_Item(job, frame.epoch, self._leases) for job in frame.jobs)
        return []

    def _revoked(self, frame: model.Revoke, now: float) -> list[model.ToLeader]:
        wanted = set(frame.rows)
        kept: deque[_Item] = deque()
        for item in self._queue:
            if item.job.row in wanted or not wanted.isdisjoint(item.job.needs):
                wanted.add(item.job.row)  # what needs it goes back with it
                self._give_back(item)
            else:
                kept.append(item)
        self._queue = kept
        return self._flush(now, force=True)

    def take_specs(self) -> tuple[list[tuple[int, model.Spec]], list[model.Function]]:
        """Specs and functions that came since the last call."""
        specs, functions = self.specs, self.functions
        self.specs, self.functions = [], []
        return specs, functions

    # ------------------------------------------------------------------------------------------------- jobs

    def next_job(self, now: float) -> Todo | None:
        """The job to begin now, or None: nothing there, or the deadline has passed (R1)."""
        while self._queue:
            if self.refused or now >= self.deadline:
                return None
            item = self._queue.popleft()
            job = item.job
            if item.lease != self._results_lease:
                self._results.clear()
                self._results_lease = item.lease
            if job.needs and any(row not in self._results for row in job.needs):
                self._give_back(item)
                continue
            self._running[job.row] = (item, now)
            return Todo(job, [self._input(given) for given in job.inputs], item.epoch)
        return None

    def _input(self, given: model.Input) -> bytes | model.Input | None:
        if given.missing:
            return given
        if given.data:
            return given.data
        return None if given.place is not None else self._results.get(given.row)

    def completed(self, job: LeasedJob, output: bytes, began: float, elapsed: float, now: float) -> list[model.ToLeader]:
        """A body ended with plain bytes. `began` is wall clock, the others seconds."""
        item, _ = self._running.pop(job.row)
        out = self._switch(item.epoch, now)
        if item.lease == self._results_lease:
            self._results[job.row] = output
        self._rows.append(job.row)
        self._counters.append(job.counter)
        self._began.append(began)
        self._elapsed.append(elapsed)
        self._outputs.append(output)
        self._size += len(output)
        self._ends.append(self._size)
        self._kept.append(self._held(item, running=False))
        since = now - self._flushed
        if since >= FLUSH_S or (job.report and since >= REPORT_S) or not self._queue or self._size > FLUSH_BYTES:
            return out + self._flush(now)
        return out

    def ended(self, job: LeasedJob, ending: Ending, now: float) -> list[model.ToLeader]:
        """A body ended with more than bytes: a failure, a Response that grows the graph, stored data."""
        item, _ = self._running.pop(job.row)
        out = self._switch(item.epoch, now)
        self._endings.append(ending)
        if ending.cached is not None and item.lease == self._results_lease:
            self._results[job.row] = ending.output  # nothing but an output: the rope goes on
        self._kept.append(self._held(item, running=False))
        return out + self._flush(now)

    def log(self, log: Log, epoch: int, now: float) -> list[model.ToLeader]:
        """What a body wrote; goes with its outcome (call it first)."""
        out = self._switch(epoch, now)
        self._logs.append(log)
        return out

    def tick(self, now: float) -> list[model.ToLeader]:
        """Called now and then (every FLUSH_S): outcomes that have waited, and which body has run for long."""
        if now - self._flushed < FLUSH_S:
            return []
        long = [(at, row) for row, (_, at) in self._running.items() if now - at >= FLUSH_S]
        if long:
            at, row = min(long)
            return self._flush(now, running=row, busy_s=now - at)
        return self._flush(now)

    def flush(self, now: float) -> list[model.ToLeader]:
        """Hand in what has ended, now: a question about it is to follow on the same stream."""
        return self._flush(now)

    def is_idle(self) -> bool:
        """Nothing queued, nothing running, nothing unsent."""
        return not (self._queue or self._running or self._rows or self._endings or self._returned)

    def holds_anything(self) -> bool:
        """Is there a body running or queued, or an outcome that is not committed?"""
        return bool(self._queue or self._running or self._rows or self._endings or self._unacked)

    # ------------------------------------------------------------------------------------------------- frames

    def _held(self, item: _Item, *, running: bool) -> Held:
        inputs = [(i.row, i.epoch, i.counter) for i in item.job.inputs if not i.missing]
        return Held(item.job.row, item.epoch, item.job.counter, inputs, running)

    def _give_back(self, item: _Item) -> None:
        self._returned.append((item.epoch, item.job.row, item.job.counter))

    def _clear(self) -> None:
        self._rows: array[int] = array("I")
        self._counters: array[int] = array("I")
        self._began: array[float] = array("d")
        self._elapsed: array[float] = array("f")
        self._ends: array[int] = array("I")
        self._outputs: list[bytes] = []
        self._size = 0
        self._endings: list[Ending] = []
        self._logs: list[Log] = []
        self._kept: list[Held] = []
        self._frame_epoch = 0

    def _switch(self, epoch: int, now: float) -> list[model.ToLeader]:
        """A frame holds attempts of one epoch only."""
        out = self._flush(now) if self._frame_epoch not in (0, epoch) else []
        self._frame_epoch = epoch
        return out

    def _flush(self, now: float, *, force: bool = False, running: int = NO_ROW, busy_s: float = 0.0) -> list[model.ToLeader]:
        has_outcomes = bool(self._rows or self._endings or self._logs)
        if not (has_outcomes or self._returned or force or running != NO_ROW):
            self._flushed = now
            return []
        out: list[model.ToLeader] = []
        worker = self.identity.worker
        if has_outcomes:
            self._number += 1
            plain = Plain(
                self._rows.tobytes(), self._counters.tobytes(), self._began.tobytes(), self._elapsed.tobytes(),
                self._ends.tobytes(), b"".join(self._outputs),
            )  # fmt: skip
            pull = Pull(worker, self._number, self._frame_epoch, plain, self._endings, self._logs)
            self._unacked.append((pull, self._kept))
            out.append(pull)
            self._clear()
        self._flushed = now
        if not self._connected or not self._joined:
            return []  # outcomes are kept; what was given back waits for the Welcome, or is missing in the next Hello
        by_epoch: dict[int, list[tuple[int, int]]] = {}
        returned, self._returned = self._returned, []
        for epoch, row, counter in returned:
            by_epoch.setdefault(epoch, []).append((row, counter))
        for epoch, rows in by_epoch.items():
            out.append(Pull(worker, 0, epoch, returned=rows))
        if running != NO_ROW:
            out.append(Pull(worker, 0, self.epoch, running=running, busy_s=busy_s))
        elif force and not out:
            out.append(Pull(worker, 0, self.epoch))
        return out


def frame_bytes(frame: msgspec.Struct) -> bytes:
    """A frame as it travels."""
    return model.encode(frame)

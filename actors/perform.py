"""Carries out what the core decides: the one loop that every leader is, under Ray, in process and in the simulator.

Events go in by `feed`, synchronously; the core's effects are performed in order. Appends gather while a commit is in
flight and go out together (group commit, one in flight: R6); whatever is to be told waits in a queue for the commit that makes
it true. On a store that is slow they gather a little longer (`window`), unless somebody presses: waits for an answer, or for a
job that may only go once it is committed. When a commit fails the leader is over (R5): nothing more is told, its workers are
stopped, `failure` says why.
The performer owns no transport, process or clock: they come in.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol, assert_never

from towline.actors.clock import Clock, Timer
from towline.actors.window import CommitWindow
from towline.engine import effects as fx
from towline.engine import events as ev
from towline.engine import model
from towline.engine.core import LeaderCore
from towline.engine.errors import TowlineError, UsageError
from towline.stores.objects.base import ObjectsError

logger = logging.getLogger("towline.leader")

COMMIT_BYTES = 32 << 20
"""A commit takes no more records than reach this (at least one): one that is too long would leave those who wait without a word,
and on a bucket it is held in memory as a whole."""


CLOSED = "the leader has closed: go on with its store by `resume`"


class Writer(Protocol):
    """What the performer needs of `stores.journal.writer.JournalWriter`."""

    async def commit(self, payloads: Sequence[bytes]) -> object: ...


class Performer:
    """One leader's loop. `start` it, feed it, await `died`."""

    def __init__(
        self,
        core: LeaderCore,
        writer: Writer,
        clock: Clock,
        *,
        send: Callable[[str, model.ToWorker], None],
        kill: Callable[[str, str], None],
        commit_delay_s: float = 0.0,
    ) -> None:
        """`commit_delay_s`: how long at most a commit is put off to gather more, in seconds, where commits are slow."""
        self.core = core
        self.clock = clock
        self.window = CommitWindow(commit_delay_s)
        self.failure: TowlineError | None = None
        """Why this leader is over, if it is."""
        self.finished = asyncio.Event()
        """Set when the leader has closed, or failed."""
        self._writer = writer
        self._send = send
        self._kill = kill
        self._batch: list[bytes] = []
        self._batch_bytes = 0
        self._appended = 0
        self._committed = 0
        self._waiting: deque[tuple[int, fx.Effect]] = deque()
        self._pressing = 0
        """How many of those in `_waiting` somebody waits for; a worker's Ack can wait."""
        self._work = asyncio.Event()
        self._hurry = asyncio.Event()
        """Set to end the window at once."""
        self._tells: dict[int, asyncio.Future[object]] = {}
        self._token = 0
        self._timer: Timer | None = None
        self._timer_at = float("inf")
        self._idle = asyncio.Event()
        self._moved = asyncio.Event()
        """Set by the next commit, and then another one."""
        self._task: asyncio.Task[None] | None = None
        self.commits = 0
        self.committed_bytes = 0

    def start(self, led: model.Led, first: Sequence[model.Record] = ()) -> None:
        """Begin to lead: `first` records (a new store's Opened) go before the Led record."""
        for record in first:
            payload = model.encode(record)
            self.core.ledger.apply(self.core.ledger.next_seq, payload, record)
            self.core.appended += 1
            self._append(payload)
        self._task = asyncio.get_running_loop().create_task(self._commit_loop(), name="towline-commit")
        self.feed(ev.Leading(led))

    # ------------------------------------------------------------------------------------------------- events in

    def feed(self, event: ev.Event) -> None:
        """Let something happen. Never blocks; never raises on bad input."""
        if self.finished.is_set():
            return
        try:
            for effect in self.core.handle(event, self.clock.now()):
                self._perform(effect)
        except Exception as error:
            # a broken invariant: what is in memory can no longer be trusted, what is in the journal can
            logger.exception("the leader stops at event %r", type(event).__name__)
            self.over(TowlineError(f"the leader stopped at a broken invariant: {error}"))
            return
        if self.finished.is_set():
            return
        if not self.core.idle():
            self._idle.clear()
        if self._presses():
            self._hurry.set()
        self._arm()

    def _arm(self) -> None:
        at = self.core.next_deadline()
        if at is not None and at < self._timer_at:
            if self._timer is not None:
                self._timer.cancel()
            self._timer_at = at
            self._timer = self.clock.call_at(at, self._tick)

    def _tick(self) -> None:
        self._timer, self._timer_at = None, float("inf")
        self.feed(ev.Tick())

    # ------------------------------------------------------------------------------------------------- effects out

    def _perform(self, effect: fx.Effect) -> None:
        match effect:
            case fx.Append():
                self._append(effect.payload)
            case fx.Send(after=False):
                self._send(effect.worker, effect.frame)
            case fx.Kill():
                self._kill(effect.worker, effect.why)
            case fx.Send() | fx.Tell() | fx.Idle() | fx.Finish() | fx.Halt():
                if self._committed == self._appended:
                    self._deliver(effect)
                else:
                    self._hold_back(effect)
            case _:
                assert_never(effect)

    def _append(self, payload: bytes) -> None:
        self._batch.append(payload)
        self._batch_bytes += len(payload)
        self._appended += 1
        self._work.set()

    def _hold_back(self, effect: fx.Effect) -> None:
        self._waiting.append((self._appended, effect))
        self._pressing += _presses(effect)

    def _presses(self) -> bool:
        """Does anybody wait for the next commit?"""
        return bool(self._pressing) or self._batch_bytes >= COMMIT_BYTES or self.core.readiness.gated

    def _deliver(self, effect: fx.Effect) -> None:
        """Everything that this effect rests on is durable."""
        match effect:
            case fx.Send():
                self._send(effect.worker, effect.frame)
            case fx.Tell():
                future = self._tells.pop(effect.token, None)
                if future is not None and not future.done():
                    if effect.ok:
                        future.set_result(effect.value)
                    else:
                        future.set_exception(UsageError(str(effect.value)))
            case fx.Idle():
                if self.core.idle():
                    self._idle.set()
            case fx.Finish():
                self.over(None)
            case fx.Halt():
                self.over(ObjectsError(effect.why.removeprefix("ObjectsError: ")))
            case fx.Append() | fx.Kill():
                raise AssertionError("appends and kills are never held back")
            case _:
                assert_never(effect)

    async def _commit_loop(self) -> None:
        while not self.finished.is_set():
            await self._work.wait()
            await self._gather()
            batch = self._take()
            if not batch:
                continue
            started = self.clock.now().mono
            try:
                await self._writer.commit(batch)
            except Exception as error:
                self.over(error if isinstance(error, TowlineError) else TowlineError(f"the journal failed: {error!r}"))
                return
            if self.finished.is_set():
                return  # over meanwhile: nothing more is told
            self.window.took(started, self.clock.now().mono)
            self._committed += len(batch)
            self.commits += 1
            self.committed_bytes += sum(map(len, batch))
            while self._waiting and self._waiting[0][0] <= self._committed:
                effect = self._waiting.popleft()[1]
                self._pressing -= _presses(effect)
                self._deliver(effect)
            self.feed(ev.Committed(self._committed, started))
            self._moved.set()
            self._moved = asyncio.Event()

    async def _gather(self) -> None:
        """Until the window is over, or somebody presses."""
        opens = self.window.opens_at()
        if self._presses() or self.clock.now().mono >= opens:
            return
        self._hurry.clear()
        timer = self.clock.call_at(opens, self._hurry.set)
        try:
            await self._hurry.wait()
        finally:
            timer.cancel()

    def _take(self) -> list[bytes]:
        """What goes into the next commit: all that has gathered, or as much as COMMIT_BYTES."""
        self._work.clear()
        batch, self._batch = self._batch, []
        if self._batch_bytes > COMMIT_BYTES:
            count, size = 1, len(batch[0])
            while count < len(batch) and size + len(batch[count]) <= COMMIT_BYTES:
                size += len(batch[count])
                count += 1
            batch, self._batch = batch[:count], batch[count:]
        self._batch_bytes = sum(map(len, self._batch))
        if self._batch:
            self._work.set()
        return batch

    def over(self, error: TowlineError | None) -> None:
        """The leader is over: closed, or fenced, or its store failed. Nothing more is told (R5). The first word counts."""
        if self.finished.is_set():
            return
        self.failure = error
        self.finished.set()
        self._idle.set()
        self._moved.set()
        self._hurry.set()
        self._waiting.clear()
        if self._timer is not None:
            self._timer.cancel()
        for future in self._tells.values():
            if not future.done():
                future.set_exception(error or UsageError(CLOSED))
        self._tells.clear()
        if error is not None:
            for worker in list(self.core.sessions):
                self._kill(worker, f"its leader is over: {error}")

    async def aclose(self) -> None:
        """Cancel what is still running; whoever still waits is told that the leader has closed. Idempotent."""
        self.over(None)
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    # ------------------------------------------------------------------------------------------------- asking

    async def told(self, make: Callable[[int], ev.Event]) -> object:
        """Feed the event that `make` builds from a token; its answer comes after the commit.

        Raises:
            UsageError: the core refused.
            TowlineError: the leader failed before it could tell.
        """
        self.refuse_if_over()
        token, future = self._ticket()
        self.feed(make(token))
        return await future

    def refuse_if_over(self) -> None:
        """Raises what the leader failed of, or UsageError once it has closed."""
        if self.finished.is_set():
            raise self.failure or UsageError(CLOSED)

    def _ticket(self) -> tuple[int, asyncio.Future[object]]:
        self._token += 1
        future: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        self._tells[self._token] = future
        return self._token, future

    async def barrier(self) -> None:
        """Return when everything appended so far is durable (R5: readers see the committed watermark)."""
        if self.failure is not None:
            raise self.failure
        if self._committed < self._appended:
            self.refuse_if_over()
            token, future = self._ticket()
            self._hold_back(fx.Tell(token, True, None))
            self._hurry.set()
            await future

    async def moved(self, timeout_s: float) -> bool:
        """Wait for the next commit; False after `timeout_s`. Raises as `refuse_if_over` does."""
        self.refuse_if_over()
        try:
            await asyncio.wait_for(self._moved.wait(), timeout_s)
        except TimeoutError:
            return False
        self.refuse_if_over()
        return True

    async def idle(self, timeout_s: float) -> bool:
        """Wait until nothing is left to run and that is durable; False after `timeout_s`."""
        if not self._idle.is_set():  # with no time to wait, wait_for would not even look
            try:
                await asyncio.wait_for(self._idle.wait(), timeout_s)
            except TimeoutError:
                return False
        if self.failure is not None:
            raise self.failure
        return True


def _presses(effect: fx.Effect) -> bool:
    """Does somebody wait for this? A worker that hears late that its outcomes are committed only keeps them longer."""
    return not (isinstance(effect, fx.Send) and isinstance(effect.frame, model.Ack))

"""A worker: one thread runs jobs, another keeps the line to the leader; what to do next is `engine.worker`'s affair.

The same class serves the Ray worker (stream over a unix socket, supervisor process, descriptors captured) and the in-process
run (queues in memory, a kernel timer as supervisor). Nothing here is lost when a stream breaks: the core keeps every outcome
until the leader says that it is committed.
"""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

import msgspec

from towline.actors.capture import Capture
from towline.actors.clock import boottime
from towline.actors.stream import StreamClosed
from towline.engine import model
from towline.engine.errors import TowlineError, UsageError
from towline.engine.ids import unpack_uuid
from towline.engine.model import Identity
from towline.engine.states import FailureKind
from towline.engine.worker import FLUSH_S, Todo, WorkerCore
from towline.stores.objects.base import NotFound, ObjectsError

logger = logging.getLogger("towline")

ASK_S = 300.0
"""Longest wait for a value that the leader reads from the store."""

READ_TOGETHER = 1000
"""Inputs that the leader is asked for at once: other frames have their turn between two such answers."""

READ_BYTES = 8 << 20
"""Nor does an answer hold more than this, unless a single input does."""

RECONNECT_S = 0.05
"""First pause between two attempts to reach a leader; doubles up to a second."""


class Outcome(Protocol):
    """What a body came to (`actors.execute.python`)."""

    @property
    def output(self) -> bytes: ...
    @property
    def failure(self) -> model.Failure | None: ...
    @property
    def growth(self) -> model.Growth | None: ...
    @property
    def stored_data(self) -> bytes: ...
    @property
    def error(self) -> BaseException | None:
        """The exception behind `failure`, where there is one."""
        ...

    @property
    def cached(self) -> model.Cached | None: ...


class Runner(Protocol):
    """Runs bodies (`actors.execute.python.Executor`)."""

    def add_specs(self, specs: Sequence[tuple[int, model.Spec]], functions: Sequence[model.Function]) -> None: ...

    def run(self, job: model.LeasedJob, inputs: Sequence[bytes | model.Input], attempt: tuple[int, int]) -> Outcome: ...

    def name_of(self, spec: int) -> str: ...

    def rest(self) -> None:
        """The calling thread runs no jobs for now."""
        ...

    responded: Callable[[str, int, Any], None] | None
    """Told uuid, index and Response of each job that says more than a plain value."""
    shown: Any
    """The store that CURRENT_JOB exposes, if one was given."""


class Line(Protocol):
    """A stream to a leader."""

    def send(self, *frames: bytes) -> None: ...

    def receive(self, timeout_s: float | None = None) -> bytes | None: ...

    def close(self) -> None: ...


class Guard(Protocol):
    """What kills this worker when its lease ends."""

    def deadline(self) -> float:
        """Boot clock; at least what `extend` said."""
        ...

    def extend(self, deadline: float) -> None: ...

    def obey(self, epoch: int, touch_s: float) -> None:
        """Believe no lower epoch from now on, and renew the lease as often as its leader wants."""
        ...

    def is_up(self) -> bool:
        """False: the guard is gone, and so must the worker be."""
        ...

    touches: bool
    """Does it renew the lease by itself? Else the worker does."""


class Worker:
    """One worker of a run."""

    def __init__(
        self,
        identity: Identity,
        connect: Callable[[], Line | None],
        make_runner: Callable[[Worker], Runner],
        guard: Guard,
        capture: Capture,
        die: Callable[[str], None],
    ) -> None:
        self.core = WorkerCore(identity)
        self._connect = connect
        self._guard = guard
        self._capture = capture
        self._die = die
        self._lock = threading.Lock()
        self._news = threading.Condition(self._lock)
        self._line: Line | None = None
        self._joined: Line | None = None
        """The line, once the leader on it has welcomed us and was handed what we had for it."""
        self._heard = False
        """Has anything come on the present line?"""
        self._over = False
        self._ended = threading.Event()
        self._crash: BaseException | None = None
        """What ended the thread that keeps the line, if it was no end of ours."""
        self._asks: dict[int, list[Any]] = {}
        self._ask_numbers = itertools.count(1)
        self._answered = threading.Condition()
        self.around: Callable[[str, str, int], AbstractContextManager[None]] | None = None
        """Called with name, uuid and index of each job; its body runs inside."""
        self.raise_errors = False
        """Let the first exception of a body out of `run`."""
        self._touched = 0.0
        self.runner = make_runner(self)
        self._keeper = threading.Thread(target=self._keep, name="towline-line", daemon=True)

    # ------------------------------------------------------------------------------------------------- running jobs

    def start(self) -> None:
        """Begin to keep the line."""
        self._keeper.start()

    def run(self, until: Callable[[], bool] = lambda: False) -> None:
        """Run jobs in this thread until the leader says stop, or `until` holds while nothing is there to do."""
        try:
            while (todo := self._next(until)) is not None:
                self._run(todo)
        finally:
            self.runner.rest()

    def _next(self, until: Callable[[], bool]) -> Todo | None:
        with self._lock:
            while True:
                self.core.deadline = max(self.core.deadline, self._guard.deadline())
                todo = self.core.next_job(boottime())
                if todo is not None:
                    specs, functions = self.core.take_specs()
                    break
                if self._crash is not None:
                    raise TowlineError(f"the worker lost its line to the leader: {self._crash!r}") from self._crash
                if self._over or self.core.refused or until():
                    return None
                if self.core.stopping and not self.core.holds_anything():
                    return None
                self._news.wait(1.0)
        if specs or functions:
            self.runner.add_specs(specs, functions)
        return todo

    def wake(self) -> None:
        """Let `run` look at its `until` again."""
        with self._lock:
            self._news.notify_all()

    def _run(self, todo: Todo) -> None:
        job = todo.job
        began, at = time.time(), time.perf_counter()
        self._capture.begin()
        try:
            inputs = self._inputs(job.inputs, todo.inputs)
            with self._surroundings(job):
                outcome = self.runner.run(job, inputs, (todo.epoch, job.counter))
            error = outcome.error
            failure, growth, stored = outcome.failure, outcome.growth, outcome.stored_data
            output, cached = outcome.output, outcome.cached
        except TowlineError as fault:
            failure = model.Failure(_kind_of(fault), f"{type(fault).__name__}: {fault}")
            growth, stored, output, error, cached = None, b"", b"", fault, None
        finally:
            said = self._capture.end()
        elapsed = time.perf_counter() - at
        frames: list[model.ToLeader] = []
        with self._lock:
            if said is not None:
                frames += self.core.log(model.Log(job.row, job.counter, said.stdout, said.stderr), todo.epoch, boottime())
            if failure is None and growth is None and not stored and cached is None:
                frames += self.core.completed(job, output, began, elapsed, boottime())
            else:
                ending = model.Ending(job.row, job.counter, output, failure, growth, stored, began, elapsed, cached)
                frames += self.core.ended(job, ending, boottime())
            self._send(frames)
        if self.raise_errors and error is not None:
            raise error

    def _surroundings(self, job: model.LeasedJob) -> AbstractContextManager[None]:
        if self.around is None:
            return nullcontext()
        return self.around(self.runner.name_of(job.spec), unpack_uuid(job.uuid), job.index)

    def _inputs(self, given: Sequence[model.Input], values: Sequence[bytes | model.Input | None]) -> list[bytes | model.Input]:
        """All inputs of a job: those that the lease did not bring are asked for together, not one by one."""
        away = [one for one, value in zip(given, values, strict=True) if value is None]
        if not away:
            return [value for value in values if value is not None]
        places: list[model.Location] = []
        for one in away:
            if one.place is None:
                raise TowlineError(f"the input from row {one.row} was not handed over")
            places.append(model.Location(*one.place))
        read = (data for some in batches(places) for data in self.ask("read", some))
        return [next(read) if value is None else value for value in values]

    # ------------------------------------------------------------------------------------------------- asking

    def fetch(self, uuid: str, index: int) -> bytes | None:
        """The newest output of a job that is no parent (a reference inside a value)."""
        with self._lock:
            # it may be an earlier job of this very rope, whose outcome has not been handed in yet
            self._send(self.core.flush(boottime()))
        value: bytes | None = self.ask("output", {"uuid": uuid, "index": index})
        return value

    def filed(self, key: bytes) -> tuple[int, bytes] | None:
        """Row and output of the committed outcome that is filed under this key (`model.Cached`)."""
        with self._lock:
            # it may be that of an earlier job of this rope
            self._send(self.core.flush(boottime()))
        found = self.ask("filed", {"key": key})
        return None if found is None else (found["row"], found["output"])

    def ask(self, verb: str, payload: Any) -> Any:
        """Ask the leader and wait; asks again after a broken stream. Never before the leader has what was handed in before.

        Raises:
            TowlineError: it refused, or nobody answered for ASK_S.
        """
        number = next(self._ask_numbers)
        frame = model.encode(model.Ask(number, verb, msgspec.msgpack.encode(payload)))
        until = boottime() + ASK_S
        with self._answered:
            slot: list[Any] = []
            self._asks[number] = slot
            try:
                sent_on: Line | None = None
                while not slot and boottime() < until and not self._over:
                    line = self._joined
                    if line is not None and line is not sent_on:
                        sent_on = line
                        try:
                            line.send(frame)
                        except StreamClosed:
                            pass  # the keeper reconnects, and this loop sends again on the new stream
                    self._answered.wait(0.5)
            finally:
                del self._asks[number]
        if not slot:
            why = "the worker ends" if self._over else f"there was none for {ASK_S:.0f} s"
            raise TowlineError(f"the leader has not answered {verb!r}: {why}")
        answer: model.Answer = slot[0]
        value = msgspec.msgpack.decode(answer.payload)
        if not answer.ok:
            raise UsageError(value[1])
        return value

    # ------------------------------------------------------------------------------------------------- the line

    def _keep(self) -> None:
        try:
            self._keep_line()
        except BaseException as error:
            logger.exception("the worker cannot keep its line")
            with self._lock:
                self._crash = error
                self._news.notify_all()
            self._die(f"it cannot keep its line: {error!r}")

    def _keep_line(self) -> None:
        pause = RECONNECT_S
        while not self._over:
            line = self._connect()
            if line is not None:
                self._heard = False
                self._talk(line)
                if self._heard:
                    pause = RECONNECT_S
            elif not self._guard.is_up():
                self._die("its supervisor is gone")
            self._ended.wait(pause)
            pause = min(1.0, 2 * pause)

    def _talk(self, line: Line) -> None:
        """Until the line breaks: a new leader will answer, or the lease ends."""
        try:
            with self._lock:
                line.send(*map(model.encode, self.core.connected(boottime())))
                self._line = line
            self._listen(line)
        except (StreamClosed, msgspec.DecodeError):
            pass
        finally:
            with self._lock:
                self._line = self._joined = None
                self.core.disconnected()
            line.close()

    def _listen(self, line: Line) -> None:
        given_up = False
        while not self._over:
            busy = not self.core.is_idle()
            self._touch(line)
            data = line.receive(FLUSH_S if busy else min(1.0, self.core.touch_s / 2))
            if not self._guard.is_up():
                self._die("its supervisor is gone")
            frame = model.decode_to_worker(data) if data is not None else None
            if isinstance(frame, model.Answer):
                with self._answered:
                    if frame.number in self._asks:
                        self._asks[frame.number].append(frame)
                    self._answered.notify_all()
                continue
            with self._lock:
                if frame is None:
                    self._send(self.core.tick(boottime()))
                    continue
                self._heard = True
                self._take(frame)
            if isinstance(frame, model.Welcome) and frame.epoch == self.core.epoch:
                with self._answered:
                    self._joined = line
                    self._answered.notify_all()
            if self.core.refused and not given_up:
                given_up = True  # where that does not end the process, what a body yet comes to is still handed in
                self._die(self.core.refused)

    def _take(self, frame: model.ToWorker) -> None:
        """One frame of the leader, under the lock."""
        now = boottime()
        self._send([*self.core.received(frame, now), *self.core.tick(now)])
        self._guard.extend(self.core.deadline)
        if isinstance(frame, model.Welcome):
            self._guard.obey(self.core.epoch, self.core.touch_s)
        self._news.notify_all()

    def _touch(self, line: Line) -> None:
        """Renew the lease, where no supervisor does."""
        now = boottime()
        if not self._guard.touches and now >= self._touched + self.core.touch_s:
            self._touched = now
            with self._lock:
                self._send([self.core.touch(now)])

    def _send(self, frames: Sequence[model.ToLeader]) -> None:
        """To be called under the lock that the frames were made under: their order counts (an Ack is for all before it)."""
        line = self._line
        if line is None or not frames:
            return  # kept by the core; handed in again after the next Welcome
        try:
            line.send(*map(model.encode, frames))
        except StreamClosed:
            pass  # the keeper notices too, and reconnects

    def say_goodbye(self, cause: str) -> None:
        """Leave the roster: nothing runs here any more."""
        with self._lock:
            self._send([model.Goodbye(self.core.identity.worker, cause)])

    def stop(self) -> None:
        """End both threads' loops. Safe to call twice, from any thread."""
        self._over = True
        self._ended.set()
        line = self._line
        if line is not None:
            line.close()  # without the lock: a thread may be sending under it
        with self._lock:
            self._news.notify_all()
        with self._answered:
            self._answered.notify_all()

    def join(self, timeout_s: float) -> None:
        """Wait until the thread that keeps the line has ended."""
        if self._keeper.is_alive() and self._keeper is not threading.current_thread():
            self._keeper.join(timeout_s)


def _kind_of(fault: TowlineError) -> FailureKind:
    """What is to blame for what happened around a body: the store that takes or gives nothing, or an input that is not there."""
    if isinstance(fault, ObjectsError) and not isinstance(fault, NotFound):
        return FailureKind.UPLOAD
    return FailureKind.UNRESOLVED_REFERENCE


def batches(places: Sequence[model.Location]) -> Iterator[list[model.Location]]:
    """These places in their order, in lists that are short enough for one question."""
    batch: list[model.Location] = []
    size = 0
    for place in places:
        if batch and (len(batch) == READ_TOGETHER or size + place.length > READ_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(place)
        size += place.length
    if batch:
        yield batch

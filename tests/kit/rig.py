"""A worker between a line, a guard, a capture and a runner that are all the test's."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from tests.kit.builders import identity
from towline.actors.capture import Said
from towline.actors.clock import boottime
from towline.actors.execute.python import Outcome
from towline.actors.stream import StreamClosed
from towline.actors.worker import Worker
from towline.engine import model

Frame = TypeVar("Frame")


class FakeLine:
    """Both ends of a line."""

    def __init__(self) -> None:
        self.heard: queue.SimpleQueue[model.ToLeader] = queue.SimpleQueue()
        self.said: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self.closed = threading.Event()
        self.before_send: Callable[[model.ToLeader], None] = lambda frame: None

    def send(self, *frames: bytes) -> None:
        for data in frames:
            if self.closed.is_set():
                raise StreamClosed("closed")
            frame = model.decode_to_leader(data)
            self.before_send(frame)
            self.heard.put(frame)

    def receive(self, timeout_s: float | None = None) -> bytes | None:
        if self.closed.is_set():
            raise StreamClosed("closed")
        try:
            data = self.said.get(timeout=timeout_s)
        except queue.Empty:
            return None
        if data is None:
            raise StreamClosed("hung up")
        return data

    def close(self) -> None:
        self.closed.set()
        self.said.put(None)

    # ---- the leader's side

    def tell(self, *frames: model.ToWorker) -> None:
        for frame in frames:
            self.said.put(model.encode(frame))

    def hear(self, kind: type[Frame]) -> Frame:
        """The next frame of this kind; others are passed over."""
        while True:
            frame = self.heard.get(timeout=30)
            if isinstance(frame, kind):
                return frame

    def welcome(self, epoch: int = 1, valid_s: float = 1000.0) -> model.Hello:
        hello = self.hear(model.Hello)
        self.tell(model.Welcome(epoch, 60.0, 15.0), model.Touched(epoch, boottime(), valid_s))
        return hello

    def rest(self) -> list[model.ToLeader]:
        frames = []
        while not self.heard.empty():
            frames.append(self.heard.get())
        return frames


class FakeGuard:
    touches = True

    def __init__(self) -> None:
        self.until, self.touch_s, self.epoch = 0.0, 0.0, 0
        self.up = True

    def deadline(self) -> float:
        return self.until

    def extend(self, deadline: float) -> None:
        self.until = max(self.until, deadline)

    def obey(self, epoch: int, touch_s: float) -> None:
        self.epoch, self.touch_s = epoch, touch_s

    def is_up(self) -> bool:
        return self.up


class FakeCapture:
    def __init__(self) -> None:
        self.says: Said | None = None
        self.open = False

    def begin(self) -> None:
        assert not self.open
        self.open = True

    def end(self) -> Said | None:
        assert self.open
        self.open = False
        return self.says

    def close(self) -> None: ...


class FakeRunner:
    def __init__(self) -> None:
        self.body: Callable[[model.LeasedJob, Sequence[Any]], Outcome] = lambda job, inputs: Outcome(b"\xc0")
        self.ran: list[int] = []
        self.specs: list[int] = []
        self.rests = 0

    def add_specs(self, specs: Sequence[tuple[int, model.Spec]], functions: Sequence[model.Function]) -> None:
        self.specs += [number for number, _ in specs]

    def run(self, job: model.LeasedJob, inputs: Sequence[Any], attempt: tuple[int, int]) -> Outcome:
        self.ran.append(job.row)
        return self.body(job, inputs)

    def name_of(self, spec: int) -> str:
        return f"spec {spec}"

    def rest(self) -> None:
        self.rests += 1


class Rig:
    """A worker and what is around it."""

    def __init__(self) -> None:
        self.lines: queue.SimpleQueue[FakeLine | Exception] = queue.SimpleQueue()
        self.guard, self.capture, self.runner = FakeGuard(), FakeCapture(), FakeRunner()
        self.died: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.worker = Worker(identity(), self._connect, lambda worker: self.runner, self.guard, self.capture, self.died.put)
        self.thread: threading.Thread | None = None
        self.raised: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()

    def _connect(self) -> FakeLine | None:
        try:
            line = self.lines.get(timeout=0.02)
        except queue.Empty:
            return None
        if isinstance(line, Exception):
            raise line
        return line

    def line(self) -> FakeLine:
        made = FakeLine()
        self.lines.put(made)
        return made

    def start(self) -> None:
        self.worker.start()
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        try:
            self.worker.run()
        except BaseException as error:
            self.raised.put(error)
        else:
            self.raised.put(None)

    def ended(self) -> BaseException | None:
        """What `run` raised."""
        return self.raised.get(timeout=30)

    def stop(self) -> None:
        self.worker.stop()
        self.worker.join(30)
        if self.thread is not None:
            self.thread.join(30)

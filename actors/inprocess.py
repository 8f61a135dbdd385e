"""A whole run in this process, without Ray: the same leader in a thread, the same worker in the caller's thread.

The frames are the same bytes as between machines; only the stream is two queues. A kernel timer takes the supervisor's place.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import threading
import uuid
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from contextlib import AbstractContextManager
from typing import Any

from towline.actors.capture import TeeCapture
from towline.actors.config import LeaderConfig
from towline.actors.deadman import DeadMan
from towline.actors.identity import host_id, start_time
from towline.actors.runner import make_runner
from towline.actors.service import LeaderService
from towline.actors.stream import StreamClosed
from towline.actors.worker import Worker
from towline.engine.errors import TowlineError
from towline.engine.model import Identity
from towline.stores.store import Store

JOIN_S = 5.0
"""How long a closing leader waits for its worker's second thread."""


class _Pipe:
    """Both ends of a stream in memory: a Link to the leader's loop, a Line to the worker's threads."""

    def __init__(self, loop: asyncio.AbstractEventLoop, service: LeaderService) -> None:
        self.worker = ""
        self._loop = loop
        self._service = service
        self._frames: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._closed = False
        self.line = _PipeLine(self)

    def send(self, frame: bytes) -> None:
        self._frames.put(frame)

    def close(self) -> None:
        self._closed = True
        self._frames.put(None)

    def deliver(self, frames: tuple[bytes, ...]) -> None:
        for frame in frames:
            self._service.on_frame(self, frame)

    def push(self, frames: tuple[bytes, ...]) -> None:
        """From the worker's threads to the leader's loop."""
        if self._closed:
            raise StreamClosed("the leader has closed")
        try:
            self._loop.call_soon_threadsafe(self.deliver, frames)
        except RuntimeError:
            raise StreamClosed("the leader's loop has ended") from None

    def pull(self, timeout_s: float | None) -> bytes | None:
        try:
            frame = self._frames.get(timeout=timeout_s)
        except queue.Empty:
            return None
        if frame is None:
            raise StreamClosed("the leader has closed")
        return frame


class _PipeLine:
    """The worker's end."""

    def __init__(self, pipe: _Pipe) -> None:
        self._pipe = pipe

    def send(self, *frames: bytes) -> None:
        self._pipe.push(frames)

    def receive(self, timeout_s: float | None = None) -> bytes | None:
        return self._pipe.pull(timeout_s)

    def close(self) -> None:
        self._pipe.close()


class _TimerGuard:
    """Kills this process if its lease ends."""

    touches = False

    def __init__(self) -> None:
        self._timer = DeadMan()
        self._deadline = 0.0

    def deadline(self) -> float:
        return self._deadline

    def extend(self, deadline: float) -> None:
        if deadline > self._deadline:
            self._deadline = deadline
            self._timer.set(deadline)

    def obey(self, epoch: int, touch_s: float) -> None:
        """The leader lives and dies with this process: there is no other epoch."""

    def is_up(self) -> bool:
        return True

    def close(self) -> None:
        self._timer.close()


class LocalClient:
    """Asks the leader in the other thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop, service: LeaderService) -> None:
        self._loop = loop
        self._service = service

    def begin(self, verb: str, payload: Any = None) -> Future[Any]:
        """Ask without waiting; questions are taken in order. Raises ConnectionError once the leader has closed."""
        asking = self._service.ask(verb, payload)
        try:
            return asyncio.run_coroutine_threadsafe(asking, self._loop)
        except RuntimeError:
            asking.close()
            raise ConnectionError("the leader has closed") from None

    def ask(self, verb: str, payload: Any = None, timeout_s: float | None = None) -> Any:
        """Ask and wait. Raises TimeoutError, ConnectionError, or what the leader refuses with."""
        future = self.begin(verb, payload)
        try:
            return future.result(timeout_s)
        except TimeoutError:
            future.cancel()
            raise
        except CancelledError:
            raise ConnectionError("the leader has closed") from None


class LocalLeader:
    """A leader and one worker in this process."""

    def __init__(self, store_url: str, *, create: bool, takeover: bool, config: LeaderConfig, documents: Any = None) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="towline-leader", daemon=True)
        self._thread.start()
        self._idle = False
        self._state = threading.Lock()
        self._free = threading.Event()
        """Does nobody run jobs?"""
        self._free.set()
        self._busy = False
        """Does the caller's thread run jobs?"""
        self._closed = False
        self._worker: Worker | None = None
        self._guard: _TimerGuard | None = None
        try:
            self._guard = _TimerGuard()
            self._service = self._call(self._start(store_url, create, takeover, config))
        except BaseException:
            if self._guard is not None:
                self._guard.close()
            self._end_loop()
            raise
        self.client = LocalClient(self._loop, self._service)

        def connect() -> _PipeLine | None:
            return None if self._closed else _Pipe(self._loop, self._service).line

        host = host_id()
        identity = Identity(
            f"local-{uuid.uuid4().hex}",
            host.host,
            host.boot_id,
            host.pid_namespace,
            os.getpid(),
            start_time(os.getpid()),
            0,
            0.0,
        )
        self._worker = Worker(
            identity,
            connect,
            lambda worker: make_runner(worker, self._service.store.url, config.allow_pickle, documents),
            self._guard,
            TeeCapture(),
            self._refused,
        )
        self._worker.start()

    @staticmethod
    async def _start(store_url: str, create: bool, takeover: bool, config: LeaderConfig) -> LeaderService:
        store = await Store.open(store_url, create=create)
        service = LeaderService(store, config)  # closes the store, too
        try:
            await service.start(takeover=takeover)
        except BaseException:
            await service.drop()
            raise
        return service

    def _call(self, coroutine: Any) -> Any:
        """In the leader's loop. Ctrl-C cancels it there, and waits for what it then does."""
        task: Future[Any] = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return task.result()
        except KeyboardInterrupt:
            task.cancel()
            raise

    def run_jobs_until_idle(
        self,
        *,
        around: Callable[[str, str, int], AbstractContextManager[None]] | None = None,
        raise_immediately: bool = False,
        responded: Callable[[str, int, Any], None] | None = None,
        shown: Any = None,
        idle_ends: bool = True,
    ) -> None:
        """Run jobs in this thread until nothing is left to run (unless that is not to end it), or the leader is over.

        `around(name, uuid, index)` gives what each body runs inside; `raise_immediately` lets the first exception out;
        `responded(uuid, index, response)` is told of each Response that is more than a plain value; `shown` is the store that
        CURRENT_JOB exposes.

        Raises:
            TowlineError: the store failed or another leader took it.
        """
        worker = self._worker
        assert worker is not None
        worker.around, worker.raise_errors = around, raise_immediately
        worker.runner.responded, worker.runner.shown = responded, shown
        with self._state:
            if self._closed:
                return
            self._busy = True
            self._free.clear()
        self._idle = False
        watching = asyncio.run_coroutine_threadsafe(self._watch(idle_ends), self._loop)
        try:
            worker.run(lambda: self._idle)
        finally:
            with contextlib.suppress(RuntimeError):
                watching.cancel()
            with self._state:
                self._busy = False
                if worker.core.refused or worker.core.stopping:
                    worker.say_goodbye("it was told to end")  # whoever closes the leader waits for it
                self._free.set()
        if self._service.performer.failure is not None:
            raise self._service.performer.failure

    async def _watch(self, idle_ends: bool) -> None:
        """Wake the caller's thread when the run is idle, or over."""
        performer = self._service.performer
        try:
            if not idle_ends:
                await performer.finished.wait()
            with contextlib.suppress(TowlineError):  # the caller's thread raises what the leader failed of
                while not await performer.idle(3600.0):
                    pass
        finally:  # whatever it is that has ended
            self._idle = True
            assert self._worker is not None
            self._worker.wake()

    def _refused(self, why: str) -> None:
        """The leader is closing or was fenced while a body ran: what it yields will be refused; begin nothing more."""
        assert self._worker is not None
        with self._state:
            if not self._busy:
                self._worker.say_goodbye(why)
        self._worker.wake()

    def close(self) -> None:
        """A clean end: a body that runs in another thread is waited for, and nothing begins after it. Idempotent."""
        with self._state:
            if self._closed:
                return
            self._closed = True
            assert self._worker is not None
            assert self._guard is not None
            if not self._busy:
                self._worker.say_goodbye("closing")
        try:
            self._call(self._service.begin_to_close())
            # however long it takes: were the body left to its lease, the timer would end this whole process
            self._free.wait()
            self._call(self._service.close())
        finally:
            self._worker.stop()
            self._worker.join(JOIN_S)
            self._end_loop()
            if not self._busy:
                self._guard.close()  # else a body runs that another leader may give away: let the timer end it (P2)

    def _end_loop(self) -> None:
        """Whoever still waits for the loop is told that it has gone."""
        asyncio.run_coroutine_threadsafe(self._clear(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _clear(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await self._loop.shutdown_asyncgens()
        await self._loop.shutdown_default_executor()


def start(
    store_url: str,
    *,
    workers: int = 1,
    takeover: bool = False,
    create: bool = False,
    config: LeaderConfig | None = None,
    documents: Any = None,
) -> LocalLeader:
    """Claim a store and lead it from this process; `workers` is accepted for symmetry (the caller's thread is the only one).

    `documents` is the JobStore in whose additional stores jobs lay parts of their outputs, if there is one.

    Raises:
        StoreMissing, StoreForeign, StoreNewer, StoreLocked: one sentence each; nothing was changed.
    """
    return LocalLeader(store_url, create=create, takeover=takeover, config=config or LeaderConfig(), documents=documents)

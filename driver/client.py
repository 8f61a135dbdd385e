"""Who answers for a run: a leader that lives, reached through Ray, a unix socket or in this process.

All of them speak the same verbs with the same plain data, so that `Run` and the command line know one kind of client.
A client may be used from several threads. It raises ConnectionError when the leader is gone, TimeoutError when no
answer came in time, and the leader's own refusals as UsageError.
"""

from __future__ import annotations

import concurrent.futures
import itertools
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, InvalidStateError, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

import msgspec

from towline.engine.errors import TowlineError

if TYPE_CHECKING:
    from towline.actors.endpoint import Endpoint
    from towline.engine import model

Status = dict[str, Any]
"""What the verbs "status" and "wait" answer: state, counts, total, flows, workers, epoch, store, incomplete, leader."""

IN_FLIGHT = 4
"""Chunks of a submission that may be under way at once: the leader commits one while the next are made and sent."""

STRAGGLER_S = 10.0
"""How long a submission that was refused waits for the answers to what was under way with it."""

DYING_S = 15.0
"""How long a leader whose driver is dead has to die, too."""

DYING_LOOK_S = 0.1

TOGETHER = 256
"""Questions of one `ask_all` that are under way at once."""


class LeaderClient(Protocol):
    """A line to a leader."""

    def ask(self, verb: str, payload: Any = None, timeout_s: float | None = None) -> Any:
        """The answer to a verb, told after all that it rests on is committed."""
        ...

    def begin(self, verb: str, payload: Any = None) -> Future[Any]:
        """Ask without waiting. The leader takes what one thread begins in the order in which it was begun."""
        ...

    def ask_all(self, verb: str, payloads: Sequence[Any]) -> list[Any]:
        """The answers to one verb with many payloads, in their order; quicker than one after the other."""
        ...

    def close(self) -> None:
        """Hang up; the leader is not touched. Idempotent."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None: ...


class Wire(Protocol):
    """The least that a transport must have."""

    def ask(self, verb: str, payload: Any = None, timeout_s: float | None = None) -> Any: ...


class Line:
    """A transport as a LeaderClient: `begin` and `close` are the transport's own where it has them."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._queue: ThreadPoolExecutor | None = None

    def ask(self, verb: str, payload: Any = None, timeout_s: float | None = None) -> Any:
        with speaking():
            return self._wire.ask(verb, payload, timeout_s)

    def begin(self, verb: str, payload: Any = None) -> Future[Any]:
        begin = getattr(self._wire, "begin", None)
        if begin is not None:
            future: Future[Any] = begin(verb, payload)
            return future
        if self._queue is None:
            # one thread keeps the order
            self._queue = ThreadPoolExecutor(1, thread_name_prefix="towline-ask")
        return self._queue.submit(self.ask, verb, payload)

    def ask_all(self, verb: str, payloads: Sequence[Any]) -> list[Any]:
        answers: list[Any] = []
        for start in range(0, len(payloads), TOGETHER):
            begun = [self.begin(verb, payload) for payload in payloads[start : start + TOGETHER]]
            with speaking():
                answers += [future.result() for future in begun]
        return answers

    def hang_up(self) -> None:
        """Let go of what this object has made; the transport belongs to somebody else and stays."""
        if self._queue is not None:
            self._queue.shutdown(wait=False, cancel_futures=True)

    def close(self) -> None:
        self.hang_up()
        close = getattr(self._wire, "close", None)
        if close is not None:
            close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


class SocketWire:
    """The leader's unix socket, from another process of the same user: questions are numbered, answers come as they come."""

    def __init__(self, path: str, token: str) -> None:
        """Raises ConnectionError."""
        from towline.actors.stream import Stream

        with speaking():
            self._stream = Stream(path, token)
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._open: dict[int, Future[Any]] = {}
        self._lost = ""
        threading.Thread(target=self._listen, name="towline-client", daemon=True).start()

    def begin(self, verb: str, payload: Any = None) -> Future[Any]:
        """Ask without waiting."""
        from towline.engine import model

        future: Future[Any] = Future()
        number = next(self._numbers)
        data = b"" if payload is None else msgspec.msgpack.encode(payload)
        with self._lock:
            if self._lost:
                raise ConnectionError(self._lost)
            self._open[number] = future
            with speaking():
                self._stream.send(model.encode(model.Ask(number, verb, data)))
        return future

    def ask(self, verb: str, payload: Any = None, timeout_s: float | None = None) -> Any:
        """Ask and wait."""
        answer = self.begin(verb, payload)
        try:
            return answer.result(timeout_s)
        except TimeoutError:
            if answer.done():
                raise
            raise TimeoutError(f"the leader did not answer {verb!r} within {timeout_s} s") from None

    def close(self) -> None:
        """Hang up; whoever still waits for an answer gets a ConnectionError."""
        self._stream.close()

    def _listen(self) -> None:
        from towline.engine import model

        try:
            while True:
                frame = self._stream.receive()
                said = model.decode_to_worker(frame or b"")
                if isinstance(said, model.Answer):
                    self._take(said)
        except Exception as error:  # whatever it was: nobody may wait for an answer that will not come
            with self._lock:
                self._lost = f"the leader is gone: {error}"
                lost, self._open = self._open, {}
            for future in lost.values():
                with suppress(InvalidStateError):  # cancelled
                    future.set_exception(ConnectionError(self._lost))
        finally:
            self._stream.close()

    def _take(self, said: model.Answer) -> None:
        with self._lock:
            future = self._open.pop(said.number, None)
        if future is None:
            return
        value: Any = msgspec.msgpack.decode(said.payload) if said.payload else None
        with suppress(InvalidStateError):  # cancelled: nobody wants to know any more
            if said.ok:
                future.set_result(value)
            else:
                name, text = value
                future.set_exception(refusal(name, text))


def refusal(name: str, text: str) -> TowlineError:
    """The leader's refusal as the error that it was there: its class by name, with its sentence."""
    from towline.engine import errors as of_engine
    from towline.stores import errors as of_stores

    kind = getattr(of_engine, name, None) or getattr(of_stores, name, None)
    if not (isinstance(kind, type) and issubclass(kind, TowlineError)):
        kind = TowlineError
    return kind(text)


def find(store: str) -> LeaderClient | None:
    """A line to the leader that lives on this store, or None. What a dead leader left behind counts as none.

    None is no proof that nobody leads: that is for the journal to say, at the next claim (P4). UsageError if there is no
    store.
    """
    place = _place(store)
    if place is None or place.provably_dead():
        return None
    try:
        return Line(SocketWire(place.socket, place.token))
    except OSError:
        return None


def leading(store: str) -> Endpoint | None:
    """The leader that lives on this store and will go on living, or None. One that dies with its driver is waited for.

    Ray takes some seconds to end after its driver was killed. UsageError if there is no store.
    """
    until = time.monotonic() + DYING_S
    while True:
        place = _place(store)
        live = find(store) if place is not None else None
        if place is None or live is None:
            return None
        live.close()
        if not place.orphaned() or time.monotonic() >= until:
            return place
        time.sleep(DYING_LOOK_S)


def _place(store: str) -> Endpoint | None:
    """Where the last leader said that it listens."""
    from towline import offline
    from towline.actors import endpoint

    left: bytes | None = offline.settle(_left_word(store))
    return endpoint.decode(left) if left else None


async def _left_word(store: str) -> bytes | None:
    """What the last leader said of itself."""
    from towline.stores.store import Store

    opened = await Store.open(store)
    try:
        return await opened.get_endpoint()
    finally:
        await opened.close()


@contextmanager
def speaking() -> Iterator[None]:
    """Translate the transport's word for "the leader is gone" into Python's, at this one border."""
    try:
        yield
    except TowlineError as error:
        from towline.actors.stream import StreamClosed

        if isinstance(error, StreamClosed):
            raise ConnectionError(str(error)) from None
        raise


def feed(client: LeaderClient, chunks: Iterable[bytes], told: Callable[[int], None] | None = None) -> int:
    """Hand in a submission, in order, with IN_FLIGHT chunks under way; `told(n)` after n jobs are durable. Returns n.

    The first refusal is raised, once nothing is under way any more: what the caller does next meets no straggler.
    """
    taken = 0
    waiting: deque[Future[Any]] = deque()
    try:
        for chunk in chunks:
            waiting.append(client.begin("submit", chunk))
            if len(waiting) >= IN_FLIGHT:
                taken += waiting.popleft().result()["count"]
                if told is not None:
                    told(taken)
        while waiting:
            taken += waiting.popleft().result()["count"]
    finally:
        concurrent.futures.wait(waiting, STRAGGLER_S)
    if told is not None:
        told(taken)
    return taken

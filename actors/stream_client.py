"""Asks a leader over its socket from any thread: how the command line and `connect` talk to a run that is going on."""

from __future__ import annotations

import builtins
import itertools
import threading
from concurrent.futures import Future
from typing import Any

import msgspec

from towline.actors.stream import Stream, StreamClosed
from towline.engine import errors, model
from towline.stores import errors as store_errors

CONNECT_S = 5.0


def error_named(name: str, message: str) -> Exception:
    """The error that the leader refused with."""
    for module in (errors, store_errors):
        kind = getattr(module, name, None)
        if isinstance(kind, type) and issubclass(kind, errors.TowlineError):
            try:
                return kind(message)
            except TypeError:
                break  # it wants more than a sentence; the sentence is what matters
    return errors.UsageError(message)


class StreamClient:
    """A line to a leader. Raises ConnectionError when it is gone, TimeoutError, or what the leader refuses with."""

    def __init__(self, path: str, token: str) -> None:
        try:
            self._stream = Stream(path, token, CONNECT_S)
        except StreamClosed as error:
            raise ConnectionError(str(error)) from None
        self._numbers = itertools.count(1)
        self._waiting: dict[int, Future[Any]] = {}
        self._lock = threading.Lock()
        self._gone = False
        self._reader = threading.Thread(target=self._read, name="towline-answers", daemon=True)
        self._reader.start()

    def begin(self, verb: str, payload: Any = None) -> Future[Any]:
        """Ask without waiting; questions are taken in order."""
        future: Future[Any] = Future()
        with self._lock:
            if self._gone:
                raise ConnectionError("the leader is gone")
            number = next(self._numbers)
            self._waiting[number] = future
            try:
                self._stream.send(model.encode(model.Ask(number, verb, msgspec.msgpack.encode(payload))))
            except StreamClosed as error:
                del self._waiting[number]
                raise ConnectionError(f"the leader is gone: {error}") from None
        return future

    def ask(self, verb: str, payload: Any = None, timeout_s: float | None = None) -> Any:
        """Ask and wait."""
        try:
            return self.begin(verb, payload).result(timeout_s)
        except builtins.TimeoutError:
            raise TimeoutError(f"the leader did not answer {verb!r} within {timeout_s} s") from None

    def _read(self) -> None:
        try:
            while True:
                data = self._stream.receive()
                frame = model.decode_to_worker(data) if data is not None else None
                if isinstance(frame, model.Answer):
                    self._answered(frame)
        except (StreamClosed, msgspec.DecodeError) as error:
            with self._lock:
                self._gone = True
                waiting, self._waiting = list(self._waiting.values()), {}
            for future in waiting:
                future.set_exception(ConnectionError(f"the leader is gone: {error}"))

    def _answered(self, answer: model.Answer) -> None:
        with self._lock:
            future = self._waiting.pop(answer.number, None)
        if future is None:
            return
        value = msgspec.msgpack.decode(answer.payload)
        if answer.ok:
            future.set_result(value)
        else:
            future.set_exception(error_named(*value))

    def close(self) -> None:
        """Hang up; the leader is not touched."""
        self._stream.close()

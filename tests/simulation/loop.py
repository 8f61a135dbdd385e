"""An asyncio event loop whose time is a number: when nothing is ready it jumps to the next timer. No threads, no sockets.

Timers of equal time run in the order in which they were set, so that a seed decides everything. Handles are the few attributes
that asyncio's tasks and futures ask for; a simulation is some thousand of them.
"""

from __future__ import annotations

import asyncio
import contextvars
import heapq
import itertools
from collections import deque
from collections.abc import Callable
from typing import Any, NoReturn


class Stalled(Exception):
    """Nothing is ready and nothing is scheduled: the simulated world has come to a halt."""


class Call:
    """A callback that is to run; `cancel` forgets it."""

    __slots__ = ("args", "at", "callback", "context")

    def __init__(
        self, at: float, callback: Callable[..., object], args: tuple[Any, ...], context: contextvars.Context | None
    ) -> None:
        self.at = at
        self.callback: Callable[..., object] | None = callback
        self.args = args
        self.context = context

    def cancel(self) -> None:
        self.callback, self.args = None, ()

    def cancelled(self) -> bool:
        return self.callback is None

    def when(self) -> float:
        return self.at


class VirtualLoop(asyncio.BaseEventLoop):
    """`now` is the true time of the simulated world, in seconds from 0."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.unhandled: list[BaseException] = []
        """What escaped from callbacks and tasks; the simulation looks here."""
        self._soon: deque[Call] = deque()
        self._timers: list[tuple[float, int, Call]] = []
        self._order = itertools.count()
        self.set_exception_handler(self._unhandled)

    def time(self) -> float:
        return self.now

    def call_soon(self, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None) -> Any:
        call = Call(self.now, callback, args, context)
        self._soon.append(call)
        return call

    def call_at(
        self, when: float, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> Any:
        call = Call(when, callback, args, context)
        heapq.heappush(self._timers, (when, next(self._order), call))
        return call

    def call_later(
        self, delay: float, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> Any:
        return self.call_at(self.now + delay, callback, *args, context=context)

    def _run_once(self) -> None:
        """All that is ready, then the next timer, until somebody says stop."""
        soon, timers = self._soon, self._timers
        while not self._stopping:
            if soon:
                call = soon.popleft()
            elif timers:
                when, _, call = heapq.heappop(timers)
                if call.callback is not None and when > self.now:
                    self.now = when
            else:
                raise Stalled("no timer is set and no task can run")
            callback = call.callback
            if callback is None:
                continue
            try:
                if call.context is None:
                    callback(*call.args)
                else:
                    call.context.run(callback, *call.args)
            except Exception as error:
                self.unhandled.append(error)

    def _write_to_self(self) -> None:
        """Nobody calls from another thread."""

    def _unhandled(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if error is not None:
            self.unhandled.append(error)

    def run_in_executor(self, *args: Any) -> NoReturn:
        raise AssertionError("a simulated process must not use threads: their order is not in the seed")

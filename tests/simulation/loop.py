"""An asyncio event loop whose time is a number: when nothing is ready it jumps to the next timer. No threads, no sockets."""

from __future__ import annotations

import asyncio
from typing import Any, NoReturn


class Stalled(Exception):
    """Nothing is ready and nothing is scheduled: the simulated world has come to a halt."""


class _Jump:
    """Stands where the selector stands: instead of sleeping it moves the loop's clock."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop

    def select(self, timeout: float | None) -> list[Any]:
        if timeout is None:
            raise Stalled("no timer is set and no task can run")
        if timeout > 0:
            loop = self._loop
            loop.now = max(loop.now, loop._scheduled[0]._when)
        return []

    def close(self) -> None:
        """There is nothing to close."""


class VirtualLoop(asyncio.BaseEventLoop):
    """`now` is the true time of the simulated world, in seconds from 0."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self._selector = _Jump(self)
        self.set_exception_handler(self._unhandled)
        self.unhandled: list[BaseException] = []
        """What escaped from callbacks; the simulation looks here."""

    def time(self) -> float:
        return self.now

    def _process_events(self, event_list: list[Any]) -> None:
        """There are no file descriptors."""

    def _write_to_self(self) -> None:
        """Nobody calls from another thread."""

    def _unhandled(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if error is not None:
            self.unhandled.append(error)

    def run_in_executor(self, *args: Any) -> NoReturn:
        raise AssertionError("a simulated node must not use threads: their order is not in the seed")

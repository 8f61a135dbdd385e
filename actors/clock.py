"""The one place that reads clocks: boot time for leases (it counts while the machine sleeps, R1), wall time for users."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Protocol

from towline.engine.events import Now


class Timer(Protocol):
    """Something that was set and can be unset."""

    def cancel(self) -> None: ...


class Clock(Protocol):
    """Time as the shells see it; the simulator has its own."""

    def now(self) -> Now: ...

    def call_at(self, mono: float, callback: Callable[[], None]) -> Timer:
        """Call back once the boot clock shows `mono` (seconds)."""
        ...


def boottime() -> float:
    """CLOCK_BOOTTIME in seconds."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class SystemClock:
    """The machine's clocks and the running asyncio loop's timers."""

    def now(self) -> Now:
        return Now(boottime(), time.time())

    def call_at(self, mono: float, callback: Callable[[], None]) -> Timer:
        return asyncio.get_running_loop().call_later(max(0.0, mono - boottime()), callback)

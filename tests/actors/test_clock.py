"""Clocks are read in one place only, and its timers run on the boot clock."""

from __future__ import annotations

import asyncio
import time

from towline.actors.clock import SystemClock, boottime


def test_boot_time_goes_on_and_is_not_the_wall_clock() -> None:
    first = boottime()
    assert 0 < first <= boottime() < time.time()
    now = SystemClock().now()
    assert first <= now.mono <= boottime()
    assert abs(now.wall - time.time()) < 3600


async def test_timers_fire_in_order_and_late_ones_at_once() -> None:
    clock, called, done = SystemClock(), [], asyncio.Event()
    now = boottime()
    clock.call_at(now + 0.02, done.set)
    clock.call_at(now + 0.01, lambda: called.append("soon"))
    clock.call_at(now - 100, lambda: called.append("late"))
    await asyncio.wait_for(done.wait(), 30)
    assert called == ["late", "soon"]
    assert boottime() >= now + 0.01


async def test_a_cancelled_timer_does_not_fire() -> None:
    clock, called, done = SystemClock(), [], asyncio.Event()
    clock.call_at(boottime() + 0.005, lambda: called.append(1)).cancel()
    clock.call_at(boottime() + 0.01, done.set)
    await asyncio.wait_for(done.wait(), 30)
    assert called == []

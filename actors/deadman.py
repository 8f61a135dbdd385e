"""A kernel timer that kills this process when its lease ends, for runs that have no supervisor process beside them.

`run(local=True)` runs jobs in the user's own process. If the store is taken over meanwhile, a body that cannot be interrupted
must still be over before it is granted elsewhere (P2): a POSIX timer with SIGKILL does that, whatever the interpreter is
doing. It runs on CLOCK_MONOTONIC: a laptop that slept is a machine frozen whole, whose outcomes are refused (DESIGN 1, P2),
and its user's process is not killed for having slept.
"""

from __future__ import annotations

import ctypes
import os
import signal
import time

from towline.actors.clock import boottime

CLOCK_MONOTONIC = 1
TIMER_ABSTIME = 1


class _SigEvent(ctypes.Structure):
    _fields_ = (
        ("value", ctypes.c_void_p),
        ("signo", ctypes.c_int),
        ("notify", ctypes.c_int),
        ("pad", ctypes.c_char * 48),
    )


class _TimeSpec(ctypes.Structure):
    _fields_ = (("sec", ctypes.c_long), ("nsec", ctypes.c_long))


class _TimerSpec(ctypes.Structure):
    _fields_ = (("interval", _TimeSpec), ("value", _TimeSpec))


class DeadMan:
    """One timer. Raises OSError where the kernel has none to give."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._timer = ctypes.c_void_p()
        self._there = False  # the kernel's first timer has the number 0, which looks like no timer at all
        event = _SigEvent(None, signal.SIGKILL, 0)
        if self._libc.timer_create(CLOCK_MONOTONIC, ctypes.byref(event), ctypes.byref(self._timer)):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        self._there = True

    def set(self, deadline: float) -> None:
        """Kill at this time of the boot clock unless set again; 0 disarms. Nothing happens after `close`."""
        if not self._there:
            return
        at = max(time.monotonic() + 0.001, time.monotonic() + deadline - boottime()) if deadline else 0.0
        whole = int(at)
        spec = _TimerSpec(_TimeSpec(0, 0), _TimeSpec(whole, int((at - whole) * 1e9)))
        if self._libc.timer_settime(self._timer, TIMER_ABSTIME, ctypes.byref(spec), None):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

    def close(self) -> None:
        """Disarm for good. Idempotent."""
        if self._there:
            self._there = False
            self._libc.timer_delete(self._timer)

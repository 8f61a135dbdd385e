"""The processes of one driver, and nobody else's: found by a mark in their environment and by parentage.

Ray overwrites the environment of a process when it names it, so a mark alone would miss some. The tormentor therefore adopts
orphans (Linux's subreaper): whatever one of its drivers started stays below it in the tree.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import time
from collections.abc import Iterable
from typing import NamedTuple

import psutil

PR_SET_CHILD_SUBREAPER = 36


class Process(NamedTuple):
    """A process that lives, and what it is."""

    pid: int
    role: str
    """leader, worker, supervisor, ray (any other of Ray), driver or other."""
    started: float
    text: str


def adopt_orphans() -> None:
    """From now on what loses its parent below us becomes our child."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def reap(spare: Iterable[int]) -> None:
    """Bury adopted children; those in `spare` belong to somebody who waits for them."""
    known = set(spare)
    for child in psutil.Process().children():
        if child.pid not in known:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(child.pid, os.WNOHANG)


def below(pid: int | None = None) -> list[Process]:
    """Everything that lives below a process (None: below this one), zombies left out."""
    try:
        found = psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []
    return [process for one in found if (process := _look(one)) is not None]


def look(pid: int) -> Process | None:
    """What a process is, if it lives."""
    try:
        return _look(psutil.Process(pid))
    except psutil.NoSuchProcess:
        return None


def _look(one: psutil.Process) -> Process | None:
    try:
        if one.status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD):
            return None
        text = " ".join(one.cmdline()) or one.name()
        return Process(one.pid, role_of(text), one.create_time(), text)
    except psutil.NoSuchProcess:
        return None


def role_of(text: str) -> str:
    """What a command line is."""
    for sign, role in (
        ("ray::RayLeader", "leader"),
        ("ray::RayWorker", "worker"),
        ("towline.actors.supervisor", "supervisor"),
        ("tests.torture.subject", "driver"),
        ("tests.torture.listener", "listener"),
        ("ray", "ray"),
    ):
        if sign in text:
            return role
    return "other"


def is_up(process: Process) -> bool:
    """Does this very process live (a zombie does not)?"""
    try:
        one = psutil.Process(process.pid)
        return one.create_time() == process.started and one.status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    except psutil.NoSuchProcess:
        return False


def send(process: Process, number: signal.Signals) -> bool:
    """Signal this very process; False if it is gone."""
    if not is_up(process):
        return False
    with contextlib.suppress(ProcessLookupError):
        os.kill(process.pid, number)
        return True
    return False


def wait_gone(processes: Iterable[Process], patience_s: float, spare: Iterable[int] = ()) -> list[Process]:
    """Wait until all are gone; those that are not after `patience_s` seconds."""
    until = time.monotonic() + patience_s
    left = list(processes)
    while left and time.monotonic() < until:
        reap(spare)
        left = [process for process in left if is_up(process)]
        if left:
            time.sleep(0.05)
    return left

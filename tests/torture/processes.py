"""The processes of one trial, and nobody else's: those that bear its folder in environment, command line or open files.

Each of the three alone would miss some: Ray overwrites environment and command line of a process when it names it, and what has
only just begun has no log open yet. (Adopting orphans would find all of them, but Ray's processes see by losing their parent to
process 1 that they are to end.)
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import psutil

GONE = (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)


class Process(NamedTuple):
    """A process that lives, and what it is."""

    pid: int
    role: str
    """leader, worker, supervisor, driver, listener, or ray: any other."""
    started: float
    text: str


def of(folder: Path) -> list[Process]:
    """All processes of a folder; zombies are none."""
    entries = (entry for entry in Path("/proc").iterdir() if entry.name.isdigit() and _bears(entry, str(folder)))
    found = (look(int(entry.name)) for entry in entries)
    return [process for process in found if process is not None and process.pid != os.getpid()]


def _bears(entry: Path, mark: str) -> bool:
    with contextlib.suppress(OSError):
        if any(mark.encode() in (entry / name).read_bytes() for name in ("environ", "cmdline")):
            return True
        return any(mark in str(link.readlink()) for link in (entry / "fd").iterdir())
    return False


def look(pid: int) -> Process | None:
    """What a process is, if it lives."""
    try:
        one = psutil.Process(pid)
        if one.status() in GONE:
            return None
        text = " ".join(one.cmdline()) or one.name()
        return Process(pid, role_of(text), one.create_time(), text.strip())
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
    ):
        if sign in text:
            return role
    return "ray"


def is_up(process: Process) -> bool:
    """Does this very process live (a zombie does not)?"""
    try:
        one = psutil.Process(process.pid)
        return one.create_time() == process.started and one.status() not in GONE
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


def wait_gone(processes: Iterable[Process], patience_s: float) -> list[Process]:
    """Wait until all are gone; those that are not after `patience_s` seconds."""
    until = time.monotonic() + patience_s
    left = [process for process in processes if is_up(process)]
    while left and time.monotonic() < until:
        time.sleep(0.05)
        left = [process for process in left if is_up(process)]
    return left

"""Kill everything that a run has started, and nothing else: all of it carries a mark in its environment.

A process tree is not enough: what has been orphaned or has a session of its own is no longer below its starter. The mark is
inherited, whatever becomes of the parents.
"""

from __future__ import annotations

import os
import time

import psutil

MARK = "TOWLINE_BENCHMARK_MARK"

GONE_S = 30.0
"""Longest wait for killed processes to be gone."""


def marked(mark: str) -> list[psutil.Process]:
    """The living processes of this user that were started with the mark; never this one."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and process.environ().get(MARK) == mark:
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue  # gone meanwhile, or not ours
    return found


def kill_marked(mark: str) -> int:
    """SIGKILL for all of them, until none is found (one may fork while the list is read). Returns how many there were.

    Raises:
        TimeoutError: one does not go.
    """
    killed: set[int] = set()
    until = time.monotonic() + GONE_S
    while living := marked(mark):
        for process in living:
            killed.add(process.pid)
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        psutil.wait_procs(living, timeout=1.0)
        if time.monotonic() > until:
            raise TimeoutError(f"processes do not go: {[process.pid for process in living]}")
    return len(killed)

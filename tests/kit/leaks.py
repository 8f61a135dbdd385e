"""Counts what a piece of code may leave behind: open descriptors, threads, child processes, files in the temp folder."""

from __future__ import annotations

import gc
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

PATIENCE_S = 10.0
"""How long ends that are under way (a thread's, a child's) may take."""


def eventually(condition: Callable[[], bool], patience_s: float = PATIENCE_S) -> bool:
    """Does it hold, now or before long? For what other processes do; never a measure of time."""
    until = time.monotonic() + patience_s
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(0.005)
    return True


def held() -> dict[str, set[str]]:
    """What this process holds now, by kind."""
    gc.collect()
    links = {}
    for fd in os.listdir("/proc/self/fd"):
        try:
            links[fd] = os.readlink(f"/proc/self/fd/{fd}")
        except FileNotFoundError:
            continue  # the listing's own
    return {
        "fds": {f"{fd} {link}" for fd, link in links.items()},
        "threads": {str(thread) for thread in threading.enumerate()},
        "children": {str(child.pid) for child in psutil.Process().children(recursive=True)},
        # whose name tells that they are this process's: others may run at the same time
        "files": {path.name for path in Path(tempfile.gettempdir()).glob(f"towline-*{os.getpid()}-*")},
    }


def more_than(before: dict[str, set[str]], *kinds: str) -> dict[str, set[str]]:
    """What there is more of than before, of these kinds (all); numbers of descriptors may be used again."""
    now = held()
    return {kind: now[kind] - before[kind] for kind in kinds or before if len(now[kind]) > len(before[kind])}


@contextmanager
def nothing_left(*kinds: str) -> Iterator[None]:
    """Fails if the body leaves more behind than it found."""
    before = held()
    yield
    if not eventually(lambda: not more_than(before, *kinds)):
        raise AssertionError(f"left behind: {more_than(before, *kinds)}")

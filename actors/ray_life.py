"""Notices that a local Ray which this process started has died, so that nobody waits for an answer from it.

Ray itself goes on trying to reach its dead servers for a minute, and then ends the process that asks. This looks at the kernel
instead: a file descriptor a server, which becomes readable when the server ends.
"""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Callable

SERVERS = frozenset({"gcs_server", "raylet"})
"""Without any of these Ray does nothing any more."""


class RayLife:
    """The servers among this process's children, from now on. Of a cluster elsewhere there are none, and nothing is noticed."""

    def __init__(self) -> None:
        self.over = False
        """Is one of them gone? Set before anybody is told."""
        self._told: list[Callable[[], None]] = []
        self._lock = threading.Lock()
        pidfds = [os.pidfd_open(pid) for pid in _servers()]
        if pidfds:
            threading.Thread(target=self._watch, args=(pidfds,), name="towline-ray-life", daemon=True).start()

    def on_end(self, tell: Callable[[], None]) -> None:
        """Call `tell` (from another thread) when it is over, or now if it is."""
        with self._lock:
            self._told.append(tell)
            over = self.over
        if over:
            tell()

    def _watch(self, pidfds: list[int]) -> None:
        poll = select.poll()
        for pidfd in pidfds:
            poll.register(pidfd, select.POLLIN)
        poll.poll()
        with self._lock:
            self.over = True
            told = list(self._told)
        for tell in told:
            tell()
        for pidfd in pidfds:
            os.close(pidfd)


def _servers() -> list[int]:
    import psutil

    return [child.pid for child in psutil.Process().children() if child.name() in SERVERS]

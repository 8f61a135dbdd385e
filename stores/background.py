"""One event loop in a thread of its own, for threads that must block on what is asynchronous (a job's thread, a script).

There is one for each process, and it lives as long: clients of a bucket belong to the loop in which they were made, so a loop
for each call would connect anew for each call. A forked child gets its own.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

_lock = threading.Lock()
_loops: dict[int, asyncio.AbstractEventLoop] = {}
"""By process id: a parent's loop has no thread in its child."""


def _renew() -> None:
    """In a child: the lock may have been held by a thread that does not exist here."""
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)


def run(work: Coroutine[Any, Any, T]) -> T:
    """The coroutine's result; meanwhile this thread waits. RuntimeError where an event loop runs, which must not be blocked."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        pass
    else:
        work.close()
        raise RuntimeError("a blocking call inside an event loop: await the async method instead")
    future = asyncio.run_coroutine_threadsafe(work, loop())
    try:
        return future.result()
    except BaseException:
        future.cancel()  # Ctrl-C came while it ran; no effect if it has ended
        raise


def loop() -> asyncio.AbstractEventLoop:
    """The loop, started if need be."""
    with _lock:
        found = _loops.get(os.getpid())
        if found is None:
            found = _loops[os.getpid()] = asyncio.new_event_loop()
            threading.Thread(target=found.run_forever, name="towline-background", daemon=True).start()
        return found

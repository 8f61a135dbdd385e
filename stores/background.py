"""One event loop in a thread of its own, for threads that must block on what is asynchronous (a job's thread, a script).

There is one for each process, and it lives as long: clients of a bucket belong to the loop in which they were made, so a loop
for each call would connect anew for each call. A forked child gets its own. When the process ends, what was left open over there
is closed (clients are async generators), so that nobody complains of it.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, TypeVar

T = TypeVar("T")

END_S = 2.0
"""How long the end of the process waits for connections to be closed, in seconds."""

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


def _end() -> None:
    """At the end of the process. The loop goes on, for those who use it later still."""
    found = _loops.get(os.getpid())
    if found is not None:
        found.set_exception_handler(lambda loop, context: None)  # who is still at work is cut short, and need not say so
        with suppress(TimeoutError):
            asyncio.run_coroutine_threadsafe(found.shutdown_asyncgens(), found).result(END_S)


atexit.register(_end)

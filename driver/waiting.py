"""Waiting for a run: one long question after the other, so that the end is heard when it comes and never polled for.

Three things may end the wait before the run does: its deadline, a request from another thread (`stopped`), and Ctrl-C,
which Python raises in the main thread on its own.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable

from towline.client import LeaderClient, Status
from towline.engine.errors import TowlineError
from towline.progress import Progress

STEP_S = 0.5
"""How long one question may take: as often, progress is shown and `stopped` is asked."""


class Interrupted(Exception):
    """Another thread has asked to stop waiting."""


def watch(
    client: LeaderClient,
    progress: Progress,
    *,
    stopped: Callable[[], bool] = lambda: False,
    deadline: float | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Status:
    """The status at the end. TimeoutError at `deadline` (on `clock`, seconds), Interrupted once `stopped`."""
    while True:
        step = STEP_S if deadline is None else max(0.0, min(STEP_S, deadline - clock()))
        status: Status = client.ask("wait", {"timeout_s": step})
        progress.update(status)
        if status["state"] != "running":
            return status
        if stopped():
            raise Interrupted
        if deadline is not None and clock() >= deadline:
            raise TimeoutError


class Watcher:
    """`watch` in a thread beside a run whose jobs the calling thread runs; it ends such a run by closing the leader."""

    def __init__(
        self,
        client: LeaderClient,
        progress: Progress,
        *,
        stopped: Callable[[], bool] = lambda: False,
        deadline: float | None = None,
    ) -> None:
        self._client, self._progress, self._stopped, self._deadline = client, progress, stopped, deadline
        self._thread = threading.Thread(target=self._work, name="towline-watch", daemon=True)
        self._broken_off = threading.Event()
        self.error: BaseException | None = None
        """What ended the wait before the run: Interrupted, TimeoutError, or the leader's own failure."""

    def __enter__(self) -> Watcher:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        if error[0] is not None:
            self._broken_off.set()
        self._thread.join()

    def _work(self) -> None:
        def stopped() -> bool:
            return self._broken_off.is_set() or self._stopped()

        # a ConnectionError means that the run was ended below us, by someone who knows why
        with contextlib.suppress(ConnectionError):
            try:
                watch(self._client, self._progress, stopped=stopped, deadline=self._deadline)
            except (Interrupted, TimeoutError) as error:
                if not self._broken_off.is_set():
                    self.error = error
                    # not waited for: the leader has ended when the calling thread has let go of its job, too
                    self._client.begin("close")
            except TowlineError as error:
                self.error = error  # the leader has failed: the calling thread says so first, if it can

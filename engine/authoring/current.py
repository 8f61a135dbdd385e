"""The job that runs here and now, for the body that wants to know: a context variable behind jobflow's names.

Each thread and each task sees its own job. Whoever runs a body sets the variable before and resets it after, also when the
body raises. A Job object is only built when somebody asks for it.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from towline.engine.authoring.job import Job


class Running:
    """What is known of the running job; `make` builds the Job at the first question."""

    __slots__ = ("_job", "_make", "store")

    def __init__(self, make: Callable[[], Job] | None = None, store: Any = None) -> None:
        self._make = make
        self._job: Job | None = None
        self.store = store

    @property
    def job(self) -> Job | None:
        """The running job, the same object every time."""
        if self._job is None and self._make is not None:
            self._job = self._make()
        return self._job

    @job.setter
    def job(self, job: Job | None) -> None:
        self._job, self._make = job, None

    @property
    def allow_pickle(self) -> bool:
        """May pickles be read here?"""
        return True

    def output_of(self, uuid: str, index: int = 0) -> Any:
        """The output of any job of the run, by default the newest that there is; None if it has none."""
        return None


RUNNING: ContextVar[Running | None] = ContextVar("towline_running_job", default=None)


class State:
    """`CURRENT_JOB.job` is the job that runs, `CURRENT_JOB.store` its store if its config exposes it; else None."""

    @property
    def job(self) -> Job | None:
        """The running job, or None outside of one."""
        running = RUNNING.get()
        return None if running is None else running.job

    @job.setter
    def job(self, job: Job | None) -> None:
        self._own().job = job

    @property
    def store(self) -> Any:
        """The running job's store, if its config exposes it."""
        running = RUNNING.get()
        return None if running is None else running.store

    @store.setter
    def store(self, store: Any) -> None:
        self._own().store = store

    def reset(self) -> None:
        """Forget job and store in this context."""
        RUNNING.set(None)

    @staticmethod
    def _own() -> Running:
        running = RUNNING.get()
        if running is None:
            running = Running()
            RUNNING.set(running)
        return running


CURRENT_JOB = State()

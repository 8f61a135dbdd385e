"""CURRENT_JOB: each context sees its own job, made when somebody looks."""

from __future__ import annotations

import threading
from contextvars import copy_context

from tests.kit.samples import add
from towline.engine.authoring.current import CURRENT_JOB, RUNNING, Running
from towline.engine.authoring.job import Job


def test_outside_of_jobs_there_is_none() -> None:
    assert CURRENT_JOB.job is None
    assert CURRENT_JOB.store is None


def test_a_job_is_made_once_and_only_if_asked_for() -> None:
    made = []

    def make() -> Job:
        made.append(add(1))
        return made[-1]

    def look() -> None:
        RUNNING.set(Running(make, "store"))
        assert not made
        assert CURRENT_JOB.job is CURRENT_JOB.job
        assert CURRENT_JOB.store == "store"
        CURRENT_JOB.reset()
        assert CURRENT_JOB.job is None

    copy_context().run(look)
    assert len(made) == 1


def test_it_can_be_set_by_hand_and_is_private_to_its_context() -> None:
    seen = []

    def work() -> None:
        CURRENT_JOB.job = add(1)
        CURRENT_JOB.store = 5
        thread = threading.Thread(target=lambda: seen.append(CURRENT_JOB.job))
        thread.start()
        thread.join()
        assert CURRENT_JOB.job is not None
        assert CURRENT_JOB.store == 5

    copy_context().run(work)
    assert seen == [None]
    assert CURRENT_JOB.job is None

"""Jobs where outputs were meant: found through containers, and replaced."""

from __future__ import annotations

from typing import Any

from tests.kit.samples import add
from towline.engine.authoring.collecting import COLLECTED, collecting, contains_flow_or_job, outputs_for_jobs
from towline.engine.authoring.flow import Flow


def test_jobs_are_found_in_containers() -> None:
    job = add(1)
    loop: list[Any] = []
    loop.append(loop)
    for value in (job, [job], ({"k": {job}},), Flow([add(1)]), [[1, "a"], {1: (2, [job])}]):
        assert contains_flow_or_job(value)
    for value in (1, [1], {"a": (1, {2})}, job.output, loop):
        assert not contains_flow_or_job(value)


def test_jobs_are_replaced_by_their_outputs() -> None:
    job = add(1)
    assert outputs_for_jobs({"a": [job, (1, job)], "b": 2}) == {"a": [job.output, (1, job.output)], "b": 2}
    flow = Flow([job], output=job.output.x)
    assert outputs_for_jobs(flow) == job.output.x


def test_collecting_ends_with_the_block() -> None:
    made: list[Any] = []
    with collecting(made):
        job = add(1)
    add(2)
    assert made == [job]
    assert COLLECTED.get() is None

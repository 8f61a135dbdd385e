"""Collecting the jobs that are made inside a `@flow` function, and finding jobs where outputs were meant."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from towline.engine.authoring.flow import Flow
    from towline.engine.authoring.job import Job

COLLECTED: ContextVar[list[Job | Flow] | None] = ContextVar("towline_collected_jobs", default=None)
"""Where new jobs and flows are noted, while a `@flow` function runs."""

SCALARS = frozenset({type(None), bool, int, float, str, bytes})


@contextmanager
def collecting(children_list: list[Job | Flow]) -> Iterator[None]:
    """Note every Job and Flow that is made inside the block."""
    token = COLLECTED.set(children_list)
    try:
        yield
    finally:
        COLLECTED.reset(token)


def contains_flow_or_job(value: Any) -> bool:
    """Is there a Job or Flow in this value, or in the lists, tuples, sets and dicts inside it?"""
    from towline.engine.authoring.flow import Flow
    from towline.engine.authoring.job import Job

    seen: set[int] = set()
    open_values = [value]
    while open_values:
        item = open_values.pop()
        if isinstance(item, Job | Flow):
            return True
        if isinstance(item, dict):
            inner: Any = item.values()
        elif isinstance(item, list | tuple | set | frozenset):
            inner = item
        else:
            continue
        if id(item) not in seen and not SCALARS.issuperset(map(type, inner)):
            seen.add(id(item))
            open_values.extend(inner)
    return False


def outputs_for_jobs(value: Any) -> Any:
    """The value with the output of each Job and Flow in its place, through lists, tuples and dicts."""
    from towline.engine.authoring.flow import Flow
    from towline.engine.authoring.job import Job

    if isinstance(value, Job | Flow):
        return value.output
    if isinstance(value, list):
        return [outputs_for_jobs(item) for item in value]
    if type(value) is tuple:
        return tuple(outputs_for_jobs(item) for item in value)
    if isinstance(value, dict):
        return {outputs_for_jobs(key): outputs_for_jobs(item) for key, item in value.items()}
    return value

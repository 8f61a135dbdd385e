"""Sentences about what is wrong with a flow: which job it is, and where in its arguments. Made only when something is.

Where people match on jobflow's words, those come first and what towline knows besides follows.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from towline.engine.authoring.job import Job
from towline.engine.authoring.reference import OutputReference, validate_schema_access
from towline.engine.codec.packing import Packer
from towline.engine.codec.wire import Unencodable
from towline.engine.errors import EncodingError

MOST = 5
"""Jobs that one sentence names."""

MISSING = (
    "The following jobs were not found in the jobs array and are needed to resolve output references:\n{uuids}\nIf the "
    "references are from external jobs and this is the intended behavior set allow_external_references to True"
)
CYCLE = "Job connectivity contains cycles therefore job execution order cannot be determined."


def shown(job: Job) -> str:
    """A job as sentences name it."""
    return f"job {job.name!r} ({job.uuid})"


def place_in(job: Job, wanted: Callable[[OutputReference], bool]) -> tuple[str, OutputReference] | None:
    """Where the first reference that is wanted stands in a job's arguments (`args[0]['k']`), and the reference."""
    finder = _Finder(wanted)
    for root, value in (("args", list(job.function_args)), ("kwargs", job.function_kwargs)):
        try:
            finder.wire(value)
        except Unencodable as met:
            if finder.found is not None:
                return root + "".join(reversed(met.steps)), finder.found
        except (EncodingError, RecursionError):
            continue
    return None


class _Finder(Packer):
    """Goes through a value as the codec does, and stops at a reference that is wanted."""

    __slots__ = ("found", "wanted")

    def __init__(self, wanted: Callable[[OutputReference], bool]) -> None:
        super().__init__()
        self.wanted = wanted
        self.found: OutputReference | None = None

    def reference(self, ref: OutputReference) -> Any:
        if self.wanted(ref):
            self.found = ref
            raise Unencodable("it is what was looked for")
        return super().reference(ref)


def referrers(jobs: Iterable[Job], wanted: Callable[[OutputReference], bool]) -> str:
    """` job 'add' (u1): args[0] refers to u2.` for each of the first jobs with a reference that is wanted."""
    said: list[str] = []
    for job in jobs:
        met = place_in(job, wanted)
        if met is not None:
            said.append(f"{shown(job)}: {met[0]} refers to {met[1].uuid}")
            if len(said) == MOST:
                break
    return "; ".join(said)


def missing(jobs: Iterable[Job], uuids: Iterable[str]) -> str:
    """References lead to jobs that are not in the flow."""
    lost = dict.fromkeys(uuids)
    where = referrers(jobs, lambda ref: ref.uuid in lost)
    return MISSING.format(uuids=list(lost)) + (f"\n{where}" if where else "")


def duplicate(first: Job, second: Job) -> str:
    """Two jobs have one uuid."""
    return f"jobs array contains multiple jobs/flows with the same uuid ({second.uuid}): {first.name!r} and {second.name!r}"


def neither_here_nor_there(flow: Any, told: str) -> str:
    """Where the flow refers to the job that the leader, in its own words, knows nothing of; empty if it names none."""
    own = set(flow.job_uuids)
    return referrers(flow.every_job(), lambda ref: ref.uuid not in own and ref.uuid in told)


def cycle(jobs: Sequence[Job], stuck: Sequence[int], parents_of: Callable[[int], Iterable[int]]) -> str:
    """Jobs wait for each other: one such round, in words. `stuck` are places that wait, whose parents are given by place."""
    waiting = set(stuck)
    seen: dict[int, int] = {}
    walk: list[int] = []
    place = stuck[0]
    while place not in seen:
        seen[place] = len(walk)
        walk.append(place)
        place = next(parent for parent in parents_of(place) if parent in waiting)
    round_ = [*walk[seen[place] :], place]
    steps = [_waits(jobs[one], jobs[other]) for one, other in itertools.pairwise(round_)]
    return f"{CYCLE} {'; '.join(steps[:MOST])}{'; ...' if len(steps) > MOST else ''}"


def _waits(job: Job, other: Job) -> str:
    met = place_in(job, lambda ref: ref.uuid == other.uuid)
    return f"{shown(job)} waits for {other.name!r}" + (f" ({met[0]})" if met is not None else " (by the order of its flow)")


def breaks_schema(schema: Any, ref: OutputReference) -> str | None:
    """What is wrong with a path into an output of this schema; None if nothing is."""
    for _, step in ref.attributes:
        if schema is None:
            return None
        try:
            schema = validate_schema_access(schema, step)[1]
        except AttributeError as error:
            return str(error)
    return None

"""Jobs that come one by one, as `Executor.submit` makes them: each encoded at once, some put together to a submission later.

Where a Flow is looked at as a whole before anything of it is sent (`flows.Plan`), these are only ever told of what came before
them: a parent is an earlier job of the bundle, or any job that the store holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import compress
from typing import NamedTuple

from towline.engine import codec, model
from towline.engine.authoring.job import Job
from towline.engine.errors import EncodingError
from towline.engine.functions import Functions
from towline.engine.specs import DATA, ORDER, Specs, arguments_of, indices_of, missing_of, packed_uuids, u32


class Call(NamedTuple):
    """A job's arguments, encoded."""

    args: bytes
    parents: list[str]
    """uuids, in the order of the references' numbers."""
    edge: bytes
    """What each of them is to the job."""


def call_of(job: Job, allow_pickle: bool = True) -> Call:
    """The arguments of a job as they are now. EncodingError names the job and the place of what has no encoding."""
    config = job.__dict__.get("config")
    resolve = True if config is None else config.resolve_references
    numbers: dict[str, int] = {}
    try:
        if not resolve:
            data, found = codec.encode_call_noting(arguments_of(job), job.function_kwargs)
            return Call(data, list(dict.fromkeys(ref.uuid for ref in found)), ORDER[missing_of(job)])
        args, named = arguments_of(job), resolve == "both"
        data = codec.encode_call(args, job.function_kwargs, numbers=numbers, named=named, allow_pickle=allow_pickle)
    except EncodingError as error:
        raise EncodingError(f"job {job.name!r} ({job.uuid}): {error}") from error.__cause__
    return Call(data, list(numbers), DATA[missing_of(job)])


class Bundle:
    """Jobs with their calls, to be submitted as one. What it has described stays as it was when it was described."""

    def __init__(self, allow_pickle: bool = True) -> None:
        self.jobs: list[Job] = []
        self.calls: list[Call] = []
        self._spec_of: list[int] = []
        self._specs = Specs(Functions(), allow_pickle)

    def __len__(self) -> int:
        return len(self.jobs)

    def add(self, job: Job, call: Call) -> None:
        """One more. EncodingError: its function can neither be imported nor pickled. SubmissionError: its index."""
        indices_of([job.index])
        self._spec_of.append(self._specs.number_of(job))
        self.jobs.append(job)
        self.calls.append(call)

    def keep(self, wanted: Sequence[bool]) -> None:
        """Leave out the jobs that are not wanted."""
        self.jobs, self.calls = list(compress(self.jobs, wanted)), list(compress(self.calls, wanted))
        self._spec_of = list(compress(self._spec_of, wanted))

    def alone(self, place: int) -> Bundle:
        """A bundle of the one job at this place."""
        single = Bundle()
        single._specs = self._specs
        single._spec_of, single.jobs, single.calls = [self._spec_of[place]], [self.jobs[place]], [self.calls[place]]
        return single

    def functions(self) -> list[model.Function]:
        """The functions of its jobs."""
        return self._specs.functions_of(self._spec_of)

    def chunk(self, flow: str, name: str, known: frozenset[str] | set[str] = frozenset()) -> model.Chunk:
        """The submission `flow`. Functions whose keys are `known` to the store already are not sent again."""
        numbers: dict[str, int] = {}
        externals: dict[str, int] = {}
        parents: list[int] = []
        counts: list[int] = []
        edges = bytearray()
        for number, (job, call) in enumerate(zip(self.jobs, self.calls, strict=True)):
            for uuid in call.parents:
                inside = numbers.get(uuid)
                parents.append(model.EXTERNAL + externals.setdefault(uuid, len(externals)) if inside is None else inside)
            counts.append(len(call.parents))
            edges += call.edge * len(call.parents)
            numbers[job.uuid] = number
        specs = {number: place for place, number in enumerate(dict.fromkeys(self._spec_of))}
        ends: list[int] = []
        at = 0
        for call in self.calls:
            at += len(call.args)
            ends.append(at)
        return model.Chunk(
            flow=flow,
            base=0,
            count=len(self.jobs),
            total=len(self.jobs),
            uuids=packed_uuids([job.uuid for job in self.jobs]),
            indices=indices_of([job.index for job in self.jobs]),
            specs=[self._specs.specs[number] for number in specs],
            spec_of=u32([specs[number] for number in self._spec_of]) if len(specs) > 1 else b"",
            functions=[function for function in self.functions() if function.key not in known],
            parent_counts=u32(counts) if parents else b"",
            parents=u32(parents),
            edges=bytes(edges) if any(edges) else b"",
            externals=[(uuid, 0) for uuid in externals],
            name=name,
            arg_ends=u32(ends),
            args=b"".join(call.args for call in self.calls),
        )

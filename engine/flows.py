"""From a Flow to columns: every job numbered, parents first, in chunks that the journal can keep.

A Plan is made whole before the first chunk is given out, so that a flow that cannot be taken (an argument without encoding,
an unknown parent, a cycle) is refused before anything is stored. Then chunks are made one by one, the first a small one, so
that work begins while the rest is still being encoded. Order is the user's wherever that puts parents first; where it does
not, a job follows directly behind the last of its parents. Everything is linear in jobs and edges, and nothing recurses.

LINEAR flows: every first job of a member waits for every last job of the member before it. Where that would be more than
`CROSS_MOST` edges, one job named "barrier" that does nothing stands between them (and is counted like any job).
"""

from __future__ import annotations

from array import array
from collections.abc import Collection, Iterable, Iterator
from types import FunctionType
from typing import Any

from towline.engine import codec, model
from towline.engine.authoring import faults
from towline.engine.authoring.decorator import job as job_decorator
from towline.engine.authoring.flow import Flow, JobOrder
from towline.engine.authoring.job import Job
from towline.engine.authoring.reference import OutputReference, unresolved
from towline.engine.codec.wire import PLAIN
from towline.engine.errors import EncodingError, SubmissionError
from towline.engine.functions import Functions
from towline.engine.specs import DATA, ORDER, Specs, arguments_of, indices_of, missing_of, packed_uuids, u32

FIRST_CHUNK = 2_000
CHUNK = 10_000
CHUNK_BYTES = 16 * 1024 * 1024
"""A chunk ends early when its arguments are this long."""
CROSS_MOST = 10_000


@job_decorator
def barrier() -> None:
    """Waits for the jobs of one part of a LINEAR flow, so that those of the next can wait for it alone."""


def compile_flow(
    flow: Flow,
    *,
    allow_external_references: bool = False,
    functions: Functions | None = None,
    allow_pickle: bool = True,
    compat: str = "",
    lost: Collection[str] = (),
) -> Iterator[bytes]:
    """The flow as encoded `model.Chunk`s, in order. All checks are made before this returns.

    compat "jobflow": the jobs, and those that they add, are handed their arguments as jobflow would hand them over. `lost`
    are uuids that nobody has: references to them become None, or stay references, in jobs that allow it (OnMissing).

    SubmissionError: duplicate uuid, unknown parent (unless allowed), cycle. EncodingError: an argument or function.
    """
    plan = Plan(flow, allow_external_references, functions, allow_pickle, compat, lost)
    plan.describe()
    return (model.encode(chunk) for chunk in plan.chunks())


class Plan:
    """A flow, flattened and ordered. Positions are the user's order; numbers are the order of submission."""

    def __init__(
        self,
        flow: Flow,
        allow_external_references: bool = False,
        functions: Functions | None = None,
        allow_pickle: bool = True,
        compat: str = "",
        lost: Collection[str] = (),
    ) -> None:
        self.flow = flow
        self.jobs: list[Job] = []
        self.externals: dict[str, int] = {}
        """uuid of a job outside the flow to its number among those."""
        self.parents: dict[int, list[int]] = {}
        """Position to positions, in the order of the references' numbers; an external one is -1 - its number."""
        self.ordering: dict[int, list[int]] = {}
        """Position to positions that it waits for without taking anything from them."""
        self._calls: dict[int, bytes] = {}
        """Encoded arguments of those jobs whose arguments are not plain."""
        self._places: dict[str, int] = {}
        self._homes: dict[int, int] = {}
        """Position of a barrier to that of the job before which it stands."""
        self._barriers: dict[int, list[int]] = {}
        """The same, the other way round."""
        self._functions = Functions() if functions is None else functions
        self._allow_pickle = allow_pickle
        self._compat = compat
        self._lost = lost
        self._schemas: dict[str, Any] = {}
        """uuid to the schema of that job's output."""
        self._specs = Specs(self._functions, allow_pickle, compat)
        self._spec_of = array("I")
        """Position to the number of the job's Spec; empty until `describe`."""
        linear = self._flatten()
        self._read_arguments()
        if self.externals and not allow_external_references:
            raise SubmissionError(faults.missing(self.jobs, self.externals))
        for spans in linear:
            self._chain(spans)
        self.order = self._sorted()
        """Number to position."""
        self._numbers = self.order
        """Position to number."""
        if not isinstance(self.order, range):
            self._numbers = [0] * len(self.order)
            for number, place in enumerate(self.order):
                self._numbers[place] = number

    def __len__(self) -> int:
        return len(self.jobs)

    def describe(self) -> None:
        """Work out what each job's Spec is. EncodingError for functions and settings that cannot travel, SubmissionError
        for an impossible index; once this is done nothing is refused any more.
        """
        if len(self._spec_of) < len(self.jobs):
            indices_of([job.index for job in self.jobs])
            self._spec_of = array("I", map(self._specs.number_of, self.jobs))

    def number_of(self, uuid: str) -> int | None:
        """The number of the job with this uuid, if it is in the flow."""
        place = self._places.get(uuid)
        return None if place is None else self._numbers[place]

    def walk(self) -> Iterator[tuple[Job, list[str]]]:
        """Each job with the uuids of its parents inside the flow, parents first."""
        for place in self.order:
            waits = [*self.parents.get(place, ()), *self.ordering.get(place, ())]
            yield self.jobs[place], [self.jobs[parent].uuid for parent in waits if parent >= 0]

    # ------------------------------------------------------------------------------------------------ the graph

    def _flatten(self) -> list[list[tuple[int, int]]]:
        """Fill `jobs`; give for each LINEAR flow, innermost first, the spans of positions of its members."""
        linear: list[list[tuple[int, int]]] = []
        open_flows: list[tuple[Flow, Iterator[Any], int, list[tuple[int, int]]]] = []
        entered: set[str] = set()

        def enter(flow: Flow) -> None:
            if flow.uuid in entered:
                raise SubmissionError(f"Flow {flow.name!r} ({flow.uuid}) is contained twice, or contains itself")
            entered.add(flow.uuid)
            open_flows.append((flow, iter(flow.jobs), len(self.jobs), []))

        enter(self.flow)
        while open_flows:
            flow, members, start, spans = open_flows[-1]
            for member in members:
                if isinstance(member, Flow):
                    enter(member)
                    break
                place = len(self.jobs)
                known = self._places.setdefault(member.uuid, place)
                if known != place:
                    raise SubmissionError(faults.duplicate(self.jobs[known], member))
                if "output_schema" in member.__dict__:
                    self._schemas[member.uuid] = member.output_schema
                self.jobs.append(member)
                spans.append((place, place + 1))
            else:
                open_flows.pop()
                if flow.order == JobOrder.LINEAR:
                    linear.append(spans)
                if open_flows:
                    open_flows[-1][3].append((start, len(self.jobs)))
        return linear

    def _read_arguments(self) -> None:
        """Encode all arguments that may hold references, and note the parents that they name."""
        plain = PLAIN.issuperset
        for place, job in enumerate(self.jobs):
            kwargs = job.function_kwargs
            if type(job.function) is FunctionType and not kwargs and plain(map(type, job.function_args)):
                continue
            config = job.__dict__.get("config")
            numbers: dict[str, int] = {}
            try:
                if config is None or config.resolve_references:
                    met: list[OutputReference] | None = [] if self._schemas else None
                    args, named = arguments_of(job), kwargs
                    if self._lost:
                        args, named = self._without_lost(job, args, kwargs)
                    self._calls[place] = codec.encode_call(
                        args,
                        named,
                        numbers=numbers,
                        free=self._lost,
                        met=met,
                        named=bool(self._compat) or (config is not None and config.resolve_references == "both"),
                        allow_pickle=self._allow_pickle,
                    )
                    waits = self.parents
                    self._check_schemas(job, met or ())
                else:
                    self._calls[place], found = codec.encode_call_noting(arguments_of(job), kwargs)
                    numbers = dict.fromkeys((ref.uuid for ref in found), 0)
                    waits = self.ordering
            except EncodingError as error:
                raise EncodingError(f"job {job.name!r} ({job.uuid}): {error}") from error.__cause__
            if numbers:
                waits[place] = [self._parent(uuid) for uuid in numbers]

    def _without_lost(self, job: Job, args: Any, kwargs: Any) -> Any:
        """The arguments, with None in the place of references that nobody can resolve if the job wants it so."""
        missing = missing_of(job)
        met = faults.place_in(job, lambda ref: ref.uuid in self._lost)
        if met is None or missing == "pass":
            return args, kwargs
        if missing == "error":
            raise SubmissionError(f"{unresolved(met[1].uuid)}: {faults.shown(job)} refers to it in {met[0]}")
        value = codec.encode([args, kwargs], allow_pickle=self._allow_pickle, root="args")
        return codec.decode(value, free=lambda ref: None if ref.uuid in self._lost else ref)

    def _check_schemas(self, job: Job, references: Iterable[OutputReference]) -> None:
        for ref in references:
            if ref.attributes and ref.uuid in self._schemas:
                wrong = faults.breaks_schema(self._schemas[ref.uuid], ref)
                if wrong is not None:
                    met = faults.place_in(job, ref.__eq__)
                    where = met[0] if met is not None else "an argument"
                    raise SubmissionError(f"{faults.shown(job)}: {where} is {ref!r}, but {wrong}")

    def _parent(self, uuid: str) -> int:
        place = self._places.get(uuid)
        return -1 - self.externals.setdefault(uuid, len(self.externals)) if place is None else place

    def _chain(self, spans: list[tuple[int, int]]) -> None:
        """Let each member of a LINEAR flow wait for the one before it; members without jobs are passed over."""
        last: list[int] = []
        for start, end in spans:
            if start == end:
                continue
            first, leaves = self._ends(start, end)
            if last and len(last) * len(first) > CROSS_MOST:
                last = [self._barrier(last, start)]
            for place in first if last else ():
                known = set(self.parents.get(place, ()))
                self.ordering.setdefault(place, []).extend(leaf for leaf in last if leaf not in known)
            last = leaves

    def _ends(self, start: int, end: int) -> tuple[list[int], list[int]]:
        """The jobs of a span that wait for none of it, and those that none of it waits for."""
        if end == start + 1:
            return [start], [start]
        first: list[int] = []
        inner: set[int] = set()
        for place in range(start, end):
            waits = (*self.parents.get(place, ()), *self.ordering.get(place, ()))
            within = [parent for parent in waits if self._lies_within(parent, start, end)]
            inner.update(within)
            if not within:
                first.append(place)
            for between in self._barriers.get(place, ()):
                inner.update(self.ordering[between])
        return first, [place for place in range(start, end) if place not in inner]

    def _lies_within(self, place: int, start: int, end: int) -> bool:
        # a barrier lies where the job stands before which it was put
        return start <= self._homes.get(place, place) < end

    def _barrier(self, last: list[int], before: int) -> int:
        """The position of a new barrier, which waits for `last` and is numbered before the job at `before`."""
        made = barrier()
        made._hosts = tuple(self.jobs[before]._hosts)
        place = len(self.jobs)
        self.jobs.append(made)
        self._places[made.uuid] = place
        self._homes[place] = before
        self._barriers.setdefault(before, []).append(place)
        self.ordering[place] = last
        return place

    def _sorted(self) -> list[int] | range:
        """Positions, parents first; SubmissionError if there is a cycle."""
        sequence = self._sequence()
        rank = sequence
        if not isinstance(sequence, range):
            rank = [0] * len(sequence)
            for at, place in enumerate(sequence):
                rank[place] = at
        edges = [(place, parents) for waits in (self.parents, self.ordering) for place, parents in waits.items()]
        if all(parent < 0 or rank[parent] < rank[place] for place, parents in edges for parent in parents):
            return sequence
        pending = [0] * len(sequence)
        children: dict[int, list[int]] = {}
        for place, parents in edges:
            for parent in parents:
                if parent >= 0:
                    pending[place] += 1
                    children.setdefault(parent, []).append(place)
        order: list[int] = []
        for place in sequence:
            free = [place] if pending[place] == 0 else []
            for ready in free:  # grows while it is walked
                order.append(ready)
                for child in children.get(ready, ()):
                    pending[child] -= 1
                    # a child further down will be met in its own place
                    if pending[child] == 0 and rank[child] < rank[place]:
                        free.append(child)
        if len(order) < len(sequence):
            stuck = [place for place in sequence if pending[place] > 0]
            raise SubmissionError(faults.cycle(self.jobs, stuck, self._waits_for))
        return order

    def _waits_for(self, place: int) -> tuple[int, ...]:
        return (*self.parents.get(place, ()), *self.ordering.get(place, ()))

    def _sequence(self) -> list[int] | range:
        """The user's order, with each barrier before the jobs that wait for it."""
        if not self._barriers:
            return range(len(self.jobs))
        own = len(self.jobs) - len(self._homes)
        return [place for home in range(own) for place in (*self._barriers.get(home, ()), home)]

    # ------------------------------------------------------------------------------------------------ the columns

    def chunks(self, first: int = FIRST_CHUNK, most: int = CHUNK) -> Iterator[model.Chunk]:
        """The columns, at most `most` jobs at a time. To be walked once: what was given out is forgotten."""
        self.describe()
        base = 0
        while base < len(self.jobs) or base == 0:
            chunk = self._chunk(base, most if base else min(first, most), CHUNK_BYTES)
            yield chunk
            base += chunk.count
            if not chunk.count:
                return

    def whole(self) -> model.Chunk:
        """All in one chunk (what a running job adds to the graph is one record)."""
        self.describe()
        return self._chunk(0, len(self.jobs), 2**32 - 1)

    def _chunk(self, base: int, size: int, bytes_most: int) -> model.Chunk:
        uuids: list[str] = []
        calls: list[bytes] = []
        ends: list[int] = []
        indices: list[int] = []
        spec_of: list[int] = []
        counts: list[int] = []
        parents: list[int] = []
        edges = bytearray()
        specs: dict[int, int] = {}
        externals: dict[int, int] = {}
        at = 0
        known_calls, all_parents, ordering = self._calls, self.parents, self.ordering
        spec_numbers, numbers = self._spec_of, self._numbers
        connected = bool(all_parents or ordering)
        for place in self.order[base : base + size]:
            job = self.jobs[place]
            call = known_calls.pop(place, None)
            if call is None:
                call = codec.encode_call(job.function_args, job.function_kwargs)
            at += len(call)
            uuids.append(job.uuid)
            calls.append(call)
            ends.append(at)
            spec_of.append(specs.setdefault(spec_numbers[place], len(specs)))
            indices.append(job.index)
            if connected:
                before = len(parents)
                for waits, kinds in ((all_parents, DATA), (ordering, ORDER)):
                    named = waits.get(place)
                    if named:
                        parents += [
                            numbers[parent] if parent >= 0 else model.EXTERNAL + externals.setdefault(-1 - parent, len(externals))
                            for parent in named
                        ]
                        edges += kinds[missing_of(job)] * len(named)
                counts.append(len(parents) - before)
            if at >= bytes_most:
                break
        names = list(self.externals)
        chosen = [self._specs.specs[number] for number in specs]
        return model.Chunk(
            flow=self.flow.uuid,
            base=base,
            count=len(uuids),
            total=len(self.jobs),
            uuids=packed_uuids(uuids),
            indices=indices_of(indices),
            specs=chosen,
            spec_of=u32(spec_of) if len(specs) > 1 else b"",
            functions=self._specs.functions_for(chosen),
            parent_counts=u32(counts) if parents else b"",
            parents=u32(parents),
            edges=bytes(edges) if any(edges) else b"",
            externals=[(names[number], 0) for number in externals],
            name=self.flow.name,
            arg_ends=u32(ends),
            args=b"".join(calls),
        )

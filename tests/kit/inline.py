"""A few lines that run a flow by its compiled columns alone: no journal, no leader, one job after the other.

It knows just enough of the protocol (inputs by parent number, growth, stops) to show that columns and executor fit together.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Any

from towline.actors.execute.python import Executor, Outcome
from towline.engine import codec, model
from towline.engine.authoring.flow import get_flow
from towline.engine.flows import Plan, compile_flow
from towline.engine.ids import NO_ROW, pack_uuid, unpack_uuid


class Columns:
    """A chunk, taken apart."""

    def __init__(self, chunk: model.Chunk) -> None:
        self.chunk = chunk
        count = chunk.count
        if isinstance(chunk.uuids, bytes):
            self.uuids = [unpack_uuid(chunk.uuids[16 * n : 16 * n + 16]) for n in range(count)]
        else:
            self.uuids = list(chunk.uuids)
        self.indices = list(array("H", chunk.indices)) if chunk.indices else [1] * count
        self.spec_of = list(array("I", chunk.spec_of)) if chunk.spec_of else [0] * count
        counts = list(array("I", chunk.parent_counts)) if chunk.parent_counts else [0] * count
        parents = list(array("I", chunk.parents))
        edges = chunk.edges or bytes(len(parents))
        ends = list(array("I", chunk.arg_ends))
        self.args = [chunk.args[start:end] for start, end in zip([0, *ends], ends, strict=False)]
        self.parents: list[list[tuple[int, int]]] = []
        """Of each job: (number, edge byte)."""
        at = 0
        for some in counts:
            self.parents.append(list(zip(parents[at : at + some], edges[at : at + some], strict=True)))
            at += some


def columns_of(work: Any, **options: Any) -> Columns:
    """The one chunk of a small flow."""
    (data,) = compile_flow(get_flow(work, True), allow_external_references=True, **options)
    return Columns(model.decode_chunk(data))


class Inline:
    """Runs flows and keeps what came of their jobs."""

    def __init__(self, **options: Any) -> None:
        self.outcomes: dict[tuple[str, int], Outcome] = {}
        self.outputs: dict[str, bytes] = {}
        self.contents: dict[bytes, tuple[bytes, Sequence[Any]]] = {}
        self.order: list[str] = []
        self.stopped = False
        self.stopped_uuids: set[str] = set()
        self.specs = 0
        self.executor = Executor(lambda uuid, index: self.outputs.get(uuid), self._load, self._store, **options)

    def _load(self, stub: bytes) -> tuple[bytes, Sequence[Any]]:
        return self.contents[stub]

    def _store(self, content: tuple[bytes, Sequence[Any]], uuid: str, attempt: tuple[int, int]) -> bytes:
        stub = codec.stub(f"{uuid}/{len(self.contents)}".encode())
        self.contents[stub] = (content[0], [bytes(memoryview(buffer).cast("B")) for buffer in content[1]])
        return stub

    def run(self, work: Any) -> Inline:
        """Run everything that can run."""
        for chunk in Plan(get_flow(work, True), True).chunks():
            self._run(Columns(chunk))
        return self

    def _run(self, columns: Columns) -> None:
        chunk = columns.chunk
        base = self.specs
        self.executor.add_specs([(base + n, spec) for n, spec in enumerate(chunk.specs)], chunk.functions)
        self.specs += len(chunk.specs)
        for n in range(chunk.count):
            job = model.LeasedJob(
                row=n,
                counter=1,
                spec=base + columns.spec_of[n],
                args=columns.args[n],
                uuid=pack_uuid(columns.uuids[n]),
                index=columns.indices[n],
            )
            self._run_one(columns, n, job)

    def _run_one(self, columns: Columns, n: int, job: model.LeasedJob) -> None:
        given: list[bytes | model.Input] = []
        for number, edge in columns.parents[n]:
            external = number >= model.EXTERNAL
            uuid = columns.chunk.externals[number - model.EXTERNAL][0] if external else columns.uuids[number]
            if uuid in self.stopped_uuids:
                self.stopped_uuids.add(columns.uuids[n])
                return
            if uuid not in self.outputs and not edge >> 4:
                return
            if edge & 3 == 0:
                known = self.outputs.get(uuid)
                given.append(model.Input(0, 0, 0, missing=True, uuid=uuid) if known is None else known)
        if self.stopped:
            return
        outcome = self.executor.run(job, given)
        uuid, index = columns.uuids[n], columns.indices[n]
        self.outcomes[uuid, index] = outcome
        self.order.append(uuid)
        if outcome.failure is None:
            self._completed(uuid, outcome)

    def _completed(self, uuid: str, outcome: Outcome) -> None:
        growth = outcome.growth
        self.stopped = self.stopped or (growth is not None and growth.stop_jobflow)
        if growth is None or growth.heir == NO_ROW:
            self.outputs[uuid] = outcome.output
        if growth is not None:
            if growth.stop_children:
                self.stopped_uuids.add(uuid)
            for chunk in (growth.replace, growth.detour, growth.addition):
                if chunk is not None:
                    self._run(Columns(chunk))

    def output(self, job: Any) -> Any:
        """What a job has put out in the end."""
        data = self.outputs[getattr(job, "uuid", job)]
        return codec.decode(data) if codec.stub_token(data) is None else codec.join(*self.contents[data])

    def failure(self, job: Any, index: int = 1) -> model.Failure:
        """Why a job failed."""
        failure = self.outcomes[job.uuid, index].failure
        assert failure is not None
        return failure

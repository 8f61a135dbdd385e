"""What the records of a journal mean, computed the slow and obvious way: the model that the ledger must agree with.

No counters, no lists of children: a job is an object, an edge is a tuple, and whether a job still waits is asked of all its
parents each time.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field

from towline.engine import model
from towline.engine.ids import NO_ROW, pack_uuid
from towline.engine.states import EdgeKind, JobState, Missing

S = JobState


@dataclass
class Edge:
    parent: int
    kind: EdgeKind
    missing: Missing


@dataclass
class NaiveJob:
    uuid: bytes
    index: int
    flow: str
    parents: list[Edge] = field(default_factory=list)
    state: JobState = S.WAITING
    given_up: bool = False
    """It failed for good, or was stopped (it may complete all the same, if a worker held it)."""
    completions: int = 0
    output: bytes = b""
    attempt: tuple[int, int] = (0, 0)


class Naive:
    """Records in, jobs out."""

    def __init__(self) -> None:
        self.jobs: list[NaiveJob] = []
        self.numbers: dict[str, list[int]] = {}
        """Flow to the rows of its job numbers."""

    def find(self, uuid: str, index: int) -> int:
        key = pack_uuid(uuid)
        same = [row for row, job in enumerate(self.jobs) if job.uuid == key and (not index or job.index == index)]
        return max(same, key=lambda row: self.jobs[row].index)

    def satisfied(self, edge: Edge) -> bool:
        parent = self.jobs[edge.parent]
        return parent.state is S.COMPLETED or (parent.given_up and edge.missing is not Missing.ERROR)

    def pending(self, row: int) -> int:
        return sum(not self.satisfied(edge) for edge in self.jobs[row].parents)

    def children(self, row: int) -> list[int]:
        return [at for at, job in enumerate(self.jobs) if any(edge.parent == row for edge in job.parents)]

    # ---- records

    def apply(self, record: model.Record) -> None:
        if isinstance(record, model.Added):
            numbers = self.numbers.setdefault(record.chunk.flow, [])
            assert record.row == len(self.jobs)
            numbers += range(record.row, record.row + record.chunk.count)
            self.add(record.chunk, numbers, record.chunk.flow)
        elif isinstance(record, model.Completed):
            self.completed(record)
        elif isinstance(record, model.Ended):
            self.ended(record)
        elif isinstance(record, model.Steered):
            self.stop(list(array("I", record.rows)))

    def add(self, chunk: model.Chunk, numbers: list[int], flow: str) -> None:
        counts = array("I", chunk.parent_counts) or [0] * chunk.count
        parents, edges = list(array("I", chunk.parents)), chunk.edges or bytes(len(chunk.parents) // 4)
        outside = [self.find(uuid, index) for uuid, index in chunk.externals]
        keys = (
            [chunk.uuids[16 * i : 16 * i + 16] for i in range(chunk.count)]
            if isinstance(chunk.uuids, bytes)
            else [pack_uuid(uuid) for uuid in chunk.uuids]
        )
        indices = array("H", chunk.indices) or [1] * chunk.count
        at = 0
        for key, index, count in zip(keys, indices, counts, strict=True):
            job = NaiveJob(key, index, flow)
            for number, byte in zip(parents[at : at + count], edges[at : at + count], strict=True):
                row = outside[number - model.EXTERNAL] if number >= model.EXTERNAL else numbers[number]
                job.parents.append(Edge(row, EdgeKind(byte & 3), Missing(byte >> 4)))
            at += count
            self.jobs.append(job)

    def completed(self, record: model.Completed) -> None:
        start = 0
        for row, counter, end in zip(
            array("I", record.plain.rows), array("I", record.plain.counters), array("I", record.plain.ends), strict=True
        ):
            self.complete(row, (record.epoch, counter), record.plain.outputs[start:end])
            start = end

    def complete(self, row: int, attempt: tuple[int, int], output: bytes) -> None:
        job = self.jobs[row]
        assert all(self.satisfied(edge) for edge in job.parents), f"row {row} completes before a parent"
        job.state, job.attempt, job.output = S.COMPLETED, attempt, output
        job.completions += 1

    def ended(self, record: model.Ended) -> None:
        ending = record.ending
        row = ending.row
        job = self.jobs[row]
        if ending.failure is not None:
            if job.given_up and record.state == S.DELAYED:
                return  # stopped meanwhile
            job.state = S(record.state)
            job.given_up = job.given_up or job.state is S.FAILED
            return
        self.complete(row, (record.epoch, ending.counter), ending.output)
        growth = ending.growth
        if growth is None:
            return
        heir = self.grow(row, growth, record.row)
        if growth.stop_jobflow:
            self.stop([at for at, other in enumerate(self.jobs) if other.flow == job.flow and at != row])
        elif growth.stop_children:
            self.stop(self.descendants(row if heir is None else heir))

    def grow(self, row: int, growth: model.Growth, first: int) -> int | None:
        flow, heir = self.jobs[row].flow, None
        old = [at for at in self.children(row) if at < first]
        for part in (growth.replace, growth.detour, growth.addition):
            if part is None:
                continue
            assert len(self.jobs) >= first
            begin = len(self.jobs)
            self.add(part, [*[-1] * part.base, *range(begin, begin + part.count)], flow)
            if part is growth.replace and growth.heir != NO_ROW:
                heir = begin + growth.heir
                for at in old:
                    for edge in self.jobs[at].parents:
                        if edge.parent == row:
                            edge.parent = heir
            elif part is not growth.addition:
                leaves = [at for at in range(begin, len(self.jobs)) if not self.children(at)]
                behind = [at for at in self.children(row if heir is None else heir) if at < begin]
                for leaf in leaves:
                    for at in behind:
                        self.jobs[at].parents.append(Edge(leaf, EdgeKind.ORDER, Missing.ERROR))
        return heir

    def descendants(self, row: int) -> list[int]:
        found = [row]
        for at in found:
            found += [child for child in self.children(at) if child not in found]
        return found[1:]

    def stop(self, rows: list[int]) -> None:
        for row in rows:
            job = self.jobs[row]
            if job.state not in (S.COMPLETED, S.FAILED, S.STOPPED):
                job.state, job.given_up = S.STOPPED, True

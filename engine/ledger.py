"""What the journal says: the durable state of a run, rebuilt by the very code that changes it while the run is live.

`Ledger.apply` is the only way in: a record comes, the graph and the small tables change, and the rows that may now go are
returned. It knows no worker session, no clock and no queue. Leases are not in the journal (an attempt's epoch makes a stale
outcome recognisable, R3), so the states READY, LEASED, RUNNING and LOST are the core's own, laid over the same column; the
ledger only ever asks whether a row is held, because what a user stops while a body runs is stopped when the body comes back.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from itertools import repeat
from typing import assert_never

import msgspec

from towline.engine import model
from towline.engine.errors import CorruptionError, SubmissionError
from towline.engine.graph import NIL, Graph, chunk_keys, column
from towline.engine.ids import NO_ROW, unpack_uuid
from towline.engine.model import Location
from towline.engine.states import HELD, LEGAL, EdgeKind, JobState, Missing


class Flow(msgspec.Struct):
    """A submission and how much of it has arrived."""

    uuid: str
    name: str
    pieces: list[tuple[int, int]]
    """(job number, row) from which on the two count up together; one pair unless running jobs grew in between."""
    total: int
    added: int
    wall: float
    """When its first chunk was recorded."""


class Applied(msgspec.Struct):
    """What a record made possible."""

    free: list[int] = []
    """Rows in WAITING for which no parent is missing any more."""
    added: bool = False
    """The free rows are new: they may be granted once this record is committed."""
    delayed: list[int] = []
    """Rows that are DELAYED now."""


class BrokenInvariant(AssertionError):
    """The engine is about to do what its own tables forbid; the message tells the job's story."""


class Ledger:
    """Durable state: the graph, its specs and functions, flows, roster, suspects, where failures and logs lie."""

    def __init__(self) -> None:
        self.graph = Graph()
        self.counts = [0] * len(JobState)
        self.specs: list[model.Spec] = []
        self.spec_numbers: dict[bytes, int] = {}
        self.functions: dict[str, model.Function] = {}
        self.flows: dict[str, Flow] = {}
        self.flow_names: list[str] = []
        """Flow uuids by number."""
        self.flow_numbers: dict[str, int] = {}
        """The same, the other way round."""
        self.arriving: dict[str, Flow] = {}
        """Submissions that have not wholly arrived."""
        self.roster: dict[str, model.Joined] = {}
        self.left: set[str] = set()
        self.suspects: set[int] = set()
        self.alone: dict[int, model.Alone] = {}
        """Suspect to the attempt that it runs alone, if no outcome of it is known (R9)."""
        self.deaths: dict[int, int] = {}
        """Row to attempts that were the machine's fault, lone deaths included."""
        self.until: dict[int, float] = {}
        """Row to the wall time at which it stops being DELAYED."""
        self.failed_at: dict[int, int] = {}
        """Row to the record of its last failure."""
        self.logs_at: dict[int, list[int]] = {}
        self.stored_at: dict[int, int] = {}
        """Row to the record that holds its stored_data."""
        self.filed: dict[bytes, int] = {}
        """Key of a cached outcome (`model.Cached`) to the row that had it last."""
        self.stopping = self.graph.stopping
        """Held rows that are STOPPED as soon as their worker gives them back; a replay has them STOPPED at once."""
        self.store = ""
        self.led: model.Led | None = None
        self.longest_s = 0.0
        """Longest lease that any leader since the last Closed may have promised a worker (R1), in seconds."""
        self.closed = True
        self.run_stopped = False
        self.snapshot: model.Snapshotted | None = None
        self.next_seq = 0

    # ------------------------------------------------------------------------------------------------- states

    def become(self, row: int, state: JobState) -> None:
        """The one door for a single row's state."""
        old = self.graph.state[row]
        if state not in LEGAL[JobState(old)]:
            raise BrokenInvariant(
                f"job {self.graph.uuid(row)} (row {row}, attempt {self.graph.epoch[row]}.{self.graph.counter[row]}, "
                f"pending {self.graph.pending[row]}) may not go from {JobState(old).label} to {state.label}"
            )
        self.graph.state[row] = state
        self.counts[old] -= 1
        self.counts[state] += 1

    # ------------------------------------------------------------------------------------------------- records

    def apply(self, seq: int, payload: bytes, record: model.Record) -> Applied:
        """Take record number `seq`, whose encoded form is `payload`. Records come in order, each once."""
        if seq != self.next_seq:
            raise CorruptionError(f"record {seq} of the journal follows record {self.next_seq - 1}")
        self.next_seq = seq + 1
        match record:
            case model.Completed():
                return self._completed(seq, payload, record)
            case model.Added():
                return self._added(record)
            case model.Ended():
                return self._ended(seq, payload, record)
            case model.Logged():
                for log in record.logs:
                    self.logs_at.setdefault(log.row, []).append(seq)
            case model.Steered():
                return self._steered(record)
            case model.Joined():
                self.roster[record.worker] = record
            case model.Left():
                self.roster.pop(record.worker, None)
                self.left.add(record.worker)
                self.suspects.update(record.suspects)
                for alone in [a for a in self.alone.values() if a.worker == record.worker]:
                    if alone.row not in record.charged:
                        del self.alone[alone.row]
            case model.Led():
                self.longest_s = max(record.lease_s, 0.0 if self.closed else self.longest_s)
                self.led, self.closed = record, False
            case model.Closed():
                self.closed = True
            case model.Opened():
                self.store = record.store
            case model.Snapshotted():
                self.snapshot = record
            case model.Alone():
                self.alone[record.row] = record
            case model.Beat():
                pass
            case _:
                assert_never(record)
        return Applied()

    def _added(self, record: model.Added) -> Applied:
        chunk = record.chunk
        flow = self.flows.get(chunk.flow)
        if flow is None:
            flow = self.flows[chunk.flow] = Flow(chunk.flow, chunk.name, [], chunk.total, 0, record.wall)
            self.flow_numbers[chunk.flow] = len(self.flow_names)
            self.flow_names.append(chunk.flow)
            self.arriving[chunk.flow] = flow
        flow.added += chunk.count
        if flow.added >= flow.total:
            self.arriving.pop(chunk.flow, None)
        if not flow.pieces or record.row - chunk.base != flow.pieces[-1][1] - flow.pieces[-1][0]:
            flow.pieces.append((chunk.base, record.row))
        self._grow(chunk, flow.pieces, self.flow_numbers[chunk.flow])
        pending = self.graph.pending
        free = [row for row in range(record.row, record.row + chunk.count) if not pending[row]]
        return Applied(free=free, added=True)

    def _grow(self, chunk: model.Chunk, pieces: list[tuple[int, int]], flow: int) -> int:
        for function in chunk.functions:
            self.functions.setdefault(function.key, function)
        specs = [self._intern(spec) for spec in chunk.specs]
        priorities = [spec.options.priority for spec in chunk.specs]
        row = self.graph.add(chunk, pieces, specs, priorities, flow)
        self.counts[JobState.WAITING] += chunk.count
        return row

    def _intern(self, spec: model.Spec) -> int:
        encoded = model.encode(spec)
        number = self.spec_numbers.get(encoded)
        if number is None:
            number = self.spec_numbers[encoded] = len(self.specs)
            self.specs.append(spec)
        return number

    def _completed(self, seq: int, payload: bytes, record: model.Completed) -> Applied:
        plain, graph = record.plain, self.graph
        base = len(payload) - len(plain.outputs)
        state, counts, epoch = graph.state, self.counts, record.epoch
        done, stopped = int(JobState.COMPLETED), int(JobState.STOPPED)
        start = 0
        free: list[int] = []
        if any(state[row] == done for row in column("I", plain.rows)):
            raise BrokenInvariant(f"record {seq} completes a job that is completed already (P3)")
        for row, counter, end, began, elapsed in zip(
            column("I", plain.rows),
            column("I", plain.counters),
            column("I", plain.ends),
            column("d", plain.began),
            column("f", plain.elapsed),
            strict=True,
        ):
            old = state[row]
            counts[old] -= 1
            state[row] = done
            graph.epoch[row] = epoch
            graph.counter[row] = counter
            graph.began[row] = began
            graph.elapsed[row] = elapsed
            graph.out_seq[row] = seq
            graph.out_offset[row] = base + start
            graph.out_length[row] = end - start
            start = end
            counts[done] += 1
            if graph.first_child[row] != NIL:
                self._satisfy(row, free, old == stopped or row in self.stopping)
        if self.suspects or self.stopping or self.until:
            for row in column("I", plain.rows):
                self.suspects.discard(row)
                self.alone.pop(row, None)
                self.stopping.discard(row)
                self.until.pop(row, None)
        return Applied(free=free)

    def _satisfy(self, row: int, free: list[int], excused: bool) -> None:
        """A parent has completed: its children wait for one less, but for those that were `excused` when it was stopped."""
        graph = self.graph
        pending, state, waiting = graph.pending, graph.state, int(JobState.WAITING)
        edge = graph.first_child[row]
        at = len(free)
        while edge != NIL:
            if not excused or graph.edge_kind[edge] >> 4 == Missing.ERROR:
                child = graph.edge_child[edge]
                left = pending[child] = pending[child] - 1
                if not left and state[child] == waiting:
                    free.append(child)
            edge = graph.edge_next[edge]
        if len(free) - at > 1:
            free[at:] = reversed(free[at:])  # the list of children runs backwards; FIFO wants their order (P5)

    def _excuse(self, row: int, free: list[int]) -> None:
        """A parent has failed or was stopped: children that can do without it wait for one less (OnMissing)."""
        graph = self.graph
        for edge in graph.children(row):
            if graph.edge_kind[edge] >> 4 != Missing.ERROR:
                child = graph.edge_child[edge]
                graph.pending[child] -= 1
                if not graph.pending[child] and graph.state[child] == JobState.WAITING:
                    free.append(child)

    def _ended(self, seq: int, payload: bytes, record: model.Ended) -> Applied:
        ending, graph, row = record.ending, self.graph, record.ending.row
        graph.epoch[row], graph.counter[row] = record.epoch, ending.counter
        graph.began[row], graph.elapsed[row] = ending.began, ending.elapsed
        self.until.pop(row, None)
        self.alone.pop(row, None)
        if graph.state[row] == JobState.STOPPED:
            self.stopping.add(row)
        excused = row in self.stopping
        if graph.state[row] not in HELD and graph.state[row] not in (JobState.COMPLETED, JobState.FAILED):
            # leases are not journaled: in a replay the outcome itself is the proof that the job was held
            self.counts[graph.state[row]] -= 1
            self.counts[JobState.LEASED] += 1
            graph.state[row] = JobState.LEASED
        if ending.failure is not None:
            return self._fell(seq, record)
        self.become(row, JobState.COMPLETED)
        graph.out_seq[row], graph.out_length[row] = seq, len(ending.output)
        graph.out_offset[row] = payload.find(ending.output)  # any equal bytes are the output's bytes
        self.suspects.discard(row)
        self.stopping.discard(row)
        if ending.stored_data:
            self.stored_at[row] = seq
        if ending.cached is not None:
            self.filed[ending.cached.key] = row
        done = Applied(added=ending.growth is not None)
        growth = ending.growth
        if growth is None or growth.replace is None or growth.heir == NO_ROW:
            self._satisfy(row, done.free, excused)  # before the growth: what it adds finds its parent completed
        if growth is not None:
            heir = self._growth(row, growth, done.free)
            if growth.stop_jobflow:
                self.stop(self._rest_of_flow(row), done.free)
            elif growth.stop_children:
                self.stop(self._descendants(heir if heir != NIL else row), done.free)
        done.free = [at for at in done.free if graph.state[at] == JobState.WAITING and not graph.pending[at]]
        return done

    def _fell(self, seq: int, record: model.Ended) -> Applied:
        row, failure = record.ending.row, record.ending.failure
        assert failure is not None
        state = JobState(record.state)
        if record.attempts == self.graph.attempts[row] or failure.kind == "lost":
            self.deaths[row] = self.deaths.get(row, 0) + 1
        self.graph.attempts[row] = record.attempts
        self.failed_at[row] = seq
        excused = row in self.stopping
        if excused and state is JobState.DELAYED:
            state = JobState.STOPPED
        self.become(row, state)
        if state is JobState.DELAYED:
            self.until[row] = record.until
            return Applied(delayed=[row])
        done = Applied()
        self.suspects.discard(row)
        self.stopping.discard(row)
        if not excused:
            self._excuse(row, done.free)
        return done

    def _growth(self, row: int, growth: model.Growth, free: list[int]) -> int:
        """Add what a Response asks for; returns the row that takes over the children, or NIL."""
        flow, graph, heir = self.graph.chunk_of(row).flow, self.graph, NIL
        for part in (growth.replace, growth.detour, growth.addition):
            if part is None:
                continue
            first = self._grow(part, [(part.base, graph.size)], flow)
            free.extend(at for at in range(first, graph.size) if not graph.pending[at])
            if part is growth.addition:
                continue
            if part is growth.replace and growth.heir != NO_ROW:
                heir = first + growth.heir
                graph.bequeath(row, heir, first)
                continue
            # a detour, or a replacement without an output of its own, stands before the children
            old = [graph.edge_child[edge] for edge in graph.children(heir if heir != NIL else row)]
            old = [child for child in dict.fromkeys(old) if child < first]
            for leaf in graph.leaves(first, graph.size) if old else ():
                for child in old:
                    graph.add_edge(leaf, child, EdgeKind.ORDER, Missing.ERROR)
        if heir != NIL:
            for edge in graph.children(heir):
                child = graph.edge_child[edge]
                assert graph.pending[child], "a child that was bequeathed waits for its heir"
        return heir

    def _descendants(self, row: int) -> list[int]:
        graph, seen, found = self.graph, {row}, [row]
        for at in found:
            for edge in graph.children(at):
                child = graph.edge_child[edge]
                if child not in seen:
                    seen.add(child)
                    found.append(child)
        return found[1:]

    def _rest_of_flow(self, row: int) -> list[int]:
        return [at for rows in self._rows_of(self.graph.chunk_of(row).flow) for at in rows if at != row]

    def stop(self, rows: list[int], free: list[int]) -> None:
        """STOPPED for all of these that have not ended; the held ones show it when they come back.

        All else that follows from it follows now, because a replay does not know what was held.
        """
        for row in rows:
            state = JobState(self.graph.state[row])
            if row in self.stopping or JobState.STOPPED not in LEGAL[state]:
                continue
            if state in HELD:
                self.stopping.add(row)
            else:
                self.become(row, JobState.STOPPED)
                self.until.pop(row, None)
            self._excuse(row, free)

    def _steered(self, record: model.Steered) -> Applied:
        done = Applied()
        if record.run == "stopped":
            self.run_stopped = True
        if record.state == JobState.STOPPED:
            self.stop(list(column("I", record.rows)), done.free)
        done.free = [row for row in done.free if self.graph.state[row] == JobState.WAITING]
        return done

    # ------------------------------------------------------------------------------------------------- checks

    def check_chunk(self, chunk: model.Chunk) -> None:
        """Refuse a piece of a submission that cannot be taken; see `Graph.check`."""
        flow = self.flows.get(chunk.flow)
        if chunk.base and flow is None:
            raise SubmissionError(f"flow {chunk.flow} begins with job {chunk.base}; its first jobs are not in this store")
        if flow is not None and chunk.base == 0:
            raise SubmissionError(f"flow {chunk.flow} ({flow.name}) is already in this store; to go on with it use resume")
        if flow is not None and (chunk.base != flow.added or chunk.total != flow.total):
            raise SubmissionError(f"flow {chunk.flow} has {flow.added} jobs here; a piece from {chunk.base} on cannot follow")
        if chunk.base + chunk.count > chunk.total:
            raise SubmissionError(f"flow {chunk.flow} announced {chunk.total} jobs and brings more")
        self._check_functions(chunk)
        self.graph.check(chunk)

    def holds_chunk(self, chunk: model.Chunk) -> int | None:
        """The first row of this very chunk, if it was taken before."""
        keys = chunk_keys(chunk)
        if not keys or chunk.flow not in self.flows:
            return None
        index = int.from_bytes(chunk.indices[:2], "little") or 1
        first = self.graph.find(unpack_uuid(keys[0]), index)  # not the newest: the job may have been replaced since
        if first == NIL or self.graph.chunk_of(first).row != first or self.graph.chunk_of(first).count != len(keys):
            return None
        return first if all(self.graph.key(first + i) == key for i, key in enumerate(keys)) else None

    def check_growth(self, growth: model.Growth) -> None:
        """Refuse a Response whose jobs cannot be added."""
        beside: set[tuple[bytes, int]] = set()
        if growth.replace is not None and growth.heir != NO_ROW and growth.heir >= growth.replace.count:
            raise SubmissionError(f"the job that takes over (number {growth.heir}) is not among those that replace")
        for part in (growth.replace, growth.detour, growth.addition):
            if part is not None:
                self._check_functions(part)
                self.graph.check(part, beside)
                indices = column("H", part.indices) if part.indices else repeat(1)
                for key, index in zip(chunk_keys(part), indices, strict=False):
                    beside.update(((key, index), (key, 0)))

    def _check_functions(self, chunk: model.Chunk) -> None:
        known = {function.key for function in chunk.functions}
        for spec in chunk.specs:
            if spec.function not in known and spec.function not in self.functions:
                raise SubmissionError(f"job {spec.name} of flow {chunk.flow} names a function that was not sent")

    # ------------------------------------------------------------------------------------------------- questions

    def rows_of(self, flow: str) -> Iterator[range]:
        """The rows of a submission, in order, with those that its jobs have added; none if it is not here."""
        return self._rows_of(self.flow_numbers[flow]) if flow in self.flows else iter(())

    def _rows_of(self, number: int) -> Iterator[range]:
        return (range(chunk.row, chunk.row + chunk.count) for chunk in self.graph.chunks if chunk.flow == number)

    def counts_of(self, flow: str) -> list[int]:
        """Jobs by state, like `counts`, of one submission."""
        if flow in self.flows and len(self.flows) == 1:
            return self.counts
        states = b"".join(self.graph.state[rows.start : rows.stop] for rows in self.rows_of(flow))
        return [states.count(state) for state in JobState]

    def open_flows(self) -> list[Flow]:
        """Submissions that have not wholly arrived."""
        return list(self.arriving.values())


def slice_of(payload: bytes, place: Location) -> bytes:
    """The bytes that a Location names inside its record's payload."""
    return payload[place.offset : place.offset + place.length]


def rows_bytes(rows: list[int]) -> bytes:
    """A uint32 column."""
    return array("I", rows).tobytes()


def is_whole(plain: model.Plain) -> bool:
    """Have the columns of outcomes the lengths that belong together?"""
    n, odd = divmod(len(plain.rows), 4)
    lengths = len(plain.counters), len(plain.began), len(plain.elapsed), len(plain.ends)
    if odd or lengths != (4 * n, 8 * n, 4 * n, 4 * n):
        return False
    ends = column("I", plain.ends)
    return (ends[-1] if n else 0) == len(plain.outputs)

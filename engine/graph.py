"""The job graph as flat arrays: a job is a row number, an edge is a number too, and nothing here is an object per job.

Rows only ever grow. Parents of a row are one contiguous run of edges (`parent_start`, `parent_count`); children are a linked
list through the edges (`first_child`, `edge_next`): a job added at run time costs the same as one of the first submission.
Edges that a detour adds to a job that exists already stand in `late_edges`. uuids are kept packed (`ids.pack_uuid`).
The graph knows states only as bytes in a column; who may change them is the core's affair.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Container, Iterator, Sequence
from itertools import repeat

from towline.engine.errors import SubmissionError
from towline.engine.ids import NO_ROW, pack_uuid, unpack_uuid
from towline.engine.model import EXTERNAL, Chunk, Location
from towline.engine.states import EdgeKind, JobState, Missing

NIL = NO_ROW

ROW_COLUMNS = {
    "index": "H",
    "spec": "I",
    "state": "B",
    "pending": "I",
    "attempts": "H",
    "priority": "B",
    "epoch": "I",
    "counter": "I",
    "began": "d",
    "elapsed": "f",
    "out_seq": "I",
    "out_offset": "I",
    "out_length": "I",
    "parent_start": "I",
    "parent_count": "I",
    "first_child": "I",
}
"""Column name to array type code, one value a row; what a snapshot holds."""

EDGE_COLUMNS = {"edge_parent": "I", "edge_child": "I", "edge_next": "I", "edge_kind": "B"}
"""The same for edges."""


def column(code: str, data: bytes) -> array[int]:
    """A little-endian column from bytes (every platform that Ray runs on is little-endian)."""
    values: array[int] = array(code)
    values.frombytes(data)
    return values


def chunk_keys(chunk: Chunk) -> list[bytes]:
    """The packed uuids of a chunk's jobs, in order."""
    if isinstance(chunk.uuids, bytes):
        packed = chunk.uuids
        return [packed[i : i + 16] for i in range(0, len(packed), 16)]
    return [pack_uuid(uuid) for uuid in chunk.uuids]


class ChunkArgs:
    """The arguments of one chunk's jobs, still encoded, and the number of the submission that they belong to."""

    __slots__ = ("args", "count", "ends", "flow", "row")

    def __init__(self, row: int, count: int, ends: array[int], args: bytes, flow: int) -> None:
        self.row, self.count, self.ends, self.args, self.flow = row, count, ends, args, flow

    def of(self, row: int) -> bytes:
        """The encoded arguments of a row of this chunk."""
        i = row - self.row
        return self.args[self.ends[i - 1] if i else 0 : self.ends[i]]


class Graph:
    """Columns of jobs and edges, and the index of uuids."""

    def __init__(self) -> None:
        self.size = 0
        self.uuids = bytearray()
        """16 bytes a row; zeros where the uuid is not canonical (`odd_uuids`)."""
        self.odd_uuids: dict[int, bytes] = {}
        self.latest: dict[bytes, int] = {}
        """Packed uuid to the row with the highest index."""
        self.older: dict[tuple[bytes, int], int] = {}
        """(packed uuid, index) to row, for rows that were replaced."""
        self.stopping: set[int] = set()
        """Held rows that are STOPPED as far as the journal knows; they show it when their worker gives them back."""
        self.late_edges: dict[int, list[int]] = {}
        self.chunks: list[ChunkArgs] = []
        self.chunk_rows: list[int] = []
        self.index: array[int] = array("H")
        self.spec: array[int] = array("I")
        self.state = bytearray()
        self.pending: array[int] = array("I")
        self.attempts: array[int] = array("H")
        self.priority = bytearray()
        self.epoch: array[int] = array("I")
        self.counter: array[int] = array("I")
        self.began: array[float] = array("d")
        self.elapsed: array[float] = array("f")
        self.out_seq: array[int] = array("I")
        self.out_offset: array[int] = array("I")
        self.out_length: array[int] = array("I")
        self.parent_start: array[int] = array("I")
        self.parent_count: array[int] = array("I")
        self.first_child: array[int] = array("I")
        self.edge_parent: array[int] = array("I")
        self.edge_child: array[int] = array("I")
        self.edge_next: array[int] = array("I")
        self.edge_kind = bytearray()

    # ------------------------------------------------------------------------------------------------- reading

    def key(self, row: int) -> bytes:
        """The packed uuid of a row."""
        return self.odd_uuids.get(row) or bytes(self.uuids[16 * row : 16 * row + 16])

    def uuid(self, row: int) -> str:
        """The uuid of a row."""
        return unpack_uuid(self.key(row))

    def find(self, uuid: str, index: int = 0) -> int:
        """The row of (uuid, index), index 0 meaning the newest; NIL if there is none."""
        key = pack_uuid(uuid)
        row = self.latest.get(key, NIL)
        if row == NIL or not index or self.index[row] == index:
            return row
        return self.older.get((key, index), NIL)

    def parent_edges(self, row: int) -> Sequence[int]:
        """Edges to the parents, in the order the job was made with; added ones last."""
        start = self.parent_start[row]
        born = range(start, start + self.parent_count[row])
        late = self.late_edges.get(row)
        return [*born, *late] if late else born

    def children(self, row: int) -> Iterator[int]:
        """Edges to the children, in the order they were added (the list itself runs backwards)."""
        edges = []
        edge = self.first_child[row]
        while edge != NIL:
            edges.append(edge)
            edge = self.edge_next[edge]
        return reversed(edges)

    def chunk_of(self, row: int) -> ChunkArgs:
        """The chunk that brought a row."""
        return self.chunks[bisect_right(self.chunk_rows, row) - 1]

    def args(self, row: int) -> bytes:
        """The encoded arguments."""
        return self.chunk_of(row).of(row)

    def leaves(self, row: int, end: int) -> list[int]:
        """Rows in [row, end) that have no child."""
        return [at for at in range(row, end) if self.first_child[at] == NIL]

    def output(self, row: int) -> Location | None:
        """Where the output lies, or None if there is none yet."""
        length = self.out_length[row]
        return Location(self.out_seq[row], self.out_offset[row], length) if length else None

    def satisfied(self, edge: int) -> bool:
        """Does the child of this edge no longer wait for its parent?"""
        state = self.state[self.edge_parent[edge]]
        if state == JobState.COMPLETED:
            return True
        ended = state in (JobState.FAILED, JobState.STOPPED) or self.edge_parent[edge] in self.stopping
        return ended and self.edge_kind[edge] >> 4 != Missing.ERROR

    # ------------------------------------------------------------------------------------------------- growing

    def check(self, chunk: Chunk, beside: Container[tuple[bytes, int]] = ()) -> None:
        """Refuse a chunk that cannot be taken, before anything of it is recorded. Linear in the chunk.

        `beside` holds (packed uuid, index) of the jobs that the same record adds before this chunk, and (packed uuid, 0).

        Raises:
            SubmissionError: a job is here already, a parent is unknown, or a column has the wrong length.
        """
        n, where = chunk.count, f"chunk at job {chunk.base} of flow {chunk.flow}"
        lengths = (
            (len(chunk.uuids), 16 * n if isinstance(chunk.uuids, bytes) else n, "uuids"),
            (len(chunk.arg_ends), 4 * n, "arg_ends"),
            (len(chunk.indices), 2 * n if chunk.indices else 0, "indices"),
            (len(chunk.spec_of), 4 * n if chunk.spec_of else 0, "spec_of"),
            (len(chunk.parent_counts), 4 * n if chunk.parent_counts else 0, "parent_counts"),
            (len(chunk.parents) % 4, 0, "parents"),
        )
        for found, wanted, what in lengths:
            if found != wanted:
                raise SubmissionError(f"{where}: column {what} has a wrong length")
        if n and column("I", chunk.arg_ends)[-1] != len(chunk.args):
            raise SubmissionError(f"{where}: column args has a wrong length")
        if n and max(column("I", chunk.spec_of), default=0) >= len(chunk.specs):
            raise SubmissionError(f"{where}: a job names a spec that is not there")
        if not all(0 <= spec.options.priority <= 255 for spec in chunk.specs):
            raise SubmissionError(f"{where}: a priority is not in 0..255")
        keys = chunk_keys(chunk)
        indices = column("H", chunk.indices) if chunk.indices else repeat(1)
        if beside or not self.latest.keys().isdisjoint(keys) or len(set(keys)) != n:
            seen: set[bytes] = set()
            for key, index in zip(keys, indices, strict=False):
                row = self.latest.get(key, NIL)
                if key in seen or (key, 0) in beside or (row != NIL and self.index[row] >= index):
                    raise SubmissionError(
                        f"job {unpack_uuid(key)} (index {index}) is already in this store; to go on with a stored run use resume"
                    )
                seen.add(key)
        self._check_parents(chunk, beside)

    def _check_parents(self, chunk: Chunk, beside: Container[tuple[bytes, int]]) -> None:
        for uuid, index in chunk.externals:
            if self.find(uuid, index) == NIL and (pack_uuid(uuid), index) not in beside:
                raise SubmissionError(f"job {uuid} is referred to by flow {chunk.flow} but is neither in it nor in the store")
        counts, parents = column("I", chunk.parent_counts), column("I", chunk.parents)
        if sum(counts) != len(parents) or (chunk.edges and len(chunk.edges) != len(parents)):
            raise SubmissionError(f"chunk at job {chunk.base} of flow {chunk.flow}: column parents has a wrong length")
        last = EXTERNAL + len(chunk.externals)
        edge = 0
        for number, count in enumerate(counts, chunk.base):
            for parent in parents[edge : edge + count]:
                if parent >= (last if parent >= EXTERNAL else number):
                    raise SubmissionError(f"job {number} of flow {chunk.flow} has a parent that does not come before it")
            edge += count

    def add(self, chunk: Chunk, pieces: list[tuple[int, int]], specs: list[int], priorities: list[int], flow: int) -> int:
        """Take a checked chunk; returns the first of its rows.

        `pieces` maps the submission's job numbers to rows ((number, row) where a run begins, this chunk's included), `specs`
        maps the chunk's spec numbers to the core's, `priorities` gives theirs, `flow` numbers the submission.
        Pending counts are set; states are WAITING (the core moves them on).
        """
        row, n = self.size, chunk.count
        keys = chunk_keys(chunk)
        externals = [self.find(uuid, index) for uuid, index in chunk.externals]  # before the chunk's own are found
        for at, key in enumerate(keys, row):
            if key in self.latest:
                old = self.latest[key]
                self.older[key, self.index[old]] = old
            if len(key) != 16:
                self.odd_uuids[at] = key
        self.latest.update(zip(keys, range(row, row + n), strict=True))
        self.uuids += chunk.uuids if isinstance(chunk.uuids, bytes) else b"".join(k if len(k) == 16 else bytes(16) for k in keys)
        self.index.extend(column("H", chunk.indices) if chunk.indices else array("H", [1]) * n)
        if chunk.spec_of:
            of = column("I", chunk.spec_of)
            self.spec.extend(array("I", [specs[s] for s in of]))
            self.priority += bytes([priorities[s] for s in of])
        elif n:
            self.spec.extend(array("I", [specs[0]]) * n)
            self.priority += bytes([priorities[0]]) * n
        self.state += bytes(n)
        for values in (self.attempts, self.epoch, self.counter, self.out_seq, self.out_offset, self.out_length):
            values.extend(array(values.typecode, [0]) * n)
        self.began.extend(array("d", [0.0]) * n)
        self.elapsed.extend(array("f", [0.0]) * n)
        self.first_child.extend(array("I", [NIL]) * n)
        self.size += n
        self._add_edges(chunk, row, pieces, externals)
        ends = column("I", chunk.arg_ends)
        self.chunks.append(ChunkArgs(row, n, ends, chunk.args, flow))
        self.chunk_rows.append(row)
        return row

    def _add_edges(self, chunk: Chunk, row: int, pieces: list[tuple[int, int]], externals: list[int]) -> None:
        n, start = chunk.count, len(self.edge_parent)
        if not chunk.parents:
            self.parent_start.extend(array("I", [start]) * n)
            self.parent_count.extend(array("I", [0]) * n)
            self.pending.extend(array("I", [0]) * n)
            return
        if len(pieces) == 1:
            shift = pieces[0][1] - pieces[0][0]
            parents = [externals[p - EXTERNAL] if p >= EXTERNAL else p + shift for p in column("I", chunk.parents)]
        else:
            begins = [number for number, _ in pieces]
            shifts = [at - number for number, at in pieces]
            parents = [
                externals[p - EXTERNAL] if p >= EXTERNAL else p + shifts[bisect_right(begins, p) - 1]
                for p in column("I", chunk.parents)
            ]
        counts = column("I", chunk.parent_counts)
        self.edge_parent.extend(array("I", parents))
        self.edge_kind += chunk.edges or bytes(len(parents))
        first_child, edge_next, state, done = self.first_child, self.edge_next, self.state, int(JobState.COMPLETED)
        starts: list[int] = []
        pendings: list[int] = []
        children: list[int] = []
        edge = start
        for at, count in enumerate(counts, row):
            starts.append(edge)
            pending = 0
            for parent in parents[edge - start : edge - start + count]:
                edge_next.append(first_child[parent])
                first_child[parent] = edge
                if state[parent] != done and not self.satisfied(edge):
                    pending += 1
                edge += 1
            children.extend(repeat(at, count))
            pendings.append(pending)
        self.edge_child.extend(array("I", children))
        self.parent_start.extend(array("I", starts))
        self.parent_count.extend(counts)
        self.pending.extend(array("I", pendings))

    def add_edge(self, parent: int, child: int, kind: EdgeKind, missing: Missing) -> None:
        """Make an existing job wait for one more parent (a detour's leaf)."""
        edge = len(self.edge_parent)
        self.edge_parent.append(parent)
        self.edge_child.append(child)
        self.edge_kind.append(int(kind) | int(missing) << 4)
        self.edge_next.append(self.first_child[parent])
        self.first_child[parent] = edge
        self.late_edges.setdefault(child, []).append(edge)
        if not self.satisfied(edge):
            self.pending[child] += 1

    def bequeath(self, row: int, heir: int, first: int) -> None:
        """Every child of `row` below row `first` becomes a child of `heir` instead (Response.replace).

        From `first` on stand the jobs that came with the heir: what they take from `row` is its own output.
        """
        edges = list(self.children(row))
        self.first_child[row] = NIL
        for edge in edges:
            parent = heir if self.edge_child[edge] < first else row
            self.edge_parent[edge] = parent
            self.edge_next[edge] = self.first_child[parent]
            self.first_child[parent] = edge

"""The graph in arrays: what it refuses, what it links, and a random DAG against a dict."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.kit.builders import chunk, graph_of, spec, u32, uuid_of
from towline.engine.errors import SubmissionError
from towline.engine.graph import NIL, Graph, chunk_keys
from towline.engine.model import EXTERNAL, Chunk, Location
from towline.engine.states import EdgeKind, JobState, Missing, edge_byte

S = JobState


def children_of(graph: Graph, row: int) -> list[int]:
    return [graph.edge_child[edge] for edge in graph.children(row)]


def parents_of(graph: Graph, row: int) -> list[int]:
    return [graph.edge_parent[edge] for edge in graph.parent_edges(row)]


# ------------------------------------------------------------------------------------------------------------ adding


def test_a_diamond() -> None:
    graph = graph_of(chunk([[], [0], [0], [1, 2]]))
    assert list(graph.pending) == [0, 1, 1, 2]
    assert [parents_of(graph, row) for row in range(4)] == [[], [0], [0], [1, 2]]
    assert [children_of(graph, row) for row in range(4)] == [[1, 2], [3], [3], []]
    assert graph.leaves(0, 4) == [3]
    assert graph.leaves(0, 3) == []


def test_a_chunk_may_refer_to_the_chunks_before_it() -> None:
    graph = Graph()
    graph.add(chunk([[], []], total=4), [(0, 0)], [0], [0], 0)
    graph.add(chunk(1, flow="between", first=50), [(0, 2)], [0], [0], 1)
    graph.add(chunk([[0], [1, 2]], base=2, total=4), [(0, 0), (2, 3)], [0], [0], 0)
    assert parents_of(graph, 3) == [0]
    assert parents_of(graph, 4) == [1, 3], "job 2 of the submission is row 3"
    assert graph.chunk_of(4).flow == 0
    assert graph.chunk_of(2).flow == 1


def test_arguments_are_found_by_row() -> None:
    graph = graph_of(chunk(3, args=[b"a", b"", b"ccc"]), chunk(0, flow="empty"), chunk(2, first=10, args=[b"dd", b"e"]))
    assert [graph.args(row) for row in range(5)] == [b"a", b"", b"ccc", b"dd", b"e"]


def test_specs_and_priorities_are_the_core_s_numbers() -> None:
    graph = Graph()
    one = chunk(3, specs=[spec("a"), spec("b", priority=255)], spec_of=[1, 0, 1])
    graph.check(one)
    graph.add(one, [(0, 0)], [7, 4], [0, 255], 0)
    assert list(graph.spec) == [4, 7, 4]
    assert list(graph.priority) == [255, 0, 255]


def test_uuids_of_every_form_are_found() -> None:
    names = [uuid_of(1), "my job", "x" * 15]
    graph = graph_of(chunk(3, uuids=names))
    assert [graph.find(name) for name in names] == [0, 1, 2]
    assert [graph.uuid(row) for row in range(3)] == names
    assert graph.find("other") == NIL


def test_an_index_names_a_version() -> None:
    graph = graph_of(chunk(1), chunk(1, uuids=[uuid_of(0)], indices=[2]), chunk(1, uuids=[uuid_of(0)], indices=[5]))
    assert [graph.find(uuid_of(0), index) for index in (0, 1, 2, 3, 5)] == [2, 0, 1, NIL, 2]


def test_external_parents() -> None:
    graph = graph_of(chunk(2), chunk([[EXTERNAL + 1], [0, EXTERNAL]], first=10, externals=[(uuid_of(0), 1), (uuid_of(1), 0)]))
    assert parents_of(graph, 2) == [1]
    assert parents_of(graph, 3) == [2, 0]


def test_an_external_parent_is_looked_for_before_the_chunk_s_own_jobs() -> None:
    """The job that replaces another may take that one's output: (uuid, newest) is then still the old one."""
    graph = graph_of(chunk(1), chunk([[EXTERNAL]], uuids=[uuid_of(0)], indices=[2], externals=[(uuid_of(0), 0)]))
    assert parents_of(graph, 1) == [0]


@pytest.mark.parametrize("missing", Missing)
@pytest.mark.parametrize("state", JobState)
def test_which_edges_are_satisfied_from_the_start(state: JobState, missing: Missing) -> None:
    graph = graph_of(chunk(1))
    graph.state[0] = state
    late = chunk([[EXTERNAL]], first=9, externals=[(uuid_of(0), 1)], edges=[edge_byte(EdgeKind.DATA, missing)])
    graph.add(late, [(0, 1)], [0], [0], 1)
    given_up = state in (S.FAILED, S.STOPPED) and missing is not Missing.ERROR
    assert graph.pending[1] == (0 if state is S.COMPLETED or given_up else 1)
    graph.add_edge(0, 1, EdgeKind.ORDER, missing)
    assert graph.pending[1] == (0 if state is S.COMPLETED or given_up else 2)


def test_a_held_job_that_is_stopped_counts_as_stopped() -> None:
    graph = graph_of(chunk([[], [0]], edges=[edge_byte(EdgeKind.DATA, Missing.NONE)]))
    assert not graph.satisfied(0)
    graph.stopping.add(0)
    assert graph.satisfied(0)


def test_a_late_edge_stands_behind_the_parents_a_job_was_made_with() -> None:
    graph = graph_of(chunk([[], [], [1]]))
    graph.add_edge(0, 2, EdgeKind.ORDER, Missing.ERROR)
    assert parents_of(graph, 2) == [1, 0]
    assert children_of(graph, 0) == [2]
    assert graph.pending[2] == 2
    assert graph.edge_kind[1] == edge_byte(EdgeKind.ORDER, Missing.ERROR)


def test_children_are_bequeathed_in_order_but_not_those_that_came_with_the_heir() -> None:
    graph = graph_of(chunk([[], [0], [0], []]), chunk([[], [0], [EXTERNAL]], first=10, externals=[(uuid_of(0), 1)]))
    graph.bequeath(0, 4, 4)
    assert children_of(graph, 0) == [6]
    assert children_of(graph, 4) == [5, 1, 2]
    assert [parents_of(graph, row) for row in (1, 2, 5, 6)] == [[4], [4], [4], [0]]


def test_a_place_is_known_when_there_is_an_output() -> None:
    graph = graph_of(chunk(1))
    assert graph.output(0) is None
    graph.out_seq[0], graph.out_offset[0], graph.out_length[0] = 3, 4, 5
    assert graph.output(0) == Location(3, 4, 5)


@pytest.mark.parametrize("cut", [1000, 200_000])
def test_a_chain_of_two_hundred_thousand(cut: int) -> None:
    """No recursion anywhere: the chain is deeper than any stack."""
    n, graph = 200_000, Graph()
    assert n > sys.getrecursionlimit()
    for base in range(0, n, cut):
        one = chunk([[i - 1] if i else [] for i in range(base, min(n, base + cut))], base=base, total=n)
        graph.check(one)
        graph.add(one, [(0, 0)], [0], [0], 0)
    assert graph.size == n
    assert children_of(graph, 123_456) == [123_457]
    assert sum(graph.pending) == n - 1
    assert graph.leaves(0, n) == [n - 1]
    assert graph.find(uuid_of(n - 1)) == n - 1


# ---------------------------------------------------------------------------------------------------------- refusing


def column_of(one: Chunk, name: str, value: Any) -> Chunk:
    return msgspec.structs.replace(one, **{name: value})


DIAMOND = chunk([[], [0], [0], [1, 2]], edges=[0, 0, 0, 0])

BAD = {
    "short uuids": (column_of(DIAMOND, "uuids", bytes(63)), "column uuids has a wrong length"),
    "too few names": (column_of(DIAMOND, "uuids", ["a", "b", "c"]), "column uuids has a wrong length"),
    "short arg_ends": (column_of(DIAMOND, "arg_ends", u32([3, 6, 9])), "column arg_ends has a wrong length"),
    "long args": (column_of(DIAMOND, "args", DIAMOND.args + b"x"), "column args has a wrong length"),
    "short indices": (column_of(DIAMOND, "indices", b"\1\0"), "column indices has a wrong length"),
    "short spec_of": (column_of(DIAMOND, "spec_of", u32([0])), "column spec_of has a wrong length"),
    "short counts": (column_of(DIAMOND, "parent_counts", u32([0, 1, 1])), "column parent_counts has a wrong length"),
    "no counts": (column_of(DIAMOND, "parent_counts", b""), "column parents has a wrong length"),
    "counts too high": (column_of(DIAMOND, "parent_counts", u32([0, 1, 1, 3])), "column parents has a wrong length"),
    "no parents": (column_of(column_of(DIAMOND, "parents", b""), "edges", b""), "column parents has a wrong length"),
    "odd parents": (column_of(DIAMOND, "parents", DIAMOND.parents + b"x"), "column parents has a wrong length"),
    "short edges": (column_of(DIAMOND, "edges", bytes(3)), "column parents has a wrong length"),
    "no such spec": (column_of(DIAMOND, "spec_of", u32([0, 0, 1, 0])), "names a spec that is not there"),
    "no specs": (column_of(DIAMOND, "specs", []), "names a spec that is not there"),
    "priority": (column_of(DIAMOND, "specs", [spec(priority=256)]), "a priority is not in 0..255"),
    "own parent": (chunk([[], [1]]), "job 1 of flow flow has a parent that does not come before it"),
    "later parent": (chunk([[1], []]), "job 0 of flow flow has a parent that does not come before it"),
    "no such external": (chunk([[EXTERNAL]]), "has a parent that does not come before it"),
    "unknown external": (chunk([[EXTERNAL]], externals=[("who", 0)]), "job who is referred to by flow flow"),
    "unknown version": (chunk([[EXTERNAL]], externals=[(uuid_of(99), 2)]), "is neither in it nor in the store"),
    "twice": (chunk(2, uuids=["a", "a"]), "job a (index 1) is already in this store; to go on with a stored run use resume"),
    "twice, versions": (chunk(2, uuids=["a", "a"], indices=[1, 2]), "job a (index 2) is already in this store"),
    "here already": (chunk(1, uuids=[uuid_of(99)]), "is already in this store"),
    "here in a later version": (chunk(1, uuids=[uuid_of(98)], indices=[2]), "(index 2) is already in this store"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_what_is_refused_is_said_in_one_sentence_and_changes_nothing(name: str) -> None:
    bad, sentence = BAD[name]
    graph = graph_of(chunk(2, uuids=[uuid_of(99), uuid_of(98)], indices=[1, 3], flow="before"))
    with pytest.raises(SubmissionError) as caught:
        graph.check(bad)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)
    assert (graph.size, len(graph.edge_parent), len(graph.latest)) == (2, 0, 2)


def test_the_good_diamond_is_taken() -> None:
    """So that the refusals above are each due to the one thing that they change."""
    graph = graph_of(DIAMOND, chunk([[EXTERNAL]], first=9, externals=[(uuid_of(3), 1)]))
    parents = [[graph.edge_parent[edge] for edge in graph.parent_edges(row)] for row in range(graph.size)]
    assert parents == [[], [0], [0], [1, 2], [3]]


def test_jobs_beside_count_as_there() -> None:
    graph, beside = Graph(), {(key, index) for key in chunk_keys(DIAMOND) for index in (0, 1)}
    graph.check(chunk([[EXTERNAL]], first=9, externals=[(uuid_of(3), 0)]), beside)
    graph.check(chunk([[EXTERNAL]], first=9, externals=[(uuid_of(3), 1)]), beside)
    for bad in (chunk([[EXTERNAL]], first=9, externals=[(uuid_of(3), 2)]), chunk(1, first=3)):
        with pytest.raises(SubmissionError):
            graph.check(bad, beside)


# ------------------------------------------------------------------------------------------------- against a dict


@dataclass
class Sketch:
    """The same graph as a dict of lists."""

    parents: dict[int, list[int]] = field(default_factory=dict)
    done: set[int] = field(default_factory=set)

    def children(self, row: int) -> list[int]:
        """In the order in which the edges were added."""
        found = [(self.order[at, i], at) for at, ps in self.parents.items() for i, p in enumerate(ps) if p == row]
        return [at for _, at in sorted(found)]

    order: dict[tuple[int, int], int] = field(default_factory=dict)
    edges: int = 0

    def add(self, row: int, parents: list[int]) -> None:
        for parent in parents:
            self.order[row, len(self.parents.setdefault(row, []))] = self.edges
            self.parents[row].append(parent)
            self.edges += 1
        self.parents.setdefault(row, [])


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_a_random_dag_in_random_pieces_with_growth_between(data: st.DataObject) -> None:
    n = data.draw(st.integers(1, 24), "jobs")
    dag = [sorted(data.draw(st.sets(st.integers(0, i - 1), max_size=4))) if i else [] for i in range(n)]
    graph, sketch, pieces, rows, grown = Graph(), Sketch(), list[tuple[int, int]](), list[int](), 0
    base = 0
    while base < n:
        count = data.draw(st.integers(1, n - base), "cut")
        one = chunk(dag[base : base + count], base=base, total=n)
        graph.check(one)
        if not pieces or graph.size - base != pieces[-1][1] - pieces[-1][0]:
            pieces.append((base, graph.size))
        first = graph.add(one, pieces, [0], [0], 0)
        rows += range(first, first + count)
        for number in range(base, base + count):
            sketch.add(rows[number], [rows[parent] for parent in dag[number]])
        base += count
        for row in data.draw(st.sets(st.sampled_from(range(graph.size)), max_size=3), "completed"):
            graph.state[row] = S.COMPLETED
            if row not in sketch.done:
                sketch.done.add(row)
                for edge in graph.children(row):
                    graph.pending[graph.edge_child[edge]] -= 1
        if data.draw(st.booleans(), "grows"):
            parent = data.draw(st.integers(0, graph.size - 1))
            one = chunk([[EXTERNAL], [0]], flow="g", first=1000 + grown, externals=[(graph.uuid(parent), 0)])
            grown += 2
            graph.check(one)
            first = graph.add(one, [(0, graph.size)], [0], [0], 1)
            sketch.add(first, [parent])
            sketch.add(first + 1, [first])
            graph.add_edge(first + 1, data.draw(st.integers(0, first - 1), "behind"), EdgeKind.ORDER, Missing.ERROR)
            sketch.add(graph.edge_child[-1], [first + 1])
    for row in range(graph.size):
        assert parents_of(graph, row) == sketch.parents[row]
        assert children_of(graph, row) == sketch.children(row)
        assert graph.pending[row] == sum(parent not in sketch.done for parent in sketch.parents[row])

"""Flows become columns: parents first, each Spec once, errors before the first chunk, nothing quadratic or recursive."""

from __future__ import annotations

import sys
import threading
from array import array
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.kit.inline import Columns, columns_of
from tests.kit.samples import AddMaker, Box, add, give
from towline.engine import codec, model
from towline.engine.authoring.flow import Flow, JobOrder
from towline.engine.authoring.job import Job
from towline.engine.authoring.reference import OnMissing, OutputReference
from towline.engine.errors import EncodingError, SubmissionError
from towline.engine.flows import CROSS_MOST, Plan, compile_flow
from towline.engine.states import EdgeKind, Missing, edge_byte

ORDER = edge_byte(EdgeKind.ORDER, Missing.ERROR)


def chunks_of(flow: Flow, **options: Any) -> list[model.Chunk]:
    return [model.decode_chunk(data) for data in compile_flow(flow, **options)]


def names_in_order(flow: Flow) -> list[str]:
    return [made.name for made, _ in Plan(flow).walk()]


def named(name: str, *args: Any) -> Job:
    return Job(give.original, (list(args),), name=name)  # type: ignore[attr-defined]  # a JobFunction


@pytest.fixture
def shallow() -> Iterator[None]:
    """Few frames are left: recursion over the graph would show."""
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(200)
    yield
    sys.setrecursionlimit(limit)


def test_a_small_flow_in_columns() -> None:
    one = add(1, 2)
    two = add(one.output.x, b=[one.output])
    flow = Flow([one, two], name="small")
    columns = columns_of(flow)
    chunk = columns.chunk
    assert (chunk.flow, chunk.name, chunk.base, chunk.count, chunk.total) == (flow.uuid, "small", 0, 2, 2)
    assert columns.uuids == [one.uuid, two.uuid]
    assert columns.parents == [[], [(0, 0)]]
    assert (chunk.edges, chunk.indices, chunk.spec_of, chunk.externals) == (b"", b"", b"", [])
    assert codec.decode(columns.args[0]) == [[1, 2], {}]
    seen = codec.decode(columns.args[1], input_of=lambda number, path, uuid: (number, path))
    assert seen == [[(0, [("a", "x")])], {"b": [(0, [])]}]
    (spec,) = chunk.specs
    assert (spec.name, spec.hosts, spec.metadata, spec.config) == ("add", [flow.uuid], b"", b"")
    assert [(f.key, f.path, f.pickled) for f in chunk.functions] == [(spec.function, "tests.kit.samples:add", b"")]


@pytest.mark.usefixtures("shallow")
def test_a_chain_of_100000_needs_no_recursion() -> None:
    made = [add(0)]
    for _ in range(99_999):
        made.append(add(made[-1].output))
    chunks = chunks_of(Flow(made))
    assert [chunk.count for chunk in chunks] == [2_000, *[10_000] * 9, 8_000]
    assert [chunk.base for chunk in chunks] == [0, *range(2_000, 100_000, 10_000)]
    assert all(chunk.total == 100_000 for chunk in chunks)
    parents = array("I", b"".join(chunk.parents for chunk in chunks))
    assert list(parents) == list(range(99_999))
    assert [len(chunk.functions) for chunk in chunks] == [1, *[0] * 10]
    assert all(len(chunk.specs) == 1 for chunk in chunks)


def test_a_chain_handed_in_backwards_is_turned_round() -> None:
    made = [add(0)]
    for _ in range(20_000):
        made.append(add(made[-1].output))
    parents = array("I", b"".join(chunk.parents for chunk in chunks_of(Flow(made[::-1]))))
    assert list(parents) == list(range(20_000))


@pytest.mark.usefixtures("shallow")
def test_deeply_nested_flows_need_no_recursion() -> None:
    inner: Any = add(1)
    for _ in range(400):
        inner = Flow([inner])
    assert len(Plan(inner)) == 1
    assert len(inner.all_uuids) == 400


def test_the_users_order_is_kept_where_it_can_be() -> None:
    a, b, c = named("a"), named("b"), named("c")
    assert names_in_order(Flow([c, a, b])) == ["c", "a", "b"]
    b = named("b")
    late = named("late", b.output)
    last = named("last", late.output)
    # what had to wait follows directly behind its last parent
    assert names_in_order(Flow([last, late, named("x"), Flow([b]), named("y")])) == ["x", "b", "late", "last", "y"]


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 12), st.data())
def test_parents_come_first_whatever_the_order(count: int, data: st.DataObject) -> None:
    made: list[Job] = []
    for n in range(count):
        chosen = data.draw(st.lists(st.sampled_from(made), unique_by=id, max_size=3)) if made else []
        made.append(named(str(n), *(parent.output for parent in chosen)))
    order = data.draw(st.permutations(made))
    columns = columns_of(Flow(list(order)))
    assert sorted(columns.uuids) == sorted(made_one.uuid for made_one in made)
    by_uuid = {made_one.uuid: made_one for made_one in made}
    for number, (uuid, parents) in enumerate(zip(columns.uuids, columns.parents, strict=True)):
        assert all(parent < number for parent, _ in parents)
        assert [columns.uuids[parent] for parent, _ in parents] == list(by_uuid[uuid].input_references_grouped)


def test_cycles_are_refused() -> None:
    a, b = add(1), add(2)
    a.function_args, b.function_args = (b.output,), (a.output,)
    with pytest.raises(SubmissionError, match=r"^Job connectivity contains cycles.*'add' \(.*\) waits for 'add'"):
        compile_flow(Flow([add(0), a, b]))
    a = add(1)
    a.function_args = (a.output,)
    with pytest.raises(ValueError, match="Job connectivity contains cycles"):
        compile_flow(Flow([a]))


def test_references_that_lead_outside_are_refused_or_kept() -> None:
    child = add(OutputReference("outside"), OutputReference("other").x)
    with pytest.raises(ValueError, match="The following jobs were not found in the jobs array") as caught:
        compile_flow(Flow([child]))
    assert "['outside', 'other']" in str(caught.value)
    columns = columns_of(Flow([add(1), add(OutputReference("outside"), OutputReference("other").x)]))
    assert columns.chunk.externals == [("outside", 0), ("other", 0)]
    assert columns.parents[1] == [(model.EXTERNAL, 0), (model.EXTERNAL + 1, 0)]


def test_externals_are_numbered_within_their_chunk() -> None:
    made = [add(OutputReference(f"u{n % 7}")) for n in range(20)]
    for chunk in Plan(Flow(made), True).chunks(first=3, most=4):
        columns = Columns(chunk)
        for n in range(chunk.count):
            ((number, _),) = columns.parents[n]
            assert chunk.externals[number - model.EXTERNAL] == (f"u{(chunk.base + n) % 7}", 0)


def test_a_job_that_is_there_twice_is_refused() -> None:
    one = add(1)
    flow = Flow([one])
    flow.jobs = [one, one]
    with pytest.raises(SubmissionError, match=f"same uuid \\({one.uuid}\\)"):
        compile_flow(flow)
    flow.jobs = [flow]
    with pytest.raises(SubmissionError, match="contains itself"):
        compile_flow(flow)


def test_what_cannot_be_encoded_is_refused_before_the_first_chunk() -> None:
    bad = give([1, {"x": threading.Lock()}])
    with pytest.raises(EncodingError, match=rf"^job 'give' \({bad.uuid}\): args\[0\]\[1\]\['x'\] cannot be stored"):
        compile_flow(Flow([*[add(n) for n in range(5_000)], bad]))


def test_an_empty_flow_is_one_empty_chunk() -> None:
    (chunk,) = chunks_of(Flow([]))
    assert (chunk.count, chunk.total) == (0, 0)


def test_long_arguments_end_a_chunk_early(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("towline.engine.flows.CHUNK_BYTES", 2_500)
    chunks = chunks_of(Flow([give(bytes(1_000)) for _ in range(7)]))
    assert [(chunk.base, chunk.count) for chunk in chunks] == [(0, 3), (3, 3), (6, 1)]


def test_uuids_of_any_text_are_taken() -> None:
    odd = [Job(len, ("a",), uuid=uuid) for uuid in ("x", "12345678-1234-1234-1234-12345678901", "a,b")]
    assert columns_of(Flow(odd)).chunk.uuids == ["x", "12345678-1234-1234-1234-12345678901", "a,b"]
    pair = "12345678-1234-1234-1234-123456789012"
    assert columns_of(Flow(Job(len, ("a",), uuid=f"{pair},{pair}"))).chunk.uuids == [f"{pair},{pair}"]
    assert columns_of(Job(len, ("a",), uuid=pair.replace("1", "A"))).chunk.uuids == [pair.replace("1", "A")]


def test_indices_are_a_column_where_they_differ() -> None:
    first, second = add(1), add(2)
    second.index = 3
    assert columns_of(Flow([first, second])).indices == [1, 3]
    third = add(3)
    third.index = 70_000
    with pytest.raises(SubmissionError, match="65535"):
        columns_of(third)


# ---------------------------------------------------------------------------------------------------------- Specs


def test_a_method_takes_its_object_as_its_first_argument() -> None:
    one = add(1)
    made = AddMaker(number=Box(one.output)).make(2)  # type: ignore[arg-type]  # a reference, where a number will be
    columns = columns_of([one, made])
    assert columns.parents[1] == [(0, 0)]
    (maker, two), _ = codec.decode(columns.args[1], input_of=lambda *what: 5)
    assert (maker.number, two) == (Box(5), 2)
    assert codec.decode(columns.chunk.specs[1].config) == {"method": True}


def test_on_missing_stands_on_every_edge() -> None:
    one = add(1)
    two = add(one.output)
    two.config.on_missing_references = OnMissing.NONE
    assert columns_of([one, two]).parents[1] == [(0, edge_byte(EdgeKind.DATA, Missing.NONE))]


def test_unresolved_references_are_waited_for_but_not_handed_over() -> None:
    one = add(1)
    two = give([one.output.x, one.output])
    two.config.resolve_references = False
    columns = columns_of([one, two])
    assert columns.parents[1] == [(0, ORDER)]
    assert codec.decode(columns.args[1]) == [[[one.output.x, one.output]], {}]


# --------------------------------------------------------------------------------------------------------- LINEAR


def edges_of(flow: Flow) -> set[tuple[str, str]]:
    return {(parent, made.name) for made, parents in Plan(flow).walk() for parent in _named(flow, parents)}


def _named(flow: Flow, uuids: list[str]) -> list[str]:
    names = {made.uuid: made.name for made in Plan(flow).jobs}
    return [names[uuid] for uuid in uuids]


def test_linear_jobs_wait_for_the_one_before() -> None:
    flow = Flow([named("a"), named("b"), named("c")], order=JobOrder.LINEAR)
    assert edges_of(flow) == {("a", "b"), ("b", "c")}
    assert columns_of(flow).parents == [[], [(0, ORDER)], [(1, ORDER)]]


def test_an_edge_that_is_there_already_is_not_doubled() -> None:
    a = named("a")
    columns = columns_of(Flow([a, named("b", a.output)], order=JobOrder.LINEAR))
    assert columns.parents[1] == [(0, 0)]


def test_linear_flows_join_leaves_to_roots() -> None:
    a = named("a")
    first = Flow([a, named("b", a.output), named("c")])
    d, e = named("d"), named("e")
    second = Flow([d, e, named("f", d.output)])
    flow = Flow([first, Flow([]), second, named("g")], order="linear")  # type: ignore[arg-type]  # text will do
    assert edges_of(flow) == {
        ("a", "b"),
        *((leaf, root) for leaf in "bc" for root in "de"),
        ("d", "f"),
        ("e", "g"),
        ("f", "g"),
    }


def test_a_linear_flow_against_its_own_references_is_a_cycle() -> None:
    b = named("b")
    with pytest.raises(SubmissionError, match="cycles"):
        Plan(Flow([named("a", b.output), b], order=JobOrder.LINEAR))


def test_large_cross_products_go_through_a_barrier() -> None:
    many = int(CROSS_MOST**0.5) + 1
    before = [named(f"a{n}") for n in range(many)]
    after = [named(f"b{n}") for n in range(many)]
    inner = Flow([Flow(before), Flow(after)], order=JobOrder.LINEAR)
    outer = Flow([named("first"), inner, named("last")], order=JobOrder.LINEAR)
    walked = list(Plan(outer).walk())
    edges = sum(len(parents) for _, parents in walked)
    assert edges == 4 * many
    assert [made.name for made, _ in walked].index("barrier") == many + 1
    assert len(walked) == 2 * many + 3
    last = {made.name: parents for made, parents in walked}["last"]
    assert last == [made.uuid for made in after]
    first = {made.name: parents for made, parents in walked}["a0"]
    assert first == [walked[0][0].uuid]

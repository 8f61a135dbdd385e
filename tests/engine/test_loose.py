"""Calls that come one by one become a submission that the graph takes."""

from __future__ import annotations

from typing import Any

import pytest

from tests.kit.inline import Columns
from tests.kit.samples import add, fail, give
from towline import EncodingError, Flow, JobConfig, OnMissing, job
from towline.engine import codec, model
from towline.engine.flows import compile_flow
from towline.engine.graph import Graph
from towline.engine.loose import Bundle, call_of
from towline.engine.states import EdgeKind, Missing, edge_byte


def bundle_of(*jobs: Any) -> Bundle:
    bundle = Bundle()
    for made in jobs:
        bundle.add(made, call_of(made))
    return bundle


def test_the_columns_are_those_of_a_flow() -> None:
    """The same jobs, whichever way they are put together (but for the flow that they lie in)."""
    one, two, outside = add(1), give({"k": [1]}), add(9)
    three = give([one.output, two.output["k"], outside.output])
    loose = bundle_of(one, two, three).chunk("a flow", "name")
    (whole,) = compile_flow(Flow([one, two, three]), allow_external_references=True)
    columns, wanted = Columns(loose), Columns(model.decode_chunk(whole))
    for name in ("uuids", "indices", "spec_of", "args", "parents"):
        assert getattr(columns, name) == getattr(wanted, name), name
    assert loose.externals == wanted.chunk.externals == [(outside.uuid, 0)]
    assert loose.functions == wanted.chunk.functions
    assert (loose.flow, loose.name, loose.base, loose.count, loose.total) == ("a flow", "name", 0, 3, 3)
    assert [spec.hosts for spec in loose.specs] == [[], []]
    Graph().check(model.decode_chunk(model.encode(bundle_of(one, two).chunk("f", ""))))


def test_arguments_are_kept_as_they_were() -> None:
    values = [1]
    made = give(values)
    bundle = bundle_of(made)
    values.append(2)
    assert codec.decode(Columns(bundle.chunk("f", "")).args[0]) == [[[1]], {}]


@pytest.mark.parametrize(
    ("config", "edge"),
    [
        (JobConfig(resolve_references=False), edge_byte(EdgeKind.ORDER, Missing.ERROR)),
        (JobConfig(on_missing_references=OnMissing.NONE), edge_byte(EdgeKind.DATA, Missing.NONE)),
        (JobConfig(resolve_references="both"), 0),
    ],
)
def test_references_are_what_the_config_says(config: JobConfig, edge: int) -> None:
    one = add(1)
    two = give(one.output)
    two.config = config
    chunk = bundle_of(one, two).chunk("f", "")
    assert Columns(chunk).parents[1] == [(0, edge)]


def test_an_index_is_kept() -> None:
    made = add(1)
    made.index = 3
    assert Columns(bundle_of(add(2), made).chunk("f", "")).indices == [1, 3]


def test_functions_that_are_known_are_not_sent() -> None:
    bundle = bundle_of(add(1), fail("x"))
    first, second = bundle.functions()
    assert bundle.chunk("f", "", {first.key}).functions == [second]
    assert bundle.chunk("f", "", {first.key, second.key}).functions == []


def test_one_can_go_alone_and_some_can_be_left_out() -> None:
    one, two = add(1), fail("x")
    three = give([one.output, two.output])
    bundle = bundle_of(one, two, three)
    alone = bundle.alone(2).chunk("f", "")
    assert alone.externals == [(one.uuid, 0), (two.uuid, 0)]
    assert [spec.name for spec in alone.specs] == [three.name]
    bundle.keep([False, True, True])
    assert len(bundle) == 2
    assert bundle.chunk("f", "").externals == [(one.uuid, 0)]
    assert len(Bundle()) == 0


def test_what_has_no_encoding_is_named() -> None:
    with pytest.raises(EncodingError, match=r"job 'give' .* args\[0\]\[1\] cannot be stored"):
        call_of(give([1, (n for n in ())]))
    with pytest.raises(EncodingError, match=r"job '.*lambda.*' \(.*\): the function .* cannot be sent"):
        lock = (n for n in ())
        bundle_of(job(lambda: lock)())

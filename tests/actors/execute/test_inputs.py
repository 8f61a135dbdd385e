"""Inputs: decoded once, followed, and missing ones treated as the job says."""

from __future__ import annotations

from typing import Any

import pytest

from tests.kit.inline import Inline
from tests.kit.samples import Box, add, fail, give
from towline.actors.execute import inputs
from towline.actors.execute.failures import OfTheMachine, Unresolved
from towline.actors.execute.inputs import Inputs, Sources
from towline.engine import codec, model
from towline.engine.authoring.flow import Flow
from towline.engine.authoring.job import Job
from towline.engine.authoring.reference import OnMissing, OutputReference, ResolvedReference
from towline.engine.errors import CorruptionError

A, B = OutputReference("a"), OutputReference("b")


def read(args: list[Any], *given: Any, on_missing: str = "error", resolve: Any = True, **known: Any) -> Any:
    outputs = {uuid: codec.encode(value) for uuid, value in known.items()}
    sources = Sources(lambda uuid, index: outputs.get(uuid), None, True)
    data = codec.encode_call(args, {}, numbers={}, named=resolve == "both")
    raw = [value if isinstance(value, model.Input) else codec.encode(value) for value in given]
    return Inputs(sources, raw, on_missing, resolve).read(data)[0]


def missing(uuid: str) -> model.Input:
    return model.Input(0, 0, 0, missing=True, uuid=uuid)


def test_each_parent_is_decoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    real = codec.decode
    monkeypatch.setattr(inputs.codec, "decode", lambda data, **k: calls.append(data) or real(data, **k))
    assert read([A.x, [A], B], {"x": 1}, 2) == [1, [{"x": 1}], 2]
    assert len(calls) == 3


def test_paths_fall_back_to_keys() -> None:
    assert read([A.x[0].content.y], {"x": [Box({"y": 5})]}) == [5]


@pytest.mark.parametrize(("ref", "why"), [(A.x, "KeyError: 'x'"), (A["k"]["n"], "TypeError"), (A["k"].z, "AttributeError")])
def test_a_path_that_leads_nowhere_is_unresolved(ref: OutputReference, why: str) -> None:
    with pytest.raises(Unresolved, match=rf"^Could not resolve reference - OutputReference\(input 0, .*{why}"):
        read([ref], {"k": 1})


def test_missing_inputs_are_as_the_job_says() -> None:
    with pytest.raises(ValueError, match=r"^Could not resolve reference - a not in store or index=None"):
        read([A.x], missing("a"))
    assert read([A.x, B], missing("a"), 2, on_missing="none") == [None, 2]
    assert read([A.x], missing("a"), on_missing="pass") == [A.x]


def test_both_gives_reference_and_value() -> None:
    assert read([A.x], {"x": 1}, resolve="both") == [ResolvedReference("a", (("a", "x"),), 1)]


def test_references_inside_outputs_are_resolved_however_deep() -> None:
    outputs = {"b": {"x": [OutputReference("c")]}, "c": (OutputReference("d").y,), "d": {"y": 5}}
    assert read([A.k], {"k": B.x}, **outputs) == [[(5,)]]


def test_references_inside_outputs_that_are_missing() -> None:
    with pytest.raises(Unresolved, match="b not in store"):
        read([A], [B])
    assert read([A], [B], on_missing="none") == [[None]]
    assert read([A], [B.x], on_missing="pass") == [[B.x]]


def test_a_reference_to_itself_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="Reference cycle detected"):
        read([A], [B], b=[OutputReference("c")], c=(B,))


def test_what_cannot_be_fetched_is_the_machines_fault() -> None:
    def broken(uuid: str, index: int) -> bytes:
        raise CorruptionError("damaged")

    data = codec.encode_call([A], {}, numbers={})
    with pytest.raises(OfTheMachine) as caught:
        Inputs(Sources(broken, None, True), [codec.encode(B)], "error", True).read(data)
    assert isinstance(caught.value.cause, CorruptionError)
    with pytest.raises(OfTheMachine, match="cannot read files"):
        Inputs(Sources(broken, None, True), [codec.stub(b"t")], "error", True).read(data)


def test_on_missing_in_a_flow() -> None:
    bad = fail()
    blocked, none, passed = give(bad.output), give([bad.output]), give([bad.output.x])
    none.config.on_missing_references = OnMissing.NONE
    passed.config.on_missing_references = OnMissing.PASS
    inline = Inline().run(Flow([bad, blocked, none, passed]))
    assert blocked.uuid not in inline.outputs
    assert inline.output(none) == [None]
    assert inline.output(passed) == [bad.output.x]


def test_unresolved_references_reach_the_body_as_they_are() -> None:
    one = add(1)
    seen = give({"r": (one.output.x,)})
    seen.config.resolve_references = False
    both = give([one.output])
    both.config.resolve_references = "both"
    inline = Inline().run(Flow([one, seen, both]))
    assert inline.output(seen) == {"r": (one.output.x,)}
    assert inline.output(both) == [ResolvedReference(one.uuid, (), 6)]


def test_a_child_of_a_job_that_returns_a_reference() -> None:
    one = add(1)

    def point(ref: OutputReference) -> Any:
        return {"to": ref}

    pointing = Job(point, (one.output,))
    pointing.config.resolve_references = False
    child = give(pointing.output["to"])
    inline = Inline().run(Flow([one, pointing, child]))
    assert inline.output(child) == 6

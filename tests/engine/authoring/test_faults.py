"""Sentences about flows that cannot be taken: the job's name, and the place inside its arguments."""

from __future__ import annotations

import re
from functools import partial
from typing import Any

import pytest

from tests.kit.samples import Box, Document, add, give
from towline.engine.authoring import faults
from towline.engine.authoring.flow import Flow, get_flow
from towline.engine.authoring.job import Job
from towline.engine.authoring.reference import OnMissing, OutputReference
from towline.engine.errors import EncodingError, SubmissionError
from towline.engine.flows import FIRST_CHUNK, Plan, compile_flow

LOST = OutputReference("lost")


@pytest.mark.parametrize(
    ("args", "kwargs", "place"),
    [
        ((1, LOST), {}, "args[1]"),
        (([{"k": (1, LOST.x)}],), {}, "args[0][0]['k'][1]"),
        ((), {"b": {"k": LOST}}, "kwargs['b']['k']"),
        ((Box([LOST]),), {}, "args[0].content[0]"),
    ],
)
def test_a_missing_reference_is_told_with_its_place(args: Any, kwargs: Any, place: str) -> None:
    made = Job(len, args, kwargs, name="child", uuid="u")
    with pytest.raises(SubmissionError) as caught:
        get_flow([add(1), made])
    assert str(caught.value).startswith("The following jobs were not found in the jobs array")
    assert str(caught.value).endswith(f"\njob 'child' (u): {place} refers to lost")


def test_only_the_first_of_many_are_named() -> None:
    with pytest.raises(SubmissionError) as caught:
        get_flow([give(LOST) for _ in range(50)])
    assert str(caught.value).count("refers to") == faults.MOST


def test_a_cycle_is_told_job_by_job() -> None:
    a, b, c = (Job(len, uuid=name, name=name.upper()) for name in "abc")
    a.function_args, b.function_kwargs, c.function_args = ([b.output],), {"x": a.output}, (a.output,)
    with pytest.raises(SubmissionError) as caught:
        Plan(Flow([c, a, b]))
    text = str(caught.value)
    assert text.startswith("Job connectivity contains cycles therefore job execution order cannot be determined.")
    assert "job 'A' (a) waits for 'B' (args[0][0]); job 'B' (b) waits for 'A' (kwargs['x'])" in text
    assert "'C'" not in text


def test_a_cycle_by_the_order_of_a_flow() -> None:
    a, b = Job(len, uuid="a", name="A"), Job(len, uuid="b", name="B")
    a.function_args = (b.output,)
    with pytest.raises(SubmissionError, match=re.escape("job 'B' (b) waits for 'A' (by the order of its flow)")):
        Plan(Flow([a, b], order="linear"))  # type: ignore[arg-type]  # its value will do


def test_two_jobs_with_one_uuid_are_both_named() -> None:
    inner = Flow([])
    outer = Flow([inner, Job(len, uuid="u", name="one")])
    inner.add_jobs(Job(len, uuid="u", name="two"))
    with pytest.raises(SubmissionError, match=r"same uuid \(u\): 'two' and 'one'"):
        Plan(outer)


def test_what_cannot_be_encoded_is_told_with_its_place() -> None:
    with pytest.raises(EncodingError, match=r"job 'give' \(.*\): args\[0\]\['k'\] cannot be stored: a generator"):
        Plan(Flow([give({"k": (n for n in ())})]))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            lambda last: setattr(last, "function", partial(len, (n for n in ()))),
            r"job 'give' \(last\): the function .* sent",
        ),
        (lambda last: last.metadata.update(k=[(n for n in ())]), r"job 'give' \(last\): metadata\['k'\]\[0\] cannot be stored"),
        (lambda last: setattr(last, "index", 2**16), "index must lie between 1 and 65535"),
    ],
)
def test_nothing_is_given_out_before_all_is_found_fit(change: Any, told: str) -> None:
    """The last of more jobs than the first chunk takes cannot be taken: the first chunk is not made either."""
    jobs = [give(n) for n in range(FIRST_CHUNK)]
    last = give(1)
    last.set_uuid("last")
    change(last)
    with pytest.raises((EncodingError, SubmissionError), match=told):
        compile_flow(Flow([*jobs, last]))


def test_access_that_the_schema_does_not_allow_is_told_with_its_place() -> None:
    parent = Job(len, uuid="p", output_schema=Document)
    child = Job(len, ([OutputReference("p").inner.nothing],), uuid="c", name="child")
    sentence = "job 'child' (c): args[0][0] is OutputReference(p, .inner, .nothing), but Inner does not have attribute 'nothing'."
    with pytest.raises(SubmissionError, match=re.escape(sentence)):
        Plan(Flow([parent, child]))
    good = Job(len, ([OutputReference("q").inner.n, OutputReference("q").double, OutputReference("q").extra["any"]],))
    assert len(Plan(Flow([Job(len, uuid="q", output_schema=Document), good]))) == 2


def test_the_leaders_refusal_is_located() -> None:
    flow = Flow([Job(len, ([OutputReference("abc")],), uuid="c", name="child")])
    assert faults.neither_here_nor_there(flow, "job abc is nowhere") == "job 'child' (c): args[0][0] refers to abc"
    assert faults.neither_here_nor_there(flow, "the disk is full") == ""


def told(job: Job) -> Any:
    from towline.engine import codec

    (chunk,) = Plan(Flow([job]), True, lost={"lost"}).chunks()
    return codec.decode(chunk.args)[0][0]


def test_references_that_nobody_can_resolve_become_what_the_job_wants() -> None:
    children = [give([LOST.x, 1]) for _ in OnMissing]
    for child, on_missing in zip(children, OnMissing, strict=True):
        child.config.on_missing_references = on_missing
    child, none, passed = children
    assert told(none) == [None, 1]
    assert told(passed) == [LOST.x, 1]
    with pytest.raises(SubmissionError, match=r"Could not resolve reference - lost not in store .*'give' .* in args\[0\]\[0\]"):
        compile_flow(Flow([child]), allow_external_references=True, lost={"lost"})

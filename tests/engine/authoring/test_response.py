"""What a return value means."""

from __future__ import annotations

from typing import Any

import pytest

from tests.kit.samples import Document, Inner, add
from towline.engine.authoring.flow import Flow
from towline.engine.authoring.response import Response, SchemaError, apply_schema


@pytest.mark.parametrize(
    "make", [lambda a, b: a, lambda a, b: Flow([a]), lambda a, b: [a, b], lambda a, b: (a,), lambda a, b: {"x": a, "y": b}]
)
def test_nothing_but_jobs_means_replace(make: Any) -> None:
    returned = make(add(1), add(2))
    response = Response.from_job_returns(returned, Document)
    assert response.replace is returned
    assert response.output is None


@pytest.mark.parametrize("make", [lambda a: [a, 1], lambda a: [], lambda a: {}, lambda a: (), lambda a: None, lambda a: 5])
def test_everything_else_is_output(make: Any) -> None:
    returned = make(add(1))
    assert Response.from_job_returns(returned) == Response(output=returned)


def test_a_response_is_taken_as_it_is() -> None:
    response = Response(output=1, stop_children=True)
    assert Response.from_job_returns(response, job_dir="d") is response
    assert response.job_dir == "d"


@pytest.mark.parametrize("returned", [[Response()], (1, Response()), {"a": Response()}])
def test_a_response_among_other_things_is_refused(returned: Any) -> None:
    with pytest.raises(ValueError, match=r"Response cannot be returned in combination with other outputs."):
        Response.from_job_returns(returned)


def test_schemas_are_applied_unless_there_is_a_replace() -> None:
    document = Document(energy=1)
    assert apply_schema(document, Document) is document
    assert apply_schema({"energy": 1}, Document) == document
    assert Response.from_job_returns({"energy": 1}, Document).output == document
    assert Response.from_job_returns(Response(output=3, replace=add(1)), Document).output == 3
    with pytest.raises(SchemaError, match="Expected output of type Document but got no output"):
        Response.from_job_returns(None, Document)
    with pytest.raises(ValueError, match=r"Expected output to be Document or dict but got output type of Inner."):
        apply_schema(Inner(), Document)
    with pytest.raises(ValueError, match="energy"):
        apply_schema({}, Document)

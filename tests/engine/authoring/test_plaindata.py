"""Jobs, flows, makers and configs as plain data, for monty's tools and as fields of pydantic models."""

from __future__ import annotations

import json

import pytest
from pydantic import BaseModel, ValidationError

from tests.kit.samples import AddMaker, OuterMaker, add
from towline.engine.authoring.config import JobConfig
from towline.engine.authoring.flow import Flow
from towline.engine.authoring.job import Job
from towline.engine.authoring.reference import OnMissing, ResolvedReference


def test_a_job_comes_back_with_all_that_was_said_of_it() -> None:
    made = add(1, b=2)
    made.update_metadata({"a": 1})
    made.append_name("!")
    made.config = JobConfig(on_missing_references=OnMissing.NONE)
    made.add_hosts_uuids(["x", "y"])
    again = Job.from_dict(json.loads(made.to_json()))
    assert (again.uuid, again.name, again.metadata, again.hosts) == (made.uuid, "add!", {"a": 1}, ["x", "y"])
    assert again.config == made.config
    assert (tuple(again.function_args), again.function_kwargs, again.metadata_updates) == ((1,), {"b": 2}, made.metadata_updates)
    assert (again.name_updates, again.output) == (made.name_updates, made.output)


def test_options_and_stores_come_back() -> None:
    made = Job(add.original, (1,), retries=3, cores=2, data="key")  # type: ignore[attr-defined]  # a JobFunction
    again = Job.from_dict(made.as_dict())
    assert (again.options, again._kwargs) == (made.options, {"data": "key"})


def test_a_makers_job_comes_back_with_its_maker() -> None:
    again = Job.from_dict(OuterMaker(inner=AddMaker(number=3)).make(1).as_dict())
    assert again.maker == OuterMaker(inner=AddMaker(number=3))
    assert again.function.__name__ == "make"


def test_a_flow_of_flows_comes_back() -> None:
    one = add(1)
    inner = Flow([one], output=one.output, name="inner", order="linear")  # type: ignore[arg-type]  # its value will do
    outer = Flow([inner, add(inner.output)], name="outer", metadata={"m": 1})
    again = Flow.from_dict(outer.as_dict())
    assert (again, again.name, again.metadata, again.job_uuids) == (outer, "outer", {"m": 1}, outer.job_uuids)
    assert (again.jobs[0].output, again.jobs[0].order, again.jobs[0].hosts) == (one.output, "linear", [outer.uuid])


def test_montys_own_tools_take_them() -> None:
    monty = pytest.importorskip("monty.json")
    flow = Flow([AddMaker().make(1)])
    text = json.dumps(flow, cls=monty.MontyEncoder)
    assert json.loads(text, cls=monty.MontyDecoder) == flow
    resolved = ResolvedReference("u", (("a", "x"),), 5)
    assert monty.MontyDecoder().process_decoded(resolved.as_dict()).value == 5


def test_they_are_fields_of_models() -> None:
    class Settings(BaseModel):
        maker: AddMaker = AddMaker()
        config: JobConfig

    made = Settings(maker=AddMaker(number=2).as_dict(), config=JobConfig(expose_store=True))  # type: ignore[arg-type]  # what is tested
    assert (made.maker, made.config.expose_store) == (AddMaker(number=2), True)
    assert made.model_dump()["maker"]["number"] == 2
    with pytest.raises(ValidationError, match="expected a AddMaker"):
        Settings(maker=5, config=JobConfig())  # type: ignore[arg-type]  # what is tested

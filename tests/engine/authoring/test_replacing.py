"""What a Response's jobs learn of the job that made them."""

from __future__ import annotations

import pytest

from tests.kit.samples import Document, add
from towline.engine.authoring.config import JobConfig
from towline.engine.authoring.flow import Flow
from towline.engine.authoring.job import Job
from towline.engine.authoring.replacing import pass_manager_config, prepare, prepare_replace
from towline.engine.authoring.response import Response


def test_a_prepared_response_holds_flows() -> None:
    current = Job(len, hosts=["h"], config=JobConfig(manager_config={"w": 1}))
    current.update_metadata({"a": 1})
    current.append_name("!")
    one, two, three = add(1), add(2), add(3)
    response: Response[object] = Response(replace=one, detour=[two], addition=Flow([three]))
    prepare(response, current)
    for flow, made in ((response.replace, one), (response.detour, two), (response.addition, three)):
        assert list(flow) == [made]
        assert (made.hosts, made.metadata, made.name) == ([flow.uuid, "h"], {"a": 1}, "add!")
        assert made.config.manager_config == {"w": 1}
    assert (one.uuid, one.index) == (current.uuid, 2)


def test_what_puts_the_output_of_a_replacing_flow_out_is_the_heir() -> None:
    inner = add(1)
    current = Job(len, index=3, metadata={"a": 1}, output_schema=Document, data="key")
    flow = prepare_replace((inner, add(2)), current)
    heir = flow.jobs[-1]
    assert isinstance(heir, Job)
    assert (heir.uuid, heir.index, heir.metadata) == (current.uuid, 4, {"a": 1})
    assert (heir.output_schema, heir._kwargs) == (Document, {"data": "key"})
    assert isinstance(heir.function_args[0], tuple)


def test_manager_config_reaches_the_depths_as_copies() -> None:
    one, two = add(1), add(2)
    pass_manager_config([one, [Flow([two])]], {"w": {"x": 1}})
    one.config.manager_config["w"]["x"] = 2
    assert two.config.manager_config == {"w": {"x": 1}}
    with pytest.raises(ValueError, match="Unrecognised jobs format"):
        pass_manager_config([5], {})

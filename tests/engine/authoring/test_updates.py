"""Filters and config updates, the parts that Job and Flow share."""

from __future__ import annotations

from typing import Any

import pytest

from tests.kit.samples import AddMaker, add, give
from towline.engine.authoring.config import JobConfig
from towline.engine.authoring.updates import bare, check_config, configured, passes


def test_filters_look_at_name_function_and_more() -> None:
    job = add(1)
    assert passes(job, "ad", add)
    assert passes(job, None, add.original)  # type: ignore[attr-defined]  # a JobFunction
    assert not passes(job, "x", None)
    assert not passes(job, None, give)
    assert not passes(job, None, None, lambda job: False)
    assert passes(AddMaker().make(1), None, AddMaker.make)


def test_bare_goes_under_binding_and_decoration() -> None:
    assert bare(AddMaker().make) is bare(AddMaker.make) is AddMaker.make.original


@pytest.mark.parametrize(
    ("config", "attributes", "dict_mod", "expected"),
    [
        (JobConfig(expose_store=True), None, False, JobConfig(expose_store=True)),
        (JobConfig(expose_store=True), "manager_config", False, JobConfig(manager_config={})),
        ({"expose_store": True}, None, False, JobConfig(manager_config={"a": 1}, expose_store=True)),
        (
            {"expose_store": True, "manager_config": {}},
            ["expose_store"],
            False,
            JobConfig(True, manager_config={"a": 1}, expose_store=True),
        ),
        ({"_set": {"manager_config->b": 2}}, None, True, JobConfig(manager_config={"a": 1, "b": 2})),
    ],
)
def test_configs(config: Any, attributes: Any, dict_mod: bool, expected: JobConfig) -> None:
    old = JobConfig(manager_config={"a": 1})
    assert configured(old, config, attributes, dict_mod) == expected
    assert old == JobConfig(manager_config={"a": 1})


def test_what_means_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="Unknown JobConfig attribute: nothing"):
        configured(JobConfig(), JobConfig(), "nothing", False)
    with pytest.raises(ValueError, match="not present in the config dictionary"):
        configured(JobConfig(), {}, "expose_store", False)
    with pytest.raises(ValueError, match="cannot be used together"):
        check_config({}, "expose_store", True)
    with pytest.raises(ValueError, match="cannot be a JobConfig object"):
        check_config(JobConfig(), None, True)

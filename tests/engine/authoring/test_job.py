"""Jobs as jobflow knows them: attributes, references, updates, equality."""

from __future__ import annotations

import os.path
import pickle
import warnings
from copy import deepcopy
from typing import Any

import pytest

from tests.kit.samples import AddMaker, Document, OuterMaker, Plain, add, give
from towline.engine.authoring.config import JobConfig
from towline.engine.authoring.flow import Flow
from towline.engine.authoring.job import Job
from towline.engine.authoring.reference import OutputReference

ADD = add.original  # type: ignore[attr-defined]  # a JobFunction


def test_defaults_are_those_of_jobflow() -> None:
    job = Job(ADD, (1,), {"b": 2})
    assert (job.function, job.function_args, job.function_kwargs) == (ADD, (1,), {"b": 2})
    assert (job.index, job.name, job.metadata, job.config) == (1, "add", {}, JobConfig())
    assert (job.hosts, job.host, job.maker, job.output_schema) == ([], None, None, None)
    assert (job.metadata_updates, job.config_updates, job.name_updates) == ([], [], [])
    assert job.output == OutputReference(job.uuid)
    assert repr(job) == f"Job(name='add', uuid='{job.uuid}')"


def test_what_is_lazily_made_is_the_jobs_own() -> None:
    one, two = add(1), add(2)
    one.metadata["a"] = 1
    one.config.expose_store = True
    one.hosts.append("h")
    assert (two.metadata, two.config.expose_store, two.hosts) == ({}, False, [])
    assert one.hosts == ["h"]
    with pytest.raises(AttributeError, match="'Job' object has no attribute 'nothing'"):
        one.nothing  # noqa: B018 - the access is the test


@pytest.mark.parametrize(
    ("function", "name"), [(sum, "sum"), (os.path.join, "join"), (Plain(1).get, "Plain.get"), (Plain.make, "Plain.make")]
)
def test_any_function_will_do(function: Any, name: str) -> None:
    assert Job(function).name == name


def test_options_and_stores_are_told_apart() -> None:
    job = Job(ADD, retries=2, memory="1 KiB", data="key")
    assert (job.options.retries, job.options.requirements) == (2, {"memory": 1024.0})
    assert job._kwargs == {"data": "key"}
    assert list(job.options.stores) == ["data"]


def test_references_in_the_arguments_are_found() -> None:
    a, b = OutputReference("a"), OutputReference("b")
    job = Job(ADD, ([a.x, 1],), {"b": {"k": (b, a)}})
    assert job.input_references == (a.x, b, a)
    assert job.input_uuids == ("a", "b", "a")
    assert job.input_references_grouped == {"a": (a.x, a), "b": (b,)}
    assert "a" in job
    assert "c" not in job
    assert job["k"] == job.output["k"]


def test_a_schema_follows_into_the_output() -> None:
    job = Job(ADD, output_schema=Document)
    with pytest.raises(AttributeError, match="Document does not have attribute"):
        job.output.nothing  # noqa: B018 - the access is the test


def test_a_new_uuid_reaches_the_output_that_was_handed_out() -> None:
    job = add(1)
    output = job.output
    job.set_uuid("new")
    assert (job.uuid, output.uuid, job.output) == ("new", "new", output)


def test_jobs_of_one_maker_share_no_settings() -> None:
    maker = AddMaker(number=1)
    job = maker.make(1)
    maker.number = 2
    assert job.maker is not maker
    assert job.maker is not None
    assert job.maker.number == 1  # type: ignore[attr-defined]  # an AddMaker
    job.name = "other"
    assert job.maker.name == "other"
    assert maker.name == "add"
    assert Job(maker.make, name="named").maker.name == "named"  # type: ignore[union-attr]  # it has one


def test_a_job_among_the_arguments_is_warned_of() -> None:
    with pytest.warns(UserWarning, match="contains an Flow or Job as an input"):
        give([add(1)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        give([add(1).output, 1, {"a": (1,)}])


def test_the_warning_points_at_the_line_that_made_the_job() -> None:
    with pytest.warns(UserWarning, match="as an input") as caught:
        give(add(1))
    assert caught[0].filename == __file__


def test_kwargs_can_be_updated() -> None:
    job = add(1, b=2)
    job.update_kwargs({"b": 3}, name_filter="zzz")
    job.update_kwargs({"b": 3}, function_filter=give)
    assert job.function_kwargs == {"b": 2}
    job.update_kwargs({"b": 3}, name_filter="ad", function_filter=add)
    job.update_kwargs({"_inc": {"b": 1}}, dict_mod=True)
    assert job.function_kwargs == {"b": 4}


def test_makers_can_be_updated_in_the_function_and_in_arguments() -> None:
    job = OuterMaker().make(1)
    job.update_maker_kwargs({"number": 3}, class_filter=AddMaker)
    assert job.maker.inner.number == 3  # type: ignore[union-attr]  # an OuterMaker
    job.update_maker_kwargs({"number": 4}, class_filter=AddMaker, nested=False)
    assert job.maker.inner.number == 3  # type: ignore[union-attr]  # as above
    argument = give(AddMaker())
    argument.update_maker_kwargs({"number": 3}, nested=False)
    assert argument.function_args[0].number == 10
    argument.update_maker_kwargs({"number": 3})
    assert argument.function_args[0].number == 3


def test_names_metadata_and_configs_remember_what_is_dynamic() -> None:
    job = add(1)
    job.append_name("!")
    job.append_name(">", prepend=True, dynamic=False)
    job.update_metadata({"a": {"b": 1}})
    job.update_metadata({"_set": {"a->c": 2}}, dict_mod=True, dynamic=False)
    job.update_metadata({"x": 1}, callback_filter=lambda job: job.name == "zzz", dynamic=False)
    job.update_config({"expose_store": True})
    job.update_config({"expose_store": False}, name_filter="zzz", dynamic=False)
    assert job.name == ">add!"
    assert job.metadata == {"a": {"b": 1, "c": 2}}
    assert job.config.expose_store
    assert job.name_updates == [{"append_str": "!", "prepend": False}]
    assert [update["update"] for update in job.metadata_updates] == [{"a": {"b": 1}}]
    assert [update["config"] for update in job.config_updates] == [{"expose_store": True}]


def test_an_update_for_many_jobs_is_not_shared_by_them() -> None:
    one, two = add(1), add(2)
    update = {"a": {"b": 1}}
    for job in (one, two):
        job.update_metadata(update)
    one.metadata["a"]["b"] = 2
    assert two.metadata == {"a": {"b": 1}}
    assert update == {"a": {"b": 1}}


def test_hosts_are_added_at_either_end() -> None:
    job = add(1)
    job.add_hosts_uuids("b")
    job.add_hosts_uuids(["c", "d"])
    job.add_hosts_uuids("a", prepend=True)
    assert job.hosts == ["a", "b", "c", "d"]
    assert job.host == "a"


def test_equality_is_of_everything_and_hash_of_the_uuid() -> None:
    job = AddMaker().make(1)
    again = deepcopy(job)
    assert again == job
    assert hash(again) == hash(job)
    again.metadata["x"] = 1
    assert again != job
    assert job != "job"
    assert job != AddMaker().make(1)


@pytest.mark.parametrize("make", [lambda: add(1, [2]), lambda: AddMaker(number=3).make(1), lambda: Job(len, ("a",))])
def test_a_job_can_be_pickled(make: Any) -> None:
    job = make()
    job.update_metadata({"a": 1})
    again = pickle.loads(pickle.dumps(job))
    assert again == job
    assert again.output == job.output


def test_arguments_can_be_resolved_in_a_copy() -> None:
    class Shelf:
        def query_one(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
            return {"index": 1}

        def get_output(self, *args: Any, **kwargs: Any) -> Any:
            return {"x": (1,)}

    job = add(OutputReference("u").x, b=OutputReference("u"))
    resolved = job.resolve_args(Shelf(), inplace=False)
    assert (resolved.function_args, resolved.function_kwargs) == (((1,),), {"b": {"x": (1,)}})
    assert job.input_uuids == ("u", "u")
    assert job.resolve_args(Shelf()) is job
    assert job.function_args == ((1,),)


def test_the_graph_of_a_job() -> None:
    job = add(OutputReference("u").x["k"], Flow([]).output)
    assert list(job.graph.edges(data=True)) == [("u", job.uuid, {"properties": "'k'"})]

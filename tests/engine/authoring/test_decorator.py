"""`@job` over functions, methods, static and class methods."""

from __future__ import annotations

import pickle
from typing import Any

import cloudpickle
import pytest

from tests.kit.samples import AddMaker, add, give
from towline.engine.authoring.config import JobConfig
from towline.engine.authoring.decorator import JobFunction, job, store_inputs
from towline.engine.authoring.flow import flow


class Tools:
    factor = 2

    @job
    @staticmethod
    def static_under(a: int) -> int:
        return a

    @staticmethod
    @job
    def static_over(a: int) -> int:
        return a

    @job
    @classmethod
    def class_under(cls, a: int) -> int:
        return a * cls.factor

    @classmethod
    @job
    def class_over(cls, a: int) -> int:
        return a * cls.factor

    @job
    def method(self, a: int) -> int:
        return a * self.factor


def test_a_call_makes_a_job() -> None:
    made = add(1, b=2)
    assert made.function is add.original  # type: ignore[attr-defined]  # a JobFunction
    assert (made.function_args, made.function_kwargs, made.name) == ((1,), {"b": 2}, "add")
    assert made.uuid != add(1).uuid


def test_the_decorated_function_looks_like_the_function() -> None:
    @job
    def documented(a: int) -> int:
        """Does something."""
        return a

    assert documented.__doc__ == "Does something."
    assert documented.__name__ == "documented"
    assert documented.__wrapped__ is documented.original  # type: ignore[attr-defined]  # set by functools
    assert repr(add) == "<job tests.kit.samples.add>"


def test_keywords_reach_every_job_and_are_its_own() -> None:
    @job(name="n", metadata={"a": []}, config=JobConfig(manager_config={"q": 1}), retries=3, data="key")
    def made_alike() -> None: ...

    one, two = made_alike(), made_alike()
    assert (one.name, one.options.retries, one._kwargs) == ("n", 3, {"data": "key"})
    one.metadata["a"].append(1)
    one.config.manager_config["q"] = 2
    assert (two.metadata, two.config.manager_config) == ({"a": []}, {"q": 1})


def test_options_without_jobflows_keywords() -> None:
    @job(priority=9, data=True)
    def quick() -> None: ...

    assert quick().options.priority == 9
    assert quick().options is quick().options
    assert quick()._kwargs == {"data": True}


def test_methods_are_bound_to_a_copy_of_their_object() -> None:
    maker = AddMaker(number=5)
    made = maker.make(1)
    assert made.function_args == (1,)
    assert made.function.__self__ == maker  # type: ignore[attr-defined]  # a bound method
    assert made.function.__self__ is not maker  # type: ignore[attr-defined]  # as above
    assert made.name == "add"
    tools = Tools().method(3)
    assert (tools.name, tools.function_args) == ("Tools.method", (3,))


@pytest.mark.parametrize("name", ["static_under", "static_over", "class_under", "class_over"])
def test_static_and_class_methods(name: str) -> None:
    for owner in (Tools, Tools()):
        made = getattr(owner, name)(3)
        assert (made.name, made.function_args) == (f"Tools.{name}", (3,))


def test_an_argument_with_a_method_of_that_name_is_not_taken_for_the_owner() -> None:
    class Thing:
        def add(self) -> None: ...

    thing = Thing()
    assert add(thing).function_args == (thing,)


@pytest.mark.parametrize("dumps", [pickle.dumps, cloudpickle.dumps])
def test_importable_ones_are_pickled_by_name(dumps: Any) -> None:
    assert pickle.loads(dumps(add)) is add
    assert len(dumps(add)) < 100


def test_others_are_pickled_whole() -> None:
    k = 3

    @job(retries=2, name="n")
    def local(a: int) -> int:
        return a * k

    again = pickle.loads(cloudpickle.dumps(local))
    assert isinstance(again, JobFunction)
    assert (again(2).name, again(2).options.retries, again.original(2)) == ("n", 2, 6)


def test_inside_a_flow_function_jobs_stand_for_their_outputs() -> None:
    @flow
    def pair(a: int) -> Any:
        first = add(a)
        return give([first])

    with pytest.warns(UserWarning, match="Replacing the output"):
        made = pair(1)
    first, second = made.jobs
    assert second.function_args == ([first.output],)  # type: ignore[union-attr]  # a Job


def test_store_inputs_gives_what_it_takes() -> None:
    assert store_inputs({"a": 1}).name == "store_inputs"
    assert store_inputs.original({"a": 1}) == {"a": 1}  # type: ignore[attr-defined]  # a JobFunction

"""Functions travel by path where they can, by value where they must, and arrive as what the user wrote."""

from __future__ import annotations

import functools
import os.path
import threading
from typing import Any

import cloudpickle
import pytest

from tests.kit import samples
from tests.kit.samples import AddMaker, Plain, add
from towline.engine.authoring.decorator import job
from towline.engine.errors import EncodingError
from towline.engine.functions import Functions, load

ADD = add.original  # type: ignore[attr-defined]  # a JobFunction


@pytest.mark.parametrize(
    ("function", "path"),
    [
        (len, "builtins:len"),
        (os.path.join, "posixpath:join"),
        (ADD, "tests.kit.samples:add"),
        (add, "tests.kit.samples:add"),
        (AddMaker().make, "tests.kit.samples:AddMaker.make"),
        (Plain(1).get, "tests.kit.samples:Plain.get"),
        (Plain.make, "tests.kit.samples:Plain.make"),
        ("a".upper, "builtins:str.upper"),
    ],
)
def test_importable_functions_go_by_path(function: Any, path: str) -> None:
    record = Functions().describe(function)
    assert (record.path, record.pickled) == (path, b"")
    assert callable(load(record))


def test_a_decorated_function_arrives_bare() -> None:
    assert load(Functions().describe(ADD)) is ADD


def test_a_method_arrives_as_the_function_of_its_class() -> None:
    made = load(Functions().describe(AddMaker(number=1).make))
    assert made(AddMaker(number=2), 3) == 5


def test_a_class_method_arrives_bare_and_bound() -> None:
    class Local:
        factor = 2

        @classmethod
        @job
        def times(cls, n: int) -> int:
            return cls.factor * n

    assert load(Functions().describe(Local.times))(3) == 6


def test_a_method_of_a_subclass_is_looked_up_in_the_subclass(monkeypatch: pytest.MonkeyPatch) -> None:
    class Sub(AddMaker):
        pass

    Sub.__qualname__, Sub.__module__ = "Sub", "tests.kit.samples"
    monkeypatch.setattr(samples, "Sub", Sub, raising=False)
    assert Functions().describe(Sub().make).path == "tests.kit.samples:Sub.make"


def test_closures_and_lambdas_go_by_value_under_their_content() -> None:
    def adder(k: int) -> Any:
        return lambda x: x + k

    functions = Functions()
    one, two = functions.describe(adder(1)), functions.describe(adder(2))
    assert one.key != two.key
    assert load(one)(1) == 2
    assert "test_functions:" in one.path
    assert Functions().describe(adder(1)).key == one.key


def test_recursive_jobs_of_a_function_arrive_whole() -> None:
    @job(retries=2)
    def count(n: int) -> Any:
        return count(n - 1) if n else 0

    arrived = load(Functions().describe(count.original))  # type: ignore[attr-defined]  # a JobFunction
    made = arrived(3)
    assert (made.name.rpartition(".")[2], made.function_args, made.options.retries) == ("count", (2,), 2)


def test_each_function_is_pickled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(cloudpickle, "dumps", lambda f, real=cloudpickle.dumps, **k: calls.append(f) or real(f, **k))

    class Local(AddMaker):
        pass

    functions = Functions()
    closure = lambda: 1  # noqa: E731 - a lambda is what this is about
    for _ in range(3):
        functions.describe(closure)
        functions.describe(Local().make)
    assert len(calls) == 2


def test_what_was_loaded_is_described_by_its_old_record() -> None:
    record = Functions().describe(lambda: 1)
    worker = Functions()
    assert worker.describe(worker.load(record)) is record


def test_partials_and_callable_objects_go_by_value() -> None:
    assert load(Functions().describe(functools.partial(max, 3)))(1) == 3


def test_what_cannot_be_sent_is_named() -> None:
    lock = threading.Lock()
    with pytest.raises(EncodingError, match=r"<lambda> cannot be sent to a worker"):
        Functions().describe(lambda: lock)

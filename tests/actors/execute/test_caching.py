"""Under what an outcome is filed, when it is looked up, and what comes of a find."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.actors.execute.test_python import leased
from tests.kit.inline import Inline
from tests.kit.samples import AddMaker, Document
from towline import Flow, JobConfig, OnMissing, Response, job
from towline.actors.execute import caching
from towline.actors.execute.python import Executor, Outcome
from towline.engine import codec, model
from towline.engine.errors import CorruptionError, TowlineError
from towline.stores.objects.base import NotFound

RAN: list[Any] = []


@job(cache="v1")
def double(x: Any, by: Any = 2) -> Any:
    RAN.append(x)
    return x * by


@job(cache=True)
def reads(x: Any, *more: Any, **named: Any) -> Any:
    return [x, more, named]


class Shelf:
    """What is filed, and an executor that looks there."""

    def __init__(self, **options: Any) -> None:
        self.filed: dict[bytes, tuple[int, bytes]] = {}
        self.contents: dict[bytes, Any] = {}
        self.asked: list[bytes] = []
        self.executor = Executor(lambda _uuid, _index: None, self._load, self._store, filed=self._find, **options)
        RAN.clear()

    def _find(self, key: bytes) -> tuple[int, bytes] | None:
        self.asked.append(key)
        return self.filed.get(key)

    def _load(self, stub: bytes) -> Any:
        if stub not in self.contents:
            raise NotFound("it was deleted")
        return self.contents[stub]

    def _store(self, content: Any, uuid: str, attempt: Any) -> bytes:
        stub = codec.stub(f"{uuid} {attempt}".encode())
        self.contents[stub] = content
        return stub

    def run(self, made: Any, *inputs: bytes | model.Input) -> Outcome:
        """Run a job, and file what it came to as the leader does."""
        outcome = self.executor.run(leased(self.executor, made), inputs, (1, len(self.asked)))
        if outcome.cached is not None and outcome.failure is None:
            self.filed[outcome.cached.key] = (len(self.filed), outcome.output)
        return outcome

    def key(self, made: Any, *inputs: bytes | model.Input) -> bytes | None:
        outcome = self.run(made, *inputs)
        return None if outcome.cached is None else outcome.cached.key


def test_the_second_call_is_that_of_the_first() -> None:
    shelf = Shelf()
    first, second = shelf.run(double(4)), shelf.run(double(4))
    assert RAN == [4]
    assert first.output == second.output == codec.encode(8)
    assert first.cached is not None
    assert second.cached == model.Cached(first.cached.key, first.cached.function, first.cached.arguments, reused=0)
    assert first.cached.reused == model.NO_ROW
    assert shelf.run(double(5)).output == codec.encode(10)
    assert RAN == [4, 5]


def test_the_key_keeps_its_parts() -> None:
    cached = Shelf().run(double(4, by=3)).cached
    assert cached is not None
    assert cached.function == "tests.actors.execute.test_caching:double version:v1"
    assert cached.arguments == [("x", caching.hash_of(4)), ("by", caching.hash_of(3))]


def test_it_does_not_matter_how_an_argument_was_given() -> None:
    shelf = Shelf()
    given = double(1)
    keys = {
        shelf.key(double(4, 3)),
        shelf.key(double(4, by=3)),
        shelf.key(double(x=4, by=3)),
        shelf.key(double(given.output, 3), codec.encode(4)),
        shelf.key(double(given.output["part"], 3), codec.encode({"part": 4, "other": 5})),
    }
    assert len(keys) == 1
    assert len(RAN) == 1
    assert shelf.key(double(4)) not in keys, "a default belongs to the function, not to the call"


def test_arguments_are_told_apart() -> None:
    shelf = Shelf()
    calls = [reads(1), reads(1.0), reads(True), reads("1"), reads([1]), reads((1,)), reads(1, 2), reads(1, y=2), reads(1, z=2)]
    calls += [reads(np.arange(9)), reads(np.arange(9, dtype="f4")), reads(np.zeros(99_999)), reads(np.ones(99_999))]
    assert len({shelf.key(call) for call in calls}) == len(calls)


def test_an_input_that_is_a_file_counts_by_its_content() -> None:
    shelf = Shelf()
    one, other = np.zeros(50_000), np.ones(50_000)
    for name, value in (("a", one), ("b", one.copy()), ("c", other)):
        shelf.contents[codec.stub(name.encode())] = codec.split(value)
    keys = [shelf.key(reads(double(1).output), codec.stub(name)) for name in (b"a", b"b", b"c")]
    assert keys[0] == keys[1] != keys[2]


def of_a_script(body: str = "return 1") -> Any:
    """A class as a run of a script defines it."""
    script: dict[str, Any] = {"__name__": "__main__"}
    exec(f"class Part:\n    def __init__(self, x): self.x = x\n    def f(self): {body}\n", script)
    return script["Part"]


def test_an_object_of_the_script_s_own_class_counts_by_its_state_and_code() -> None:
    hashes = [caching.hash_of({"part": made}) for made in (of_a_script()(1), of_a_script()(1))]
    assert hashes[0] == hashes[1]
    assert caching.hash_of(of_a_script()) == caching.hash_of(of_a_script())
    assert caching.hash_of({"part": of_a_script()(2)}) != hashes[0]
    assert caching.hash_of({"part": of_a_script("return 2")(1)}) != hashes[0]


def test_versions_and_functions_are_told_apart() -> None:
    shelf = Shelf()

    def twice(x: int) -> int:
        return x * 2

    keys = [shelf.key(job(cache=said)(twice)(1)) for said in (True, "v1", "v2", 1, "code")]
    assert len(set(keys)) == 5
    assert shelf.key(job(cache="v1")(lambda x: x * 2)(1)) not in keys


def test_a_method_counts_with_its_object() -> None:
    def made(number: int) -> Any:
        maker = AddMaker(number=number).make(1)
        maker.options = model.Options(cache="code")
        return maker

    shelf = Shelf()
    assert shelf.key(made(1)) == shelf.key(made(1)) != shelf.key(made(2))


def test_without_the_option_nothing_is_asked() -> None:
    shelf = Shelf()
    assert shelf.run(job(lambda: 1)()).cached is None
    assert shelf.asked == []


@pytest.mark.parametrize(
    "config",
    [
        JobConfig(resolve_references=False),
        JobConfig(resolve_references="both"),
        JobConfig(on_missing_references=OnMissing.PASS),
        JobConfig(expose_store=True),
    ],
)
def test_what_rests_on_more_than_values_is_not_filed(config: JobConfig) -> None:
    shelf = Shelf()
    made = double(3)
    made.config = config
    assert shelf.run(made).cached is None
    assert shelf.asked == []


@job(cache=True)
def more_than_an_output(how: str) -> Any:
    other = double(1)
    if how == "fail":
        raise ValueError(how)
    return {
        "replace": lambda: Response(replace=other),
        "addition": lambda: Response(1, addition=other),
        "stop": lambda: Response(1, stop_children=True),
        "stored": lambda: Response(1, stored_data={"a": 1}),
        "reference": lambda: [other.output],
    }[how]()


@pytest.mark.parametrize("how", ["fail", "replace", "addition", "stop", "stored", "reference"])
def test_what_is_more_than_an_output_is_not_filed(how: str) -> None:
    shelf = Shelf()
    assert shelf.run(more_than_an_output(how)).cached is None
    assert len(shelf.asked) == 1
    assert not shelf.filed


def test_a_schema_counts() -> None:
    @job(cache=True)
    def told() -> Any:
        return {"energy": 1.0}

    shelf = Shelf()
    one, other = told(), told()
    other.output_schema = Document
    assert shelf.key(one) != shelf.key(other)


def test_a_file_that_is_reused_is_copied() -> None:
    shelf = Shelf()
    made = job(cache=True)(np.ones)
    first, second = shelf.run(made(50_000)), shelf.run(made(50_000))
    assert second.cached is not None
    assert second.cached.reused == 0
    assert first.output != second.output
    assert codec.join(*shelf.contents[second.output]).tolist() == [1.0] * 50_000


def test_a_file_that_is_gone_is_made_again() -> None:
    shelf = Shelf()
    made = job(cache=True)(np.ones)
    shelf.run(made(50_000))
    shelf.contents.clear()
    again = shelf.run(made(50_000))
    assert again.cached is not None
    assert again.cached.reused == model.NO_ROW
    assert again.output in shelf.contents


def test_a_leader_that_cannot_answer_is_no_fault_of_the_job() -> None:
    def broken(_key: bytes) -> None:
        raise CorruptionError("record 3 is damaged")

    executor = Executor(lambda _uuid, _index: None, filed=broken)
    with pytest.raises(TowlineError, match="record 3"):
        executor.run(leased(executor, double(1)), [])


def test_a_value_that_cannot_be_hashed_is_run_uncached() -> None:
    assert caching.filed_under("f", lambda x: x, ((object(),), {}), {}, allow_pickle=False) is None
    assert caching.filed_under("f", lambda x: x, ((object(),), {}), {}, allow_pickle=True) is not None


def test_the_loop_without_a_leader_knows_no_cache() -> None:
    one = double(2)
    RAN.clear()
    assert Inline().run(Flow([one, other := double(one.output)])).output(other) == 8
    assert RAN == [2, 4]

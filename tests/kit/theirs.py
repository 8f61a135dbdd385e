"""Jobs, makers and flows made with jobflow's own classes, as its users write them; nothing here knows of towline."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

import jobflow
from jobflow import CURRENT_JOB, Flow, Job, JobConfig, Maker, OnMissing, Response, job
from jobflow.core.flow import JobOrder
from monty.json import MSONable
from pydantic import BaseModel


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


@dataclass
class Point(MSONable):
    x: float
    y: float

    @property
    def norm(self) -> float:
        return (self.x**2 + self.y**2) ** 0.5


class Summary(BaseModel):
    total: int
    parts: list[int] = []


@job
def add(a: Any, b: Any) -> Any:
    return a + b


@job
def fail(word: str) -> Any:
    raise ValueError(word)


@job
def kinds(*values: Any, **named: Any) -> list[str]:
    """The types that arguments have when they arrive."""
    return [type(value).__name__ for value in values] + [f"{name}: {type(value).__name__}" for name, value in named.items()]


@job
def give(value: Any) -> Any:
    return value


@job
def make_point(x: float, y: float) -> Point:
    return Point(x, y)


@job
def fibonacci(smaller: int, larger: int, stop_point: int = 60) -> Any:
    total = smaller + larger
    if total > stop_point:
        return total
    return Response(output=total, addition=fibonacci(larger, total, stop_point=stop_point))


@job
def fibonacci_replaced(smaller: int, larger: int, stop_point: int = 60) -> Any:
    total = smaller + larger
    return total if total > stop_point else Response(replace=fibonacci_replaced(larger, total, stop_point=stop_point))


@job
def grow(how: str, count: int, wrap: str = "list") -> Any:
    jobs = [add(n, 1) for n in range(count)]
    if how == "returned":
        return {"list": jobs, "tuple": tuple(jobs), "dict": {str(n): one for n, one in enumerate(jobs)}}[wrap]
    if wrap == "flow":
        return Response(output=how, **{how: Flow(jobs, [one.output for one in jobs], name="grown")})
    if wrap == "silent flow":
        return Response(output=how, **{how: Flow(jobs, name="grown")})
    return Response(output=how, **{how: jobs if wrap == "list" else jobs[0]})


@job
def stop(what: str) -> Any:
    return Response(output=what, **{what: True})


@job
def point_to(uuid: str) -> Any:
    """Adds a job and gives out a reference to what it will have put out."""
    one = add(20, 22)
    return Response(output={"later": one.output}, addition=one)


@job(output_schema=Summary)
def summarise(parts: list[int]) -> Any:
    return {"total": sum(parts), "parts": parts}


@job(output_schema=Summary)
def summarise_badly(parts: list[int]) -> Any:
    return parts


@job(data="matrix")
def store_key(count: int) -> Any:
    return {"matrix": list(range(count)), "count": count}


@job(data=True)
def store_all(count: int) -> Any:
    return list(range(count))


@job(points=Point)
def store_class() -> Any:
    return {"at": [Point(1, 2), {"deep": Point(3, 4)}], "rest": 2}


@job(data=[Colour.RED, "extra", ["output", "only", 0]])
def store_many() -> Any:
    return {"only": [{"here": 1}, 2], "red": 1, "extra": {"red": 5}, "rest": 2}


@job(nowhere="matrix")
def store_nowhere() -> Any:
    return {"matrix": [1]}


@job
def total_of(data: Any) -> Any:
    return sum(data["matrix"]) if isinstance(data, dict) else sum(data)


@job
def opaque() -> Any:
    return object()


@job(config=JobConfig(on_missing_references=OnMissing.NONE))
def lenient(value: Any) -> Any:
    return repr(value)


@job(config=JobConfig(on_missing_references=OnMissing.PASS))
def passing(value: Any) -> Any:
    return type(value).__name__


@job(config=JobConfig(resolve_references=False))
def unresolved(value: Any) -> Any:
    return [type(value).__name__, value]


@job(config=JobConfig(expose_store=True))
def look_up(uuid: str, hint: Any = None) -> Any:
    store = CURRENT_JOB.store
    return [store.get_output(uuid), store.count({"uuid": uuid}), store.query_one({"uuid": uuid}, ["output"])["index"]]


@job
def who() -> Any:
    me = CURRENT_JOB.job
    return [me.name, me.index, me.metadata, me.config.manager_config, CURRENT_JOB.store is None]


@job
def who_later(wrap: str) -> Any:
    return Response(**{wrap: Flow([who()], name="asked")})


@job
def write(name: str) -> str:
    Path(name).write_text("x")
    return Path.cwd().name


@job
def die_once(marker: str, value: Any) -> Any:
    """Kills its process the first time that it runs."""
    if not Path(marker).exists():
        Path(marker).write_text("x")
        os.kill(os.getpid(), signal.SIGKILL)
    return value


class Tools:
    @classmethod
    @job
    def of_class(cls, a: int) -> Any:
        return [cls.__name__, a]

    @staticmethod
    @job
    def static(a: int) -> int:
        return -a


@dataclass
class AddMaker(Maker):
    name: str = "adds"
    number: float = 10

    @job
    def make(self, a: Any) -> Any:
        return a + self.number


@dataclass
class TwiceMaker(Maker):
    name: str = "twice"
    inner: Maker = field(default_factory=AddMaker)

    def make(self, a: Any) -> Flow:
        first = self.inner.make(a)
        second = self.inner.make(first.output)
        return Flow([first, second], second.output, name=self.name)


@dataclass
class LaterMaker(Maker):
    name: str = "later"
    inner: Maker = field(default_factory=AddMaker)

    @job
    def make(self, a: Any) -> Any:
        return Response(replace=self.inner.make(a))


# ------------------------------------------------------------------------------------------------------------ programs


def chain() -> Any:
    one = add(1, 2)
    two = add(one.output, 3)
    return Flow([two, one, add(two.output, one.output)], name="chain")


def tutorial_addition() -> Any:
    return fibonacci(1, 1)


def tutorial_replace() -> Any:
    first = fibonacci_replaced(1, 1)
    return Flow([first, add(first.output, 1000)])


def growing(how: str, wrap: str) -> Any:
    first = grow(how, 3, wrap)
    return Flow([first, kinds(first.output), give(first.output)], name=f"{how} {wrap}")


def makers() -> Any:
    flow = TwiceMaker().make(1)
    flow.update_maker_kwargs({"number": 5}, name_filter="adds")
    later = LaterMaker().make(flow.output)
    later.update_maker_kwargs({"number": 7}, class_filter=AddMaker)
    return Flow([flow, later, add(later.output, 0.5)], later.output)


def types_travel() -> Any:
    import numpy as np

    point = make_point(3, 4)
    listed = give((1, 2))
    return Flow(
        [
            point,
            listed,
            kinds((1, 2), Colour.RED, Point(1, 2), {1: 2}),
            kinds((1, 2), Colour.RED, point.output, {1: 2}, named=(3,)),
            kinds(listed.output, [listed.output, (5, 6)]),
            kinds(np.arange(3), Colour.BLUE, deep={"at": [point.output]}),
            give(point.output.norm),
            give({"array": np.arange(3), "colour": Colour.BLUE, "point": Point(0, 1)}),
        ]
    )


def schemas() -> Any:
    good = summarise([1, 2, 3])
    return Flow([good, add(good.output.total, 1), give(good.output.parts[1]), give(good.output), summarise_badly([1])])


def parts_apart() -> Any:
    keyed, everything, many, objects = store_key(4), store_all(3), store_many(), store_class()
    after = [total_of(keyed.output), total_of(everything.output), give(many.output["only"][0]), give(many.output)]
    return Flow(
        [keyed, everything, many, objects, *after, kinds(objects.output["at"][0]), give(objects.output["at"][1]["deep"].x)]
    )


def parts_nowhere() -> Any:
    first = store_nowhere()
    return Flow([first, give(first.output)])


def missing() -> Any:
    bad = fail("no")
    direct = [lenient(bad.output), passing(bad.output), give(bad.output)]
    return Flow([bad, *direct, add(direct[0].output, "!"), add(direct[2].output, "!")])


def references_kept() -> Any:
    one = add(1, 1)
    kept = unresolved(one.output)
    pointing = point_to("x")
    return Flow([one, kept, give(kept.output), pointing])


def stopping(what: str) -> Any:
    first = stop(what)
    second = add(first.output, "x")
    return Flow([first, second, add(second.output, "y")], order=JobOrder.LINEAR)


def linear() -> Any:
    inner = Flow([add(1, 1), add(2, 2)], name="inner", order=JobOrder.LINEAR)
    return Flow([add(0, 0), inner, Flow([inner.jobs[0], add(3, 3)][1:], name="other"), add(4, 4)], order=JobOrder.LINEAR)


def updates_pass_on() -> Any:
    flow = Flow([who(), who_later("replace"), who_later("detour"), who_later("addition")], name="outer")
    flow.update_metadata({"tag": 1}, dynamic=True)
    flow.update_config({"manager_config": {"queue": "long"}}, attributes="manager_config", dynamic=True)
    flow.append_name(" (new)", dynamic=True)
    return flow


def manager_config(passed: bool, other: bool) -> Any:
    first = who_later("replace")
    first.config = JobConfig(
        manager_config={"a": 1}, pass_manager_config=passed, response_manager_config={"b": 2} if other else {}
    )
    return Flow([first])


def stores_exposed() -> Any:
    one = add(1, 2)
    return Flow([one, look_up(one.uuid, one.output)])


def other_functions() -> Any:
    return Flow([Job(sum, ([1, 2, 3],)), Job(os.path.join, ("a", "b")), Tools.of_class(1), Tools.static(2)])


@jobflow.flow
def decorated(a: int) -> Any:
    one = add(a, 1)
    return add(one.output, one)


def opaque_output() -> Any:
    first = opaque()
    return Flow([first, give(first.output)])


PROGRAMS: dict[str, Any] = {
    "chain": chain,
    "tutorial: addition": tutorial_addition,
    "tutorial: replace": tutorial_replace,
    **{
        f"{how} {wrap}": lambda how=how, wrap=wrap: growing(how, wrap)
        for how in ("replace", "detour", "addition")
        for wrap in ("job", "list", "flow", "silent flow")
    },
    **{f"returned {wrap}": lambda wrap=wrap: growing("returned", wrap) for wrap in ("list", "tuple", "dict")},
    "makers": makers,
    "types": types_travel,
    "schemas": schemas,
    "additional stores": parts_apart,
    "an additional store that is not there": parts_nowhere,
    "missing": missing,
    "references kept": references_kept,
    "stop_children": lambda: stopping("stop_children"),
    "stop_jobflow": lambda: stopping("stop_jobflow"),
    "linear": linear,
    "updates": updates_pass_on,
    **{
        f"manager config {passed} {other}": lambda passed=passed, other=other: manager_config(passed, other)
        for passed in (True, False)
        for other in (True, False)
    },
    "store exposed": stores_exposed,
    "other functions": other_functions,
    "decorated": lambda: decorated(3),
    "opaque": opaque_output,
    "a list": lambda: [add(1, 2), add(3, 4)],
}
"""What is run on both."""

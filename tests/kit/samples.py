"""Values and jobs that tests store, send and run: classes of every kind that the codec tells apart, importable by name."""

from __future__ import annotations

from collections import namedtuple
from dataclasses import dataclass, field
from enum import Enum, Flag, IntEnum
from typing import Any, NamedTuple

import msgspec
from pydantic import BaseModel

from towline.engine.authoring.decorator import job
from towline.engine.authoring.flow import Flow
from towline.engine.authoring.maker import Maker
from towline.engine.authoring.response import Response


class Colour(Enum):
    RED = 1
    GREEN = "g"


class Level(IntEnum):
    LOW = 1


class Bits(Flag):
    A = 1
    B = 2


Pair = namedtuple("Pair", "left right")


class Point(NamedTuple):
    x: float
    y: float = 0.0


@dataclass
class Box:
    content: Any
    label: str = "box"
    tags: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Frozen:
    a: int
    b: Any = None


@dataclass
class Checked:
    """Its constructor changes what it is given: stored state must not go through it again."""

    value: int
    calls: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.calls.append("init")


class Record(msgspec.Struct):
    a: int
    b: Any = None


class Inner(BaseModel):
    n: int = 0


class Document(BaseModel):
    energy: float
    inner: Inner = Inner()
    extra: Any = None

    @property
    def double(self) -> float:
        return 2 * self.energy


class Mson:
    """What pymatgen's classes are like."""

    def __init__(self, a: Any, b: Any = None) -> None:
        self.a = a
        self.b = b

    def as_dict(self) -> dict[str, Any]:
        plain = {name: v.as_dict() if hasattr(v, "as_dict") else v for name, v in (("a", self.a), ("b", self.b))}
        return {"@module": type(self).__module__, "@class": type(self).__name__, **plain}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Mson:
        return cls(data["a"], data["b"])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Mson) and (self.a, self.b) == (other.a, other.b)

    __hash__ = None  # type: ignore[assignment]  # unhashable, like many of these


class Plain:
    """An ordinary class: only a pickle can hold its instances."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Plain) and self.value == other.value

    def __hash__(self) -> int:
        return 1

    def get(self) -> Any:
        return self.value

    @classmethod
    def make(cls, value: Any) -> Plain:
        return cls(value)


class Text(str):
    """A str with a name of its own."""


@job
def add(a: Any, b: Any = 5) -> Any:
    return a + b


@job
def give(value: Any) -> Any:
    return value


@job
def fail(text: str = "no") -> None:
    raise ValueError(text)


@dataclass
class AddMaker(Maker):
    name: str = "add"
    number: float = 10
    settings: dict[str, Any] = field(default_factory=dict)

    @job
    def make(self, a: Any) -> Any:
        return a + self.number


@dataclass
class OuterMaker(Maker):
    name: str = "outer"
    inner: AddMaker = field(default_factory=AddMaker)
    factor: int = 1

    @job
    def make(self, a: Any) -> Any:
        return Response(replace=self.inner.make(a))


@dataclass
class PairMaker(Maker):
    name: str = "pair"
    inner: AddMaker = field(default_factory=AddMaker)

    def make(self, a: Any) -> Flow:
        first = self.inner.make(a)
        second = self.inner.make(first.output)
        return Flow([first, second], output=second.output, name=self.name)

"""Objects of every kind: by state, by their own methods, by name, and by pickle when nothing else is left."""

from __future__ import annotations

import enum
from collections import Counter, OrderedDict, defaultdict, deque
from dataclasses import dataclass, make_dataclass
from fractions import Fraction
from pathlib import Path, PureWindowsPath
from typing import Any

import msgspec
import pytest

from tests.kit import samples
from tests.kit.samples import AddMaker, Box, Checked, Document, Frozen, Inner, Mson, Plain, Point, Record, Text, add
from towline.engine import codec
from towline.engine.authoring.reference import OutputReference
from towline.engine.codec.wire import Code
from towline.engine.errors import EncodingError


def back(value: Any, **options: Any) -> Any:
    return codec.decode(codec.encode(value, **options), **options)


def code_of(value: Any) -> int:
    return int(msgspec.msgpack.decode(codec.encode(value)).code)


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (Box((1,), tags=["a"]), Code.STATE),
        (Frozen(1, {2: 3}), Code.STATE),
        (Record(1, (2,)), Code.STATE),
        (Point(1, 2), Code.NAMEDTUPLE),
        (Document(energy=1, extra=(1,), inner=Inner(n=4)), Code.MODEL),
        (Mson(1, (2,)), Code.MSON),
        (AddMaker(number=(1,)), Code.STATE),  # type: ignore[arg-type]  # a maker takes what it is given
        (add, Code.NAME),
        (Box, Code.NAME),
        (OrderedDict(b=1, a=(2,)), Code.COLLECTION),
        (defaultdict(list, {1: [(2,)]}), Code.COLLECTION),
        (Counter("aab"), Code.COLLECTION),
        (deque([(1,)], 3), Code.COLLECTION),
        (Fraction(1, 3), Code.FRACTION),
        (PureWindowsPath("c:\\a"), Code.PATH),
        (Path("/a"), Code.PATH),
        (Text("a"), Code.JSONLIKE),
        (Plain(1).get, Code.METHOD),
        (Plain(1), Code.PICKLE),
    ],
)
def test_each_kind_has_its_extension_and_comes_back(value: Any, code: int) -> None:
    again = back(value)
    assert type(again) is type(value)
    assert code_of(value) == code
    if code == Code.METHOD:
        assert again() == value()
    else:
        assert again == value


def test_pydantic_keeps_what_was_set_and_private_state() -> None:
    document = Document(energy=1)
    assert back(document).model_fields_set == {"energy"}


def test_a_state_does_not_go_through_the_constructor_again() -> None:
    once = Checked(1)
    assert back(once).calls == ["init"]


def test_a_field_that_the_class_has_gained_takes_its_default(monkeypatch: pytest.MonkeyPatch) -> None:
    old = make_dataclass("Box", [("content", Any)])
    old.__module__ = "tests.kit.samples"
    monkeypatch.setattr(samples, "Box", old)
    data = codec.encode(old([1]))
    monkeypatch.undo()
    assert codec.decode(data) == Box([1], "box", [])


def test_attributes_beyond_the_fields_are_kept() -> None:
    box = Box(1)
    box.more = (1,)  # type: ignore[attr-defined]  # what a user may do
    assert back(box).more == (1,)


def test_classes_of_functions_go_by_value() -> None:
    @dataclass
    class Local:
        x: Any

    class Shade(enum.Enum):
        DARK = 1

    value = back(Local((OutputReference("a"), Shade.DARK)))
    assert value.x[0] == OutputReference("a")
    assert value.x[1].name == "DARK"
    assert code_of(Local(1)) == Code.PICKLE


def test_closures_go_by_value() -> None:
    k = 5
    assert back(lambda x: x + k)(1) == 6


def test_as_dict_that_fails_is_told_with_its_place() -> None:
    class Bad(Mson):
        def as_dict(self) -> dict[str, Any]:
            raise KeyError("gone")

    samples.Bad = Bad  # type: ignore[attr-defined]  # only for this test
    Bad.__qualname__, Bad.__module__ = "Bad", "tests.kit.samples"
    try:
        with pytest.raises(EncodingError, match=r"value\[0\].*as_dict\(\) failed: KeyError"):
            codec.encode([Bad(1)])
    finally:
        del samples.Bad  # type: ignore[attr-defined]  # as above


def test_references_inside_as_dict_objects_are_found() -> None:
    value = Mson(OutputReference("a").x, [1])
    assert codec.references_in(value) == [OutputReference("a").x]
    data = codec.encode_call([value], {}, numbers={})
    assert codec.decode(data, input_of=lambda *what: 7) == [[Mson(7, [1])], {}]


def test_exceptions_and_ordinary_subclasses_are_pickled() -> None:
    class Odd(dict[str, int]):
        pass

    assert back(ValueError("a", 1)).args == ("a", 1)
    assert back(Odd(a=1)) == {"a": 1}

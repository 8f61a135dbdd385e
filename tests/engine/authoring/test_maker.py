"""Makers: settings changed in copies, also of makers inside makers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.kit.samples import AddMaker, OuterMaker, PairMaker
from towline.engine.authoring.maker import Maker, recursive_call


@dataclass
class Shelf(Maker):
    name: str = "shelf"
    makers: list[Any] = field(default_factory=lambda: [AddMaker(), {"k": (AddMaker(name="other"),)}])


def test_settings_are_changed_in_a_copy() -> None:
    maker = AddMaker(settings={"a": {"b": 1}})
    again = maker.update_kwargs({"number": 3})
    assert (maker.number, again.number) == (10, 3)
    deeper = maker.update_kwargs({"_set": {"settings->a->b": 2}}, dict_mod=True)
    assert deeper.settings == {"a": {"b": 2}}
    assert maker.settings == {"a": {"b": 1}}


def test_makers_inside_are_changed_too_unless_told_not_to() -> None:
    outer = OuterMaker()
    assert outer.update_kwargs({"number": 3}, class_filter=AddMaker).inner.number == 3
    assert outer.update_kwargs({"number": 3}, class_filter=AddMaker, nested=False).inner.number == 10
    assert outer.inner.number == 10
    both = outer.update_kwargs({"name": "x"})
    assert (both.name, both.inner.name) == ("x", "x")


def test_filters() -> None:
    shelf = Shelf().update_kwargs({"number": 3}, name_filter="oth", class_filter=AddMaker())
    assert shelf.makers[0].number == 10
    assert shelf.makers[1]["k"][0].number == 3
    assert Shelf().update_kwargs({"number": 3}, class_filter=PairMaker) == Shelf()


def test_settings_that_there_are_not_are_refused() -> None:
    with pytest.raises(TypeError):
        AddMaker().update_kwargs({"nothing": 1})
    with pytest.raises(ValueError, match="must return a Maker object"):
        recursive_call(AddMaker(), lambda maker: 5)


def test_a_maker_comes_back_from_its_dict() -> None:
    maker = OuterMaker(inner=AddMaker(number=3, settings={"a": [1]}))
    assert OuterMaker.from_dict(maker.as_dict()) == maker


def test_the_base_makes_nothing() -> None:
    with pytest.raises(NotImplementedError):
        Maker().make()
    with pytest.raises(NotImplementedError):
        Maker().name  # noqa: B018 - the access is the test

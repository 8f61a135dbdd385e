"""Plain data as monty writes and reads it: what `sanitize` and `revive` do is what monty does, value by value."""

from __future__ import annotations

import datetime as dt
import os.path
from collections import OrderedDict
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pandas as pd
import pytest

from tests.kit.samples import AddMaker, Bits, Box, Colour, Document, Level, Mson, OuterMaker, Pair, Plain, Point, Text
from towline.engine.authoring.reference import OutputReference
from towline.engine.codec import mson

VALUES: list[Any] = [
    *(None, True, 1, 1.5, "text", b"bytes", (1, (2,)), [1, [2]], {1: 2, (1, 2): {"a": (3,)}}, OrderedDict(a=1), Pair(1, 2)),
    *(Point(1.0), Colour.RED, Level.LOW, Bits.A, dt.datetime(2024, 1, 2, 3), UUID(int=5), Path("/a/b"), Text("own")),
    *(np.arange(4).reshape(2, 2), np.float64(1.5), np.array(["a", "b"]), np.array(3), pd.DataFrame({"a": [1, 2]})),
    *(pd.Series([1, 2]), len, os.path.join, Box, Mson.from_dict, Mson(1, Mson((2,))), [Mson(1)]),
    *(Document(energy=1.0, extra={"a": (1,)}), OutputReference("u", (("a", "x"), ("i", 0))), OutputReference("u", (), Document)),
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_a_value_is_written_as_monty_writes_it(value: Any) -> None:
    monty = pytest.importorskip("monty.json")
    ours, theirs = mson.sanitize(value), monty.jsanitize(value, strict=True, enum_values=True, allow_bson=True)
    assert repr(ours) == repr(theirs)


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_what_was_written_is_read_as_monty_reads_it(value: Any) -> None:
    monty = pytest.importorskip("monty.json")
    data = mson.sanitize(value)
    assert repr(mson.revive(data)) == repr(monty.MontyDecoder().process_decoded(data)) or isinstance(value, list | Mson)


def test_objects_come_back() -> None:
    for value in (Mson(1, [2]), Document(energy=2.0), OuterMaker(inner=AddMaker(number=3)), OutputReference("u").a[0]):
        assert mson.revive(mson.sanitize(value)) == value


@pytest.mark.parametrize(
    "encoded",
    [
        dt.datetime(2024, 1, 2, 3, tzinfo=dt.UTC),
        UUID(int=7),
        Path("/a"),
        np.array([1.0, 2.0], dtype="f4"),
        np.array([1 + 2j]),
        pd.DataFrame({"a": [1, 2]}),
        Colour.GREEN,
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_montys_encoder_wrote_is_read(encoded: Any) -> None:
    monty = pytest.importorskip("monty.json")
    data = monty.MontyEncoder().default(encoded)
    assert repr(mson.revive(data)) == repr(monty.MontyDecoder().process_decoded(data))


def test_what_has_no_such_form_is_refused_as_monty_refuses_it() -> None:
    with pytest.raises(AttributeError, match="'Plain' object has no attribute 'as_dict'"):
        mson.sanitize({"a": [Plain(1)]})
    with pytest.raises(TypeError, match="Only bound methods of classes or MSONable instances are supported"):
        mson.callable_dict(Plain(1).get)


@pytest.mark.parametrize(
    "data",
    [{"@module": "no.such.module", "@class": "X"}, {"@module": "os", "@class": "Nothing"}, {"@module": "os", "@callable": "no"}],
)
def test_names_that_lead_nowhere_stay_data(data: dict[str, Any]) -> None:
    assert mson.revive(data) == data


def test_methods_come_back_bound() -> None:
    method = mson.revive(mson.callable_dict(AddMaker(number=7).make))
    assert method.__self__ == AddMaker(number=7)
    assert mson.revive(mson.callable_dict(Mson.from_dict)) == Mson.from_dict

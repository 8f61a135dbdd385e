"""The codec as a whole: whatever goes in comes out, equal and of the same type, and old bytes stay readable."""

from __future__ import annotations

import datetime as dt
from collections import OrderedDict, defaultdict
from decimal import Decimal
from pathlib import Path, PurePosixPath
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.kit.samples import AddMaker, Bits, Box, Colour, Document, Frozen, Mson, Pair, Plain, Point
from towline.engine import codec
from towline.engine.authoring.reference import OutputReference

GOLDEN = Path(__file__).parents[1] / "golden" / "codec"

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters(codec=None))
    | st.binary()
    | st.complex_numbers(allow_nan=False)
    | st.dates()
    | st.datetimes()
    | st.times()
    | st.timedeltas()
    | st.decimals(allow_nan=False)
    | st.uuids()
    | st.sampled_from([Colour.RED, Colour.GREEN, Bits.A | Bits.B, PurePosixPath("a/b"), int, len, Frozen(1)])
)
# deferred, because hypothesis would print what it is made of
keys = st.deferred(
    lambda: st.recursive(scalars, lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=2), max_leaves=3)
)
values = st.recursive(
    st.deferred(lambda: scalars),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner)
        | st.dictionaries(keys, inner, max_size=3)
        | st.sets(keys, max_size=3)
        | st.frozensets(keys, max_size=3)
        | st.builds(Box, inner, st.text(max_size=3))
        | st.builds(Frozen, st.integers(), inner)
        | st.builds(Point, inner, inner)
        | st.builds(lambda a, b: OrderedDict([(a, b), ("z", 1)]), st.text(max_size=3), inner)
        | st.builds(bytearray, st.binary(max_size=3))
    ),
    max_leaves=12,
)


def same(a: Any, b: Any) -> bool:
    """Equal, and of the same types all the way down."""
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        # order is part of a dict
        return len(a) == len(b) and all(same(x, y) and same(a[x], b[y]) for x, y in zip(a, b, strict=True))
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, set | frozenset):
        return a == b and sorted(map(_typed, a)) == sorted(map(_typed, b))
    if isinstance(a, Box | Frozen):
        return all(same(getattr(a, name), getattr(b, name)) for name in type(a).__dataclass_fields__)
    return bool(a == b)


def _typed(value: Any) -> str:
    """A text that is the same for the same value, whatever order its sets are walked in."""
    if isinstance(value, frozenset):
        return f"frozenset {sorted(map(_typed, value))}"
    if isinstance(value, tuple):
        return f"tuple {list(map(_typed, value))}"
    return f"{type(value)} {value!r}"


@settings(max_examples=300, deadline=None)
@given(values)
def test_whatever_goes_in_comes_out_with_its_type(value: Any) -> None:
    assert same(codec.decode(codec.encode(value)), value)


@settings(max_examples=100, deadline=None)
@given(st.lists(values, max_size=3), st.dictionaries(st.text(max_size=5), values, max_size=2))
def test_arguments_come_out_as_they_went_in(args: list[Any], kwargs: dict[str, Any]) -> None:
    numbers: dict[str, int] = {}
    assert same(codec.decode(codec.encode_call(args, kwargs, numbers=numbers)), [args, kwargs])
    assert not numbers


@settings(max_examples=100, deadline=None)
@given(values)
def test_a_value_that_is_split_is_joined_again(value: Any) -> None:
    header, buffers = codec.split([value, b"x" * 20_000])
    assert same(codec.join(header, [bytes(memoryview(b).cast("B")) for b in buffers])[0], value)


GOLDENS: dict[str, Any] = {
    "plain": [None, True, -1, 2**40, 1.5, "ü", b"\0", [], {"a": {"b": [1]}}],
    "containers": [(1, (2,)), {1, 2}, frozenset({"a"}), {1: "a", (1, 2): "b", None: 0}, {frozenset({1}): 1}],
    "numbers": [2**70, -(2**70), 1 + 2j, Decimal("1.20"), float("inf")],
    "text": ["\ud800", bytearray(b"ab")],
    "times": [
        dt.datetime(2024, 2, 29, 1, 2, 3, 4),
        dt.datetime(2024, 2, 29, tzinfo=dt.UTC),
        dt.datetime(2024, 2, 29, tzinfo=dt.timezone(dt.timedelta(hours=1))),
        dt.date(2024, 2, 29),
        dt.time(1, 2, 3),
        dt.timedelta(1, 2, 3),
    ],
    "others": [UUID(int=5), PurePosixPath("/a/b"), range(1, 5, 2), slice(1, None), defaultdict(list, {"a": [1]})],
    "classes": [Colour.GREEN, Bits.A | Bits.B, Pair(1, (2,)), Point(1.0, 2.0), Box([1], "b"), Frozen(1, (2,)), Mson(1, [2])],
    "model": Document(energy=1.5, extra=(1,)),
    "maker": AddMaker(number=3, settings={"a": (1,)}),
    "names": [len, int, Box, codec.encode],
    "references": [OutputReference("u"), OutputReference("v", (("a", "x"), ("i", 3), ("i", "k"))).y],
    "pickle": Plain((1, 2)),
}


def test_bytes_of_the_first_release_are_still_read() -> None:
    """The files are a format: a change that breaks them breaks every store there is."""
    assert {path.stem for path in GOLDEN.glob("*.bin")} == {*GOLDENS, "array", "table", "call"}
    for name, value in GOLDENS.items():
        assert codec.decode((GOLDEN / f"{name}.bin").read_bytes()) == value, name


def test_golden_arrays_and_tables_are_still_read() -> None:
    import numpy as np
    import pyarrow as pa

    array, scalar = codec.decode((GOLDEN / "array.bin").read_bytes())
    np.testing.assert_array_equal(array, np.arange(6, dtype="<i4").reshape(2, 3))
    assert array.dtype == np.dtype("<i4")
    assert type(scalar) is np.float32
    assert scalar == 1.5
    assert codec.decode((GOLDEN / "table.bin").read_bytes()) == pa.table({"a": [1, None], "b": ["x", "y"]})


def test_a_golden_call_is_still_read() -> None:
    call = codec.decode((GOLDEN / "call.bin").read_bytes(), input_of=lambda *what: what)
    assert call == [[(0, [], None), 5, [(1, [("a", "x")], None)]], {"k": (0, [("i", 2)], None)}]


@pytest.mark.parametrize("name", [name for name in GOLDENS if name not in ("pickle", "model")])
def test_what_is_written_today_is_what_was_written_then(name: str) -> None:
    """A change here needs a new file beside the old one, not in its place."""
    assert codec.encode(GOLDENS[name]) == (GOLDEN / f"{name}.bin").read_bytes()

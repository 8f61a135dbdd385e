"""numpy, Arrow and pandas: same types, same values, copied when small, views when large."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from towline.engine import codec
from towline.engine.codec.wire import BESIDE_FROM


def back(value: Any) -> Any:
    return codec.decode(codec.encode(value))


dtypes = (
    hnp.boolean_dtypes()
    | hnp.integer_dtypes()
    | hnp.floating_dtypes()
    | hnp.complex_number_dtypes()
    | hnp.datetime64_dtypes()
    | hnp.unicode_string_dtypes(max_len=3)
    | hnp.byte_string_dtypes(max_len=3)
)


@settings(max_examples=80, deadline=None)
@given(hnp.arrays(dtypes, hnp.array_shapes(min_dims=0, min_side=0, max_side=3)), st.booleans())
def test_arrays_come_back(array: Any, turned: bool) -> None:
    array = array.T if turned else array
    again = back(array)
    assert (again.dtype, again.shape) == (array.dtype, array.shape)
    np.testing.assert_array_equal(again, array)
    assert again.flags.writeable
    header, buffers = codec.split([array])
    np.testing.assert_array_equal(codec.join(header, buffers)[0], array)


def test_structured_and_object_arrays_come_back() -> None:
    rows = np.array([("x", 1)], dtype=[("a", "U3"), ("b", "<i4")])
    objects = np.array([{1}, None, (2,)], dtype=object)
    assert back(rows).dtype == rows.dtype
    np.testing.assert_array_equal(back(rows), rows)
    np.testing.assert_array_equal(back(objects), objects)


@pytest.mark.parametrize("value", [np.float32(1.5), np.int64(3), np.bool_(True), np.str_("ab"), np.datetime64("2020")])
def test_scalars_keep_their_type(value: Any) -> None:
    assert type(back(value)) is type(value)
    assert back(value) == value


def test_what_is_split_lies_on_the_buffers() -> None:
    array = np.arange(BESIDE_FROM, dtype=float)
    header, buffers = codec.split({"a": array, "b": array.reshape(2, -1).T})
    assert len(header) < 200
    again = codec.join(header, [memoryview(buffer).cast("B") for buffer in buffers])
    assert np.shares_memory(again["a"], array)
    assert not again["a"].flags.writeable
    np.testing.assert_array_equal(again["b"], array.reshape(2, -1).T)


@pytest.mark.parametrize(
    "value",
    [
        pa.table({"a": [1, None], "b": ["x", "y"]}),
        pa.table({"a": pa.array([], pa.int8())}),
        pa.record_batch({"a": [1]}),
        pa.array([1, None]),
        pa.chunked_array([[1], [2, 3]]),
        pa.schema([pa.field("a", pa.int32(), nullable=False)], metadata={"k": "v"}),
    ],
)
def test_arrow_objects_come_back(value: Any) -> None:
    assert back(value).equals(value)
    assert type(back(value)) is type(value)


@pytest.mark.parametrize("names", [None, ["x", "y"]])
@pytest.mark.parametrize(
    "array",
    [np.arange(12.0).reshape(3, 4), np.asfortranarray(np.ones((3, 4))), np.arange(24).reshape(4, 6)[::2, ::3], np.zeros((0, 3))],
)
def test_tensors_come_back(array: Any, names: Any) -> None:
    value = pa.Tensor.from_numpy(array, names)
    found = back(value)
    assert found.equals(value)
    assert (found.type, found.shape, found.dim_names) == (value.type, value.shape, value.dim_names)


def test_arrow_lies_on_the_buffer_that_it_was_read_from() -> None:
    table = pa.table({"a": np.arange(BESIDE_FROM)})
    header, (buffer,) = codec.split(table)
    again = codec.join(header, [buffer])
    start, size = pa.py_buffer(buffer).address, pa.py_buffer(buffer).size
    assert start <= again.column(0).chunk(0).buffers()[1].address < start + size


FRAMES = {
    "numbers": pd.DataFrame({"a": [1, 2], "b": [1.5, None]}),
    "text": pd.DataFrame({"c": ["x", "y"]}),
    "dates": pd.DataFrame({"a": [1]}, index=pd.date_range("2020", periods=1)),
    "series": pd.Series([1, 2], name="q"),
    "objects": pd.DataFrame({"a": [{1}, (2,)]}),
    "columns": pd.DataFrame({1: [2]}),
    "levels": pd.DataFrame({"a": [1]}, index=pd.MultiIndex.from_tuples([(1, "x")], names=["n", None])),
    "kinds": pd.DataFrame({"a": pd.Categorical(["x", "y"]), "b": pd.array([1, None], "Int64")}),
    "named": pd.Series([1.0], name=("a", 1)),
    "empty": pd.DataFrame(),
}


@pytest.mark.parametrize("name", FRAMES)
def test_pandas_comes_back_exactly(name: str) -> None:
    value = FRAMES[name]
    check = pd.testing.assert_frame_equal if isinstance(value, pd.DataFrame) else pd.testing.assert_series_equal
    check(back(value), value, check_freq=False)
    header, buffers = codec.split(value)
    check(codec.join(header, buffers), value, check_freq=False)


def test_frames_that_arrow_holds_need_no_pickle() -> None:
    assert codec.encode(FRAMES["numbers"], allow_pickle=False)
    assert codec.encode(FRAMES["series"], allow_pickle=False)


def test_attributes_of_a_frame_are_kept() -> None:
    frame = FRAMES["numbers"].copy()
    frame.attrs["unit"] = "eV"
    assert back(frame).attrs == {"unit": "eV"}

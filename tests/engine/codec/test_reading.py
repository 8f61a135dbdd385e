"""Decoding: damage is told, pickles can be refused, what is read is the reader's own."""

from __future__ import annotations

import datetime as dt
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.kit.samples import Plain
from towline.engine import codec
from towline.engine.authoring.reference import OutputReference
from towline.engine.errors import CorruptionError, TowlineError, UsageError


@pytest.mark.parametrize(
    "data", [b"", b"\xc1", codec.encode([1, 2])[:-1], codec.encode(1) + b"\0", b"\xc7\x00\x7f", b"\xc7\xff\x03"]
)
def test_bytes_that_are_no_value_are_said_to_be_corrupt(data: bytes) -> None:
    with pytest.raises(CorruptionError):
        codec.decode(data)


def test_an_unknown_extension_is_named() -> None:
    with pytest.raises(CorruptionError, match="extension 120"):
        codec.decode(msgspec.msgpack.encode(msgspec.msgpack.Ext(120, b"")))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=40))
def test_no_bytes_whatsoever_crash_the_reader(data: bytes) -> None:
    try:
        codec.decode(data, allow_pickle=False)
    except Exception as error:
        assert not isinstance(error, SystemError | MemoryError)  # noqa: PT017 - any other error will do


def test_a_pickle_is_refused_on_request() -> None:
    data = codec.encode(Plain(1))
    with pytest.raises(UsageError, match="allow_pickle=True"):
        codec.decode(data, allow_pickle=False)
    assert codec.decode(data) == Plain(1)


def test_inputs_need_someone_who_knows_them() -> None:
    data = codec.encode_call([OutputReference("a")], {}, numbers={})
    with pytest.raises(TowlineError, match="no inputs"):
        codec.decode(data)


def test_references_become_what_the_reader_says() -> None:
    data = codec.encode({"a": OutputReference("u").x, "b": (OutputReference("u"),)})
    assert codec.decode(data, free=lambda ref: ref.attributes_formatted) == {"a": [".x"], "b": ([],)}


def test_every_read_gives_an_object_of_its_own() -> None:
    data = codec.encode({"a": [1]})
    first = codec.decode(data)
    first["a"].append(2)
    assert codec.decode(data) == {"a": [1]}


@pytest.mark.parametrize(
    "zone",
    [None, dt.UTC, dt.timezone(dt.timedelta(minutes=-90)), dt.timezone(dt.timedelta(hours=1), "home"), ZoneInfo("UTC")],
)
def test_times_keep_zone_and_fold(zone: dt.tzinfo | None) -> None:
    moment = dt.datetime(2024, 10, 27, 2, 30, fold=1, tzinfo=zone)
    for value in (moment, moment.timetz()):
        back = codec.decode(codec.encode(value))
        assert (back, back.fold, repr(back.tzinfo)) == (value, 1, repr(zone))


def test_a_stub_is_not_taken_for_a_value() -> None:
    with pytest.raises(TowlineError, match="no files"):
        codec.decode(codec.stub(b"token"))

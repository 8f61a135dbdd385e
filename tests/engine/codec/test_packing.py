"""Encoding: numbers for references, places in errors, buffers beside the header."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from tests.kit.samples import Box, Colour, Plain
from towline.engine import codec
from towline.engine.authoring.reference import OutputReference
from towline.engine.codec.packing import HANDLERS
from towline.engine.errors import EncodingError

A, B = OutputReference("a"), OutputReference("b")


def inputs(data: bytes) -> Any:
    return codec.decode(data, input_of=lambda number, path, uuid: ("input", number, path, uuid))


def test_references_are_numbered_as_they_are_met() -> None:
    numbers: dict[str, int] = {}
    data = codec.encode_call([B, {"k": (A.x["y"], B)}], {"z": [A]}, numbers=numbers)
    assert numbers == {"b": 0, "a": 1}
    first = ("input", 0, [], None)
    second = ("input", 1, [("a", "x"), ("i", "y")], None)
    assert inputs(data) == [[first, {"k": (second, first)}], {"z": [("input", 1, [], None)]}]


def test_numbering_goes_on_from_what_is_known() -> None:
    numbers = {"b": 0}
    codec.encode_call([A], {}, numbers=numbers)
    assert numbers == {"b": 0, "a": 1}


def test_many_references_to_one_job_are_one_parent() -> None:
    numbers: dict[str, int] = {}
    codec.encode_call([A, A.x, [A[1]]], {}, numbers=numbers)
    assert numbers == {"a": 0}


def test_more_references_than_the_prepared_ones() -> None:
    refs = [OutputReference(str(n)) for n in range(300)]
    numbers: dict[str, int] = {}
    args, _ = inputs(codec.encode_call(refs, {}, numbers=numbers))
    assert [number for _, number, _, _ in args] == list(range(300))


def test_names_are_kept_where_they_are_asked_for() -> None:
    assert inputs(codec.encode_call([A.x], {}, numbers={}, named=True)) == [[("input", 0, [("a", "x")], "a")], {}]


def test_without_numbers_references_are_values() -> None:
    data, found = codec.encode_call_noting([A, [B.x]], {})
    assert found == [A, B.x]
    assert codec.decode(data) == [[A, [B.x]], {}]


@pytest.mark.parametrize(
    "hide",
    [
        lambda ref: [ref],
        lambda ref: (ref,),
        lambda ref: {"k": ref},
        lambda ref: {1: {(1, 2): ref}},
        lambda ref: {ref},
        lambda ref: frozenset({ref}),
        lambda ref: Box(ref),
        lambda ref: Box({"deep": [Box(ref)]}),
        lambda ref: Plain(ref),
        lambda ref: Box(Plain([ref])),
    ],
)
def test_references_are_found_and_resolved_wherever_they_hide(hide: Any) -> None:
    value = hide(A.x)
    assert codec.references_in(value) == [A.x]
    data = codec.encode_call([value], {}, numbers={})
    assert codec.decode(data, input_of=lambda *what: "seen") == [[hide("seen")], {}]


def test_references_in_dictionary_keys_are_refused() -> None:
    for key in (A, (1, A)):
        with pytest.raises(EncodingError, match=r"args\[0\]\[.*cannot be part of a dictionary key"):
            codec.encode_call([{key: 1}], {}, numbers={})


LOCK = threading.Lock()


@pytest.mark.parametrize(
    ("args", "kwargs", "place"),
    [
        ([1, LOCK], {}, "args[1] "),
        ([1, {"x": Box([0, LOCK])}], {}, "args[1]['x'].content[1] "),
        ([], {"k": (1, {2: LOCK})}, "kwargs['k'][1][2] "),
        ([{LOCK: 1}], {}, f"args[0][{LOCK!r}] "),
    ],
)
def test_what_has_no_encoding_is_named_by_its_place(args: list[Any], kwargs: dict[str, Any], place: str) -> None:
    with pytest.raises(EncodingError) as caught:
        codec.encode_call(args, kwargs)
    assert str(caught.value).startswith(place + "cannot be stored: a lock cannot be pickled")


def test_the_root_has_the_name_it_is_given() -> None:
    with pytest.raises(EncodingError, match=r"^output\['a'\] cannot be stored"):
        codec.encode({"a": LOCK}, root="output")


def test_a_value_that_contains_itself_is_refused() -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(EncodingError, match="contains itself"):
        codec.encode(loop)


def test_pickles_can_be_refused() -> None:
    with pytest.raises(EncodingError, match=r"value\[0\].*pickles are refused"):
        codec.encode([Plain(1)], allow_pickle=False)
    assert codec.decode(codec.encode([Box(Colour.RED)], allow_pickle=False), allow_pickle=False) == [Box(Colour.RED)]


def test_long_ints_beside_everything_else() -> None:
    value = {"a": [2**64, (2**64 - 1, -(2**63) - 1)], 2**65: "\ud800", "b": b""}
    assert codec.decode(codec.encode(value)) == value


def test_equal_sets_have_equal_bytes() -> None:
    # integers that collide in a small table come out in the order in which they went in
    assert list({8, 0}) != list({0, 8})
    assert codec.encode({8, 0}) == codec.encode({0, 8})


def test_large_buffers_lie_beside_the_header_and_small_ones_in_it() -> None:
    big = bytes(100_000)
    header, buffers = codec.split(big)
    assert len(header) < 50
    assert buffers[0] is big
    assert codec.join(header, buffers) == big
    assert type(codec.join(header, buffers)) is bytes
    header, buffers = codec.split(b"small")
    assert not buffers
    assert header == codec.encode(b"small")


def test_the_second_try_for_long_ints_starts_with_no_buffers() -> None:
    header, buffers = codec.split([bytearray(b"x"), bytes(50_000), 2**70])
    assert len(buffers) == 1
    assert codec.join(header, buffers) == [bytearray(b"x"), bytes(50_000), 2**70]


def test_content_is_bytes_up_to_the_limit() -> None:
    assert codec.encode_content("x" * 50, 100) == codec.encode("x" * 50)
    header, buffers = codec.encode_content("x" * 500, 100)
    assert codec.join(header, buffers) == "x" * 500


def test_a_stub_is_told_from_values() -> None:
    for token in (b"", b"1", b"12", b"1234", b"12345678", b"x" * 16, b"y" * 17, b"z" * 300, b"w" * 70_000):
        assert codec.stub_token(codec.stub(token)) == token
    for value in (None, 1, (1,), [], {1}, b"", Box(1), 2**70):
        assert codec.stub_token(codec.encode(value)) is None
    assert codec.stub_token(b"") is None


def test_types_met_are_remembered_by_their_exact_type() -> None:
    class Local(list[int]):
        pass

    assert codec.decode(codec.encode(Local([1]))) == [1]
    assert Local in HANDLERS

"""The table of extensions: numbers are for ever, and each is read by someone."""

from __future__ import annotations

from towline.engine.codec.reading import READERS
from towline.engine.codec.wire import Code, Unencodable

CODES = {name: number for name, number in vars(Code).items() if name.isupper()}


def test_numbers_are_unique_and_fit_msgpack() -> None:
    assert len(set(CODES.values())) == len(CODES)
    assert all(0 < number < 128 for number in CODES.values())


def test_every_number_is_read_by_someone() -> None:
    assert set(READERS) == set(CODES.values())


def test_numbers_of_the_first_release_have_not_moved() -> None:
    assert [CODES[name] for name in ("INPUT", "REFERENCE", "TUPLE", "STATE", "NDARRAY", "PICKLE", "FILE")] == [
        1,
        2,
        3,
        23,
        28,
        32,
        35,
    ]


def test_a_place_is_told_from_the_outside_in() -> None:
    error = Unencodable("why").at("[1]").at(".x")
    assert error.sentence("args") == "args.x[1] cannot be stored: why"

"""Failures: whose fault, in one line, with the job's own frames."""

from __future__ import annotations

import errno
from typing import Any

import pytest

from towline.actors.execute.failures import MESSAGE_MOST, TRACEBACK_MOST, Unresolved, describe, kind_of
from towline.engine import codec
from towline.engine.authoring.response import SchemaError
from towline.engine.errors import EncodingError
from towline.engine.model import ERROR_LIMIT
from towline.engine.states import FailureKind


@pytest.mark.parametrize(
    ("error", "kind", "retry"),
    [
        (ValueError("x"), FailureKind.ERROR, True),
        (MemoryError(), FailureKind.OUT_OF_MEMORY, True),
        (OSError(errno.ENOSPC, "full"), FailureKind.OUT_OF_DISK, True),
        (OSError(errno.EDQUOT, "full"), FailureKind.OUT_OF_DISK, True),
        (FileNotFoundError(errno.ENOENT, "no"), FailureKind.ERROR, True),
        (SchemaError("x"), FailureKind.SCHEMA, False),
        (Unresolved("x"), FailureKind.UNRESOLVED_REFERENCE, False),
        (EncodingError("x"), FailureKind.ERROR, False),
    ],
)
def test_kinds(error: Exception, kind: FailureKind, retry: bool) -> None:
    failure = describe(error)
    assert kind_of(error) is kind
    assert (failure.kind, failure.retry) == (str(kind), retry)


def test_messages_are_one_short_line() -> None:
    assert describe(ValueError("a\n  b")).message == "ValueError: a b"
    assert describe(KeyError()).message == "KeyError"
    assert len(describe(ValueError("x" * 10_000)).message) == MESSAGE_MOST
    assert describe(Unresolved("u")).message == "ValueError: u"


def test_an_error_that_cannot_say_itself() -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    def body() -> None:
        raise Mute

    try:
        body()
    except Mute as error:
        failure = describe(error)
    assert failure.message == "Mute: (its text cannot be made)"
    assert "in body" in failure.traceback


def test_tracebacks_keep_causes_and_lose_their_middle_when_long() -> None:
    def inner() -> None:
        raise KeyError("cause")

    def body() -> None:
        try:
            inner()
        except KeyError as error:
            raise ValueError("v" * 50_000) from error

    try:
        body()
    except ValueError as error:
        text = describe(error).traceback
    assert "in inner" in text
    assert "direct cause" in text
    assert len(text) < TRACEBACK_MOST + 100
    assert "characters left out" in text


def test_an_error_without_frames_of_the_job_has_none() -> None:
    assert describe(ValueError("x")).traceback == ""


class Told(ValueError):
    """One that says more than its text."""


class Odd(Exception):
    def __reduce__(self) -> Any:
        raise RuntimeError("not me")


def test_the_exception_itself_is_kept_where_it_can_travel() -> None:
    error = Told("x", 3)
    error.add_note("a note")
    again = codec.decode(describe(error).error)
    assert (type(again), again.args, again.__notes__) == (Told, ("x", 3), ["a note"])


@pytest.mark.parametrize("error", [Odd(), Told("x" * ERROR_LIMIT), Unresolved("u")])
def test_and_is_left_out_where_it_cannot(error: Exception) -> None:
    failure = describe(error)
    assert failure.error == b""
    assert failure.message


def test_no_pickle_is_made_where_none_is_wanted() -> None:
    assert describe(Told("x"), allow_pickle=False).error == b""

"""Failures: whose fault, in one line, with the job's own frames."""

from __future__ import annotations

import errno

import pytest

from towline.actors.execute.failures import MESSAGE_MOST, TRACEBACK_MOST, Unresolved, describe, kind_of
from towline.engine.authoring.response import SchemaError
from towline.engine.errors import EncodingError
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

"""`towline logs`: what is asked, and where the text goes."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner, Result

from tests.kit.fake_leader import FakeWire
from towline import client
from towline.cli.main import build
from towline.client import Line

UUIDS = ("abcd-1", "abcd-2", "bcde-3")


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch) -> FakeWire:
    made = FakeWire(("completed",))
    made.ask("submit", b"xxx")
    made.ask("wait", {})
    made.outputs = dict.fromkeys(UUIDS, 1)
    monkeypatch.setattr(client, "find", lambda _url: Line(made))
    return made


def logs(*args: str) -> Result:
    return CliRunner().invoke(build(), ["logs", *args])


def test_the_streams_go_where_they_went(wire: FakeWire) -> None:
    result = logs("runs/x", "abcd-1")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "out of abcd-1\n", "\ufffd err\n")


def test_the_store_may_come_from_the_option(wire: FakeWire, monkeypatch: pytest.MonkeyPatch) -> None:
    assert logs("abcd-1", "--store", "runs/x").exit_code == 0
    assert logs("abcd-1").exit_code == 2
    monkeypatch.setenv("TOWLINE_STORE", "runs/x")
    assert logs("abcd-1").exit_code == 0
    assert "expected [STORE] JOB, got 3 words" in logs("a", "b", "c").stderr


def test_what_names_the_job_goes_to_the_store_as_it_is(wire: FakeWire) -> None:
    asked: list[object] = []
    told = wire._logs
    wire._logs = lambda payload: (asked.append(payload), told(payload))[1]  # type: ignore[method-assign]  # listened to
    assert logs("runs/x", "some name", "--index", "2").stdout == "out of some name\n"
    assert asked == [{"uuid": "some name", "index": 2}], "one question, whatever the number of jobs"


def test_a_job_that_wrote_nothing_is_no_blank_screen(wire: FakeWire) -> None:
    wire._logs = lambda _payload: {"stdout": b"", "stderr": b""}  # type: ignore[method-assign]  # of a quiet job
    result = logs("runs/x", "abcd-1")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "towline: the job abcd-1 wrote nothing\n")

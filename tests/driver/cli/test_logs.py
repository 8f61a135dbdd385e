"""`towline logs`: which job is meant, and where its text goes."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner, Result

from tests.kit.fake_leader import FakeWire
from towline import UsageError, client
from towline.cli.logs import find
from towline.cli.main import build
from towline.client import Line
from towline.control import Run

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


def test_a_job_is_meant_by_uuid_by_its_beginning_or_by_name(wire: FakeWire) -> None:
    run = Run("runs/x", client=Line(wire))
    assert find(run, "abcd-1") == "abcd-1"
    assert find(run, "bcde") == "bcde-3"
    assert find(run, "job abcd-2") == "abcd-2"
    with pytest.raises(UsageError, match=r"2 jobs are meant by 'abcd', such as abcd-1 \(job abcd-1\)"):
        find(run, "abcd")
    with pytest.raises(UsageError, match="there is no job 'bcd'"):
        find(run, "bcd")

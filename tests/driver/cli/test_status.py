"""`towline status`, over a leader that runs nothing."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from tests.kit.fake_leader import FakeWire
from towline import client
from towline.cli.main import build


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch) -> FakeWire:
    made = FakeWire(failures=1)
    made.ask("submit", b"xxx")
    monkeypatch.setattr(client, "find", lambda _url: client.Line(made))
    return made


def status(*args: str) -> str:
    result = CliRunner().invoke(build(), ["status", *args])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_it_shows_state_counts_flows_and_failures(wire: FakeWire) -> None:
    wire.state = "failed"
    lines = status("runs/x").splitlines()
    assert lines[0] == "failed  3 jobs, store runs/x"
    assert [line.split() for line in lines[1:3]] == [["completed", "2"], ["failed", "1"]]
    assert lines[3] == "flow flow (f1): 3 jobs"
    assert lines[4] == "failed job u0 (u0, index 1): ValueError: bad"


def test_a_run_without_a_leader_says_how_to_go_on(wire: FakeWire) -> None:
    wire.state, wire.failures = "interrupted", 0
    assert status("--store", "runs/x").splitlines()[-1] == ("no leader works on it: go on by `towline resume runs/x`")


def test_programs_get_one_object(wire: FakeWire) -> None:
    assert json.loads(status("runs/x", "--json")) == wire.ask("status")

"""jobflow's `run_locally`: its arguments, its answer, its errors. Over a leader that runs nothing."""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.kit.fake_leader import FakeLeader, FakeWire
from towline import Flow, Response, UsageError, client, job, locally, offline, orders, run_locally, session


@job
def add(a: int, b: int) -> int:
    return a + b


class Stage:
    def __init__(self) -> None:
        self.leader = FakeLeader()
        self.order: orders.Order | None = None

    def start(self, order: orders.Order) -> FakeLeader:
        self.order = order
        return self.leader


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    """The leader also answers for the store at rest."""
    made = Stage()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(session, "start", made.start)
    real = session.chunks_of

    def chunks_of(flow: Any, *rest: Any) -> Iterator[bytes]:
        real(flow, *rest)  # what cannot be taken is refused
        return iter([b"x" * len(list(flow.jobs))])

    monkeypatch.setattr(session, "chunks_of", chunks_of)
    monkeypatch.setattr(client, "find", lambda _url: None)

    def ask(_self: object, verb: str, payload: Any = None, _s: float | None = None) -> Any:
        return getattr(made.leader.client, f"_{verb}")(payload)

    def ask_all(_self: object, verb: str, payloads: list[Any]) -> list[Any]:
        return [ask(_self, verb, payload) for payload in payloads]

    monkeypatch.setattr(offline.OfflineClient, "ask", ask)
    monkeypatch.setattr(offline.OfflineClient, "ask_all", ask_all)
    return made


def test_the_answer_is_by_uuid_and_index(stage: Stage) -> None:
    one = add(1, 2)
    stage.leader.client.outputs = {one.uuid: 3}
    assert run_locally(one, log=False) == {one.uuid: {1: Response(output=3, job_dir=Path.cwd())}}
    assert stage.order is not None
    assert (stage.order.local, stage.order.store) == (True, ".towline/Flow")
    assert [options.keys() for options in stage.leader.options] == [{"responded"}]


def test_failed_jobs_are_absent_and_logged(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    stage.leader = FakeLeader(FakeWire(("failed",), failures=1))
    with caplog.at_level(logging.INFO, "towline"):
        assert run_locally([add(1, 2), add(3, 4)]) == {}
    assert "job u0 (u0) failed: ValueError: bad\nTraceback of u0" in caplog.text
    assert "Started executing jobs locally" in caplog.text


def test_success_can_be_insisted_on(stage: Stage) -> None:
    stage.leader = FakeLeader(FakeWire(("failed",), failures=1))
    with pytest.raises(RuntimeError, match="Flow did not finish running successfully"):
        run_locally(add(1, 2), log=False, ensure_success=True)
    stage.leader = FakeLeader()
    run_locally(add(1, 2), log=False, ensure_success=True, store="runs/second")


def test_references_that_lead_outside_are_refused_unless_allowed(stage: Stage) -> None:
    outside = add(1, 2)
    with pytest.raises(ValueError, match="not found in the jobs array"):
        run_locally(Flow([add(outside.output, 1)]), log=False)
    with pytest.raises(ValueError, match=rf"Could not resolve reference - {outside.uuid} .*'add' .* refers to it in args\[0\]"):
        run_locally(Flow([add(outside.output, 1)]), log=False, allow_external_references=True)
    assert stage.order is None


def test_the_first_exception_can_be_let_out(stage: Stage) -> None:
    run_locally(add(1, 2), log=False, raise_immediately=True)
    assert stage.leader.options[0]["raise_immediately"] is True


def test_a_document_store_is_refused_with_what_to_give(stage: Stage) -> None:
    with pytest.raises(UsageError, match="store must be a path, a URL or a JobStore, not dict"):
        run_locally(add(1, 2), store={})  # type: ignore[arg-type]  # what a user of jobflow may hand over


class Now(dt.datetime):
    """A clock that stands."""

    @classmethod
    def now(cls, tz: dt.tzinfo | None = None) -> Any:
        return dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=tz)


def test_each_job_gets_a_folder_of_its_own(stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = iter([7, 7, 8])
    monkeypatch.setattr(locally.random, "randrange", lambda _n: next(numbers))
    monkeypatch.setattr(locally.dt, "datetime", Now)
    seen: list[Path] = []

    def body() -> None:
        around = stage.leader.options[0]["around"]
        for n in range(2):
            with around("add", f"u{n}", 1):
                seen.append(Path.cwd())

    stage.leader.body = body
    run_locally(add(1, 2), log=False, create_folders=True, root_dir="work")
    assert seen == [tmp_path / f"work/job_2026-01-02-03-04-05-000000-{number}" for number in ("00007", "00008")]
    assert Path.cwd() == tmp_path


def test_a_folder_is_left_when_the_job_raises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    def work() -> None:
        with locally.folder(tmp_path / "a/b", new=False):
            raise ValueError(Path.cwd())

    with pytest.raises(ValueError, match=str(tmp_path / "a/b")):
        work()
    assert Path.cwd() == tmp_path


def test_jobs_are_logged_as_they_start_and_finish(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    def body() -> None:
        with stage.leader.options[0]["around"]("add", "u1", 2):
            pass

    stage.leader.body = body
    with caplog.at_level(logging.INFO, "towline"):
        run_locally(add(1, 2))
    assert "Starting job - add (u1, 2)" in caplog.text
    assert "Finished job - add (u1, 2)" in caplog.text


def test_the_log_goes_to_the_console_in_the_format_that_was_given(
    stage: Stage, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # pytest's own handlers would count as the program's
    monkeypatch.setattr(locally.logger, "propagate", False)
    run_locally(add(1, 2), log="towline says %(message)s")
    assert "towline says Finished executing jobs locally\n" in capsys.readouterr().err
    assert locally.logger.handlers == []
    stage.leader = FakeLeader(FakeWire(("failed",), failures=1))
    run_locally(add(1, 2), log=False, store="runs/second")
    assert capsys.readouterr().err == ""

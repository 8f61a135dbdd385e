"""Runs from their call to their end, over a leader that runs nothing: what is started, told, closed and raised."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import towline
from tests.kit.fake_leader import FakeLeader, FakeWire
from towline import Flow, Job, Run, RunFailed, UsageError, client, job, offline, places, session
from towline.actors.endpoint import Endpoint
from towline.orders import Order, order_of
from towline.progress import Bar
from towline.stores.errors import StoreLocked


@job
def add(a: int, b: int) -> int:
    return a + b


class Stage:
    """What `session` sees of the world."""

    def __init__(self) -> None:
        self.leader = FakeLeader()
        self.orders: list[Order] = []
        self.chunks: Callable[[Any], Any] = lambda flow, *_: iter([b"x" * len(list(flow.jobs))])

    @property
    def wire(self) -> FakeWire:
        return self.leader.client

    def start(self, order: Order) -> FakeLeader:
        self.orders.append(order)
        if self.leader.closed:
            self.leader = FakeLeader()
        return self.leader


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    made = Stage()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(session, "start", made.start)
    monkeypatch.setattr(session, "chunks_of", lambda flow, *_: made.chunks(flow))
    monkeypatch.setattr(client, "find", lambda _url: None)
    monkeypatch.setattr(client, "leading", lambda _url: None)
    return made


def test_a_run_is_handed_in_awaited_and_closed(stage: Stage) -> None:
    stage.leader = FakeLeader(FakeWire(("running", "completed")))
    one = add(1, 2)
    run = towline.run(Flow([one, add(one.output, 3)]), store="runs/x", workers=2, progress=False)
    assert (run.state, run.counts(), run.store) == ("completed", {"completed": 2}, "runs/x")
    assert stage.leader.closed == 1
    [order] = stage.orders
    assert (order.store, order.create, order.workers, order.local, order.detached) == ("runs/x", True, 2, False, False)


@pytest.mark.parametrize("wrap", [lambda j: j, lambda j: [j], lambda j: Flow([j])])
def test_a_flow_a_job_and_a_list_can_be_run(stage: Stage, wrap: Callable[[Job], Any]) -> None:
    assert towline.run(wrap(add(1, 2)), progress=False).counts() == {"completed": 1}


def test_the_name_of_the_flow_names_the_store(stage: Stage) -> None:
    assert towline.run(Flow([add(1, 2)], name="my flow"), progress=False).store == ".towline/my-flow"
    assert towline.run(add(1, 2), name="other", progress=False).store == ".towline/other"


def test_failed_jobs_are_told_with_their_tracebacks(stage: Stage) -> None:
    stage.leader = FakeLeader(FakeWire(("failed",), failures=7))
    with pytest.raises(RunFailed) as caught:
        towline.run([add(n, n) for n in range(9)], store="runs/x", progress=False)
    text = str(caught.value)
    assert text.startswith("7 of 9 jobs failed in runs/x")
    assert "job u0 (u0) failed: ValueError: bad\n    Traceback of u0\n      line 1" in text
    assert "u4" in text
    assert "u5" not in text
    assert "and 2 more: see `towline status runs/x`" in text
    assert stage.leader.closed == 1


def test_the_error_of_a_failed_run_has_the_run(stage: Stage) -> None:
    stage.leader = FakeLeader(FakeWire(("failed",), failures=1))
    with pytest.raises(RunFailed) as caught:
        towline.run(add(1, 2), store="runs/x", progress=False)
    assert isinstance(caught.value.run, Run)
    assert (caught.value.run.state, caught.value.run.counts()) == ("failed", {"failed": 1})


def test_how_a_run_ended_is_asked_of_its_own_flow(stage: Stage) -> None:
    """Other flows of the same store may have failed long ago."""
    flow, questions = Flow([add(1, 2)]), []

    class Wire(FakeWire):
        def _status(self, payload: Any) -> dict[str, Any]:
            questions.append(payload)
            of_all = super()._status(None) | {"flows": [["f0", "old", 3, 3], [flow.uuid, "new", 1, 1]]}
            if self.state == "running" or payload:
                return of_all
            return of_all | {"state": "failed", "counts": {"completed": 1, "failed": 3}, "total": 4}

    stage.leader = FakeLeader(Wire(("completed",)))
    run = towline.run(flow, store="runs/x", progress=False)
    assert questions[-1] == {"flow": flow.uuid}
    assert (run.state, run.counts()) == ("completed", {"completed": 1})


def test_what_cannot_be_taken_is_refused_before_anything_starts(stage: Stage) -> None:
    def refuse(_flow: Any) -> Any:
        raise UsageError("argument a of job add cannot be encoded")

    stage.chunks = refuse
    for verb in (towline.run, towline.submit):
        with pytest.raises(UsageError, match="cannot be encoded"):
            verb(add(1, 2), store="runs/x")
    assert stage.orders == []
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (3, "a list of them, got int$"),
        (None, "got NoneType$"),
        ("job", "got str$"),
        ([add(1, 2), 3], "got int$"),
        (add, "got JobFunction: call it, its call is the job$"),
        ({"a": add(1, 2)}, "got dict$"),
    ],
)
def test_what_is_no_flow_is_named(stage: Stage, given: Any, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        towline.run(given, progress=False)
    assert stage.orders == []


def test_jobs_may_come_from_anything_that_gives_them_one_by_one(stage: Stage) -> None:
    assert towline.run((add(n, n) for n in range(3)), progress=False).counts() == {"completed": 3}


def test_failed_jobs_are_only_told_of_if_that_is_asked(stage: Stage) -> None:
    stage.leader = FakeLeader(FakeWire(("failed",), failures=1))
    run = towline.run(add(1, 2), progress=False, raise_on_failure=False)
    assert (run.state, run.counts()) == ("failed", {"failed": 1})


def test_a_run_out_of_time_is_closed_and_says_how_to_go_on(stage: Stage) -> None:
    stage.leader = FakeLeader(FakeWire(("running",)))
    with pytest.raises(TimeoutError, match=r"has not ended after 1e-06 s; .*towline.resume\('runs/x'\)"):
        towline.run(add(1, 2), store="runs/x", progress=False, timeout_s=1e-6)
    assert stage.leader.closed == 1


def test_ctrl_c_closes_cleanly_and_says_how_to_go_on(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    def press() -> None:
        raise KeyboardInterrupt

    stage.leader = FakeLeader(FakeWire(("running",)))
    stage.wire.on_wait = press
    with pytest.raises(KeyboardInterrupt):
        towline.run(add(1, 2), store="runs/x", progress=False)
    assert stage.leader.closed == 1
    assert "towline resume runs/x" in capsys.readouterr().err


def test_any_other_error_closes_the_leader_too(stage: Stage) -> None:
    stage.wire.gone = True
    with pytest.raises(ConnectionError):
        towline.run(add(1, 2), progress=False)
    assert stage.leader.closed == 1


def test_half_a_flow_is_not_run(stage: Stage) -> None:
    def chunks(_flow: Any) -> Any:
        for _ in range(10):
            yield b"xxx"
        raise UsageError("argument a of job add cannot be encoded")

    stage.chunks = chunks
    with pytest.raises(UsageError, match="cannot be encoded") as caught:
        towline.run(add(1, 2), store="runs/x", progress=False)
    assert "cancel" in stage.wire.asked
    assert any("had been handed in" in note for note in caught.value.__notes__)


def test_half_a_flow_does_not_stop_the_others_in_its_store(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    stage.chunks = lambda _flow: iter([b"x"] * 10)
    stage.wire.refuse_chunk = 8
    Path("runs/x/journal").mkdir(parents=True)
    monkeypatch.setattr(places, "flows_in", lambda _url: {"f0"})
    with pytest.raises(UsageError, match="duplicate job"):
        towline.run(add(1, 2), store="runs/x", progress=False)
    assert not stage.orders[0].create
    assert "cancel" not in stage.wire.asked


def test_progress_begins_and_ends_with_one_line(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    towline.run(add(1, 2), store="runs/x")
    first, last = capsys.readouterr().err.splitlines()
    assert first == "towline: starting on a local Ray"  # which takes seconds
    assert last.startswith("towline: completed: 1 job in ")
    towline.run(add(1, 2), store="runs/y", local=True)
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_of_a_store_that_is_led_only_that_is_said(
    stage: Stage, at_rest: FakeWire, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(client, "leading", lambda _url: Endpoint("/none", "t", 1, 7, 1.0, "here", "boot", "pid:[1]"))
    with pytest.raises(StoreLocked):
        towline.resume("runs/x")
    assert capsys.readouterr().err == ""
    assert stage.orders == []


def test_a_start_that_fails_leaves_no_bar(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    views: list[Bar] = []
    monkeypatch.setattr(session.shows, "show", lambda _wanted, store: views.append(Bar(store)) or views[0])

    def start(_order: Order) -> Any:
        assert views[0]._bar.live.is_started
        raise UsageError("no Ray answers")

    monkeypatch.setattr(session, "start", start)
    with pytest.raises(UsageError, match="no Ray answers"):
        towline.run(add(1, 2), store="runs/x")
    assert not views[0]._bar.live.is_started


# --------------------------------------------------------------------------------------------------- in this process


def test_a_local_run_runs_its_jobs_in_the_calling_thread(stage: Stage) -> None:
    run = towline.run(add(1, 2), local=True, progress=False)
    assert run.state == "completed"
    assert stage.leader.ran_in is threading.current_thread()
    assert stage.orders[0].local


def test_a_local_run_out_of_time_is_closed_from_beside(stage: Stage) -> None:
    closed = threading.Event()

    class Wire(FakeWire):
        def _close(self, payload: Any) -> None:
            super()._close(payload)
            closed.set()

    stage.leader = FakeLeader(Wire(("running",)))
    # the jobs run until somebody closes the leader
    stage.leader.body = lambda: closed.wait(30) or pytest.fail("nobody closed the run")
    with pytest.raises(TimeoutError, match=r"towline\.resume"):
        towline.run(add(1, 2), local=True, progress=False, timeout_s=1e-6)
    assert stage.leader.closed == 1


def test_ctrl_c_in_a_local_job_closes_cleanly(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    def press() -> None:
        raise KeyboardInterrupt

    stage.leader.body = press
    with pytest.raises(KeyboardInterrupt):
        towline.run(add(1, 2), local=True, store="runs/x", progress=False)
    assert stage.leader.closed == 1
    assert "towline resume runs/x" in capsys.readouterr().err


# ------------------------------------------------------------------------------------------------ inside event loops


async def test_run_works_where_a_loop_runs(stage: Stage) -> None:
    run = towline.run(add(1, 2), local=True, progress=False)
    assert run.state == "completed"
    assert stage.leader.ran_in is not threading.current_thread()


async def test_errors_come_out_of_the_thread(stage: Stage) -> None:
    stage.leader = FakeLeader(FakeWire(("failed",), failures=1))
    with pytest.raises(RunFailed):
        towline.run(add(1, 2), progress=False)
    stage.leader = FakeLeader(FakeWire(("failed",), failures=1))
    with pytest.raises(RunFailed):
        await towline.arun(add(1, 2), progress=False)


async def test_arun_is_run_and_lets_the_loop_go_on(stage: Stage) -> None:
    asked, go = threading.Event(), threading.Event()

    def on_wait() -> None:
        asked.set()
        assert go.wait(30), "the loop stood still"

    stage.wire.on_wait = on_wait
    work = asyncio.ensure_future(towline.arun(add(1, 2), progress=False))
    await asyncio.to_thread(asked.wait, 30)
    go.set()
    assert (await work).state == "completed"


async def test_cancelling_arun_closes_the_leader_first(stage: Stage) -> None:
    waiting = threading.Event()
    stage.leader = FakeLeader(FakeWire(("running",)))
    stage.wire.on_wait = waiting.set
    work = asyncio.ensure_future(towline.arun(add(1, 2), progress=False))
    await asyncio.to_thread(waiting.wait, 30)
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    assert stage.leader.closed == 1


# ------------------------------------------------------------------------------------------- submit, resume, connect


def test_submit_does_not_wait(stage: Stage) -> None:
    stage.leader = FakeLeader(FakeWire(("running", "completed")))
    run = towline.submit([add(1, 2)], store="runs/x")
    assert "wait" not in stage.wire.asked
    assert (run.state, stage.leader.closed) == ("running", 0)
    assert run.wait() == "completed"
    assert stage.leader.closed == 1


def test_with_an_address_the_leader_outlives_us(stage: Stage) -> None:
    towline.submit(add(1, 2), store="runs/x", address="auto")
    assert stage.orders[0].detached
    assert not order_of(add(1, 2), {"address": "auto"}).detached


def test_a_local_submit_runs_its_jobs_beside_us(stage: Stage) -> None:
    go = threading.Event()
    stage.leader.body = lambda: go.wait(30) or pytest.fail("close did not end the jobs")
    close = stage.leader.close

    def closing() -> None:
        close()
        go.set()

    stage.leader.close = closing  # type: ignore[method-assign]  # closing a leader ends its jobs
    run = towline.submit(add(1, 2), store="runs/x", local=True)
    assert run.state == "running"
    run.close()
    assert stage.leader.closed == 1
    assert stage.leader.ran_in is not threading.current_thread()
    assert not stage.leader.ran_in.is_alive()  # type: ignore[union-attr]  # it has run


def test_what_was_submitted_is_asked_of_its_own_flow(stage: Stage) -> None:
    questions: list[Any] = []

    class Wire(FakeWire):
        def ask(self, verb: str, payload: Any = None, timeout_s: float | None = None) -> Any:
            if verb in ("status", "wait", "jobs"):
                questions.append(payload)
            return super().ask(verb, payload, timeout_s)

    stage.leader = FakeLeader(Wire(("completed",)))
    flow = Flow([add(1, 2)])
    run = towline.submit(flow, store="runs/x")
    assert (run.state, run.jobs(["failed"]), run.wait()) == ("running", [], "completed")
    assert [one["flow"] for one in questions] == [flow.uuid] * 3


def test_a_refused_submit_leaves_no_leader(stage: Stage) -> None:
    stage.wire.refuse_chunk = 0
    with pytest.raises(UsageError, match="duplicate job"):
        towline.submit(add(1, 2), store="runs/x")
    assert stage.leader.closed == 1


@pytest.fixture
def at_rest(monkeypatch: pytest.MonkeyPatch) -> FakeWire:
    wire = FakeWire()
    wire.ask("submit", b"xxx")
    wire.state = "interrupted"
    monkeypatch.setattr(offline.OfflineClient, "ask", lambda _self, verb, payload=None, _s=None: wire.ask(verb, payload))
    monkeypatch.setattr(offline.OfflineClient, "ask_all", lambda _self, verb, payloads: [wire.ask(verb, one) for one in payloads])
    return wire


def test_resume_goes_on_without_a_flow(stage: Stage, at_rest: FakeWire) -> None:
    stage.wire.ask("submit", b"xxx")
    run = towline.resume("runs/x", workers=3, progress=False)
    assert (run.state, run.counts()) == ("completed", {"completed": 3})
    assert stage.wire.chunks == [b"xxx"]
    assert (stage.orders[0].create, stage.orders[0].workers) == (False, 3)


def test_resume_of_a_run_that_has_ended_starts_nothing(stage: Stage, at_rest: FakeWire) -> None:
    at_rest.state = "completed"
    assert towline.resume("runs/x").counts() == {"completed": 3}
    assert stage.orders == []


def test_resume_of_a_failed_run_tells_the_failures_again(stage: Stage, at_rest: FakeWire) -> None:
    at_rest.state, at_rest.failures = "failed", 1
    with pytest.raises(RunFailed, match="1 of 3 jobs failed in runs/x"):
        towline.resume("runs/x")
    assert towline.resume("runs/x", raise_on_failure=False).state == "failed"
    assert stage.orders == []


def test_resume_warns_of_a_flow_that_was_not_handed_in_whole(
    stage: Stage, at_rest: FakeWire, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = FakeWire._status
    monkeypatch.setattr(FakeWire, "_status", lambda self, p: whole(self, p) | {"flows": [["f1", "flow", 10, 3]]})
    towline.resume("runs/x", progress=False)
    assert "holds 3 of the 10 jobs of 'flow'" in capsys.readouterr().err


def test_resume_needs_a_store(monkeypatch: pytest.MonkeyPatch, stage: Stage, at_rest: FakeWire) -> None:
    with pytest.raises(UsageError, match="no store was named"):
        towline.resume()
    monkeypatch.setenv("TOWLINE_STORE", "runs/env")
    assert towline.resume(progress=False).store == "runs/env"


def test_a_store_that_is_led_is_refused_before_anything_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    led = Endpoint("/none", "t", 1, 7, 1.0, "here", "boot", "pid:[1]")
    monkeypatch.setattr(client, "leading", lambda _url: led)
    order = Order(store="runs/x", create=False)
    with pytest.raises(StoreLocked, match=r"the store at runs/x is being led by process 7 on here.*connect.*takeover"):
        session.refuse_if_led(order)
    session.refuse_if_led(Order(store="runs/x", create=False, takeover=True))
    session.refuse_if_led(Order(store="runs/x", create=True))


def test_connect_prefers_the_leader_to_the_store(monkeypatch: pytest.MonkeyPatch, at_rest: FakeWire) -> None:
    wire = FakeWire()
    monkeypatch.setattr(client, "find", lambda _url: client.Line(wire))
    assert towline.connect("runs/x").state == "running"
    monkeypatch.setattr(client, "find", lambda _url: None)
    assert towline.connect("runs/x").state == "interrupted"


# --------------------------------------------------------------------------------------------------------- arguments


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"workers": 0}, "workers must be 1 or more, not 0"),
        ({"timeout_s": -1}, "timeout_s must be more than 0, not -1"),
        ({"local": True, "address": "auto"}, "leave out the address"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(stage: Stage, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        towline.run(add(1, 2), **options)
    assert stage.orders == []

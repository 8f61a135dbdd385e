"""A Run asks the leader while one lives, and the store afterwards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import towline
from tests.kit.fake_leader import FakeLeader, FakeWire
from towline import client, offline
from towline.client import Line
from towline.control import ANSWER_S, JobInfo, Run, uuid_of
from towline.engine.authoring.decorator import job
from towline.engine.authoring.flow import Flow
from towline.engine.authoring.reference import OutputReference
from towline.engine.errors import UsageError


@pytest.fixture
def at_rest(monkeypatch: pytest.MonkeyPatch) -> FakeWire:
    """What the store holds when nobody leads."""
    wire = FakeWire()
    monkeypatch.setattr(offline.OfflineClient, "ask", lambda _self, verb, payload=None, _s=None: wire.ask(verb, payload))
    monkeypatch.setattr(offline.OfflineClient, "ask_all", lambda _self, verb, payloads: [wire.ask(verb, one) for one in payloads])
    monkeypatch.setattr(client, "find", lambda _url: None)
    return wire


def live(wire: FakeWire, jobs: int = 3) -> Run:
    wire.ask("submit", b"x" * jobs)
    return Run("runs/x", client=Line(wire))


def test_a_live_run_is_asked_each_time() -> None:
    wire = FakeWire()
    run = live(wire)
    assert (run.state, run.counts(), run.store) == ("running", {"ready": 3}, "runs/x")
    wire.state = "completed"
    assert (run.state, run.counts()) == ("completed", {"completed": 3})


def test_printing_a_run_asks_nobody() -> None:
    wire = FakeWire()
    run = live(wire)
    asked = list(wire.asked)
    assert repr(run) == "<Run 'runs/x': not asked yet>"
    assert wire.asked == asked
    assert run.state == "running"
    assert repr(run) == "<Run 'runs/x': running>"


def test_outputs_by_job_by_uuid_by_index_and_by_reference() -> None:
    @job
    def make() -> dict[str, list[int]]:
        return {"a": [1, 2]}

    made = make()
    wire = FakeWire()
    wire.outputs = {made.uuid: {"a": (1, 2)}}
    run = live(wire)
    assert run.output(made) == run.output(made.uuid) == run.output(made.output) == {"a": (1, 2)}
    assert run.output(made.output["a"]) == (1, 2)
    assert run.output(made.output.a[1]) == 2
    with pytest.raises(UsageError, match=r"job u9 has no output in runs/x.*running"):
        run.output("u9")
    with pytest.raises(UsageError, match="expected a job, a reference or a uuid, got int"):
        run.output(7)


def test_the_index_goes_with_the_question() -> None:
    seen: list[Any] = []

    class Wire(FakeWire):
        def _output(self, payload: Any) -> bytes | None:
            seen.append(payload)
            return super()._output({"uuid": "u1"})

    wire = Wire()
    wire.outputs = {"u1": 1}
    run = live(wire)
    run.output("u1")
    run.output("u1", 2)
    run.output(JobInfo("u1", 3, "name"))
    assert seen == [{"uuid": "u1", "index": index} for index in (0, 2, 3)]


def test_many_outputs_come_in_the_order_of_the_question() -> None:
    wire = FakeWire()
    wire.outputs = {f"u{n}": n for n in range(9)}
    assert live(wire).outputs([f"u{n}" for n in (7, 1, 8)]) == [7, 1, 8]


def test_references_inside_an_output_are_resolved_as_far_as_they_have_values() -> None:
    def ref(uuid: str, *path: Any) -> OutputReference:
        return OutputReference(uuid, tuple(("i", step) for step in path))

    wire = FakeWire()
    wire.outputs = {
        "u1": {"a": ref("u2", "b"), "open": ref("u9")},
        "u2": {"b": [ref("u3")]},
        "u3": 7,
        "round": [ref("round", 0)],
    }
    run = live(wire)
    assert run.output("u1") == {"a": [7], "open": ref("u9")}
    assert run.output(ref("u1", "a", 0)) == 7
    assert run.output("round") == [ref("round", 0)], "one that leads back stays what it is"


def test_a_large_output_is_resolved_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    @job
    def small() -> int:
        return 7

    @job
    def large(other: str) -> Any:
        return [OutputReference(other), b"x" * 100_000]

    one = small()
    two = large(one.uuid)
    assert towline.run([one, two], local=True, progress=False).output(two) == [7, b"x" * 100_000]


def test_the_output_of_a_flow_is_what_it_says() -> None:
    @job
    def make() -> int:
        return 1

    one, two = make(), make()
    wire = FakeWire()
    wire.outputs = {one.uuid: {"x": 5}, two.uuid: 6}
    run = live(wire)
    flow = Flow([one, two], output={"all": [two.output, one.output["x"]], "n": 2})
    assert run.output(flow) == {"all": [6, 5], "n": 2}
    assert run.outputs([one, flow, two]) == [{"x": 5}, run.output(flow), 6]
    with pytest.raises(UsageError, match="'bare' was made without an output"):
        run.output(Flow([make()], name="bare"))


def test_failures_say_why() -> None:
    run = live(FakeWire(failures=2))
    first, _second = run.failures()
    assert first == JobInfo("u0", 1, "job u0", "error", "ValueError: bad", "Traceback of u0\n  line 1", 1, "failed", 0)
    assert run.failures(limit=1) == [first]


def test_logs_are_text_whatever_was_written() -> None:
    logs = live(FakeWire()).logs("u1")
    assert (logs.stdout, logs.stderr) == ("out of u1\n", "\ufffd err\n")
    assert str(logs) == "out of u1\n\ufffd err\n"


def test_waiting_asks_until_the_end() -> None:
    wire = FakeWire(("running", "running", "failed"))
    run = live(wire)
    assert run.wait() == "failed"
    assert wire.asked.count("wait") == 3
    assert run.state == "failed"


def test_a_leader_that_says_nothing_is_not_waited_for_for_ever() -> None:
    patience: dict[str, float | None] = {}

    class Wire(FakeWire):
        def ask(self, verb: str, payload: Any = None, timeout_s: float | None = None) -> Any:
            patience[verb] = timeout_s
            return super().ask(verb, payload, timeout_s)

    run = live(Wire(("completed",)))
    assert (run.state, run.cancel(), run.wait()) == ("running", 3, "stopped")
    assert patience["status"] == ANSWER_S
    assert (patience["wait"] or 0) > ANSWER_S
    assert patience["cancel"] is None, "that takes as long as a body takes to be killed"


def test_waiting_in_vain_leaves_the_run_going() -> None:
    wire = FakeWire(("running",))
    run = live(wire)
    assert run.wait(timeout_s=0.0) == "running"
    assert not wire.gone


def test_a_leader_of_ours_is_closed_at_the_end_and_what_was_told_stays(at_rest: FakeWire) -> None:
    leader = FakeLeader(FakeWire(("completed",)))
    leader.client.ask("submit", b"xxx")
    run = Run("runs/x", client=Line(leader.client), leader=leader)
    assert run.wait() == "completed"
    assert leader.closed == 1
    assert run.counts() == {"completed": 3}
    assert at_rest.asked == []
    at_rest.outputs = {"u1": 6}
    assert run.output("u1") == 6
    run.close()
    assert leader.closed == 1


def test_closing_early_leaves_an_interrupted_run(at_rest: FakeWire) -> None:
    leader = FakeLeader()
    leader.client.ask("submit", b"xxx")
    at_rest.state = "interrupted"
    with Run("runs/x", client=Line(leader.client), leader=leader) as run:
        assert run.state == "running"
    assert leader.closed == 1
    assert run.state == "interrupted"


def test_a_leader_of_others_is_left_alone(at_rest: FakeWire) -> None:
    wire = FakeWire()
    live(wire).close()
    assert "close" not in wire.asked


def test_when_the_leader_goes_away_the_store_answers(at_rest: FakeWire) -> None:
    wire = FakeWire()
    run = live(wire)
    assert run.state == "running"
    wire.gone = True
    at_rest.ask("submit", b"xxx")
    at_rest.state = "completed"
    assert run.state == "completed"


def test_when_another_leader_takes_over_it_is_asked(at_rest: FakeWire, monkeypatch: pytest.MonkeyPatch) -> None:
    wire, heir = FakeWire(), FakeWire(("completed",))
    run = live(wire)
    heir.ask("submit", b"xxx")
    monkeypatch.setattr(client, "find", lambda _url: Line(heir))
    wire.gone = True
    assert run.wait() == "completed"
    assert at_rest.asked == []


def test_after_a_resume_the_store_is_asked_again(at_rest: FakeWire) -> None:
    at_rest.ask("submit", b"xxx")
    run = Run("runs/x", status=at_rest.ask("status"))
    assert run.state == "running"
    at_rest.state = "completed"
    assert run.state == "running"
    offline.forget("runs/x")
    assert run.state == "completed"


def test_cancel_says_how_many_were_stopped() -> None:
    run = live(FakeWire(("running",)))
    assert run.cancel() == 3
    assert run.wait() == "stopped"


def test_anything_with_a_uuid_names_a_job() -> None:
    assert uuid_of(JobInfo("u1", 1, "name")) == "u1"

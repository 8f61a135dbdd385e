"""A worker's two threads: order on the line, leases, questions, broken lines, and ends of every kind.

The leader is the test: it takes frames off a queue and puts frames on another. Bodies are plain functions.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import msgspec
import pytest

from tests.kit.builders import lease, leased
from tests.kit.leaks import nothing_left
from tests.kit.rig import FakeLine, Rig
from towline.actors import worker as worker_module
from towline.actors.capture import Said
from towline.actors.clock import boottime
from towline.actors.execute.python import Outcome
from towline.engine import model
from towline.engine.errors import TowlineError, UsageError
from towline.engine.graph import column
from towline.stores.objects.base import ObjectsError

Frame = TypeVar("Frame")


@pytest.fixture
def rig(monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    monkeypatch.setattr(worker_module, "RECONNECT_S", 0.001)
    with nothing_left("threads"):
        made = Rig()
        yield made
        made.stop()


def rows(pull: model.Pull) -> list[int]:
    return list(column("I", pull.plain.rows))


def test_it_runs_what_it_is_leased_and_hands_it_in(rig: Rig) -> None:
    line = rig.line()
    rig.start()
    hello = line.welcome()
    assert (hello.worker, hello.held) == ("w1", [])
    line.hear(model.Touch)
    given = model.Input(7, 1, 1, b"seven")
    rig.runner.body = lambda job, inputs: Outcome(b"out" + b"".join(inputs))
    line.tell(model.Lease(1, [leased(1, 10), leased(2, 11, inputs=[given])], [(0, model.Spec("key", "f"))], []))
    done: list[int] = []
    while len(done) < 2:
        pull = line.hear(model.Pull)
        done += rows(pull)
    assert done == rig.runner.ran == [1, 2]
    assert pull.plain.outputs.endswith(b"outseven")
    assert (pull.epoch, rig.runner.specs, rig.guard.epoch) == (1, [0], 1)
    assert rig.guard.until > boottime()
    rig.worker.say_goodbye("done")
    assert line.hear(model.Goodbye).cause == "done"


def test_frames_go_out_in_the_order_in_which_they_were_made(rig: Rig) -> None:
    # an Ack is for all frames up to its number: one that overtakes another would have it forgotten
    line = rig.line()
    sent: list[model.ToLeader] = []
    overtaken: list[int] = []

    def slow(frame: model.ToLeader) -> None:
        if isinstance(frame, model.Pull) and rows(frame) == [1]:
            before = len(sent)
            line.tell(model.Revoke([99]))  # the other thread has something to say now
            threading.Event().wait(0.05)
            overtaken.append(len(sent) - before)
        sent.append(frame)

    line.before_send = slow
    rig.start()
    line.welcome()
    line.tell(lease(leased(1, 10)))
    while rows(line.hear(model.Pull)) != [1]:
        pass
    assert overtaken == [0]
    assert line.hear(model.Pull).number == 0  # it has said it after


def test_many_jobs_with_both_threads_flushing(rig: Rig) -> None:
    line = rig.line()
    rig.start()
    line.welcome()
    for start in range(0, 2000, 50):
        line.tell(lease(*(leased(row, row, report=True) for row in range(start, start + 50))), model.Revoke([10**6]))
    done: list[int] = []
    last = 0
    while len(done) < 2000:
        pull = line.hear(model.Pull)
        if pull.number:
            assert pull.number == last + 1
            last = pull.number
            line.tell(model.Ack(last))
        done += rows(pull)
    assert done == list(range(2000))


def test_nothing_begins_after_the_deadline(rig: Rig) -> None:
    line = rig.line()
    rig.start()
    line.welcome(valid_s=-1.0)
    line.tell(lease(leased(1, 10)), model.Revoke([]))
    line.hear(model.Pull)  # the answer to the Revoke: the lease has been seen
    line.hear(model.Pull)
    assert rig.runner.ran == []
    rig.guard.extend(boottime() + 1000)  # the supervisor got more time
    rig.worker.wake()
    while rows(line.hear(model.Pull)) != [1]:
        pass
    assert rig.runner.ran == [1]


def test_outcomes_outlive_a_broken_line_and_a_new_leader(rig: Rig) -> None:
    line = rig.line()
    rig.start()
    line.welcome()
    line.tell(lease(leased(1, 10), leased(2, 11)))
    done: list[int] = []
    while len(done) < 2:
        done += rows(line.hear(model.Pull))
    line.close()
    other = rig.line()
    hello = other.welcome(epoch=2)
    assert [(held.row, held.epoch, held.counter) for held in hello.held] == [(1, 1, 10), (2, 1, 11)]
    again: list[int] = []
    while len(again) < 2:
        pull = other.hear(model.Pull)
        again += rows(pull)
    assert (again, pull.epoch, rig.guard.epoch) == ([1, 2], 1, 2)
    other.tell(model.Ack(pull.number))
    other.close()
    third = rig.line()
    third.tell(model.Revoke([]))
    while third.hear(model.Hello).held:
        third.close()  # the Ack may still have been on its way
        third = rig.line()


def test_a_lower_epoch_is_not_obeyed(rig: Rig) -> None:
    line = rig.line()
    rig.start()
    line.welcome(epoch=5)
    line.hear(model.Touch)
    line.close()
    old = rig.line()
    old.welcome(epoch=4)
    old.tell(lease(leased(1, 10), epoch=4), model.Ack(0))
    old.close()
    new = rig.line()
    new.welcome(epoch=5)
    new.hear(model.Touch)
    assert rig.runner.ran == []
    assert rig.guard.epoch == 5


def test_the_machines_faults_are_told_apart(rig: Rig) -> None:
    def body(job: model.LeasedJob, inputs: Sequence[Any]) -> Outcome:
        raise ObjectsError("disk full")

    line = rig.line()
    rig.runner.body = body
    rig.capture.says = Said(b"said", b"")
    rig.start()
    line.welcome()
    line.tell(lease(leased(1, 10), leased(2, 11, inputs=[model.Input(9, 1, 1)])))
    endings: list[model.Ending] = []
    logs: list[model.Log] = []
    while len(endings) < 2:
        pull = line.hear(model.Pull)
        endings += pull.endings
        logs += pull.logs
    assert [ending.failure.kind for ending in endings if ending.failure] == ["upload", "unresolved_reference"]
    assert endings[0].failure is not None
    assert endings[0].failure.message == "ObjectsError: disk full"
    assert "row 9 was not handed over" in str(endings[1].failure)
    assert [(log.row, log.stdout) for log in logs] == [(1, b"said"), (2, b"said")]
    assert not rig.capture.open


def test_a_body_runs_inside_what_it_is_given(rig: Rig) -> None:
    around: list[object] = []

    @contextmanager
    def inside(name: str, uuid: str, index: int) -> Iterator[None]:
        around.append((name, uuid[-4:], index))
        yield
        around.append("out")

    rig.worker.around = inside
    rig.worker.raise_errors = True
    rig.runner.body = lambda job, inputs: Outcome(failure=model.Failure("error", "no"), error=ValueError("no"))
    line = rig.line()
    rig.start()
    line.welcome()
    line.tell(lease(leased(3, 10)))
    error = rig.ended()
    assert isinstance(error, ValueError)
    assert around == [("spec 0", "0003", 1), "out"]
    while not (pull := line.hear(model.Pull)).endings:
        pass
    assert pull.endings[0].failure is not None  # it was handed in before it was raised


# ------------------------------------------------------------------------------------------------------- questions


def answer_to(line: FakeLine, value: object, ok: bool = True) -> model.Ask:
    ask = line.hear(model.Ask)
    line.tell(model.Answer(ask.number, ok, msgspec.msgpack.encode(value)))
    return ask


def asking(rig: Rig, verb: str, payload: object = None) -> queue.SimpleQueue[Any]:
    """Ask in a thread."""
    got: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def ask() -> None:
        try:
            got.put(rig.worker.ask(verb, payload))
        except TowlineError as error:
            got.put(error)

    threading.Thread(target=ask).start()
    return got


def test_inputs_that_the_lease_does_not_bring_are_asked_for_together(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_module, "READ_TOGETHER", 2)
    line = rig.line()
    rig.start()
    line.welcome()
    got: queue.SimpleQueue[list[Any]] = queue.SimpleQueue()

    def body(job: model.LeasedJob, inputs: Any) -> Outcome:
        got.put(list(inputs))
        return Outcome(b"out")

    rig.runner.body = body
    away = [model.Input(row, 1, 1, place=(row, 0, 5)) for row in range(3)]
    job = leased(9, 10, inputs=[away[0], model.Input(7, 1, 1, b"seven"), *away[1:]])
    line.tell(model.Lease(1, [job], [(0, model.Spec("key", "f"))], []))
    for places in ([[0, 0, 5], [1, 0, 5]], [[2, 0, 5]]):
        ask = answer_to(line, [f"out {row}".encode() for row, _, _ in places])
        assert (ask.verb, msgspec.msgpack.decode(ask.payload)) == ("read", places)
    assert got.get(timeout=30) == [b"out 0", b"seven", b"out 1", b"out 2"]


def test_a_question_for_inputs_is_not_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_module, "READ_BYTES", 10)
    places = [model.Location(seq, 0, length) for seq, length in enumerate((6, 4, 1, 50, 9, 0))]
    sizes = [[place.length for place in batch] for batch in worker_module.batches(places)]
    assert sizes == [[6, 4], [1], [50], [9, 0]], "one that is too large goes alone"
    assert list(worker_module.batches([])) == []


def test_questions_are_answered_by_number(rig: Rig) -> None:
    line = rig.line()
    rig.start()
    line.welcome()
    first, second = asking(rig, "read", [1]), asking(rig, "read", [2])
    asks = [line.hear(model.Ask), line.hear(model.Ask)]
    line.tell(model.Answer(999, True, b"\xc0"))
    for ask in reversed(asks):
        line.tell(model.Answer(ask.number, True, msgspec.msgpack.encode(msgspec.msgpack.decode(ask.payload))))
    assert (first.get(timeout=30), second.get(timeout=30)) == ([1], [2])
    refused = asking(rig, "output")
    answer_to(line, ["UsageError", "no such job"], ok=False)
    error = refused.get(timeout=30)
    assert isinstance(error, UsageError)
    assert str(error) == "no such job"


def test_a_question_waits_for_a_leader_that_has_what_came_before(rig: Rig) -> None:
    line = rig.line()
    rig.start()
    line.welcome()
    line.tell(lease(leased(1, 10)))
    while rows(line.hear(model.Pull)) != [1]:
        pass
    got = asking(rig, "output", {"uuid": "x"})
    line.hear(model.Ask)
    line.close()  # unanswered, and the outcome not acknowledged
    other = rig.line()
    other.hear(model.Hello)
    got_other = asking(rig, "output", {"uuid": "y"})
    other.tell(model.Welcome(2, 60.0, 15.0))
    frames = [other.heard.get(timeout=30)]
    while sum(isinstance(frame, model.Ask) for frame in frames) < 2:
        frames.append(other.heard.get(timeout=30))
    kinds = [type(frame).__name__ for frame in frames]
    first_ask = kinds.index("Ask")
    assert any(isinstance(frame, model.Pull) and rows(frame) == [1] for frame in frames[:first_ask])
    for frame in frames:
        if isinstance(frame, model.Ask):
            other.tell(model.Answer(frame.number, True, frame.payload))
    assert got.get(timeout=30) == {"uuid": "x"}
    assert got_other.get(timeout=30) == {"uuid": "y"}


def test_fetch_hands_in_what_has_ended_first(rig: Rig) -> None:
    line = rig.line()
    fetched: list[bytes | None] = []

    def body(job: model.LeasedJob, inputs: Sequence[Any]) -> Outcome:
        if job.row == 2:
            fetched.append(rig.worker.fetch("uuid of 1", 0))
        return Outcome(b"\xc0")

    rig.runner.body = body
    rig.start()
    line.welcome()
    line.tell(lease(leased(1, 10), leased(2, 11)))
    before: list[int] = []
    while True:
        frame = line.heard.get(timeout=30)
        if isinstance(frame, model.Pull):
            before += rows(frame)
        if isinstance(frame, model.Ask):
            break
    assert before == [1]
    line.tell(model.Answer(frame.number, True, msgspec.msgpack.encode(b"one")))
    while rows(line.hear(model.Pull)) != [2]:
        pass
    assert fetched == [b"one"]


def test_nobody_answers(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_module, "ASK_S", 0.01)
    rig.start()
    with pytest.raises(TowlineError, match=r"has not answered 'read'"):
        rig.worker.ask("read", None)


def test_whoever_asks_is_told_when_the_worker_ends(rig: Rig) -> None:
    line = rig.line()
    rig.start()
    line.welcome()
    got = asking(rig, "read")
    line.hear(model.Ask)
    rig.worker.stop()
    assert "the worker ends" in str(got.get(timeout=30))


# ------------------------------------------------------------------------------------------------------------ ends


def test_stop_lets_it_finish_what_is_not_committed(rig: Rig) -> None:
    line = rig.line()
    rig.start()
    line.welcome()
    line.tell(lease(leased(1, 10)))
    while not (pull := line.hear(model.Pull)).number:
        pass
    line.tell(model.Stop())
    assert rig.raised.empty()
    line.tell(model.Ack(pull.number))
    assert rig.ended() is None


def test_one_that_was_given_up_still_hands_in_what_it_runs(rig: Rig) -> None:
    line = rig.line()
    began, gate = threading.Event(), threading.Event()

    def body(job: model.LeasedJob, inputs: Sequence[Any]) -> Outcome:
        began.set()
        gate.wait(30)
        return Outcome(b"\xc0")

    rig.runner.body = body
    rig.start()
    line.welcome()
    line.tell(lease(leased(1, 10), leased(2, 11)))
    assert began.wait(30)
    line.tell(model.Refused("the run was stopped"))
    assert rig.died.get(timeout=30) == "the run was stopped"
    line.tell(model.Refused("once more"))
    gate.set()
    assert rig.ended() is None
    while rows(line.hear(model.Pull)) != [1]:
        pass
    assert rig.runner.ran == [1]
    assert rig.lines.empty()
    assert rig.died.empty()
    assert not line.closed.is_set()


def test_a_guard_that_is_gone_ends_it_with_and_without_a_line(rig: Rig) -> None:
    rig.guard.up = False
    rig.start()
    assert rig.died.get(timeout=30) == "its supervisor is gone"
    line = rig.line()
    line.welcome()
    while not rig.died.empty():
        rig.died.get()
    line.tell(model.Ack(0))
    assert rig.died.get(timeout=30) == "its supervisor is gone"


def test_a_line_that_cannot_be_kept_ends_it_loudly(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    rig.lines.put(ZeroDivisionError("a bug"))
    rig.start()
    error = rig.ended()
    assert isinstance(error, TowlineError)
    assert "a bug" in str(error)
    assert "a bug" in rig.died.get(timeout=30)
    assert "cannot keep its line" in caplog.text


def test_garbage_on_the_line_is_a_broken_line(rig: Rig) -> None:
    line = rig.line()
    rig.start()
    line.welcome()
    line.said.put(b"\xc1 no frame")
    other = rig.line()
    other.welcome()
    assert line.closed.is_set()
    assert rig.died.empty()


def test_it_touches_where_no_supervisor_does(rig: Rig) -> None:
    rig.guard.touches = False
    line = rig.line()
    rig.start()
    line.hear(model.Hello)
    line.tell(model.Welcome(1, 60.0, 0.01))
    touches = [line.hear(model.Touch).sent for _ in range(5)]
    assert touches == sorted(touches)


def test_stop_from_any_side_may_come_twice(rig: Rig) -> None:
    line = rig.line()
    rig.start()
    line.welcome()
    rig.worker.stop()
    rig.worker.stop()
    assert rig.ended() is None
    assert rig.runner.rests == 1
    assert line.closed.is_set()
    rig.worker.say_goodbye("nobody hears")


def test_until_is_asked_when_there_is_nothing_to_do(rig: Rig) -> None:
    line = rig.line()
    rig.worker.start()
    line.welcome()
    line.tell(lease(leased(1, 10), leased(2, 11)))
    done: list[int] = []
    asked = threading.Thread(target=lambda: rig.worker.run(lambda: len(rig.runner.ran) == 2))
    asked.start()
    while len(done) < 2:
        done += rows(line.hear(model.Pull))
    rig.worker.wake()
    asked.join(30)
    assert not asked.is_alive()

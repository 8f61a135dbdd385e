"""Failures, retries, children that can do without, and suspects (R9)."""

from __future__ import annotations

import pytest

from tests.kit.builders import chunk, failure, plain, spec, uuid_of
from tests.kit.desk import WALL, Desk, desk_with, held_by, one_by_one, rows
from towline.engine import events as ev
from towline.engine import model, retries
from towline.engine.model import Growth
from towline.engine.states import EdgeKind, Missing, edge_byte

NONE = edge_byte(EdgeKind.DATA, Missing.NONE)
PASS = edge_byte(EdgeKind.DATA, Missing.PASS)

# --------------------------------------------------------------------------------------------------- failures, retries


def test_a_failure_is_final_without_retries_and_its_children_wait() -> None:
    desk = desk_with(chunk([[], [0], []]))
    one_by_one(desk)
    ((job, child),) = [desk.leased()]
    desk.fail(job, failure())
    desk.pull(returned=[(child.row, child.counter)])
    desk.complete(desk.leased(), number=2)
    assert desk.states() == ["failed", "waiting", "completed"]
    assert desk.idle
    assert desk.core.run_state() == "failed"


def test_a_retry_comes_after_its_delay_with_the_next_attempt() -> None:
    desk = desk_with(chunk(1, specs=[spec(retries=1, backoff_s=8.0)]))
    (job,) = desk.leased()
    assert job.attempt == 1
    desk.fail(job, failure())
    assert desk.states() == ["delayed"]
    wait_s = retries.backoff_s(desk.core.ledger.specs[0].options, 0, 0)
    assert desk.core.ledger.until == {0: WALL + wait_s}
    desk.pass_time(wait_s - 0.001)
    assert desk.leased() == []
    assert desk.core.next_deadline() == pytest.approx(wait_s)
    desk.pass_time(0.002)
    (again,) = desk.leased()
    assert (again.attempt, again.counter) == (2, job.counter + 1)
    desk.fail(again, failure(), number=2)
    assert desk.states() == ["failed"]


def test_a_delay_goes_on_under_the_next_leader() -> None:
    first = desk_with(chunk(1, specs=[spec(retries=1, backoff_s=8.0)]))
    first.fail(first.leased()[0], failure())
    first.die()
    first.mono += 5.0
    desk = first.successor(epoch=2)
    desk.join("w2")
    desk.pass_time(2.9)
    assert desk.leased("w2") == []
    desk.pass_time(2.0)
    assert rows(desk.leased("w2")) == [0]


WITHOUT = [
    (NONE, [model.Input(0, 0, 0, missing=True)]),
    (PASS, [model.Input(0, 0, 0, missing=True, uuid=uuid_of(0))]),
]


@pytest.mark.parametrize(("byte", "inputs"), WITHOUT)
def test_a_child_that_can_do_without_a_failed_parent_runs(byte: int, inputs: list[model.Input]) -> None:
    desk = desk_with(chunk([[], [0]], edges=[byte]))
    job, child = desk.leased()
    desk.fail(job, failure())
    desk.pull(returned=[(child.row, child.counter)])
    (child,) = desk.leased()
    assert child.inputs == inputs


@pytest.mark.parametrize(("byte", "inputs"), WITHOUT)
def test_a_child_that_can_do_without_a_stopped_parent_runs(byte: int, inputs: list[model.Input]) -> None:
    outside = chunk([[model.EXTERNAL]], flow="other", first=9, externals=[(uuid_of(0), 1)], edges=[byte])
    desk = Desk()
    desk.submit(chunk(2, specs=[spec("a"), spec("b", priority=9)], spec_of=[0, 1]))
    desk.submit(outside)
    one_by_one(desk)
    desk.join()
    (job,) = desk.leased()
    assert job.row == 1
    desk.grow(job, Growth(stop_jobflow=True))
    (child,) = desk.leased()
    assert (child.row, child.inputs) == (2, inputs)


def test_a_rope_s_jobs_come_back_and_are_stopped_if_their_parent_said_so() -> None:
    desk = desk_with(chunk([[], [0], []]))
    job, child, *_ = desk.leased()
    desk.grow(job, Growth(stop_jobflow=True))
    assert desk.states() == ["completed", "leased", "stopped"]
    desk.pull(returned=[(child.row, child.counter)])
    assert desk.states() == ["completed", "stopped", "stopped"]
    assert desk.idle


# ------------------------------------------------------------------------------------------------------- suspects (R9)


def test_who_held_more_than_one_is_charged_nothing_and_each_comes_back_alone() -> None:
    desk = desk_with(chunk([[], [0], [1]]))
    assert rows(desk.leased()) == [0, 1, 2]
    desk.die()
    (left,) = desk.records(model.Left)
    assert isinstance(left, model.Left)
    assert (left.suspects, left.charged) == ([0, 1, 2], [])
    order = []
    desk.join("w2")
    for number in range(3):
        (job,) = desk.leased("w2")
        order.append(job.row)
        assert (job.needs, job.attempt) == ([], 1)
        desk.complete([job], "w2", number + 1)
    assert order == [0, 1, 2]
    assert desk.core.ledger.suspects == set()


def test_a_suspect_is_granted_when_the_suspicion_is_durable() -> None:
    desk = desk_with(chunk(1), auto=False, workers=2)
    desk.leased("w1")
    desk.die("w1")
    assert desk.leased("w2") == []
    desk.commit(desk.appended)
    desk.commit()
    assert rows(desk.leased("w2")) == [0]


def test_beside_a_suspect_a_worker_gets_nothing() -> None:
    desk = desk_with(chunk(1), workers=1)
    desk.leased()
    desk.die()
    desk.submit(chunk(3, flow="g", first=50))
    desk.join("w2")
    assert rows(desk.leased("w2")) == [0]
    desk.feed(ev.Tick())
    assert desk.leased("w2") == []


def test_a_job_that_dies_alone_is_charged_after_some_deaths() -> None:
    desk = desk_with(chunk(1, specs=[spec(backoff_s=1.0)]), workers=0)
    for number in range(1 + retries.LONE_DEATHS):
        assert desk.states() == ["ready"]
        desk.join(f"w{number}")
        (job,) = desk.leased(f"w{number}")
        assert job.attempt == 1
        desk.die(f"w{number}")
        desk.pass_time(10.0)
    assert desk.states() == ["failed"]
    ended = desk.records(model.Ended)
    assert len(ended) == retries.LONE_DEATHS, "the first death proved nothing"
    last = ended[-1]
    assert isinstance(last, model.Ended)
    assert last.ending.failure is not None
    assert last.ending.failure.kind == "lost"
    assert last.attempts == 1


def test_a_suspect_is_remembered_by_the_next_leader() -> None:
    first = desk_with(chunk([[], [0]]))
    first.leased()
    first.die()
    desk = first.successor(epoch=2)
    desk.join("w2")
    assert rows(desk.leased("w2")) == [0], "and nothing is towed behind it"


def test_a_suspect_that_took_its_leader_with_it_is_charged_by_the_next_one() -> None:
    first = desk_with(chunk(1))
    first.leased("w1")
    first.die("w1")
    first.join("w2")
    assert rows(first.leased("w2")) == [0]
    desk = first.successor(epoch=2)
    assert desk.records(model.Ended) == [], "its worker may still answer"
    desk.pass_time(70.0)
    (left,), (ended,) = desk.records(model.Left), desk.records(model.Ended)
    assert isinstance(left, model.Left)
    assert isinstance(ended, model.Ended)
    assert (left.worker, left.charged) == ("w2", [0])
    assert ended.ending.failure is not None
    assert ended.ending.failure.kind == "lost"
    assert (ended.epoch, ended.attempts) == (1, 0)
    assert desk.core.ledger.deaths == {0: 1}
    assert desk.core.ledger.alone == {}
    assert desk.core.ledger.suspects == {0}


def test_a_charge_that_a_crash_cut_off_is_made_up_for() -> None:
    """The record that the worker left is durable, the one that charges the job is not."""
    first = desk_with(chunk(1))
    first.leased("w1")
    first.die("w1")
    first.join("w2")
    first.die("w2")
    cut = next(i for i, payload in enumerate(first.log) if isinstance(model.decode_record(payload), model.Ended))
    desk = first.successor(epoch=2, keep=cut)
    assert desk.core.ledger.deaths == {0: 1}
    assert desk.core.ledger.alone == {}


def test_a_lone_run_is_granted_when_that_is_durable() -> None:
    desk = desk_with(chunk(1), auto=False, workers=2)
    desk.leased("w1")
    desk.die("w1")
    desk.commit()
    (alone,) = desk.records(model.Alone)
    assert isinstance(alone, model.Alone)
    assert (alone.row, alone.worker) == (0, "w2")
    assert desk.leased("w2") == []
    desk.commit()
    (job,) = desk.leased("w2")
    assert job.counter == alone.counter


def test_a_suspect_whose_worker_answers_the_next_leader_is_not_charged() -> None:
    first = desk_with(chunk(1), workers=2)
    first.leased("w1")
    first.die("w1")
    (job,) = first.leased("w2")
    desk = first.successor(epoch=2)
    desk.join("w2", held_by(job))
    assert desk.core.sessions["w2"].alone
    desk.pull("w2", 1, epoch=1, plain=plain([(0, job.counter)]))
    assert desk.states() == ["completed"]
    assert (desk.core.ledger.alone, desk.core.ledger.suspects) == ({}, set())


def test_a_suspect_s_old_place_in_the_queue_brings_it_into_no_lease_with_others() -> None:
    """It was READY when the new leader came, was then heard of as held, and its worker died: its entry still stands there."""
    first = desk_with(chunk(1))
    (poison,) = first.leased()
    first.submit(chunk(40, flow="g", first=50, specs=[spec("b", priority=9)]))
    desk = first.successor(epoch=2)
    desk.join("w1", held_by(poison))
    desk.core._prices.refresh(desk.core.ledger)
    desk.core._prices.seconds[:] = [1e-6]
    desk.join("w2")
    held, number = desk.leased("w2"), 0
    assert len(held) == 10
    desk.die("w1")
    assert desk.core.ledger.suspects == {0}
    while held:
        number += 1
        half = (len(held) + 1) // 2
        desk.complete(held[:half], "w2", number)
        held = held[half:]
        more = desk.leased("w2")
        assert 0 not in rows(more) or (rows(more), held) == ([0], [])
        held += more
    assert desk.states() == ["completed"] * 41


def test_a_worker_that_says_goodbye_is_no_murderer() -> None:
    desk = desk_with(chunk(2))
    desk.leased()
    desk.feed(ev.Said(model.Goodbye("w1", "enough")))
    assert desk.core.ledger.suspects == set()
    assert desk.states() == ["ready", "ready"]


def test_of_two_workers_that_hold_a_job_the_one_with_the_later_attempt_counts() -> None:
    """A failure was not committed yet when its retry was granted elsewhere; then the leader died, and both workers come back."""
    specs = [spec("a", retries=3, backoff_s=0.01)]
    first = desk_with(chunk(3, specs=specs), workers=2, auto=False)
    one_by_one(first)
    early, own = first.leased("w1")[0], first.leased("w2")
    committed = first.appended
    first.fail(early, failure())
    first.complete(own, "w2")
    first.pass_time(1.0)
    [late] = [job for job in first.leased("w2") if job.row == early.row]
    for order in (["w1", "w2"], ["w2", "w1"]):
        desk = first.successor(epoch=2, keep=committed)
        for worker in order:
            desk.join(worker, held_by(early, running=False) if worker == "w1" else held_by(late))
        desk.pull("w1", 1, epoch=1, endings=[model.Ending(early.row, early.counter, failure=failure())])
        desk.pass_time(10.0)
        assert early.row not in rows(desk.leased("w1") + desk.leased("w2"))
        assert desk.states()[early.row] == "leased"
        desk.pull("w2", 1, epoch=1, plain=plain([(late.row, late.counter)]))
        assert desk.states()[early.row] == "completed"

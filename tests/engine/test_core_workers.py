"""Workers and leaders that come, fall silent and go: authority (R1), deadlines, Hello, inputs that stand (R3)."""

from __future__ import annotations

import pytest

from tests.kit.builders import FUNCTION, chunk, failure, hello, plain, spec
from tests.kit.desk import Desk, desk_with, held_by, one_by_one, rows
from towline.engine import events as ev
from towline.engine import model
from towline.engine.core import LeaderCore
from towline.engine.graph import NIL
from towline.engine.leases import surely_over_s
from towline.engine.model import Held

# ------------------------------------------------------------------------------------------------------- authority (R1)


def test_no_grant_when_t_has_passed_since_the_start_of_the_last_commit() -> None:
    desk = desk_with(auto=False, lease_s=60.0)
    desk.submit(chunk(1))
    desk.mono = 100.0
    desk.commit(started=39.0)
    assert desk.leased() == [], "99 s is the end"
    assert desk.touch() == []
    desk.feed(ev.SnapshotMade(1, "k", "d"))
    desk.commit(started=41.0)
    assert rows(desk.leased()) == [0]


def test_a_touch_is_answered_with_the_leader_s_own_time() -> None:
    desk = desk_with(lease_s=60.0)
    desk.mono = 12.5
    (touched,) = desk.touch()
    assert touched == model.Touched(1, 12.5, 47.5)
    assert desk.core.sessions["w1"].deadline == pytest.approx(surely_over_s(60.0), abs=3.1)


def test_an_idle_leader_appends_every_third_of_t() -> None:
    desk = desk_with(chunk(1), workers=0, lease_s=60.0)
    before = len(desk.records(model.Beat))
    desk.pass_time(199.0)
    assert len(desk.records(model.Beat)) - before == 9
    desk.join("w1")
    assert rows(desk.leased()) == [0], "so its authority never ends"


def test_a_leader_for_verbs_grants_nothing() -> None:
    desk = desk_with(chunk(1), grants=False)
    assert desk.leased() == []


def test_a_new_leader_waits_for_the_whole_roster() -> None:
    first = desk_with(chunk(2), workers=2, lease_s=60.0)
    one_by_one(first)
    desk = first.successor(epoch=2)
    desk.join("w1")
    desk.join("w3")
    assert desk.leased("w1") + desk.leased("w3") == []
    desk.join("w2")
    assert len(desk.leased("w1") + desk.leased("w2") + desk.leased("w3")) == 2


def test_a_leader_in_between_does_not_shorten_the_wait() -> None:
    """A promised 60 s and died, B promised 10 s and died: what A promised may still run."""
    first = desk_with(chunk(1), lease_s=60.0)
    second = first.successor(epoch=2, lease_s=10.0)
    desk = second.successor(epoch=3, lease_s=10.0)
    desk.join("w9")
    while desk.mono < 60.0:
        desk.pass_time(1.0)
        assert desk.touch("w9")
    assert desk.leased("w9") == []
    desk.pass_time(4.0)
    assert rows(desk.leased("w9")) == [0]


def test_the_hello_of_an_older_stream_is_passed_over() -> None:
    """It was under way when the worker gave its stream up, and says nothing of what was granted since."""
    desk = desk_with(chunk(1), workers=0)
    desk.feed(ev.Said(hello("w1", stream=2)))
    (job,) = desk.leased()
    desk.take("w1", model.Welcome)
    desk.feed(ev.Said(hello("w1", stream=1)))
    assert desk.take("w1", model.Welcome) == []
    assert list(desk.core.sessions["w1"].held) == [job.row]
    desk.feed(ev.Said(hello("w1", [held_by(job)], stream=3)))
    assert len(desk.take("w1", model.Welcome)) == 1


def test_a_delay_is_not_stretched_by_another_machine_s_wall_clock() -> None:
    first = desk_with(chunk(1, specs=[spec(retries=1, backoff_s=2.0)]))
    first.fail(first.leased()[0], failure())
    core = LeaderCore.restore(None, enumerate(first.log))
    core.ledger.until[0] += 7200.0
    later = Desk(core, log=list(first.log), epoch=2, at=first.mono)
    later.join("w1")
    later.pass_time(5.0)
    assert rows(later.leased()) == [0]


@pytest.mark.parametrize("lease_s", [20.0, 100.0])
def test_or_until_the_longer_lease_has_ended(lease_s: float) -> None:
    first = desk_with(chunk(1), lease_s=60.0)
    desk = first.successor(epoch=2, lease_s=lease_s)
    desk.join("w9")
    end = surely_over_s(max(60.0, lease_s))
    while desk.mono < end - 1.5:
        desk.pass_time(1.0)
        assert desk.touch("w9")
    assert desk.leased("w9") == []
    desk.pass_time(2.0)
    assert rows(desk.leased("w9")) == [0]
    assert "w1" in desk.core.ledger.left
    desk.join("w1")
    assert desk.take("w1", model.Refused)


@pytest.mark.parametrize("proof", ["death", "close"])
def test_there_is_nothing_to_wait_for_after(proof: str) -> None:
    first = desk_with(chunk(1))
    if proof == "close":
        first.feed(ev.Closing(1))
    first.die()
    desk = first.successor(epoch=2)
    desk.join("w2")
    assert rows(desk.leased("w2")) == [0]


def test_a_new_leader_answers_touches_before_it_may_grant() -> None:
    first = desk_with(chunk(1), workers=2)
    desk = first.successor(epoch=2)
    desk.join("w1")
    assert [touched.epoch for touched in desk.touch("w1")] == [2]


# --------------------------------------------------------------------------------------------------- silence and the end


def test_a_silent_worker_s_jobs_are_lost_and_found() -> None:
    desk = desk_with(chunk(2), lease_s=60.0)
    jobs = desk.leased()
    desk.pass_time(31.0)
    assert desk.states() == ["lost", "ready"]
    desk.touch()
    assert desk.states() == ["running", "ready"]
    desk.pass_time(31.0)
    assert desk.states() == ["lost", "ready"]
    desk.join("w1", held_by(jobs[0]))
    assert desk.states()[0] == "running", "said in a Hello is said too"
    desk.touch()
    desk.pass_time(31.0)
    desk.complete(jobs)
    assert desk.states()[0] == "completed"


def test_at_its_deadline_a_worker_is_given_up() -> None:
    desk = desk_with(chunk(1), lease_s=60.0)
    desk.leased()
    desk.touch()
    end = surely_over_s(60.0)
    desk.pass_time(end - 0.1)
    assert desk.states() == ["lost"]
    desk.pass_time(0.2)
    assert desk.states() == ["ready"]
    assert desk.core.ledger.suspects == {0}
    for frame in (model.Touch("w1", 1.0), model.Pull("w1", 1, 1, plain([(0, 1)]))):
        desk.feed(ev.Said(frame))
        assert desk.take("w1", model.Refused)


def test_a_broken_stream_proves_nothing() -> None:
    desk = desk_with(chunk(1))
    desk.leased()
    desk.feed(ev.Disconnected("w1"))
    assert desk.states() == ["leased"]


# ---------------------------------------------------------------------------------------------------- Hello: reconcile


def test_a_lease_that_never_arrived_is_granted_again() -> None:
    desk = desk_with(chunk(1))
    (lost,) = desk.leased()
    desk.join("w1")
    (again,) = desk.leased()
    assert (again.row, again.counter > lost.counter) == (0, True)
    assert desk.take("w1", model.Lease) == []


def test_specs_are_sent_again_on_a_new_stream() -> None:
    desk = desk_with(chunk(1))
    desk.leased()
    desk.join("w1")
    (lease,) = desk.take("w1", model.Lease)
    assert lease.functions == [FUNCTION]
    assert len(lease.specs) == 1


def test_an_outcome_whose_ack_was_lost_is_not_doubled() -> None:
    desk = desk_with(chunk(1))
    (job,) = desk.leased()
    log = model.Log(0, job.counter, b"said", b"")
    desk.pull(number=1, plain=plain([(0, job.counter)]), logs=[log])
    assert len(desk.records(model.Logged)) == 1
    before = desk.appended
    desk.join("w1", held_by(job, running=False))
    desk.pull(number=1, plain=plain([(0, job.counter)]), logs=[log])
    assert (desk.appended, desk.states()) == (before, ["completed"])
    assert desk.take("w1", model.Ack)[-1] == model.Ack(1)


def test_an_attempt_that_has_ended_is_not_taken_up_again() -> None:
    """Its failure is charged once, whether its successor waits, is granted, or was lost on the way."""
    desk = desk_with(chunk(1, specs=[spec(retries=5, backoff_s=1.0)]))
    (job,) = desk.leased()
    desk.fail(job, failure())
    desk.join("w1", held_by(job, running=False))
    desk.fail(job, failure())
    assert desk.states() == ["delayed"]
    desk.pass_time(2.0)
    (second,) = desk.leased()
    desk.join("w1", held_by(job, running=False))  # the lease of the second attempt was lost with the stream
    desk.fail(job, failure())
    (third,) = desk.leased()
    assert third.counter > second.counter
    assert desk.core.ledger.graph.attempts[0] == 1
    assert len(desk.records(model.Ended)) == 1


def test_a_new_leader_takes_up_what_a_worker_holds() -> None:
    first = desk_with(chunk([[], [0]]))
    parent, child = first.leased()
    desk = first.successor(epoch=2)
    desk.join("w1", held_by(parent), held_by(child, running=False))
    assert desk.states() == ["leased", "leased"]
    desk.pull(number=1, epoch=1, plain=plain([(0, parent.counter), (1, child.counter)]))
    assert desk.states() == ["completed", "completed"]
    assert desk.core.refused_outcomes == 0


@pytest.mark.parametrize("order", [["w1", "w2"], ["w2", "w1"]])
def test_of_two_attempts_that_are_held_the_later_one_stays(order: list[str]) -> None:
    """w1's failure was not committed, w2 runs the retry: a new leader hears of both, in any order."""
    first = desk_with(chunk(1, specs=[spec(retries=1, backoff_s=0.001)]))
    (old,) = first.leased("w1")
    first.join("w2")
    keep = len(first.log)
    first.fail(old, failure(), "w1")
    first.core.sessions["w1"].leaving = True  # so that w2 gets the retry
    first.pass_time(1.0)
    (new,) = first.leased("w2")
    desk = first.successor(epoch=2, keep=keep)
    for worker in order:
        desk.join(worker, held_by(old if worker == "w1" else new))
        if worker == "w1":
            desk.pull("w1", 1, epoch=1, endings=[model.Ending(0, old.counter, failure=failure())])
    desk.pull("w2", 1, epoch=1, plain=plain([(0, new.counter)]))
    assert desk.states() == ["completed"]
    assert desk.core.refused_outcomes == (order[0] == "w2")


@pytest.mark.parametrize(("epoch", "counter", "stands"), [(1, 1, True), (1, 7, False), (2, 1, False)])
def test_an_outcome_from_an_input_that_does_not_stand_is_refused(epoch: int, counter: int, stands: bool) -> None:
    """R3: the parent's outcome was not committed, another leader ran it again, and the child comes with the old one."""
    first = desk_with(chunk([[], [0]]))
    one_by_one(first)
    parent, child = first.leased()
    first.complete([parent])
    desk = first.successor(epoch=2)
    desk.join("w1", Held(1, 1, child.counter, [(0, epoch, counter)]))
    desk.pull(number=1, epoch=1, plain=plain([(1, child.counter)]))
    assert desk.core.refused_outcomes == (0 if stands else 1)
    if stands:
        assert desk.states() == ["completed", "completed"]
    else:
        assert rows(desk.leased()) == [1], "it runs again"


def test_a_child_whose_parent_is_not_done_is_refused_too() -> None:
    first = desk_with(chunk([[], [0]]))
    parent, child = first.leased()
    desk = first.successor(epoch=2)
    desk.join("w1", Held(1, 1, child.counter, [(0, 1, parent.counter)]))
    desk.pull(number=1, epoch=1, endings=[model.Ending(1, child.counter)])
    assert desk.core.refused_outcomes == 1
    assert desk.states()[1] != "completed"


def test_nonsense_in_a_hello_is_passed_over() -> None:
    first = desk_with(chunk(2))
    desk = first.successor(epoch=2)
    desk.join("w1", Held(99, 1, 1), Held(NIL, 1, 1))
    assert len(desk.core.sessions["w1"].held) <= 1

"""Who goes next and how much at once: priority, arrival, share, budget, and what is asked back."""

from __future__ import annotations

from tests.kit.builders import chunk, plain, spec
from tests.kit.desk import Desk, desk_with, one_by_one, rows
from towline.engine import events as ev
from towline.engine import model, ropes
from towline.engine.model import LeasedJob

# ------------------------------------------------------------------------------------------------------ order and share


def test_priority_goes_first_then_arrival() -> None:
    specs = [spec("a"), spec("b", priority=9), spec("c", priority=1)]
    desk = Desk()
    desk.submit(chunk(6, specs=specs, spec_of=[0, 2, 1, 0, 2, 1]))
    one_by_one(desk)
    desk.join()
    order = []
    for number in range(6):
        (job,) = desk.leased()
        order.append(job.row)
        desk.complete([job], number=number + 1)
    assert order == [2, 5, 1, 4, 0, 3]


def test_children_go_in_the_order_they_were_made_with() -> None:
    desk = Desk()
    desk.submit(chunk([[], *[[0]] * 5]))
    one_by_one(desk)
    desk.join()
    desk.complete(desk.leased())
    order = []
    for number in range(5):
        (job,) = desk.leased()
        order.append(job.row)
        desk.complete([job], number=number + 2)
    assert order == sorted(order)


def test_a_lease_is_a_fair_share_of_what_is_ready() -> None:
    desk = Desk()
    desk.submit(chunk(1000))
    desk.core._prices.refresh(desk.core.ledger)
    desk.core._prices.seconds[:] = [1e-6]
    desk.join("w1")
    assert len(desk.leased("w1")) == 500
    desk.join("w2")
    assert len(desk.leased("w2")) == 125


def test_a_lease_aims_at_some_time_of_work() -> None:
    desk = desk_with(chunk(1000))
    first = desk.leased()
    assert len(first) == ropes.TARGET_S / ropes.UNKNOWN_S, "what nobody knows is tried by the few"
    desk.pull(number=1, plain=plain([(job.row, job.counter) for job in first], elapsed=0.001))
    assert len(desk.leased()) == 40


def test_the_next_lease_comes_when_half_of_this_one_is_done() -> None:
    desk = desk_with(chunk(1000))
    jobs = desk.leased()
    desk.complete(jobs[:1])
    assert desk.leased() == []
    desk.complete(jobs[1:2], number=2)
    assert desk.leased()


# ---------------------------------------------------------------------------------------------------------- steal (R7)


def stolen() -> tuple[Desk, list[LeasedJob]]:
    """w1 holds rows 0..3 and has begun none, w2 has done the other four and idles."""
    desk = desk_with(chunk(8))
    jobs = desk.leased("w1")
    assert rows(jobs) == [0, 1, 2, 3]
    desk.join("w2")
    number = 0
    while more := desk.leased("w2"):
        number += 1
        desk.pull("w2", number, plain=plain([(job.row, job.counter) for job in more], elapsed=ropes.UNKNOWN_S))
    return desk, jobs


def test_an_idle_worker_s_work_is_asked_back_and_granted_when_it_is_returned() -> None:
    desk, jobs = stolen()
    assert desk.take("w1", model.Revoke) == [model.Revoke([2, 3])]
    assert desk.states()[:4] == ["leased"] * 4, "a revoke is a request"
    desk.feed(ev.Tick())
    assert desk.take("w1", model.Revoke) == [], "one at a time"
    desk.pull(returned=[(job.row, job.counter) for job in jobs[2:]])
    again = desk.leased("w2")
    assert rows(again) == [2], "first in, first out, and a fair share"
    assert again[0].counter > jobs[3].counter
    desk.complete(jobs[2:3], "w1", 1)
    assert desk.core.refused_outcomes == 1


def test_what_has_begun_meanwhile_is_not_returned_and_not_granted_again() -> None:
    desk, jobs = stolen()
    assert len(jobs) == 4
    desk.pull()
    assert desk.leased("w2") == []
    desk.complete(jobs)
    assert desk.states() == ["completed"] * 8


def test_what_will_be_through_before_the_answer_is_not_asked_back() -> None:
    desk = desk_with(chunk(8))
    desk.leased()
    desk.join("w2")
    desk.core._prices.seconds[:] = [ropes.TARGET_S / 100]
    while more := desk.leased("w2"):
        desk.complete(more, "w2")
        desk.core._prices.seconds[:] = [ropes.TARGET_S / 100]
    assert desk.take("w1", model.Revoke) == []


def test_the_last_job_behind_a_body_that_runs_for_long_does_not_wait_for_it() -> None:
    desk = desk_with(chunk(4))
    first, second = desk.leased("w1")
    desk.join("w2")
    while more := desk.leased("w2"):
        desk.complete(more, "w2")
    assert desk.take("w1", model.Revoke) == [], "it would be through before the answer"
    desk.pull("w1", running=first.row, busy_s=0.0)
    assert desk.take("w1", model.Revoke) == [model.Revoke([second.row])]
    desk.pull("w1", returned=[(second.row, second.counter)])
    assert rows(desk.leased("w2")) == [second.row]


def test_a_body_that_runs_is_known_by_the_frame_that_says_so() -> None:
    desk, _ = stolen()
    desk.pull(running=0, busy_s=2.0)
    assert desk.states()[:2] == ["running", "leased"]
    assert desk.core._prices.seconds == [2.0]
    desk.pull("w2", running=1, busy_s=9.0)
    assert desk.core._prices.seconds == [2.0], "not its job"

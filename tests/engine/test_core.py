"""The leader's core, event by event, at a desk (tests/kit/desk). The random walks are in test_core_stateful."""

from __future__ import annotations

import pytest

from tests.kit.builders import FUNCTION, chunk, failure, led, plain, spec, u32, uuid_of
from tests.kit.desk import WALL, Desk
from towline.engine import effects as fx
from towline.engine import events as ev
from towline.engine import model, retries, ropes
from towline.engine.core import LeaderCore
from towline.engine.graph import NIL
from towline.engine.leases import DRIFT
from towline.engine.ledger import is_whole
from towline.engine.model import Growth, Held, LeasedJob
from towline.engine.states import EdgeKind, JobState, Missing, edge_byte

S = JobState
NONE = edge_byte(EdgeKind.DATA, Missing.NONE)
PASS = edge_byte(EdgeKind.DATA, Missing.PASS)
CHAIN3 = chunk([[], [0], [1]])
SLOW = 100.0
"""Seconds a job, so that a lease holds one."""


def desk_with(*chunks: model.Chunk, workers: int = 1, **what: object) -> Desk:
    """A leader with these submissions and workers w1, w2, ..., all committed."""
    desk = Desk(**what)  # type: ignore[arg-type]  # as given
    for one in chunks:
        desk.submit(one)
    for number in range(workers):
        desk.join(f"w{number + 1}")
    if not desk.auto:
        desk.commit()
    return desk


def one_by_one(desk: Desk) -> None:
    """From now on a lease holds one job: all functions are dear."""
    desk.core._prices.refresh(desk.core.ledger)
    desk.core._prices.seconds[:] = [SLOW] * len(desk.core._prices.seconds)


def rows(jobs: list[LeasedJob]) -> list[int]:
    return [job.row for job in jobs]


def held_by(job: LeasedJob, epoch: int = 1, *, running: bool = True) -> Held:
    return Held(job.row, epoch, job.counter, [(i.row, i.epoch, i.counter) for i in job.inputs], running)


# --------------------------------------------------------------------------------------------------- a run, start to end


def test_a_chain_runs_in_one_lease_and_the_run_is_idle_then() -> None:
    desk = desk_with(CHAIN3)
    assert not desk.idle
    jobs = desk.leased()
    assert [(job.row, job.needs) for job in jobs] == [(0, []), (1, [0]), (2, [1])]
    assert desk.states() == ["leased"] * 3
    assert desk.core.run_state() == "running"
    desk.complete(jobs)
    assert desk.states() == ["completed"] * 3
    assert desk.idle
    assert desk.core.run_state() == "completed"
    assert desk.take("w1", model.Ack) == [model.Ack(1)]


def test_close_stops_the_workers_and_is_the_last_record() -> None:
    desk = desk_with(CHAIN3, workers=2)
    desk.feed(ev.Closing(9))
    assert desk.kills == ["w1"], "the one that works"
    assert desk.take("w2", model.Stop)
    desk.die("w1")
    assert not desk.finished
    desk.feed(ev.Said(model.Goodbye("w2")))
    assert desk.finished
    assert isinstance(model.decode_record(desk.log[-1]), model.Closed)
    assert desk.core.next_deadline() is None
    assert desk.core.ledger.suspects == set(), "whom we killed ourselves kills nobody"


def test_while_closing_nobody_joins_and_nothing_is_taken() -> None:
    desk = desk_with(chunk(1))
    desk.feed(ev.Closing(9))
    desk.join("w2")
    assert desk.take("w2", model.Refused)
    token = desk.submit(chunk(1, flow="late", first=50))
    assert not desk.told[token].ok


def test_cancel_is_told_when_no_body_runs_any_more() -> None:
    desk = desk_with(chunk([[], [], [0]], total=9))
    job = desk.leased()[0]
    desk.feed(ev.Steer(7, "stop"))
    assert desk.kills == ["w1"]
    assert 7 not in desk.told
    assert not desk.idle
    desk.grow(job, Growth(addition=chunk(1, first=50)))
    desk.die()
    assert desk.told[7] == fx.Tell(7, True, {"stopped": 2})
    assert desk.states() == ["completed", "stopped", "stopped"], "what is stopped grows no more"
    assert desk.idle
    assert desk.core.run_state() == "stopped"
    assert desk.core.ledger.suspects == set()


def test_cancel_after_a_takeover_waits_for_those_that_may_still_run() -> None:
    """R7: told only when no body can run any more; this leader has not heard of them yet."""
    first = desk_with(chunk(2))
    job = first.leased()[0]
    desk = first.successor(epoch=2)
    desk.feed(ev.Steer(7, "stop"))
    assert 7 not in desk.told
    assert not desk.core.idle()
    desk.join("w1", held_by(job))
    assert desk.kills == ["w1"]
    assert 7 not in desk.told
    desk.die("w1")
    assert desk.told[7].ok
    assert desk.states() == ["stopped", "stopped"]


def test_unknown_verbs_are_refused() -> None:
    desk = desk_with(chunk(1))
    desk.feed(ev.Steer(7, "pause"))
    desk.feed(ev.Steer(8, "stop", [0]))
    assert [desk.told[token].ok for token in (7, 8)] == [False, False]
    assert "known: stop" in str(desk.told[7].value)


def test_a_snapshot_is_named_in_the_journal() -> None:
    desk = desk_with()
    desk.feed(ev.SnapshotMade(1, "key", "digest"))
    assert desk.core.ledger.snapshot == model.Snapshotted(1, "key", "digest", WALL)


# ------------------------------------------------------------------------------------------------- append before you tell


def test_nothing_is_told_before_it_is_durable() -> None:
    desk = Desk(auto=False)
    token = desk.submit(chunk(1))
    desk.join()
    assert (token in desk.told, desk.take("w1", model.Welcome)) == (False, [])
    desk.commit(2)
    assert desk.told[token] == fx.Tell(token, True, {"first": 0, "count": 1})
    assert desk.take("w1", model.Welcome) == []
    assert desk.leased() == [], "the roster is committed before a worker's first grant (R1)"
    desk.commit(3)
    assert desk.take("w1", model.Welcome) == [model.Welcome(1, 60.0, 15.0)]
    (job,) = desk.leased()
    desk.complete([job])
    assert (desk.idle, desk.take("w1", model.Ack)) == (False, [])
    desk.commit()
    assert (desk.idle, desk.take("w1", model.Ack)) == (True, [model.Ack(1)])


def test_added_jobs_wait_for_the_commit() -> None:
    desk = desk_with(auto=False)
    desk.submit(chunk(1))
    assert desk.leased() == []
    desk.commit()
    assert rows(desk.leased()) == [0]
    desk.submit(chunk(1, flow="g", first=5))
    assert desk.core.idle() is False


def test_grown_jobs_wait_for_the_commit() -> None:
    desk = desk_with(chunk(1), auto=False)
    (job,) = desk.leased()
    desk.grow(job, Growth(addition=chunk(1, first=50)))
    assert desk.leased() == []
    desk.commit()
    assert rows(desk.leased()) == [1]


def test_children_go_before_the_commit_unless_their_owner_forbids() -> None:
    specs = [spec("a"), spec("b", release="committed")]
    desk = desk_with(chunk([[], [0], [0]], specs=specs, spec_of=[0, 0, 1]), workers=2, auto=False)
    job, towed = desk.leased("w1")
    assert towed.row == 1
    desk.complete([job, towed])
    assert desk.states()[2] == "waiting"
    assert desk.leased("w1") + desk.leased("w2") == []
    desk.commit()
    assert rows(desk.leased("w1") + desk.leased("w2")) == [2]


def test_a_job_that_waits_for_the_commit_waits_for_no_later_one() -> None:
    """While one commit is in flight the next batch gathers: there is always something that is not durable yet."""
    specs = [spec("a"), spec("b", release="committed")]
    desk = desk_with(chunk([[], [0]], specs=specs, spec_of=[0, 1]), auto=False)
    (job,) = desk.leased()
    desk.complete([job])
    appended = desk.appended
    desk.submit(chunk(1, flow="g", first=50))
    desk.commit(appended)
    assert rows(desk.leased()) == [1]


def test_no_lease_overtakes_a_welcome() -> None:
    """The worker would drop it, and the leader would believe for ever that it holds the jobs."""
    desk = desk_with(chunk(2))
    one_by_one(desk)
    desk.auto = False
    desk.submit(chunk(1, flow="g", first=50))
    desk.sent.clear()
    desk.join("w1")
    assert (desk.take("w1", model.Lease), desk.take("w1", model.Welcome)) == ([], [])
    desk.commit()
    assert [type(frame) for to, frame in desk.sent if to == "w1"][:2] == [model.Welcome, model.Lease]


# --------------------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize("payload", [b"", b"\xc0", model.encode(chunk([[1], []])), model.encode(chunk(1))[:-1]])
def test_a_submission_that_cannot_be_read_or_taken_is_refused(payload: bytes) -> None:
    desk = desk_with()
    before = desk.appended
    desk.feed(ev.Submitted(5, payload))
    assert not desk.told[5].ok
    assert desk.appended == before


def test_a_submission_handed_in_again_is_told_the_same() -> None:
    desk = desk_with()
    payload = model.encode(chunk(2))
    desk.feed(ev.Submitted(1, payload))
    desk.feed(ev.Submitted(2, payload, again=True))
    desk.feed(ev.Submitted(3, payload))
    assert desk.told[2].value == desk.told[1].value
    assert not desk.told[3].ok
    assert desk.core.ledger.graph.size == 2


def test_a_response_that_cannot_be_taken_fails_its_job() -> None:
    desk = desk_with(chunk(2))
    job = desk.leased()[0]
    desk.grow(job, Growth(addition=chunk(1)))
    assert desk.states()[0] == "failed"
    (ended,) = desk.records(model.Ended)
    assert isinstance(ended, model.Ended)
    assert ended.ending.failure is not None
    assert "its Response cannot be taken: job" in ended.ending.failure.message


def test_words_of_strangers_do_nothing() -> None:
    desk = desk_with(chunk(1), workers=0)
    before = desk.appended
    desk.pull("w9", 3, plain=plain([(0, 1)]))
    assert desk.touch("w9") == []
    desk.die("w9")
    desk.feed(ev.Disconnected("w9"))
    desk.feed(ev.Tick())
    assert (desk.appended, desk.sent) == (before, [])


@pytest.mark.parametrize("bad", [
    model.Plain(b"\0\0\0\0", b"", b"", b"", b"", b""),
    model.Plain(b"\0\0\0", b"", b"", b"", b"", b""),
    model.Plain(u32([0]), u32([1]), bytes(8), bytes(4), u32([5]), b"1234"),
    model.Plain(b"", b"", b"", b"", b"", b"x"),
    model.Plain(u32([0]), u32([1]), bytes(8), bytes(4), b"", b""),
])  # fmt: skip
def test_columns_that_do_not_match_cost_the_worker_its_life(bad: model.Plain) -> None:
    assert not is_whole(bad)
    desk = desk_with(chunk(1))
    desk.pull(plain=bad)
    assert desk.kills == ["w1"]
    assert desk.states() == ["leased"]


def test_an_outcome_twice_in_a_frame_counts_once() -> None:
    desk = desk_with(chunk(1))
    (job,) = desk.leased()
    desk.pull(number=1, plain=plain([(0, job.counter)] * 2))
    assert desk.states() == ["completed"]
    assert desk.core.refused_outcomes == 1


@pytest.mark.parametrize(("epoch", "counter"), [(1, 9), (2, 1), (0, 1)])
def test_an_outcome_of_another_attempt_is_refused(epoch: int, counter: int) -> None:
    desk = desk_with(chunk(1))
    desk.leased()
    desk.pull(number=1, epoch=epoch, plain=plain([(0, counter)]), endings=[model.Ending(0, counter)])
    assert desk.states() == ["leased"]
    assert desk.core.refused_outcomes == 2
    assert desk.take("w1", model.Ack), "acknowledged all the same, or it would come for ever"


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


def test_a_body_that_runs_is_known_by_the_frame_that_says_so() -> None:
    desk, _ = stolen()
    desk.pull(running=0, busy_s=2.0)
    assert desk.states()[:2] == ["running", "leased"]
    assert desk.core._prices.seconds == [2.0]
    desk.pull("w2", running=1, busy_s=9.0)
    assert desk.core._prices.seconds == [2.0], "not its job"


# --------------------------------------------------------------------------------------------------- failures, retries


def test_a_failure_is_final_without_retries_and_its_children_wait() -> None:
    desk = desk_with(chunk([[], [0], []]))
    one_by_one(desk)
    (job, child), = [desk.leased()]
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


def test_a_suspect_that_an_earlier_worker_still_holds_is_in_no_other_lease() -> None:
    """Its entry in the ready queue is from before it was heard of; it must not slip into a lease with others."""
    first = desk_with(chunk(4))
    jobs = first.leased()
    desk = first.successor(epoch=2)
    desk.join("w1", *[held_by(job) for job in jobs])
    desk.die("w1")
    for number in range(8):
        desk.join(f"v{number}")
        got = rows(desk.leased(f"v{number}"))
        assert len(got) < 2 or not set(got) & set(rows(jobs))


def test_a_worker_that_says_goodbye_is_no_murderer() -> None:
    desk = desk_with(chunk(2))
    desk.leased()
    desk.feed(ev.Said(model.Goodbye("w1", "enough")))
    assert desk.core.ledger.suspects == set()
    assert desk.states() == ["ready", "ready"]


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
    assert desk.core.sessions["w1"].deadline == pytest.approx(max(60.0, 12.5 + 47.5) * (1 + DRIFT), abs=3.1)


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


@pytest.mark.parametrize("lease_s", [20.0, 100.0])
def test_or_until_the_longer_lease_has_ended(lease_s: float) -> None:
    first = desk_with(chunk(1), lease_s=60.0)
    desk = first.successor(epoch=2, lease_s=lease_s)
    desk.join("w9")
    end = max(60.0, lease_s) * (1.0 + DRIFT)
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
    end = 60.0 * (1.0 + DRIFT)
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


# ------------------------------------------------------------------------------------------------------------- inputs


def test_inputs_are_handed_on_by_value_or_by_place() -> None:
    specs = [spec("a"), spec("b", release="committed")]
    desk = desk_with(chunk([[], [0]], specs=specs, spec_of=[0, 1]))
    (job,) = desk.leased()
    desk.pull(number=1, plain=plain([(0, job.counter)], [b"value"]))
    (child,) = desk.leased()
    assert child.inputs == [model.Input(0, 1, job.counter, b"value")]
    again = desk.successor(epoch=2)
    again.join("w1")
    (child,) = again.leased()
    (given,) = child.inputs
    assert (given.data, given.epoch, given.counter) == (b"", 1, job.counter)
    assert given.place is not None
    seq, offset, length = given.place
    assert desk.log[seq][offset : offset + length] == b"value"


def test_attempts_are_never_minted_twice() -> None:
    desk = desk_with(chunk(3))
    one_by_one(desk)
    seen = set()
    for number in range(3):
        jobs = desk.leased()
        seen |= {(1, job.counter) for job in jobs}
        desk.complete(jobs, number=number + 1)
        desk.submit(chunk(3, flow=f"g{number}", first=100 * (number + 1)))
    after = desk.successor(epoch=2)
    after.join("w1")
    jobs = after.leased()
    assert jobs
    assert not {(after.core.epoch, job.counter) for job in jobs} & seen


# -------------------------------------------------------------------------------------------------------------- restore


def test_a_restore_in_pieces_is_a_restore() -> None:
    desk = desk_with(chunk([[], [0], []]))
    desk.complete(desk.leased()[:1])
    core = LeaderCore()
    for seq, payload in enumerate(desk.log):
        core.replay(seq, payload)
    core.settle()
    assert core.image() == LeaderCore.restore(None, enumerate(desk.log)).image()
    assert core.ledger.counts == LeaderCore.restore(core.image(), []).ledger.counts
    assert core.ledger.counts[S.READY] == 2


def test_a_snapshot_and_the_tail_are_the_whole() -> None:
    desk = desk_with(chunk([[], [0], []]))
    for cut in range(len(desk.log) + 1):
        half = LeaderCore.restore(None, enumerate(desk.log[:cut]))
        whole = LeaderCore.restore(half.image(), enumerate(desk.log[cut:], cut))
        assert whole.image() == LeaderCore.restore(None, enumerate(desk.log)).image()


def test_before_it_leads_a_core_asks_for_nothing() -> None:
    assert LeaderCore().next_deadline() is None


def test_effects_come_in_the_order_in_which_they_are_to_be_done() -> None:
    core = LeaderCore()
    out = core.handle(ev.Leading(led()), ev.Now(0.0, 0.0))
    assert [type(effect) for effect in out] == [fx.Append, fx.Idle]
    out = core.handle(ev.Submitted(4, model.encode(chunk(1))), ev.Now(0.0, 0.0))
    assert [type(effect) for effect in out] == [fx.Append, fx.Tell]

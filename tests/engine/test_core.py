"""The leader's core, event by event, at a desk (tests/kit/desk): a run, commits, refusals, restores.

Its other rooms: test_core_order, test_core_failures, test_core_workers; the random walks are in test_core_stateful.
"""

from __future__ import annotations

import pytest

from tests.kit.builders import chunk, led, plain, spec, u32
from tests.kit.desk import WALL, Desk, desk_with, held_by, one_by_one, rows
from towline.engine import effects as fx
from towline.engine import events as ev
from towline.engine import model
from towline.engine.core import LeaderCore, is_whole
from towline.engine.model import Growth
from towline.engine.states import JobState

S = JobState
CHAIN3 = chunk([[], [0], [1]])

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
    assert not desk.told[7].ok
    assert "known: stop" in str(desk.told[7].value)


def test_named_jobs_are_stopped_unless_somebody_may_run_them() -> None:
    desk = desk_with(chunk([[], [0], []], specs=[spec(), spec(release="committed")], spec_of=[0, 1, 0]), workers=0)
    desk.feed(ev.Steer(7, "stop", [2]))
    assert desk.told[7] == fx.Tell(7, True, {"stopped": [2]})
    desk.join()
    (job,) = desk.leased()
    desk.feed(ev.Steer(8, "stop", [0, 1, 1, 2]))
    assert desk.kills == []
    assert 8 not in desk.told
    assert desk.take("w1", model.Revoke) == [model.Revoke([0])]
    assert desk.states() == ["leased", "stopped", "stopped"]
    desk.pull(running=0)
    assert desk.told[8] == fx.Tell(8, True, {"stopped": [1]}), "what runs, runs on"
    desk.complete([job])
    assert desk.states() == ["completed", "stopped", "stopped"]
    assert (desk.idle, desk.core.run_state()) == (True, "completed")
    assert desk.successor(epoch=2).states() == desk.states()


def test_a_job_that_is_given_back_is_stopped_before_it_can_be_granted_again() -> None:
    """R7: a leased job may have begun; only its worker knows."""
    desk = desk_with(chunk(2))
    first = desk.leased()[0]
    desk.feed(ev.Steer(8, "stop", [first.row]))
    assert 8 not in desk.told
    desk.pull(returned=[(first.row, first.counter)])
    assert desk.told[8] == fx.Tell(8, True, {"stopped": [first.row]})
    assert desk.states()[first.row] == "stopped"
    assert all(job.row != first.row for job in desk.leased())
    assert desk.successor(epoch=2).states()[first.row] == "stopped"


def test_a_worker_that_dies_gives_back_as_well() -> None:
    desk = desk_with(chunk(1))
    desk.feed(ev.Steer(8, "stop", [0]))
    desk.die()
    assert desk.told[8] == fx.Tell(8, True, {"stopped": [0]})
    assert desk.states() == ["stopped"]
    assert desk.idle


def test_a_suspect_that_runs_alone_is_not_asked_back() -> None:
    desk = desk_with(chunk(1))
    desk.die()
    desk.join("w2")
    desk.feed(ev.Steer(8, "stop", [0]))
    assert desk.told[8] == fx.Tell(8, True, {"stopped": []})


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


def test_no_child_is_granted_before_it_is_durable_itself() -> None:
    """A rope must not reach into a submission that a crash can take back, nor may its parent's outcome release such a job."""
    desk = desk_with(auto=False)
    desk.submit(chunk(1, total=4))
    appended = desk.appended
    desk.submit(chunk([[0], [1], []], base=1, total=4))
    desk.commit(appended)
    (job,) = desk.leased()
    assert job.row == 0
    desk.complete([job])
    assert desk.leased() == []
    desk.commit()
    first = desk.leased()
    desk.complete(first)
    assert sorted(rows(first) + rows(desk.leased())) == [1, 2, 3]


def test_no_grown_child_is_granted_before_it_is_durable_itself() -> None:
    desk = desk_with(chunk(1), auto=False)
    (job,) = desk.leased()
    desk.grow(job, Growth(addition=chunk([[], [0]], first=50)))
    assert desk.leased() == []
    desk.commit()
    assert rows(desk.leased()) == [1, 2]


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

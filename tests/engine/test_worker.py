"""The worker's side of the protocol, frame by frame."""

from __future__ import annotations

from array import array

import pytest

from tests.kit.builders import FUNCTION, SPEC, failure, hello, identity, lease, leased, plain
from towline.engine import model
from towline.engine.model import Ending, Held, Input, LeasedJob, Log, Pull
from towline.engine.worker import FLUSH_BYTES, FLUSH_S, REPORT_S, WorkerCore, frame_bytes


def joined(epoch: int = 1, *, valid_s: float = 60.0, at: float = 10.0) -> WorkerCore:
    """A worker that was welcomed and touched at time `at`."""
    core = WorkerCore(identity())
    core.connected(at)
    core.received(model.Welcome(epoch, 60.0, 15.0), at)
    core.received(model.Touched(epoch, at, valid_s), at)
    return core


def begin(core: WorkerCore, now: float = 10.0) -> LeasedJob:
    todo = core.next_job(now)
    assert todo is not None
    return todo.job


def rows_of(pull: model.ToLeader) -> list[int]:
    assert isinstance(pull, Pull)
    return list(array("I", pull.plain.rows))


def run_all(core: WorkerCore, now: float, output: bytes = b"\xc0") -> list[model.ToLeader]:
    out: list[model.ToLeader] = []
    while (todo := core.next_job(now)) is not None:
        out += core.completed(todo.job, output, 1.0, 0.001, now)
    return out


# ------------------------------------------------------------------------------------------------------------ joining


def test_it_says_who_it_is_and_asks_for_time_when_it_is_welcomed() -> None:
    core = WorkerCore(identity())
    assert core.connected(5.0) == [hello(stream=1)]
    assert core.received(model.Welcome(3, 40.0, 7.0), 6.0) == [model.Touch("w1", 6.0), Pull("w1", 0, 3)]
    assert (core.epoch, core.lease_s, core.touch_s) == (3, 40.0, 7.0)


def test_a_lower_epoch_is_not_obeyed_any_more() -> None:
    core = joined(5)
    core.received(lease(leased(0, 1), epoch=5), 10.0)
    core.disconnected()
    core.connected(11.0)
    assert core.received(model.Welcome(4, 1.0, 1.0), 11.0) == []
    core.received(lease(leased(1, 1), epoch=4), 11.0)
    core.received(model.Touched(4, 11.0, 1000.0), 11.0)
    assert (core.epoch, core.lease_s, core.deadline) == (5, 60.0, 70.0)
    assert begin(core).row == 0
    assert core.next_job(10.0) is None


def test_a_lease_before_the_welcome_is_not_taken() -> None:
    """The leader learns from Hello what arrived; a lease on a line that is not welcomed yet would be unknown to it."""
    core = WorkerCore(identity())
    core.connected(1.0)
    core.received(lease(leased(0, 1)), 1.0)
    core.received(model.Welcome(1, 60.0, 15.0), 1.0)
    core.received(model.Touched(1, 1.0, 60.0), 1.0)
    assert core.next_job(1.0) is None


def test_specs_and_functions_are_handed_on_once() -> None:
    core = joined()
    core.received(model.Lease(1, [], [(0, SPEC)], [FUNCTION]), 10.0)
    assert core.take_specs() == ([(0, SPEC)], [FUNCTION])
    assert core.take_specs() == ([], [])


# --------------------------------------------------------------------------------------------------------- the deadline


def test_nothing_begins_at_the_deadline_or_after_it() -> None:
    core = joined(valid_s=5.0)
    core.received(lease(leased(0, 1), leased(1, 2)), 10.0)
    assert begin(core, 14.9).row == 0
    assert core.next_job(15.0) is None
    core.received(model.Touched(1, 14.0, 5.0), 16.0)
    assert core.deadline == 19.0, "R1: counted from when the request was sent"
    assert begin(core, 18.9).row == 1


def test_a_deadline_never_moves_back() -> None:
    core = joined(valid_s=50.0)
    core.received(model.Touched(1, 10.0, 1.0), 10.0)
    assert core.deadline == 60.0


def test_without_a_touch_nothing_begins() -> None:
    core = WorkerCore(identity())
    core.connected(1.0)
    core.received(model.Welcome(1, 60.0, 15.0), 1.0)
    core.received(lease(leased(0, 1)), 1.0)
    assert core.next_job(1.0) is None


# ---------------------------------------------------------------------------------------------------------- flushing


def test_outcomes_wait_for_company_and_the_last_one_does_not() -> None:
    core = joined()
    core.received(lease(*[leased(row, row + 1) for row in range(3)]), 10.0)
    assert core.completed(begin(core), b"a", 1.0, 0.5, 10.001) == []
    assert core.completed(begin(core), b"bb", 2.0, 0.25, 10.002) == []
    (pull,) = core.completed(begin(core), b"", 3.0, 0.125, 10.003)
    assert isinstance(pull, Pull)
    assert (pull.worker, pull.number, pull.epoch) == ("w1", 1, 1)
    p = pull.plain
    assert [array(code, data).tolist() for code, data in [("I", p.rows), ("I", p.counters), ("I", p.ends)]] == [
        [0, 1, 2],
        [1, 2, 3],
        [1, 3, 3],
    ]
    assert array("d", p.began).tolist() == [1.0, 2.0, 3.0]
    assert array("f", p.elapsed).tolist() == [0.5, 0.25, 0.125]
    assert p.outputs == b"abb"


@pytest.mark.parametrize(("after", "report", "sent"), [
    (FLUSH_S, False, True), (FLUSH_S * 0.9, False, False), (REPORT_S, True, True), (REPORT_S * 0.5, True, False),
])  # fmt: skip
def test_when_an_outcome_goes_although_more_jobs_are_there(after: float, report: bool, sent: bool) -> None:
    core = joined(at=0.0)
    core.received(lease(leased(0, 1, report=report), leased(1, 2)), 0.0)
    assert bool(core.completed(begin(core, 0.0), b"", 0.0, 0.0, after)) is sent


def test_large_outputs_go_at_once() -> None:
    core = joined()
    core.received(lease(leased(0, 1), leased(1, 2)), 10.0)
    assert core.completed(begin(core), bytes(FLUSH_BYTES + 1), 0.0, 0.0, 10.0)


def test_the_clock_flushes_and_names_the_body_that_has_run_for_long() -> None:
    core = joined()
    core.received(lease(leased(0, 1), leased(1, 2)), 10.0)
    core.completed(begin(core), b"a", 0.0, 0.0, 10.001)
    begin(core, 10.002)
    assert core.tick(10.001) == []
    out = core.tick(10.001 + 2 * FLUSH_S)
    assert [rows_of(out[0]), out[1]] == [[0], Pull("w1", 0, 1, running=1, busy_s=pytest.approx(2 * FLUSH_S - 0.001))]
    assert core.tick(10.002 + 2 * FLUSH_S) == []


def test_what_is_more_than_bytes_goes_at_once_with_its_log() -> None:
    core = joined()
    core.received(lease(leased(0, 1), leased(1, 2)), 10.0)
    job = begin(core)
    log = Log(0, 1, b"out", b"err")
    assert core.log(log, 1, 10.0) == []
    ending = Ending(0, 1, failure=failure())
    assert core.ended(job, ending, 10.0) == [Pull("w1", 1, 1, endings=[ending], logs=[log])]


def test_a_frame_holds_attempts_of_one_epoch() -> None:
    core = joined(1)
    core.received(lease(leased(0, 1), leased(1, 2), leased(2, 3)), 10.0)
    core.completed(begin(core), b"a", 0.0, 0.0, 10.0)
    core.connected(10.0)
    core.received(model.Welcome(2, 60.0, 15.0), 10.0)
    core.completed(begin(core), b"b", 0.0, 0.0, 10.0)
    core.received(lease(leased(9, 1), epoch=2), 10.0)
    out = run_all(core, 10.0)
    assert [(rows_of(pull), pull.epoch, pull.number) for pull in out if isinstance(pull, Pull)] == [
        ([1, 2], 1, 2),
        ([9], 2, 3),
    ]


# ----------------------------------------------------------------------------------------------------- keeping outcomes


def test_outcomes_are_handed_in_again_until_they_are_acknowledged() -> None:
    core = joined()
    core.received(lease(leased(0, 1, inputs=[Input(7, 1, 3), Input(8, 0, 0, missing=True)])), 10.0)
    (first,) = run_all(core, 10.0)
    core.received(lease(leased(1, 2)), 11.0)
    (second,) = run_all(core, 11.0)
    core.received(lease(leased(2, 3), leased(3, 4)), 11.0)
    begin(core, 11.0)
    core.disconnected()
    (said,) = core.connected(12.0)
    assert isinstance(said, model.Hello)
    assert said.held == [Held(3, 1, 4), Held(2, 1, 3, running=True), Held(0, 1, 1, [(7, 1, 3)]), Held(1, 1, 2)]
    assert core.received(model.Welcome(2, 60.0, 15.0), 12.0)[1:3] == [first, second]
    core.received(model.Ack(1), 12.0)
    core.connected(13.0)
    assert core.received(model.Welcome(2, 60.0, 15.0), 13.0)[1:] == [second, Pull("w1", 0, 2)]
    core.received(model.Ack(2), 13.0)
    core.connected(14.0)
    assert core.received(model.Welcome(2, 60.0, 15.0), 14.0)[1:] == [Pull("w1", 0, 2)]


def test_jobs_run_on_without_a_line_and_their_outcomes_wait() -> None:
    core = joined()
    core.received(lease(leased(0, 1)), 10.0)
    core.disconnected()
    assert run_all(core, 10.0) == []
    assert core.holds_anything()
    core.connected(11.0)
    assert rows_of(core.received(model.Welcome(1, 60.0, 15.0), 11.0)[1]) == [0]


# ---------------------------------------------------------------------------------------------------------------- ropes


def test_a_rope_hands_outputs_on_without_the_leader() -> None:
    core = joined()
    given = [Input(5, 1, 1, b"value"), Input(6, 1, 2, place=model.Location(1, 2, 3)), Input(0, 1, 1)]
    missing = Input(4, 0, 0, missing=True)
    core.received(lease(leased(0, 1), leased(1, 2, needs=[0], inputs=[*given, missing])), 10.0)
    core.completed(begin(core), b"made here", 0.0, 0.0, 10.0)
    todo = core.next_job(10.0)
    assert todo is not None
    assert todo.inputs == [b"value", None, b"made here", missing]


@pytest.mark.parametrize("growth", [None, model.Growth(stop_children=True)])
def test_behind_what_did_not_simply_complete_the_rope_goes_back(growth: model.Growth | None) -> None:
    core = joined()
    core.received(lease(leased(0, 1), leased(1, 2, needs=[0]), leased(2, 3, needs=[1]), leased(3, 4)), 10.0)
    ending = Ending(0, 1, b"x", failure=None if growth else failure(), growth=growth)
    core.ended(begin(core), ending, 10.0)
    assert begin(core).row == 3
    assert not core.is_idle()
    assert core.tick(10.0 + 2 * FLUSH_S)[0] == Pull("w1", 0, 1, returned=[(1, 2), (2, 3)])


def test_a_rope_does_not_reach_into_the_next_lease() -> None:
    core = joined()
    core.received(lease(leased(0, 1)), 10.0)
    core.received(lease(leased(1, 2), leased(2, 3, needs=[0])), 10.0)
    core.completed(begin(core), b"", 0.0, 0.0, 10.0)
    assert begin(core).row == 1
    assert core.next_job(10.0) is None, "row 0 is of another lease"


# -------------------------------------------------------------------------------------------------------- giving back


def test_a_revoke_is_answered_with_what_has_not_begun() -> None:
    core = joined()
    core.received(lease(*[leased(row, row + 1, needs=[2] if row == 3 else []) for row in range(5)]), 10.0)
    begin(core)
    assert core.received(model.Revoke([0, 2, 4, 77]), 10.0) == [Pull("w1", 0, 1, returned=[(2, 3), (3, 4), (4, 5)])]
    assert begin(core).row == 1
    assert core.next_job(10.0) is None


def test_a_revoke_that_comes_too_late_is_answered_all_the_same() -> None:
    core = joined()
    assert core.received(model.Revoke([1]), 10.0) == [Pull("w1", 0, 1)]


def test_what_is_given_back_before_the_welcome_is_said_after_it() -> None:
    """The Hello named it as held: if the return were lost, the leader would wait for it for ever."""
    core = joined()
    core.received(lease(leased(0, 1), leased(1, 2, needs=[0]), leased(2, 3)), 10.0)
    job = begin(core)
    core.connected(10.0)
    core.ended(job, Ending(0, 1, failure=failure()), 10.0)
    assert begin(core).row == 2
    assert core.received(model.Revoke([2]), 10.0) == []
    out = core.received(model.Welcome(1, 60.0, 15.0), 10.0)
    assert [pull.returned for pull in out if isinstance(pull, Pull) and pull.returned] == [[(1, 2)]]


def test_what_was_given_back_on_a_dead_line_is_missing_in_the_next_hello() -> None:
    core = joined()
    core.received(lease(leased(0, 1), leased(1, 2)), 10.0)
    core.disconnected()
    core.received(model.Revoke([0]), 10.0)
    (said,) = core.connected(11.0)
    assert isinstance(said, model.Hello)
    assert said.held == [Held(1, 1, 2)]
    assert core.received(model.Welcome(1, 60.0, 15.0), 11.0)[1:] == [Pull("w1", 0, 1)]


def test_returns_are_sorted_by_epoch() -> None:
    core = joined(1)
    core.received(lease(leased(0, 9)), 10.0)
    core.connected(10.0)
    core.received(model.Welcome(2, 60.0, 15.0), 10.0)
    core.received(lease(leased(1, 3), epoch=2), 10.0)
    assert core.received(model.Revoke([0, 1]), 10.0) == [
        Pull("w1", 0, 1, returned=[(0, 9)]),
        Pull("w1", 0, 2, returned=[(1, 3)]),
    ]


# --------------------------------------------------------------------------------------------------------------- ending


def test_a_refused_worker_begins_nothing_more() -> None:
    core = joined()
    core.received(lease(leased(0, 1)), 10.0)
    core.received(model.Refused("given up"), 10.0)
    core.received(lease(leased(1, 2)), 10.0)
    core.received(model.Touched(1, 10.0, 999.0), 10.0)
    assert core.refused == "given up"
    assert core.next_job(10.0) is None
    assert core.deadline == 70.0


def test_a_rope_goes_on_behind_an_outcome_that_is_filed() -> None:
    """Nothing but an output, though it goes as an Ending; behind any other the rest is given back."""
    for cached, goes_on in ((model.Cached(b"key", "f"), True), (None, False)):
        core = joined()
        core.received(lease(leased(0, 1), leased(1, 2, inputs=[Input(0, 1, 1)], needs=[0])), 10.0)
        core.ended(begin(core), Ending(0, 1, b"\x05", cached=cached), 10.0)
        todo = core.next_job(10.0)
        assert (todo is not None) == goes_on
        assert todo is None or todo.inputs == [b"\x05"]


def test_a_stopping_worker_ends_what_runs_and_begins_nothing_more() -> None:
    core = joined()
    core.received(lease(leased(0, 1), leased(1, 2)), 10.0)
    job = begin(core)
    core.received(model.Stop(), 10.0)
    core.received(lease(leased(2, 3)), 10.0)
    assert core.stopping
    assert core.next_job(10.0) is None
    assert core.holds_anything()
    (pull,) = core.completed(job, b"", 0.0, 0.0, 10.0)
    assert rows_of(pull) == [0]
    assert core.is_idle()
    assert core.holds_anything(), "the outcome is not committed"
    core.received(model.Ack(1), 10.0)
    assert not core.holds_anything()


def test_answers_are_the_shell_s_affair() -> None:
    assert joined().received(model.Answer(1, True), 10.0) == []


def test_frames_travel_as_the_leader_reads_them() -> None:
    pull = Pull("w1", 1, 2, plain([(0, 1)]))
    assert model.decode_to_leader(frame_bytes(pull)) == pull

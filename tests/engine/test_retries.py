"""What follows a failed attempt, in numbers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.kit.builders import failure
from towline.engine.model import Options
from towline.engine.retries import LONE_DEATHS, MACHINE_TRIES, UPLOAD_TRIES, backoff_s, decide
from towline.engine.states import OF_THE_MACHINE, FailureKind, JobState

S = JobState


@pytest.mark.parametrize(("attempts", "state"), [(0, S.DELAYED), (1, S.DELAYED), (2, S.FAILED), (3, S.FAILED)])
def test_the_job_s_own_fault_uses_up_its_retries(attempts: int, state: JobState) -> None:
    decision = decide(Options(retries=2), failure(), attempts, 0, 0)
    assert (decision.state, decision.attempts) == (state, attempts + 1)


def test_no_retries_is_the_default() -> None:
    assert decide(Options(), failure(), 0, 0, 0).state is S.FAILED


def test_where_the_outcome_is_certain_there_is_no_retry() -> None:
    decision = decide(Options(retries=9), failure("schema", retry=False), 0, 0, 0)
    assert (decision.state, decision.attempts, decision.delay_s) == (S.FAILED, 1, 0.0)


@pytest.mark.parametrize("kind", sorted(OF_THE_MACHINE - {FailureKind.UPLOAD}))
@pytest.mark.parametrize("retries", [0, 2])
def test_the_machine_s_fault_costs_nothing_until_it_has_come_too_often(kind: FailureKind, retries: int) -> None:
    allowed = (LONE_DEATHS if kind is FailureKind.LOST else MACHINE_TRIES) + retries
    for deaths in range(allowed - 1):
        decision = decide(Options(retries=retries), failure(kind), 0, deaths, 0)
        assert (decision.state, decision.attempts) == (S.DELAYED, 0)
    last = decide(Options(retries=retries), failure(kind), 0, allowed - 1, 0)
    assert (last.state, last.attempts, last.delay_s) == (S.FAILED, 1, 0.0)


def test_a_store_that_takes_nothing_ends_the_run_and_no_job() -> None:
    decisions = [decide(Options(), failure(FailureKind.UPLOAD), 0, deaths, 0) for deaths in range(50)]
    assert {(one.state, one.attempts) for one in decisions} == {(S.DELAYED, 0)}
    assert [one.halt for one in decisions] == [deaths + 1 >= UPLOAD_TRIES for deaths in range(50)]


def test_a_kind_that_nobody_knows_is_the_job_s_own_fault() -> None:
    assert decide(Options(retries=1), failure("of_the_future"), 0, 0, 0).attempts == 1


@given(st.floats(0.001, 100), st.floats(0.001, 1000), st.integers(0, 5000), st.integers(0, 2**32 - 2))
def test_the_delay_doubles_up_to_its_cap_with_a_tenth_of_jitter(base: float, most: float, attempts: int, row: int) -> None:
    options = Options(backoff_s=base, backoff_max_s=most)
    plain = min(base * 2.0 ** min(attempts, 60), most)
    delay = backoff_s(options, attempts, row)
    assert plain <= delay <= plain * 1.1 + 1e-9
    assert delay == backoff_s(options, attempts, row), "jitter is a hash, not a lot"


def test_jobs_that_failed_together_do_not_come_back_together() -> None:
    assert len({backoff_s(Options(), 0, row) for row in range(100)}) > 90


def test_the_first_retries_of_the_defaults() -> None:
    delays = [backoff_s(Options(), attempts, 7) for attempts in range(4)]
    assert [int(delay) for delay in delays] == [1, 2, 4, 8]

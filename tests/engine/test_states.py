"""The table of transitions is whole and closed; what is stored keeps its numbers."""

from __future__ import annotations

from pathlib import Path

import pytest

from towline.engine.states import (
    ACTIVE,
    ENDED,
    HELD,
    LEGAL,
    OF_THE_MACHINE,
    EdgeKind,
    FailureKind,
    JobState,
    Missing,
    edge_byte,
    transitions_table,
)

S = JobState


def test_the_table_names_every_state_and_nothing_else() -> None:
    assert set(LEGAL) == set(JobState)
    assert all(isinstance(new, JobState) for news in LEGAL.values() for new in news)


def test_no_state_goes_to_itself() -> None:
    assert [old for old, news in LEGAL.items() if old in news] == []


def test_every_state_is_reached_from_waiting_and_can_be_left() -> None:
    reached = {S.WAITING}
    for _ in JobState:
        reached |= {new for old in reached for new in LEGAL[old]}
    assert reached == set(JobState)
    assert all(LEGAL.values())


def test_the_numbers_that_journals_hold() -> None:
    labels = ["waiting", "delayed", "ready", "leased", "running", "lost", "completed", "failed", "paused", "stopped"]
    assert [state.label for state in JobState] == labels
    assert list(JobState) == list(range(10))
    assert (EdgeKind.DATA, EdgeKind.ORDER, EdgeKind.GROUP) == (0, 1, 2)
    assert (Missing.ERROR, Missing.NONE, Missing.PASS) == (0, 1, 2)


def test_a_job_is_held_ended_or_neither() -> None:
    assert {S.LEASED, S.RUNNING, S.LOST} == HELD
    assert not HELD & ENDED
    assert HELD < ACTIVE
    assert not ACTIVE & (ENDED | {S.WAITING, S.PAUSED})


@pytest.mark.parametrize("state", sorted(HELD))
def test_what_a_worker_holds_may_come_back_in_every_way(state: JobState) -> None:
    assert {S.WAITING, S.COMPLETED, S.FAILED, S.DELAYED, S.STOPPED} <= LEGAL[state]


@pytest.mark.parametrize("state", sorted(ENDED))
def test_what_has_ended_runs_again_only_by_way_of_waiting(state: JobState) -> None:
    """But for what was stopped while a worker held it: that worker may still hand it in."""
    assert LEGAL[state] & HELD == ({S.LEASED} if state is S.STOPPED else set())


@pytest.mark.parametrize("kind", EdgeKind)
@pytest.mark.parametrize("missing", Missing)
def test_an_edge_s_byte_holds_both(kind: EdgeKind, missing: Missing) -> None:
    byte = edge_byte(kind, missing)
    assert (byte & 3, byte >> 4) == (kind, missing)
    assert 0 <= byte < 256


def test_a_kind_of_failure_is_its_own_name() -> None:
    assert all(kind.value == kind.name.lower() for kind in FailureKind)
    assert set(FailureKind) > OF_THE_MACHINE
    assert FailureKind.ERROR not in OF_THE_MACHINE


def test_the_table_for_the_docs() -> None:
    lines = transitions_table().splitlines()
    assert len(lines) == 2 + len(JobState)
    for old, line in zip(JobState, lines[2:], strict=True):
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        assert cells[0] == f"**{old.label}**"
        assert {new for new, cell in zip(JobState, cells[1:], strict=True) if cell == "x"} == LEGAL[old]


def test_the_docs_draw_this_very_table() -> None:
    page = Path(__file__).parents[2] / "docs" / "ARCHITECTURE.md"
    if not page.exists():
        pytest.skip("docs/ARCHITECTURE.md is not written yet")
    assert transitions_table() in page.read_text(), "paste the output of states.transitions_table() into docs/ARCHITECTURE.md"

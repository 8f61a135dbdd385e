"""The commit window follows what commits take, within its bound, and is closed where they are quick."""

from __future__ import annotations

import pytest

from towline.actors.window import FACTOR, QUICK_S, CommitWindow


def test_before_the_first_commit_nothing_is_put_off() -> None:
    assert CommitWindow(0.25).opens_at() == float("-inf")


def test_a_quick_store_has_no_window() -> None:
    window = CommitWindow(0.25)
    window.took(10.0, 10.0 + QUICK_S / 2)
    assert window.length_s == 0.0
    assert window.opens_at() == 10.0 + QUICK_S / 2


@pytest.mark.parametrize(("latency", "length"), [(0.02, FACTOR * 0.02), (0.1, 0.25), (30.0, 0.25)])
def test_it_follows_the_latency_up_to_its_bound(latency: float, length: float) -> None:
    window = CommitWindow(0.25)
    window.took(1.0, 1.0 + latency)
    assert window.length_s == pytest.approx(length)
    assert window.opens_at() == pytest.approx(1.0 + latency + length)


def test_without_a_bound_to_speak_of_there_is_none() -> None:
    window = CommitWindow(0.0)
    window.took(0.0, 1.0)
    assert window.length_s == 0.0


def test_it_adapts_and_one_slow_commit_does_not_stay() -> None:
    window = CommitWindow(1.0)
    for _ in range(20):
        window.took(0.0, 0.1)
    assert window.latency_s == pytest.approx(0.1)
    window.took(0.0, 2.0)
    assert window.length_s == 1.0
    for _ in range(20):
        window.took(0.0, 0.01)
    assert window.length_s == pytest.approx(FACTOR * 0.01, rel=0.2)


def test_a_clock_that_goes_back_does_no_harm() -> None:
    window = CommitWindow(0.25)
    window.took(5.0, 4.0)
    assert window.length_s == 0.0

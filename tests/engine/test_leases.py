"""A worker's session: until when it may run, and when it wants more."""

from __future__ import annotations

import pytest

from towline.engine.leases import Session, surely_over_s


def session(held: int = 0, granted: int = 0) -> Session:
    made = Session("w", 0, 10.0, 20.0)
    made.held = dict.fromkeys(range(held))
    made.granted = granted
    return made


def test_a_promise_moves_the_deadline_on_with_the_allowance_for_a_slow_clock() -> None:
    one = session()
    one.promise(100.0, 60.0)
    assert one.deadline == 100.0 + surely_over_s(60.0)
    one.promise(101.0, 10.0)
    assert one.deadline == 100.0 + surely_over_s(60.0), "what was promised stays promised"


@pytest.mark.parametrize(
    ("held", "granted", "wants"), [(0, 0, True), (0, 9, True), (10, 10, False), (6, 10, False), (5, 10, True), (1, 1, False)]
)
def test_it_wants_more_when_it_is_half_through(held: int, granted: int, wants: bool) -> None:
    assert session(held, granted).wants() is wants


@pytest.mark.parametrize("why", ["leaving", "alone", "silent"])
def test_it_gets_nothing_while_it(why: str) -> None:
    one = session()
    setattr(one, why, True)
    assert not one.wants()

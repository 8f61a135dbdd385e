"""R1: what a leader may promise, and from when on."""

from __future__ import annotations

import pytest

from towline.engine.authority import Authority
from towline.engine.leases import surely_over_s


def claimed(*roster: str, closed: bool = False, before_s: float = 30.0) -> Authority:
    authority = Authority()
    authority.begin(100.0, 60.0, before_s, roster, closed=closed)
    return authority


def test_nothing_may_be_granted_before_the_first_commit() -> None:
    assert not claimed().allows(100.0)


def test_authority_ends_t_after_the_start_of_the_last_committed_append() -> None:
    authority = claimed()
    authority.committed(101.0)
    assert authority.allows(160.9)
    assert not authority.allows(161.0)
    authority.committed(90.0)
    assert authority.allows(160.9), "a commit that began earlier takes nothing away"


@pytest.mark.parametrize(("roster", "closed"), [((), False), (("w",), True)])
def test_there_is_no_grace_without_workers_or_after_a_close(roster: tuple[str, ...], closed: bool) -> None:
    authority = claimed(*roster, closed=closed)
    authority.committed(100.0)
    assert authority.allows(100.0)


def test_grace_ends_when_the_whole_roster_has_answered() -> None:
    authority = claimed("a", "b")
    authority.committed(100.0)
    authority.answered("a")
    assert not authority.allows(101.0)
    authority.answered("b")
    assert authority.allows(101.0)


@pytest.mark.parametrize("before_s", [10.0, 600.0])
def test_grace_covers_the_longer_lease_and_a_slow_clock(before_s: float) -> None:
    authority = claimed("a", before_s=before_s)
    assert authority.grace_until == 100.0 + surely_over_s(max(60.0, before_s))
    authority.committed(100.0)
    assert not authority.allows(101.0)

"""Which outcomes are compared, and what is said of a wrong one."""

from __future__ import annotations

import pytest

from towline.benchmarks.peers.base import SAMPLE, WrongOutcome, compare, sample_of


def test_small_runs_are_compared_whole() -> None:
    assert sample_of(3) == [0, 1, 2]


@pytest.mark.parametrize("jobs", [SAMPLE, SAMPLE + 1, 1000, 999_983])
def test_a_sample_is_spread_over_all(jobs: int) -> None:
    found = sample_of(jobs)
    assert (len(set(found)), found[0], found[-1]) == (SAMPLE, 0, jobs - 1)
    assert found == sorted(found)


def test_a_wrong_output_is_named() -> None:
    assert compare({0: 1, 2: 3}, [1, 2, 3]) == 2
    with pytest.raises(WrongOutcome, match="job 2 put out 4, not 3"):
        compare({0: 1, 2: 4}, [1, 2, 3])

"""Medians, rates and ratios from raw repetitions, and reports that come back from disk as they were."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from tests.kit.measured import AUTHORING, CHAIN, measured, report
from towline.benchmarks.report import QUICK, Report, load, save

FAST = measured("flat", "towline", [0.2, 9.0, 0.1], build_s=0.05)
SLOW = measured("flat", "Ray tasks", [1.0, 0.9, 1.1])


def test_rates_are_of_the_median() -> None:
    assert FAST.rate == pytest.approx(5000)
    assert FAST.rate_with_building == pytest.approx(4000)


def test_ratios_are_to_the_baseline_of_the_same_shape() -> None:
    found = report(FAST, SLOW, measured("chain", "Ray tasks", [0.001]))
    assert found.ratio(FAST) == pytest.approx(5)
    assert found.ratio(FAST, with_building=True) == pytest.approx(4)
    assert found.ratio(SLOW) == 1
    assert report(FAST).ratio(FAST) is None


def test_a_missed_bar_is_told() -> None:
    chain = [measured("chain", "towline", [1.1]), measured("chain", "Ray tasks", [1.0])]
    assert report(FAST, SLOW, *chain).missed() == ["chain: 0.9 x Ray tasks, the bar is 1 x"]
    assert report(FAST, SLOW, *reversed(chain)).missed() == ["chain: 0.9 x Ray tasks, the bar is 1 x"]
    assert report(FAST, SLOW).missed() == []
    assert report(FAST, measured("flat", "Ray tasks", [0.5])).missed() == ["flat: 2.5 x Ray tasks, the bar is 3 x"]


def test_growth_of_a_chain() -> None:
    assert CHAIN.small_per_job_s == pytest.approx(0.002)
    assert CHAIN.per_job_s == pytest.approx(0.003)
    assert CHAIN.ratio == pytest.approx(1.5)
    assert CHAIN.leader_bytes_per_job == pytest.approx(600)


def test_what_was_saved_comes_back(tmp_path: Path) -> None:
    made = report(FAST, SLOW, chain=CHAIN)
    save(made, tmp_path / "new/folder/bench.json")
    assert load(tmp_path / "new/folder/bench.json") == made
    raw = msgspec.json.decode((tmp_path / "new/folder/bench.json").read_bytes())
    assert raw["results"][0]["run_s"] == [0.2, 9.0, 0.1], "every repetition is kept"


def test_something_else_is_no_report(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text('{"format": 1}')
    with pytest.raises(msgspec.ValidationError):
        load(tmp_path / "x.json")
    assert Report.__struct_fields__


def test_bars_of_authoring() -> None:
    assert AUTHORING.missed() == [
        "run wide: 4.0 x jobflow, the bar is 5 x",
        "resolve: 1.50 s for 10000, the bar is 1 s",
    ]
    [wide, *_] = AUTHORING.results
    assert AUTHORING.ratio(wide, QUICK) == 2.0
    assert AUTHORING.ratio(AUTHORING.results[3]) is None, "jobflow was not measured at it"

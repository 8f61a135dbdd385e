"""docs/BENCHMARKS.md is the baseline in words, to the letter; publishing one part leaves the other as it was."""

from __future__ import annotations

from pathlib import Path

from tests.kit.measured import AUTHORING, CHAIN, measured, report
from towline.benchmarks import document
from towline.benchmarks.report import load

BENCH = report(measured("flat", "towline", [0.2]), measured("flat", "Ray tasks", [1.0]))


def test_the_page_is_written_from_the_baseline() -> None:
    assert document.PAGE.read_text() == document.page(load(document.BASELINE)), "run python -m towline.benchmarks.document"


def test_a_page_has_the_figures_and_where_they_are_from() -> None:
    page = document.page(report(*BENCH.results, chain=CHAIN, authoring=AUTHORING))
    assert "| flat | 1,000 | towline | fsync before told, local disk | 0.20 |" in page
    assert "| ratio (at most 2) | 1.50 |" in page
    bench, rest = page.split("## Authoring")
    authoring, chain = rest.split("## A long chain")
    assert "| run wide | 1,000 | towline | fsync before told, local disk | 0.500 |" in authoring
    assert "A third Abacus" in authoring
    assert "An Abacus, 2 cores, 8 GiB" in bench
    assert "Another Abacus, 2 cores, 8 GiB" in chain, "each part names the machine of its own session"
    lines = [line for line in page.splitlines() if line.startswith("|")]
    assert {line.count("|") for line in lines} == {len(document.tables.HEADER) + 1, len(document.tables.LOCAL_HEADER) + 1, 3}


def test_publishing_keeps_what_was_not_measured_now(tmp_path: Path) -> None:
    baseline, page = tmp_path / "baseline.json", tmp_path / "PAGE.md"
    document.publish(BENCH, baseline, page)
    assert "half way" not in page.read_text()
    document.publish(report(chain=CHAIN), baseline, page)
    assert load(baseline).results == BENCH.results
    assert load(baseline).chain == CHAIN
    document.publish(report(authoring=AUTHORING), baseline, page)
    assert load(baseline).results == BENCH.results
    document.publish(BENCH, baseline, page)
    assert load(baseline).chain == CHAIN
    assert load(baseline).authoring == AUTHORING
    assert "half way" in page.read_text()
    assert "| flat |" in page.read_text()

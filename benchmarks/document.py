"""docs/BENCHMARKS.md, written from benchmarks/baseline.json and never by hand.

`publish` takes a fresh report into the baseline and writes the page anew; a test holds the page against the baseline.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from towline.benchmarks import tables
from towline.benchmarks.report import Report, load, save

BASELINE = Path(__file__).parent / "baseline.json"
"""The report that is committed."""

PAGE = Path(__file__).parents[1] / "docs" / "BENCHMARKS.md"


def page(report: Report) -> str:
    """The whole page."""
    parts = [
        "# Benchmarks",
        "Written by `make bench ARGS=--publish` and `make chain ARGS=--publish` from `benchmarks/baseline.json`, which holds "
        "every repetition. Do not edit.",
    ]
    if report.results:
        parts += [
            "## No-op jobs",
            f"Median of {report.repeats} repetitions, engines in turns in one session on one local Ray "
            "(`benchmarks/harness.py`). The clock runs from the call of `towline.run()` to its return: default settings, leader "
            "and workers started and stopped in it, the store on disk. Of the Ray tasks it runs from the first `remote()` to the "
            "return of the one `ray.get` (`benchmarks/peers/ray_tasks.py`). Building the flow is beside it. After each run the "
            "outcomes are compared with the right ones. `single` is a run of one job: what any run costs. Ratios are what "
            "counts; absolute figures are those of this machine.",
            tables.machine_line(report.machine),
            _table([tables.HEADER, *tables.rows(report)], tables.NUMERIC),
        ]
    if report.chain is not None:
        parts += [
            "## A long chain, killed half way",
            "`make chain`: each job waits for the one before. Half way the driver, Ray, leader, workers and supervisors get "
            "SIGKILL; a new leader restores the store and runs the rest (`benchmarks/chain.py`).",
            tables.machine_line(report.chain.machine),
            _table([("", ""), *tables.chain_rows(report.chain)], frozenset({1})),
        ]
    return "\n\n".join(parts) + "\n"


def _table(lines: Sequence[Sequence[str]], right: frozenset[int]) -> str:
    header, *body = lines
    rule = ["---:" if number in right else "---" for number in range(len(header))]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, rule, *body))


def publish(report: Report, baseline: Path = BASELINE, target: Path = PAGE) -> None:
    """Take what this report holds into the baseline (what it lacks stays as it was) and write the page."""
    if baseline.exists():
        before = load(baseline)
        if not report.results:
            report = msgspec.structs.replace(before, chain=report.chain)
        elif report.chain is None:
            report = msgspec.structs.replace(report, chain=before.chain)
    save(report, baseline)
    target.write_text(page(report))


if __name__ == "__main__":
    PAGE.write_text(page(load(Path(sys.argv[1]) if len(sys.argv) > 1 else BASELINE)))

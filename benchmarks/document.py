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
        "Written by `make bench`, `make chain` and `make authoring`, each with `ARGS=--publish`, from "
        "`benchmarks/baseline.json`, which holds every repetition. Do not edit.",
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
    if report.authoring is not None:
        parts += [
            "## Authoring, beside jobflow",
            f"`make authoring`: median of {report.authoring.repeats} repetitions, in turns in one session "
            "(`benchmarks/authoring.py`, `benchmarks/peers/locally.py`). `run`: from the call of `run_locally` to its return, "
            "log off; towline's store is a directory on disk and every outcome is fsynced before a caller is told, jobflow's is "
            "in memory: maggma's MemoryStore, its default, or two dicts, the quickest there can be. `build`: the jobs and the "
            "flow around them. `resolve`: one job that takes so many outputs, from `run_locally` to its return, in a store that "
            "holds them. `import`: a fresh interpreter from its start to its end; `-c pass` is one that imports nothing, `API` "
            "is the import of Flow, Response, job and run_locally by name. All outputs were compared with the right ones.",
            tables.machine_line(report.authoring.machine),
            _table([tables.LOCAL_HEADER, *tables.local_rows(report.authoring)], tables.LOCAL_NUMERIC),
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
        chain, authoring = report.chain or before.chain, report.authoring or before.authoring
        report = msgspec.structs.replace(report if report.results else before, chain=chain, authoring=authoring)
    save(report, baseline)
    target.write_text(page(report))


if __name__ == "__main__":
    PAGE.write_text(page(load(Path(sys.argv[1]) if len(sys.argv) > 1 else BASELINE)))

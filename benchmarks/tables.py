"""A report in words and columns: the same rows for the terminal and for docs/BENCHMARKS.md."""

from __future__ import annotations

import sys
from statistics import median
from typing import Any

from towline.benchmarks.machine import Machine
from towline.benchmarks.report import (
    AIMS,
    BARS,
    BASELINE,
    LOCAL_AIMS,
    LOCAL_BARS,
    LOCAL_MOST_S,
    QUICK,
    Authoring,
    ChainMeasured,
    Measured,
    Report,
)

HEADER = (
    "shape", "jobs", "engine", "durability", "seconds", "min to max", "jobs/s", "x Ray", "building, s", "x Ray with it",
    "bar, aim",
)  # fmt: skip
"""Seconds are medians; "x Ray" is jobs/s as a multiple of the baseline's, "with it" with building the flow included."""

NUMERIC = frozenset({1, 4, 5, 6, 7, 8, 9, 10})
"""Columns that stand flush right."""

LOCAL_HEADER = (
    "work", "size", "by", "durability", "seconds", "min to max", "a second", "x jobflow", "x O(1)", "bar, aim",
)  # fmt: skip
"""Of the authoring works: rates as multiples of jobflow's, with its own default store and with one that answers in O(1)."""

LOCAL_NUMERIC = frozenset({1, 4, 5, 6, 7, 8, 9})

WIDTH = 150
"""Columns of a terminal that is none (a pipe, a log)."""


def row(report: Report, measured: Measured) -> tuple[str, ...]:
    """One line of the table."""
    seconds = measured.run_s
    bar = "" if measured.peer == BASELINE or measured.shape not in BARS else f"{BARS[measured.shape]:g}, {AIMS[measured.shape]:g}"
    return (
        measured.shape,
        f"{measured.jobs:,}",
        measured.peer,
        measured.durability,
        f"{median(seconds):.2f}",
        f"{min(seconds):.2f} to {max(seconds):.2f}",
        f"{measured.rate:,.0f}" if measured.jobs > 1 else "",
        times(report.ratio(measured)) if measured.jobs > 1 else "",
        "" if measured.peer == BASELINE else f"{median(measured.build_s):.2f}",
        times(report.ratio(measured, with_building=True)) if measured.jobs > 1 else "",
        bar,
    )


def times(ratio: float | None) -> str:
    """A multiple for people: one digit behind the point below 10."""
    if ratio is None:
        return ""
    return f"{ratio:.2f}" if ratio < 1 else f"{ratio:.1f}" if ratio < 10 else f"{ratio:.0f}"


def rows(report: Report) -> list[tuple[str, ...]]:
    """All lines, in the order of measurement."""
    return [row(report, measured) for measured in report.results]


def local_row(authoring: Authoring, measured: Measured) -> tuple[str, ...]:
    """One line of the authoring works."""
    seconds = measured.run_s
    most_s = LOCAL_MOST_S.get((measured.shape, measured.jobs))
    bars = [table[measured.shape] for table in (LOCAL_BARS, LOCAL_AIMS) if measured.shape in table]
    bar = f"{most_s:g} s" if most_s is not None else ", ".join(f"{bar:g}" for bar in bars)
    return (
        measured.shape,
        f"{measured.jobs:,}",
        measured.peer,
        measured.durability,
        f"{median(seconds):.3f}",
        f"{min(seconds):.3f} to {max(seconds):.3f}",
        f"{measured.rate:,.0f}" if measured.jobs > 1 else "",
        times(authoring.ratio(measured)),
        times(authoring.ratio(measured, QUICK)),
        bar if measured.peer == "towline" else "",
    )


def local_rows(authoring: Authoring) -> list[tuple[str, ...]]:
    """All lines, in the order of measurement."""
    return [local_row(authoring, measured) for measured in authoring.results]


def chain_rows(chain: ChainMeasured) -> list[tuple[str, str]]:
    """The long chain, one fact a line."""
    return [
        ("jobs in the chain", f"{chain.jobs:,}"),
        ("durability", chain.machine.durability),
        ("run by", "one process, without Ray" if chain.local else "leader and worker on local Ray"),
        ("built in", f"{chain.build_s:.2f} s"),
        ("submitted and acknowledged in", f"{chain.submit_s:.2f} s, jobs running meanwhile"),
        ("everything killed (SIGKILL) after", f"{chain.killed_at:,} jobs, {chain.first_s:.2f} s"),
        ("outcomes that the restored leader had", f"{chain.kept:,}"),
        ("restored in", f"{chain.restore_s:.2f} s"),
        ("the rest, worker's start included", f"{chain.rest_s:.2f} s"),
        ("time per job", f"{chain.per_job_s * 1e6:.1f} µs"),
        (f"time per job in a chain of {chain.small_jobs:,}", f"{chain.small_per_job_s * 1e6:.1f} µs"),
        ("ratio (at most 2)", f"{chain.ratio:.2f}"),
        ("leader's memory per job", f"{chain.leader_bytes_per_job:,.0f} B"),
        ("store per job", f"{chain.store_bytes / chain.jobs:,.0f} B"),
    ]


def machine_line(here: Machine) -> str:
    """Where it was measured, in one sentence; a priority that is not the usual one is told."""
    favoured = f", run at niceness {here.niceness}" if here.niceness else ""
    versions = ", ".join(f"{name} {number}" for name, number in here.versions.items())
    return (
        f"{here.cpu}, {here.cores} cores, {here.memory_bytes / 2**30:.0f} GiB, {here.system}, stores on {here.filesystem} "
        f"(fsync {here.fsync_s * 1e3:.2f} ms), load {here.load_1min:g} before{favoured}; "
        f"Python {here.python}, {versions}; {here.measured}"
    )


def show(report: Report) -> None:
    """Print what a report holds."""
    from rich.console import Console
    from rich.table import Table

    console = Console(width=None if sys.stdout.isatty() else WIDTH)

    def lines(here: Machine, repeats: int, header: tuple[str, ...], numeric: frozenset[int], body: list[tuple[str, ...]]) -> None:
        table: Any = Table(title=f"median of {repeats}, peers interleaved")
        for number, name in enumerate(header):
            table.add_column(name, justify="right" if number in numeric else "left", no_wrap=number != 3)
        for line in body:
            table.add_row(*line)
        console.print(table)
        console.print(machine_line(here), soft_wrap=True, highlight=False)

    if report.results:
        lines(report.machine, report.repeats, HEADER, NUMERIC, rows(report))
    if report.authoring is not None:
        lines(report.authoring.machine, report.authoring.repeats, LOCAL_HEADER, LOCAL_NUMERIC, local_rows(report.authoring))
    if report.chain is not None:
        facts: Any = Table(title="a long chain, killed half way", show_header=False)
        facts.add_column()
        facts.add_column(justify="right")
        for fact in chain_rows(report.chain):
            facts.add_row(*fact)
        console.print(facts)
        console.print(machine_line(report.chain.machine), soft_wrap=True, highlight=False)

"""The simulator's command line: many seeds over the cores, or one seed told in full.

    python -m tests.simulation.run --seeds 500                     # the product: no seed may find anything
    python -m tests.simulation.run --seeds 500 --planted R3        # a planted bug: some seed must find it
    python -m tests.simulation.run --seed 17 --trace               # what happened in one seed

Exit code 1 when a seed finds something in the product, when a planted bug is not found, or when a fault or rule was not covered.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence

from tests.simulation import profiles
from tests.simulation.planted import NO_BUG, PLANTED
from tests.simulation.scenario import Result, simulate

BATCH = 16
"""Seeds that a process is handed at a time."""

COVERED = (
    "P4: a leader finds itself replaced by looking",
    "P4: a leader leads",
    "R1: a new leader waits for the workers of the one before",
    "R1: a supervisor ends a worker at the end of its lease",
    "R2: an appending leader is fenced",
    "R3: an outcome of inputs that do not stand is refused",
    "R4: a part is made",
    "R4: a slow commit is checked",
    "R4: segments are deleted",
    "R5: a leader ends at a failed commit",
    "R6: a create is settled by reading back",
    "R7: a worker is asked to give back",
    "R7: a Hello of an older stream is passed over",
    "R8: refused, the head moves",
    "R8: refused, the leader is alive",
    "R8: the head stood still",
    "R8: the leader is provably dead",
    "R9: suspects are journaled",
    "R9: a death is charged",
    "R10: files are deleted",
    "R11: a power loss takes what was not fsynced",
    "crash at: after a message is handled",
    "crash at: after a message is sent",
    "crash at: after a put",
    "crash at: after an append",
    "crash at: as a request is sent",
    "crash at: before a body begins",
    "crash at: before a body ends",
    "crash at: before a client asks",
    "crash at: before a link",
    "crash at: before a listing",
    "crash at: before a message is handled",
    "crash at: before a message is sent",
    "crash at: before a put",
    "crash at: before a read",
    "crash at: before an answer is told",
    "crash at: before an append",
    "crash at: between fsync and the look for a next segment",
    "crash at: between link and fsync of the folder",
    "crash at: between write and fsync",
    "fault: directory entries lost",
    "fault: driver killed",
    "fault: late tail of an old stream",
    "fault: leader and a worker killed while a commit hangs",
    "fault: leader cut off from the store",
    "fault: leader killed",
    "fault: machine frozen",
    "fault: message delayed for long",
    "fault: message lost with its stream",
    "fault: partition",
    "fault: poison",
    "fault: poison of the leader's machine",
    "fault: power loss",
    "fault: rival leader",
    "fault: slow store operation",
    "fault: store answer after",
    "fault: store answer before",
    "fault: store answer error",
    "fault: stream broken",
    "fault: stream flaps",
    "fault: takeover of a living leader",
    "fault: torn data",
    "fault: wall clock jumps",
    "fault: worker killed",
    "fault: worker process stopped",
    "fault: write lands after its writer is gone or frozen",
    "graph: addition",
    "graph: detour",
    "graph: heir",
    "graph: replace",
    "oracle: body thawed past its lease",
    "oracle: claim of a seeming dead leader's store judged",
    "oracle: judged",
    "oracle: order checked",
    "store: file written",
    "store: restored from a snapshot",
    "store: snapshot made",
    "subscriber: told",
)
"""What 500 seeds must have met, each at least once: a fault that never happens proves nothing."""


def replay(seed: int, planted: str) -> str:
    """The command that shows this seed again."""
    bug = f" --planted {planted}" if planted else ""
    return f"python -m tests.simulation.run --seed {seed} --trace{bug}"


def _one(work: tuple[str, int, bool]) -> Result:
    planted, seed, trace = work
    return simulate(seed, PLANTED[planted] if planted else NO_BUG, trace=trace)


def results(planted: str, seeds: Sequence[int], processes: int) -> Iterator[Result]:
    """Each seed's result, in order."""
    work = [(planted, seed, False) for seed in seeds]
    if processes <= 1 or len(seeds) == 1:
        yield from map(_one, work)
        return
    with multiprocessing.get_context("fork").Pool(processes) as pool:
        yield from pool.imap(_one, work, chunksize=BATCH if not planted else 4)


def told(result: Result, planted: str, lines: int) -> str:
    """A violation with its story and the command that replays it."""
    story = "\n".join(line[:240] for line in result.story[-lines:])
    return (
        f"{story}\n\nseed {result.seed} ({result.profile}) after {result.seconds:.1f} simulated seconds: {result.violation}\n"
        f"replay: {replay(result.seed, planted)}"
    )


def hunt(planted: str, seeds: Sequence[int], processes: int) -> Result | None:
    """A seed that finds the planted bug; those whose profile (a seed's first draw) is made for it are tried first."""
    shown_by = PLANTED[planted].shown_by
    likely = sorted(seeds, key=lambda seed: profiles.pick(random.Random(seed)).name not in shown_by)
    for result in results(planted, likely, processes):
        if result.violation:
            return result
    return None


def prove(seeds: Sequence[int], processes: int, *, lines: int = 60) -> tuple[list[Result], Counter[str]]:
    """Run the product; print violations as they come. Returns them and what was covered."""
    counts: Counter[str] = Counter()
    found: list[Result] = []
    for result in results("", seeds, processes):
        counts += result.counts
        counts[f"profile: {result.profile}"] += 1
        if result.violation:
            found.append(result)
            print(told(result, "", lines), flush=True)
    return found, counts


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.run")
    parser.add_argument("--seeds", type=int, default=500, help="how many")
    parser.add_argument("--first", type=int, default=0, help="the first one")
    parser.add_argument("--planted", default="", help=f"a planted bug: {', '.join(PLANTED)}; R1 means all that begin so; all")
    parser.add_argument("--seed", type=int, help="this one alone")
    parser.add_argument("--trace", action="store_true", help="tell the whole story")
    parser.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1), help="processes")
    given = parser.parse_args()
    names = [name for name in PLANTED if given.planted == "all" or (given.planted and name.startswith(given.planted))]
    if given.planted and not names:
        parser.error(f"no planted bug {given.planted!r}; there are {', '.join(PLANTED)}")
    if given.seed is not None:
        result = _one((names[0] if names else "", given.seed, given.trace))
        print("\n".join(result.story))
        print(result.violation or f"seed {given.seed}: nothing found in {result.seconds:.1f} simulated seconds")
        return 1 if result.violation else 0
    seeds = range(given.first, given.first + given.seeds)
    if names:
        missed = 0
        for name in names:
            began = time.perf_counter()
            found = hunt(name, seeds, given.jobs)
            took = time.perf_counter() - began
            if found is None:
                missed += 1
                print(f"{name}: NOT FOUND in {len(seeds)} seeds, {took:.1f} s")
            else:
                print(f"{name}: found by seed {found.seed} ({found.profile}), {took:.1f} s: {found.violation[:200]}")
                print(f"    replay: {replay(found.seed, name)}", flush=True)
        return 1 if missed else 0
    began = time.perf_counter()
    violations, counts = prove(seeds, given.jobs)
    took = time.perf_counter() - began
    for name, count in sorted(counts.items()):
        print(f"{count:10d}  {name}")
    uncovered = [name for name in COVERED if not counts[name]] if len(seeds) >= 500 else []
    for name in uncovered:
        print(f"never met: {name}")
    print(
        f"{len(seeds)} seeds in {took:.1f} s, {len(seeds) / took:.1f} seeds/s on {given.jobs} processes; "
        f"{len(violations)} violations"
    )
    for result in violations:
        print(f"    {replay(result.seed, '')}    {result.violation[:160]}")
    return 1 if violations or uncovered else 0


if __name__ == "__main__":
    sys.exit(main())

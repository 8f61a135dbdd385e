"""The throughput harness: the same shapes through each peer in one session, turn by turn, and what came of it.

Repetitions are interleaved and the order of the peers is turned round with each, so that whatever else the machine does falls on
all of them alike; ratios of medians are what counts. A run whose outcomes are not all there and right has no time: it ends
the session with an error.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from towline.benchmarks import machine, tables
from towline.benchmarks.peers.base import Peer
from towline.benchmarks.report import Measured, Report, save
from towline.benchmarks.shapes import SHAPES, Shape

SMALL = {"flat": 20_000, "chain": 5_000}
FULL = {"flat": 100_000, "chain": 10_000}
OTHERS = 5_000
"""Jobs of a shape that is not in these tables."""


class Turn(msgspec.Struct, frozen=True):
    """One peer, one shape, once."""

    build_s: float
    run_s: float
    compared: int


def measure(
    shapes: Sequence[Shape],
    peers: Sequence[Peer],
    repeats: int,
    *,
    say: Callable[[str], None] = lambda text: None,
    clock: Callable[[], float] = time.perf_counter,
) -> list[Measured]:
    """Every shape through every peer, `repeats` times. Raises WrongOutcome."""
    turns: dict[tuple[str, str], list[Turn]] = {(s.name, p.name): [] for s in shapes for p in peers}
    for repetition in range(repeats):
        for shape in shapes:
            for peer in peers if repetition % 2 == 0 else reversed(peers):
                turn = one(shape, peer, clock)
                turns[shape.name, peer.name].append(turn)
                say(f"{repetition + 1}/{repeats} {shape.name} {peer.name}: {turn.run_s:.2f} s for {shape.jobs} jobs")
    return [collected(shape, peer, turns[shape.name, peer.name]) for shape in shapes for peer in peers]


def one(shape: Shape, peer: Peer, clock: Callable[[], float]) -> Turn:
    """One measurement: settle, build, run, and only then compare."""
    peer.settle()
    gc.collect()
    at = clock()
    built = peer.build(shape)
    begun = clock()
    ran = peer.run(shape, built)
    ended = clock()
    return Turn(begun - at, ended - begun, peer.check(shape, built, ran))


def collected(shape: Shape, peer: Peer, turns: Sequence[Turn]) -> Measured:
    return Measured(
        shape=shape.name,
        jobs=shape.jobs,
        peer=peer.name,
        durability=peer.durability,
        build_s=[round(turn.build_s, 6) for turn in turns],
        run_s=[round(turn.run_s, 6) for turn in turns],
        outcomes_compared=sum(turn.compared for turn in turns),
    )


def session(
    shapes: Sequence[Shape], repeats: int, root: Path, *, cpus: int | None = None, say: Callable[[str], None] = lambda text: None
) -> Report:
    """towline and bare Ray tasks on these shapes, on one local Ray. Stores are made below `root` and removed again."""
    from towline.benchmarks.peers.durable import Towline
    from towline.benchmarks.peers.ray_tasks import RayTasks, local_ray

    here = machine.describe(root)
    with local_ray(cpus or len(os.sched_getaffinity(0))):
        baseline = RayTasks()
        peers: list[Peer] = [Towline(root, baseline.settle, here.durability), baseline]
        results = measure(shapes, peers, repeats, say=say)
    return Report(machine=here, repeats=repeats, results=results)


def main(arguments: Sequence[str] | None = None) -> int:
    """`python -m towline.benchmarks.harness`. Returns 1 if a bar was missed and `--gate` was given."""
    given = parser().parse_args(arguments)
    sizes = {**(FULL if given.full else SMALL)}
    sizes |= {name: number for name, number in (("flat", given.jobs), ("chain", given.chain)) if number}
    shapes = [SHAPES[name](sizes.get(name, OTHERS)) for name in given.shapes]
    given.stores.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-", dir=given.stores) as root:
        report = session(shapes, given.repeats, Path(root), say=lambda text: print(text, file=sys.stderr, flush=True))
    save(report, given.out)
    tables.show(report)
    print(f"raw numbers: {given.out}")
    if given.publish:
        from towline.benchmarks import document

        document.publish(report)
    missed = report.missed()
    for sentence in missed:
        print(f"below the bar: {sentence}")
    return 1 if missed and given.gate else 0


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="python -m towline.benchmarks.harness", description=__doc__.splitlines()[0])
    made.add_argument("--jobs", type=int, help=f"jobs of the flat shape (default {SMALL['flat']})")
    made.add_argument("--chain", type=int, help=f"jobs of the chain (default {SMALL['chain']})")
    made.add_argument("--full", action="store_true", help=f"the sizes of the budgets: {FULL}")
    made.add_argument("--repeats", type=int, default=5)
    made.add_argument("--shapes", nargs="+", choices=sorted(SHAPES), default=["single", "flat", "chain"])
    made.add_argument("--out", type=Path, default=Path("results/bench.json"))
    made.add_argument("--stores", type=Path, default=Path("results"), help="where stores are made; should be a disk")
    made.add_argument("--gate", action="store_true", help="exit with 1 if a bar is missed")
    made.add_argument("--publish", action="store_true", help="write baseline.json and docs/BENCHMARKS.md too")
    return made


if __name__ == "__main__":
    sys.exit(main())

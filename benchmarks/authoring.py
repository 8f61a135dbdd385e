"""Authoring, towline's beside jobflow's: running in one process, building, resolving references, importing.

    python -m towline.benchmarks.authoring --repeats 5

Each work goes through each peer that has it, turn by turn as in the harness, after one turn at toy size that is not counted
(it loads what is loaded at the first call). towline is durable while it is measured, jobflow is not. Ratios of medians count.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from towline.benchmarks import harness, machine, shapes, tables
from towline.benchmarks.peers.base import Peer
from towline.benchmarks.peers.locally import (
    IN_MEMORY,
    Building,
    Importing,
    Resolving,
    ResolvingFromMemory,
    Running,
    of_jobflow,
    of_towline,
)
from towline.benchmarks.report import LOCAL, QUICK, Authoring, Measured, Report, save
from towline.benchmarks.shapes import Shape

NAMES = "Flow, Response, job, run_locally"
"""What a program takes from either package; towline is lazy, so that `import towline` alone loads little."""

IMPORT = "import"
TOY = 5


class Sizes(msgspec.Struct, frozen=True, kw_only=True):
    """Jobs or references of each work."""

    wide: int = 2_000
    chain: int = 500
    build: int = 100_000
    resolve: int = 10_000
    compared: int = 2_000
    """References that jobflow resolves, too; with its MemoryStore time grows with the square."""


class Work(msgspec.Struct, frozen=True):
    """One shape, and who is measured on it."""

    shape: Shape
    peers: tuple[Peer, ...]


def works(sizes: Sizes, root: Path, durability: str) -> list[Work]:
    """All that is measured, with stores below `root`."""
    ours, theirs, quick = of_towline(root), of_jobflow(False), of_jobflow(True)
    running = (Running("towline", ours, durability), Running(LOCAL, theirs, IN_MEMORY), Running(QUICK, quick, IN_MEMORY))
    building = (Building("towline", ours, ""), Building(LOCAL, theirs, ""))
    resolving = Resolving("towline", ours, durability)
    resolving_quick = Resolving(QUICK, quick, IN_MEMORY)
    importing = (
        Importing("towline", "import towline"),
        Importing("towline, API", f"from towline import {NAMES}"),
        Importing(LOCAL, "import jobflow"),
        Importing(f"{LOCAL}, API", f"from jobflow import {NAMES}"),
        Importing("-c pass", "pass"),
    )
    return [
        Work(named("run wide", shapes.flat(sizes.wide)), running),
        Work(named("run chain", shapes.chain(sizes.chain)), running),
        Work(named("build", shapes.flat(sizes.build)), building),
        Work(named("build chain", shapes.chain(sizes.build)), building),
        Work(
            named("resolve", shapes.flat(sizes.compared)),
            (resolving, ResolvingFromMemory(LOCAL, theirs, IN_MEMORY), resolving_quick),
        ),
        Work(named("resolve", shapes.flat(sizes.resolve)), (resolving, resolving_quick)),
        Work(named(IMPORT, shapes.single()), importing),
    ]


def named(name: str, shape: Shape) -> Shape:
    """The shape under the name of a work."""
    return msgspec.structs.replace(shape, name=name)


def measure(
    works: Sequence[Work],
    repeats: int,
    *,
    say: Callable[[str], None] = lambda text: None,
    clock: Callable[[], float] = time.perf_counter,
) -> list[Measured]:
    """Every work by each of its peers, `repeats` times, interleaved. Raises WrongOutcome."""
    turns: list[dict[str, list[harness.Turn]]] = [{peer.name: [] for peer in work.peers} for work in works]
    for repetition in range(repeats):
        for work, taken in zip(works, turns, strict=True):
            for peer in work.peers if repetition % 2 == 0 else reversed(work.peers):
                turn = harness.one(work.shape, peer, clock)
                taken[peer.name].append(turn)
                say(f"{repetition + 1}/{repeats} {work.shape.name} {work.shape.jobs} {peer.name}: {turn.run_s:.3f} s")
    return [
        harness.collected(work.shape, peer, taken[peer.name])
        for work, taken in zip(works, turns, strict=True)
        for peer in work.peers
    ]


def session(sizes: Sizes, repeats: int, root: Path, say: Callable[[str], None] = lambda text: None) -> Authoring:
    """One session; stores are made below `root` and removed again."""
    here = machine.describe(root)
    toy = Sizes(wide=TOY, chain=TOY, build=TOY, resolve=TOY, compared=TOY)
    measure([work for work in works(toy, root, here.durability) if work.shape.name != IMPORT], 1)
    return Authoring(machine=here, repeats=repeats, results=measure(works(sizes, root, here.durability), repeats, say=say))


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 1 if a bar was missed and `--gate` was given."""
    given = parser().parse_args(arguments)
    sizes = Sizes(**{name: getattr(given, name) for name in Sizes.__struct_fields__})
    given.stores.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="authoring-", dir=given.stores) as root:
        found = session(sizes, given.repeats, Path(root), lambda text: print(text, file=sys.stderr, flush=True))
    report = Report(machine=found.machine, repeats=given.repeats, authoring=found)
    save(report, given.out)
    tables.show(report)
    print(f"raw numbers: {given.out}")
    if given.publish:
        from towline.benchmarks import document

        document.publish(report)
    missed = found.missed()
    for sentence in missed:
        print(f"below the bar: {sentence}")
    return 1 if missed and given.gate else 0


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="python -m towline.benchmarks.authoring", description=(__doc__ or "").splitlines()[0])
    usual = Sizes()
    for name, told in {
        "wide": "jobs of the wide flow that is run",
        "chain": "jobs of the chain that is run",
        "build": "jobs of the flows that are built",
        "resolve": "references that one job resolves",
        "compared": "references that one job of jobflow resolves from its MemoryStore, too",
    }.items():
        made.add_argument(f"--{name}", type=int, default=getattr(usual, name), help=f"{told} (default {getattr(usual, name)})")
    made.add_argument("--repeats", type=int, default=5)
    made.add_argument("--out", type=Path, default=Path("results/authoring.json"))
    made.add_argument("--stores", type=Path, default=Path("results"), help="where stores are made; should be a disk")
    made.add_argument("--gate", action="store_true", help="exit with 1 if a bar is missed")
    made.add_argument("--publish", action="store_true", help="take it into baseline.json and docs/BENCHMARKS.md, too")
    return made


if __name__ == "__main__":
    sys.exit(main())

"""Graphs of no-op jobs, described once for every engine that runs them.

A shape is a number of jobs and, in an order in which all inputs come first, the numbers of the jobs that each one waits for.
The body is as near to nothing as one that proves something: a job's output is its *level*, one more than the highest of its
inputs. A level that is right says that the inputs were there and right, up to the roots; `levels` computes them without an
engine, to compare with.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise, repeat
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from towline.engine.authoring.flow import Flow
    from towline.engine.authoring.job import Job

Inputs = tuple[int, ...]
"""The jobs that one job waits for; each number is lower than its own."""


def level(*above: int) -> int:
    """The body of every job."""
    return 1 + max(above, default=0)


class Shape(msgspec.Struct, frozen=True):
    """A graph of `jobs` jobs. `inputs()` gives anew, job by job, what each waits for: nothing is held for large ones."""

    name: str
    jobs: int
    inputs: Callable[[], Iterator[Inputs]]

    def levels(self) -> list[int]:
        """What each job's output has to be."""
        found: list[int] = []
        for above in self.inputs():
            found.append(level(*[found[number] for number in above]))
        return found

    def sinks(self) -> list[int]:
        """The jobs that no other one waits for, ascending."""
        used = bytearray(self.jobs)
        for above in self.inputs():
            for number in above:
                used[number] = 1
        return [number for number in range(self.jobs) if not used[number]]


# ------------------------------------------------------------------------------------------------------ the shapes


def single() -> Shape:
    """One job: what remains is what a run costs at all."""
    return Shape("single", 1, lambda: repeat((), 1))


def flat(jobs: int) -> Shape:
    """Jobs that have nothing to do with each other."""
    return Shape("flat", jobs, lambda: repeat((), jobs))


def chain(jobs: int) -> Shape:
    """Each job waits for the one before it."""
    return Shape("chain", jobs, lambda: (() if number == 0 else (number - 1,) for number in range(jobs)))


def stencil_1d(width: int, steps: int) -> Shape:
    """`steps` rows of `width` jobs; each waits for the same place and its neighbours in the row before."""

    def inputs() -> Iterator[Inputs]:
        for step in range(steps):
            for place in range(width):
                above = range(max(0, place - 1), min(width, place + 2))
                yield tuple((step - 1) * width + near for near in above) if step else ()

    return Shape("stencil_1d", width * steps, inputs)


def fan(width: int) -> Shape:
    """One job, `width` that wait for it, and one that waits for all of those."""

    def inputs() -> Iterator[Inputs]:
        yield ()
        yield from repeat((0,), width)
        yield tuple(range(1, width + 1))

    return Shape("fan-out/in", width + 2, inputs)


def tree(leaves: int, arity: int = 2) -> Shape:
    """A reduction: `leaves` jobs, of which each `arity` neighbours meet in one, row by row, down to a single one."""
    rows = [leaves]
    while rows[-1] > 1:
        rows.append(-(-rows[-1] // arity))

    def inputs() -> Iterator[Inputs]:
        yield from repeat((), leaves)
        first = 0
        for above, here in pairwise(rows):
            for place in range(here):
                yield tuple(first + near for near in range(place * arity, min(above, (place + 1) * arity)))
            first += above

    return Shape("tree", sum(rows), inputs)


STENCIL_WIDTH = 10

SHAPES: dict[str, Callable[[int], Shape]] = {
    "single": lambda jobs: single(),
    "flat": flat,
    "chain": chain,
    "stencil_1d": lambda jobs: stencil_1d(STENCIL_WIDTH, max(1, jobs // STENCIL_WIDTH)),
    "fan-out/in": lambda jobs: fan(max(1, jobs - 2)),
    "tree": lambda jobs: tree(max(1, (jobs + 1) // 2)),
}
"""Shapes by name, made for about so many jobs."""


# ------------------------------------------------------------------------------------------------------ as a flow


def jobs_of(shape: Shape) -> list[Job]:
    """towline's jobs for a shape, by number."""
    from towline import job

    made: list[Job] = []
    step = job(level)
    for above in shape.inputs():
        made.append(step(*[made[number].output for number in above]))
    return made


def flow_of(shape: Shape) -> tuple[Flow, list[Job]]:
    """The flow of a shape, and its jobs by number."""
    from towline import Flow

    jobs = jobs_of(shape)
    return Flow(jobs, name=f"{shape.name}-{shape.jobs}"), jobs

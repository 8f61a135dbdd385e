"""What the harness asks of everyone that it measures: make ready, build, run to the end, and show what came out.

Only `run` is against the clock that is compared; `build` has its own. `settle` brings the machine to the same state before
each measurement, whoever was measured last, and is not timed; neither is `check`.
"""

from __future__ import annotations

from typing import Any, Protocol

from towline.benchmarks.shapes import Shape

SAMPLE = 25
"""Outputs that `check` reads one by one where reading all of them takes longer than making them."""


class WrongOutcome(Exception):
    """A measured run did not do its work: its time means nothing."""


class Peer(Protocol):
    """One engine."""

    name: str
    durability: str
    """What has happened to an outcome when the engine tells of it; stands beside every number."""

    def settle(self) -> None:
        """Wait until nothing of an earlier measurement is left and all that `run` may find warm is warm."""
        ...

    def build(self, shape: Shape) -> Any:
        """The engine's own description of the work, before any of it runs; None where there is none."""
        ...

    def run(self, shape: Shape, built: Any) -> Any:
        """Do all of the work; returns when the caller knows that it is done."""
        ...

    def check(self, shape: Shape, built: Any, ran: Any) -> int:
        """Compare outcomes with `shape.levels()` and clear up. Returns how many were compared.

        Raises:
            WrongOutcome: one is missing or wrong.
        """
        ...


def sample_of(jobs: int) -> list[int]:
    """Up to SAMPLE job numbers, spread evenly, the first and the last among them."""
    if jobs <= SAMPLE:
        return list(range(jobs))
    return [round(at * (jobs - 1) / (SAMPLE - 1)) for at in range(SAMPLE)]


def compare(found: dict[int, Any], expected: list[int]) -> int:
    """How many outputs, by job number, were compared. Raises WrongOutcome."""
    for number, value in found.items():
        if value != expected[number]:
            raise WrongOutcome(f"job {number} put out {value!r}, not {expected[number]}")
    return len(found)

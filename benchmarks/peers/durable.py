"""towline itself: `towline.run()` with default settings and a store of its own for each run."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from towline.benchmarks.peers.base import WrongOutcome, compare, sample_of
from towline.benchmarks.shapes import Shape, flow_of

if TYPE_CHECKING:
    from towline.control import Run
    from towline.engine.authoring.flow import Flow
    from towline.engine.authoring.job import Job


class Towline:
    """Durable jobs through the public `run`. `settle` makes the Ray that it shares with others as warm as for them."""

    name = "towline"

    def __init__(self, root: Path, settle: Callable[[], None], durability: str, **options: Any) -> None:
        """`root` is where stores are made, and removed again; `options` go to `run`."""
        self.durability = durability
        self._root = root
        self._settle = settle
        self._options = options

    def settle(self) -> None:
        self._settle()

    def build(self, shape: Shape) -> tuple[Flow, list[Job]]:
        return flow_of(shape)

    def run(self, shape: Shape, built: tuple[Flow, list[Job]]) -> Run:
        from towline import run

        return run(built[0], store=self._root / uuid.uuid4().hex, progress=False, **self._options)

    def check(self, shape: Shape, built: tuple[Flow, list[Job]], ran: Run) -> int:
        """All of the run's counts, and a sample of outputs, as the store holds them after the leader has gone."""
        if ran.counts() != {"completed": shape.jobs}:
            raise WrongOutcome(f"{shape.jobs} jobs should have completed, but the run tells {ran.counts()}")
        compared = compare({number: ran.output(built[1][number]) for number in sample_of(shape.jobs)}, shape.levels())
        shutil.rmtree(ran.store)
        return compared

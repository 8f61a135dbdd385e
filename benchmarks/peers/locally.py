"""`run_locally`, towline's and jobflow's: the same calls with the same arguments, but for the store.

Both are called as a user calls them, with the log off (writing two lines a job to a terminal would measure the terminal). towline
keeps its run in a directory and has called fsync before a caller is told of anything; jobflow keeps documents in this process's
memory and loses them with it.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

from towline.benchmarks.peers.base import WrongOutcome, compare
from towline.benchmarks.shapes import Shape, level

IN_MEMORY = "none: in memory"


def same(value: int) -> int:
    """The body of a job whose output is referred to."""
    return value


def total(values: list[int]) -> int:
    """The body of the job that takes all outputs of the others as one list."""
    return sum(values)


class Api(NamedTuple):
    """An authoring API: `job`, `Flow` and `run_locally` of towline or of jobflow."""

    module: Any
    store: Callable[[], Any]
    """Makes what `run_locally` is given as its store."""
    clear: Callable[[Any], None] = lambda store: None
    """Throws that away again."""


def of_towline(root: Path) -> Api:
    """towline, with a store of its own below `root` for each run."""
    import towline

    return Api(towline, lambda: root / uuid4().hex, shutil.rmtree)


def of_jobflow(quick: bool) -> Api:
    """jobflow, with maggma's MemoryStore, which is its default, or with the quickest store there can be."""
    import jobflow
    from jobflow.core.store import JobStore
    from maggma.stores import MemoryStore

    from towline.benchmarks.peers.quickstore import QuickStore

    # of maggma's Store a run needs no more than a QuickStore has
    documents: type[Any] = QuickStore if quick else MemoryStore
    return Api(jobflow, lambda: JobStore(documents()))


def flow_of(module: Any, shape: Shape) -> tuple[Any, list[Any]]:
    """A shape as a flow of this API, and its jobs by number."""
    step = module.job(level)
    made: list[Any] = []
    for above in shape.inputs():
        made.append(step(*[made[number].output for number in above]))
    return module.Flow(made, name=f"{shape.name}-{shape.jobs}"), made


class _Side:
    """What the peers below share: whose API it is, and what its durability is called."""

    def __init__(self, name: str, api: Api, durability: str) -> None:
        self.name, self.durability = name, durability
        self._api = api

    def settle(self) -> None:
        """Nothing of a measurement outlives it."""

    def _run(self, flow: Any, store: Any, **options: bool) -> dict[str, dict[int, Any]]:
        ran: dict[str, dict[int, Any]] = self._api.module.run_locally(flow, log=False, store=store, **options)
        return ran


class Running(_Side):
    """The clock runs from the call of `run_locally` to its return, a new store included."""

    def build(self, shape: Shape) -> tuple[Any, list[Any]]:
        return flow_of(self._api.module, shape)

    def run(self, shape: Shape, built: tuple[Any, list[Any]]) -> tuple[Any, dict[str, dict[int, Any]]]:
        store = self._api.store()
        return store, self._run(built[0], store)

    def check(self, shape: Shape, built: tuple[Any, list[Any]], ran: tuple[Any, dict[str, dict[int, Any]]]) -> int:
        """Every output that was returned."""
        store, responses = ran
        if len(responses) != shape.jobs:
            raise WrongOutcome(f"{shape.jobs} jobs should have completed, but {len(responses)} responses came back")
        found = {number: responses[job.uuid][1].output for number, job in enumerate(built[1])}
        self._api.clear(store)
        return compare(found, shape.levels())


class Building(_Side):
    """Jobs and the flow around them; none of them runs."""

    def build(self, shape: Shape) -> None:
        """Building is what is measured."""

    def run(self, shape: Shape, built: None) -> tuple[Any, list[Any]]:
        return flow_of(self._api.module, shape)

    def check(self, shape: Shape, built: None, ran: tuple[Any, list[Any]]) -> int:
        members = len(ran[0].jobs)
        if members != shape.jobs or len({job.uuid for job in ran[1]}) != shape.jobs:
            raise WrongOutcome(f"{shape.jobs} jobs should have been built, but the flow has {members}")
        return members


class Resolving(_Side):
    """One job with a reference to each of `shape.jobs` outputs, in a flow of its own, against the store that holds them.

    The clock runs from the call of `run_locally` to its return: opening the store that is there already, handing the job in,
    resolving, running and keeping it.
    """

    def build(self, shape: Shape) -> tuple[Any, Any]:
        module, store = self._api.module, self._api.store()
        step = module.job(same)
        sources = [step(number) for number in range(shape.jobs)]
        self._fill(module.Flow(sources), store)
        return store, module.job(total)([source.output for source in sources])

    def _fill(self, flow: Any, store: Any) -> None:
        self._run(flow, store)

    def run(self, shape: Shape, built: tuple[Any, Any]) -> Any:
        store, job = built
        return self._run(self._api.module.Flow([job]), store, allow_external_references=True)[job.uuid][1].output

    def check(self, shape: Shape, built: tuple[Any, Any], ran: Any) -> int:
        self._api.clear(built[0])
        return compare({0: ran}, [sum(range(shape.jobs))]) * shape.jobs


class ResolvingFromMemory(Resolving):
    """jobflow's with its MemoryStore; the outputs come from a quick store, else they would take longer than all the rest."""

    def _fill(self, flow: Any, store: Any) -> None:
        quick = of_jobflow(True).store()
        self._run(flow, quick)
        store.connect()
        store.docs_store._collection.insert_many(list(quick.query()))


class Importing:
    """A fresh interpreter that imports and ends. Both packages are loaded here already, so their modules are compiled."""

    durability = ""

    def __init__(self, name: str, statement: str) -> None:
        self.name = name
        self._command = [sys.executable, "-c", statement]

    def settle(self) -> None:
        """Nothing of an interpreter outlives it."""

    def build(self, shape: Shape) -> None:
        """There is nothing to build."""

    def run(self, shape: Shape, built: None) -> int:
        return subprocess.run(self._command).returncode

    def check(self, shape: Shape, built: None, ran: int) -> int:
        if ran:
            raise WrongOutcome(f"{' '.join(self._command)} ended with {ran}")
        return 1

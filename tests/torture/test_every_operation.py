"""A run dies before, inside and after the operations of its store; what another life finds there must be right (P1-P3).

All points are some hundreds: CI takes every so many, `make crashes` takes all.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import pickle
import random
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.kit.servers import Server, make_bucket
from tests.torture.every_operation import GROWN, JOBS, NEVER, Case, Point, live, mortal_store
from towline.engine.states import JobState
from towline.stores import replay
from towline.stores.errors import NoStore

EVERY = int(os.environ.get("CRASH_EVERY", "12"))

forks = multiprocessing.get_context("forkserver")
forks.set_forkserver_preload(["tests.torture.every_operation"])


def life(case: Case) -> int:
    """The exit code of one life."""
    process = forks.Process(target=live, args=(case, dict(os.environ)))
    process.start()
    process.join(120)
    assert process.exitcode is not None, f"{case} does not end"
    return process.exitcode


def completed(case: Case) -> dict[str, Any]:
    """The jobs whose outcomes are committed, and where; read without the leader."""

    async def read() -> dict[str, Any]:
        with mortal_store(case._replace(point=Point(NEVER))):
            try:
                loaded = await replay.load(case.url)
            except NoStore:
                return {}
        graph = loaded.core.ledger.graph
        return {
            graph.uuid(row): (graph.epoch[row], graph.counter[row])
            for row in range(graph.size)
            if graph.state[row] == JobState.COMPLETED
        }

    return asyncio.run(read())


def has_jobs(case: Case) -> bool:
    """Does the journal know of the submission?"""

    async def read() -> bool:
        with mortal_store(case._replace(point=Point(NEVER))):
            return (await replay.load(case.url)).core.ledger.graph.size >= JOBS

    return asyncio.run(read())


def begun(folder: Path) -> dict[str, int]:
    """How often each body has begun."""
    counts: dict[str, int] = {}
    if (folder / "log").exists():
        for line in (folder / "log").read_text().split():
            counts[line] = counts.get(line, 0) + 1
    return counts


def result(folder: Path) -> Any:
    return pickle.loads((folder / "result").read_bytes())


def check_end(folder: Path) -> int:
    """All is as in a life without a crash; returns the number of points."""
    counts, total, outputs, points = result(folder)
    assert {label: number for label, number in counts.items() if number} == {"completed": JOBS + GROWN}
    assert total == JOBS + GROWN
    wide = JOBS - 1 - 150 - 8 - 1
    assert outputs == [start + 14 for start in range(10)] + [sum(range(wide))]
    return int(points)


def points(kind: str, folder: Path) -> list[Point]:
    """All points of a life without a crash."""
    folder.mkdir(exist_ok=True)
    assert life(Case(str(folder), kind, Point(NEVER))) == 0
    assert max(begun(folder).values()) == 1
    return [Point(number, half) for number in range(check_end(folder)) for half in (False, True)]


def die_and_go_on(kind: str, point: Point, folder: Path) -> bool:
    """One life up to a point, and what another one finds; False: with other timing, it had no such point."""
    folder.mkdir()
    case = Case(str(folder), kind, point)
    code = life(case)
    assert code in (0, -signal.SIGKILL), case
    told, before, bodies = (folder / "told").exists(), completed(case), begun(folder)
    assert not told or has_jobs(case), f"{case}: what was told to be submitted is gone"
    assert life(case._replace(point=Point(NEVER))) == 0, case
    check_end(folder)
    after, again = completed(case), begun(folder)
    for one, attempt in before.items():
        assert after[one] == attempt, f"{case}: {one} has another outcome"
        assert again[one] == bodies[one], f"{case}: {one} was committed and ran again"
    return code != 0


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", ["local", "memory"])
def test_it_may_die_anywhere(kind: str, tmp_path: Path) -> None:
    some = points(kind, tmp_path / "whole")[::EVERY]
    died = [die_and_go_on(kind, point, tmp_path / f"{point.number}-{point.half}") for point in some]
    assert sum(died) > len(some) / 2


@pytest.mark.timeout(1800)
def test_it_may_die_anywhere_over_s3(moto: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in moto.environment().items():
        monkeypatch.setenv(name, value)
    bucket = f"s3://{make_bucket(moto)}"
    every = points(bucket, tmp_path / "whole")
    some = random.Random(7).sample(every, min(len(every), max(3, 50 // EVERY)))
    died = [die_and_go_on(bucket, point, tmp_path / f"{point.number}-{point.half}") for point in some]
    assert sum(died) > len(some) / 2

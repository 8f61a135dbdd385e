"""`@job(cache=...)` over whole runs: across runs of one store, after a restart, beside the collector."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from towline import Flow, Run, connect, job, run
from towline.client import Line
from towline.offline import OfflineClient
from towline.stores import collect


@job(cache="v1")
def traced(folder: str, x: Any) -> Any:
    """Leaves a line behind each time that it runs."""
    with (Path(folder) / "ran").open("a") as file:
        file.write(f"{x!r}\n")
    return x + 1 if isinstance(x, int) else np.full(40_000, 1.5)


@job(cache="v1")
def unsure(folder: str) -> int:
    with (Path(folder) / "ran").open("a") as file:
        file.write("tried\n")
    raise ValueError("not yet")


def carry(work: Any, store: Path, **options: Any) -> Run:
    return run(work, store=store, local=True, progress=False, **options)


def ran(folder: Path) -> list[str]:
    return (folder / "ran").read_text().splitlines()


def test_the_next_run_in_the_store_reuses_what_this_one_did(store_dir: Path, tmp_path: Path) -> None:
    def chain() -> Flow:
        one = traced(str(tmp_path), 1)
        two = traced(str(tmp_path), one.output)
        return Flow([one, two], two.output)

    first, second = chain(), chain()
    assert carry(first, store_dir).output(first) == 3
    assert carry(second, store_dir).output(second) == 3
    assert ran(tmp_path) == ["1", "2"]
    other = traced(str(tmp_path), 3)
    assert carry(other, store_dir).output(other) == 4
    assert ran(tmp_path) == ["1", "2", "3"]


def test_one_run_reuses_its_own_outcomes(store_dir: Path, tmp_path: Path) -> None:
    """A committed outcome is waited for where it is on its way."""
    jobs = [traced(str(tmp_path), 7) for _ in range(20)]
    done = carry(Flow(jobs), store_dir)
    assert done.outputs(jobs) == [8] * 20
    assert ran(tmp_path) == ["7"]


def test_a_rope_of_reused_jobs_is_not_cut(store_dir: Path, tmp_path: Path) -> None:
    def chain() -> list[Any]:
        jobs = [traced(str(tmp_path), 0)]
        for _ in range(29):
            jobs.append(traced(str(tmp_path), jobs[-1].output))
        return jobs

    for jobs in (chain(), chain()):
        assert carry(Flow(jobs), store_dir).outputs(jobs) == list(range(1, 31))
    assert len(ran(tmp_path)) == 30


def test_a_failure_is_not_reused(store_dir: Path, tmp_path: Path) -> None:
    for _ in range(2):
        assert carry(unsure(str(tmp_path)), store_dir, raise_on_failure=False).state == "failed"
    assert ran(tmp_path) == ["tried"] * 2


def test_a_large_outcome_is_the_new_job_s_own(store_dir: Path, tmp_path: Path) -> None:
    """R10: the file belongs to the attempt that names it, so collecting keeps both."""
    first, second = traced(str(tmp_path), "big"), traced(str(tmp_path), "big")
    carry(first, store_dir)
    done = carry(second, store_dir)
    assert ran(tmp_path) == ["'big'"]
    keys = sorted(path.parent.parent.name for path in (store_dir / "files").rglob("*") if path.is_file())
    assert keys == sorted([first.uuid, second.uuid])
    assert asyncio.run(collect.gc(str(store_dir))) == []
    assert [value[0] for value in connect(store_dir).outputs([first, second])] == [1.5, 1.5]
    assert done.state == "completed"


def test_the_parts_of_the_key_can_be_asked_for(store_dir: Path, tmp_path: Path) -> None:
    first, second, plain = traced(str(tmp_path), 1), traced(str(tmp_path), 1), job(abs)(-1)
    carry(first, store_dir)
    carry(Flow([second, plain]), store_dir)
    asked = OfflineClient(str(store_dir))
    one, two = (asked.ask("cached", {"uuid": made.uuid}) for made in (first, second))
    assert one["function"].endswith(":traced version:v1")
    assert list(one["arguments"]) == ["folder", "x"]
    assert (one["reused"], two["reused"]) == ("", first.uuid)
    assert one["key"] == two["key"]
    assert asked.ask("cached", {"uuid": plain.uuid}) is None


@pytest.mark.ray
def test_workers_on_ray_reuse_as_well(store_dir: Path, tmp_path: Path) -> None:
    for _ in range(2):
        made = traced(str(tmp_path), 5)
        assert run(made, store=store_dir, workers=1, progress=False).output(made) == 6
    assert ran(tmp_path) == ["5"]


def test_the_line_is_only_asked_by_jobs_that_want_it(store_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_self: Line, verb: str, *_rest: Any) -> Any:
        raise AssertionError(verb)

    monkeypatch.setattr("towline.actors.worker.Worker.filed", refuse)
    made = job(abs)(-3)
    assert carry(made, store_dir).output(made) == 3

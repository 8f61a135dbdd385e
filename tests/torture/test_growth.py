"""A graph that grows is the same after a crash as without one, wherever the crash comes (P1, P3).

A process dies before, inside and after operations of its store, and, another way to the same end, a store is cut behind each of
its records, which is how a SIGKILL leaves it that came while the next one was being written. Another life goes on. What was
committed is still there, uuids included, and has not run again; the end is that of a life without a crash, uuids aside.

All points are some hundreds: CI takes every so many, `make growth` takes all.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.torture.every_operation import NEVER, Case, Point
from tests.torture.growth import Graph, Row, build, graph_of, live, normal, told
from tests.torture.test_every_operation import begun
from towline.engine.flows import Plan
from towline.stores.journal import records

EVERY = int(os.environ.get("CRASH_EVERY", "24"))

forks = multiprocessing.get_context("forkserver")
forks.set_forkserver_preload(["tests.torture.growth"])

ENDED = {"completed", "stopped"}


def life(case: Case, falls: bool = False) -> int:
    """The exit code of one life."""
    process = forks.Process(target=live, args=(case, dict(os.environ), falls))
    process.start()
    process.join(120)
    assert process.exitcode is not None, f"{case} does not end"
    return process.exitcode


def case_in(folder: Path, kind: str = "local", point: Point | None = None) -> Case:
    folder.mkdir(exist_ok=True)
    return Case(str(folder), kind, point or Point(NEVER))


def whole(kind: str, folder: Path) -> tuple[Graph, int]:
    """The graph of a life without a crash, and how many points that life has."""
    case = case_in(folder, kind)
    assert life(case) == 0
    return graph_of(case), pickle.loads((folder / "result").read_bytes())


def by_name(graph: Graph) -> dict[tuple[str, int], Row]:
    """Each row under the name of the first job that had its uuid."""
    first = {row.uuid: row.name for row in graph.values() if row.index == 1}
    return {(first[row.uuid], row.index): row for row in graph.values()}


def go_on(case: Case, right: dict[Any, Any]) -> None:
    """Another life in the place of a dead one: nothing that was committed is lost, changed or done again; the end is right."""
    folder = Path(case.folder)
    before, bodies = graph_of(case), begun(folder)
    for number, flow in enumerate(build()):
        there = sum((one, 1) in before for one in flow.job_uuids)
        assert there in (0, len(flow.job_uuids)), f"{case}: a part of a flow of one chunk is there"
        assert there or not (folder / f"told-{number}").exists(), f"{case}: what was told to be submitted is gone"
    assert life(case._replace(point=Point(NEVER))) == 0, case
    after, again = graph_of(case), begun(folder)
    for key, old in before.items():
        new = after[key]  # what grew has the uuid that it was committed with
        assert (new.name, new.metadata, new.hosts) == (old.name, old.metadata, old.hosts), f"{case}: {old}"
        assert inherited(old) <= inherited(new), f"{case}: {old.name} lost a parent"
        if old.state in ENDED:
            assert new == old, f"{case}: {old.name} ended, and then {new}"
            assert again.get(told(*key), 0) == bodies.get(told(*key), 0), f"{case}: {old.name} ended and ran again"
    assert normal(after) == right, f"{case}: another graph than without a crash"


def inherited(row: Row) -> set[tuple[str, int]]:
    """What a job waits for; which index of it is not said, because an heir may take a parent's place."""
    return {(uuid, kind) for uuid, _, kind in row.parents}


# ---------------------------------------------------------------------------------------------- a life without a crash


def test_every_kind_of_growth_takes_place(tmp_path: Path) -> None:
    """What the graph is compared with below is right itself."""
    graph, _ = whole("local", tmp_path)
    assert set(begun(tmp_path).values()) == {1}
    found = by_name(graph)
    outputs = {name: found[name, index].output for name, index in sorted(found)}  # of the highest index
    assert outputs["swap's child"] == "swap's child(swap.new(start()))"
    assert outputs["unfold"] == {"last": "unfold.2(unfold.1(start()))", "first": "unfold.1(start())"}
    assert outputs["prepend's child"] == "prepend's child(prepend stays)"
    assert outputs["several"] == ["several.1()", "several.2(several.1())", "several.swap.new()"]
    assert outputs["swell's child"] == f"swell's child({len(outputs['swell.large'])})"
    assert outputs["countdown's child"] == "countdown's child(countdown-3-2-1 at zero)"
    assert {index for name, index in found if name == "countdown"} == {1, 2, 3, 4}
    assert outputs["nested"] == "nested.last(nested.unfold.2(nested.unfold.1()), nested.around, nested.countdown-2-1 at zero)"
    waits = {name: {(one, kind) for one, _, kind in edges} for (name, _), (*_rest, edges, _hosts) in normal(graph).items()}
    assert waits["around's child"] == {("around", 0), ("around.2", 1)}, "a detour stands before the children"
    assert waits["line.4"] == {("line.3", 1), ("line.3.2", 1)}
    assert {name for (name, _), row in found.items() if row.state == "stopped"} == {
        "childless's child", "childless's grandchild",
        "halting", "halting.never", "halting.halt.added", "promise.added", "rest", "rest.swap", "end",
    }  # fmt: skip
    assert {row.state for row in graph.values()} == ENDED
    inner = found["nested.around.1", 1]
    assert [len(hosts) for hosts in normal(graph)["nested.around.1", 1][-1]][:4] == [2, 4, 7, 16]
    assert inner.hosts[-1] == build()[0].uuid, "the outermost flow stands last"


def test_jobs_that_were_handed_in_are_the_same_in_every_life() -> None:
    assert [Plan(flow).whole().uuids for flow in build()] == [Plan(flow).whole().uuids for flow in build()]


# ------------------------------------------------------------------------------------------------- the store's operations


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", ["local", "memory"])
def test_it_may_die_at_any_operation(kind: str, tmp_path: Path) -> None:
    graph, count = whole(kind, tmp_path / "whole")
    right = normal(graph)
    some = [Point(number, half) for number in range(count) for half in (False, True)][::EVERY]
    died = 0
    for point in some:
        case = case_in(tmp_path / f"{point.number}-{point.half}", kind, point)
        code = life(case)
        assert code in (0, -signal.SIGKILL), case
        died += code != 0  # with other timing, there may be no such point
        go_on(case, right)
        shutil.rmtree(case.folder)
    assert died > len(some) / 2


# ------------------------------------------------------------------------------------------------------------ the records


def ends(segment: bytes) -> Iterator[int]:
    """Where each record of a segment ends; first, where its header does."""
    at = records.HEAD_BYTES
    yield at
    while at < len(segment):
        mark, length, *_ = records.HEADER.unpack_from(segment, at)
        assert mark == records.MARK
        at += records.record_bytes(length)
        yield at


@pytest.mark.timeout(1800)
def test_it_may_die_behind_any_record(tmp_path: Path) -> None:
    case = case_in(tmp_path / "whole")
    assert life(case, falls=True) == -signal.SIGKILL
    right = normal(graph_of(case))
    [segment] = (tmp_path / "whole/store/journal").iterdir()
    cuts = list(ends(segment.read_bytes()))
    grown = sum(row.index > 1 or "." in row.name for row in graph_of(case).values())
    assert len(cuts) > grown / 2, "there are records to cut behind"
    for cut in cuts[:: max(1, EVERY // 4)]:
        folder = tmp_path / f"cut-{cut}"
        shutil.copytree(tmp_path / "whole", folder, copy_function=shutil.copy2)
        for mark in folder.glob("told-*"):
            mark.unlink()  # that was later
        (folder / "log").unlink()
        os.truncate(folder / "store/journal" / segment.name, cut)
        go_on(case_in(folder), right)
        shutil.rmtree(folder)

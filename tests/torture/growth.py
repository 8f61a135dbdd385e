"""A run that grows in every way there is, in a process that dies at one chosen point; and what its graph is, uuids aside.

Two flows lie in one store: one in which jobs replace, detour, add and stop their children, one over another, and one that a job
inside a replacement of it stops. Both are made so that their graph does not depend on what runs first. uuids of jobs that a body
makes are minted by the body, so that a body that runs again mints others: `normal` tells a graph in names alone.
"""

from __future__ import annotations

import asyncio
import os
import pickle
import signal
import uuid
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from tests.torture.every_operation import LARGE, NEVER, Case, Point, mortal_store, say
from towline import CURRENT_JOB, Flow, JobOrder, OutputReference, Response, job
from towline.actors import inprocess
from towline.actors.config import LeaderConfig
from towline.engine.flows import compile_flow
from towline.engine.states import JobState
from towline.stores import files, replay
from towline.stores.errors import NoStore, StoreMissing

FOLDER = "GROWTH_FOLDER"
"""Environment: where bodies write that they began. No argument, so that arguments are the same in every place."""


def begin() -> None:
    """Every body's first act."""
    running = CURRENT_JOB.job
    assert running is not None
    say(os.environ[FOLDER], told(running.uuid, running.index))


def told(uuid: str, index: int) -> str:
    """A job, as the bodies' log names it."""
    return f"{uuid}/{index}"


_seeded: Random | None = None
"""Whence the uuids of what is submitted; what a body makes has uuids as usual."""


def fixed() -> str:
    """The next of the uuids that are the same in every life."""
    assert _seeded is not None
    return str(uuid.UUID(int=_seeded.getrandbits(128), version=4))


def made(function: Callable[..., Any], label: str, *rest: Any) -> Any:
    """A job that is called as it is labelled: names are what a graph is told in."""
    one = function(label, *rest)
    one.name = label
    one.metadata = {"label": label}
    if _seeded is not None:
        one.set_uuid(fixed())
    return one


def pair(label: str, *above: Any) -> list[Any]:
    """Two jobs, one behind the other."""
    first = made(leaf, f"{label}.1", *above)
    return [first, made(leaf, f"{label}.2", first.output)]


# ------------------------------------------------------------------------------------------------ the ways of growing


@job
def leaf(label: str, *above: Any) -> str:
    begin()
    return f"{label}({', '.join(map(str, above))})"


@job
def large(label: str) -> bytes:
    begin()
    return label.encode() * (LARGE // len(label))


@job
def measure(label: str, data: bytes) -> str:
    begin()
    return f"{label}({len(data)})"


@job
def swap(label: str, *above: Any) -> Any:
    """Replaced by a job."""
    begin()
    return Response(output=f"{label} as it was", replace=made(leaf, f"{label}.new", *above))


@job
def unfold(label: str, *above: Any) -> Any:
    """Replaced by a flow that puts something out."""
    begin()
    jobs = pair(label, *above)
    return Response(replace=Flow(jobs, output={"last": jobs[-1].output, "first": jobs[0].output}))


@job
def swell(label: str) -> Any:
    """Replaced by a flow whose output is a file."""
    begin()
    one = made(large, f"{label}.large")
    return Response(replace=Flow([one], output=one.output))


@job
def prepend(label: str, *above: Any) -> Any:
    """Replaced by a flow that puts nothing out: children wait for it, and see what this job put out."""
    begin()
    return Response(output=f"{label} stays", replace=Flow(pair(label, *above)))


@job
def several(label: str) -> Any:
    """Returns jobs, which means the same."""
    begin()
    return [*pair(label), made(swap, f"{label}.swap")]


@job
def countdown(label: str, number: int) -> Any:
    """Replaced again and again."""
    begin()
    return Response(replace=made(countdown, f"{label}-{number}", number - 1)) if number else f"{label} at zero"


@job
def around(label: str, *above: Any) -> Any:
    """With a detour."""
    begin()
    return Response(output=label, detour=Flow(pair(label, *above)))


@job
def beside(label: str, depth: int) -> Any:
    """With an addition, which has one of its own."""
    begin()
    more = [made(beside, f"{label}+", depth - 1)] if depth else []
    return Response(output=label, addition=Flow([*more, *pair(label)]))


@job
def everything(label: str) -> Any:
    """With all three at once."""
    begin()
    jobs = pair(f"{label}.replace")
    return Response(
        replace=Flow(jobs, output=jobs[-1].output),
        detour=made(swap, f"{label}.detour"),
        addition=[made(around, f"{label}.addition")],
    )


@job
def nested(label: str) -> Any:
    """Replaced by a flow of jobs that grow, in a flow in a flow."""
    begin()
    first, second = made(unfold, f"{label}.unfold"), made(around, f"{label}.around")
    third = made(countdown, f"{label}.countdown", 2)
    last = made(leaf, f"{label}.last", first.output["last"], second.output, third.output)
    inner = Flow([first, Flow([second, third], order=JobOrder.LINEAR)])
    return Response(replace=Flow([inner, made(everything, f"{label}.everything"), last], output=last.output))


@job
def childless(label: str, *above: Any) -> Any:
    """Stops its children; its detour runs."""
    begin()
    return Response(output=label, detour=made(leaf, f"{label}.detour", *above), stop_children=True)


@job
def halt(label: str, *above: Any) -> Any:
    """Stops the flow, with what it adds itself."""
    begin()
    return Response(output=label, addition=made(leaf, f"{label}.added"), stop_jobflow=True)


@job
def halting(label: str, *above: Any) -> Any:
    """Replaced by a flow in which a job stops the outermost flow."""
    begin()
    first = made(around, f"{label}.around", *above)
    stop = made(halt, f"{label}.halt", first.output)
    last = made(leaf, f"{label}.never", stop.output)
    return Response(replace=Flow([first, stop, last], output=last.output))


@job
def promise(label: str, awaited: str) -> Any:
    """Adds a job that waits for one that this job does not know."""
    begin()
    return Response(output=label, addition=made(leaf, f"{label}.added", OutputReference(awaited)))


# ------------------------------------------------------------------------------------------------------------ the flows


def growing() -> Flow:
    """Each way of growing, with a child and a grandchild behind it that is replaced itself."""
    start = made(leaf, "start")
    jobs = [start]
    for kind in (swap, unfold, prepend, around, childless):
        jobs.append(made(kind, kind.__name__, start.output))
    for kind in (several, everything, nested):
        jobs.append(made(kind, kind.__name__))
    jobs += [made(countdown, "countdown", 3), made(beside, "beside", 2)]
    for one in jobs[1:]:
        child = made(leaf, f"{one.name}'s child", one.output)
        jobs += [child, made(swap, f"{one.name}'s grandchild", child.output)]
    one = made(swell, "swell")
    jobs += [one, made(measure, "swell's child", one.output)]
    line = [made(around, "line.1"), made(leaf, "line.2"), made(prepend, "line.3"), made(leaf, "line.4")]
    return Flow([*jobs, Flow(line, order=JobOrder.LINEAR, uuid=fixed())], uuid=fixed())


def halted() -> Flow:
    """All of it lies behind or before the job that stops it, so that nothing races with the stop."""
    awaited = fixed()
    first = made(promise, "promise", awaited)
    stop = made(halting, "halting", first.output)
    stop.set_uuid(awaited)
    rest = [made(leaf, "rest", stop.output), made(swap, "rest.swap", stop.output)]
    end = Flow([*rest, made(leaf, "end", rest[1].output)], uuid=fixed())
    return Flow([first, stop, end], uuid=fixed())


def build() -> list[Flow]:
    """The two flows, the same in every life."""
    global _seeded
    _seeded = Random(1)
    try:
        return [growing(), halted()]
    finally:
        _seeded = None


# ------------------------------------------------------------------------------------------------------------ a life


def live(case: Case, environment: dict[str, str], falls: bool = False) -> None:
    """A whole life: hand in what the store does not hold yet, and run to the end, or to the point.

    With `falls` it dies when all is done, before it closes its store. Leaves the number of points that it saw in `result`.
    """
    os.environ.update(environment)  # the process that is forked began with another one
    os.environ[FOLDER] = case.folder
    with mortal_store(case) as mortal:
        config = LeaderConfig(lease_s=5.0, touch_s=1.0)
        try:
            leader = inprocess.start(case.url, config=config)
        except StoreMissing:
            leader = inprocess.start(case.url, create=True, config=config)
        try:
            held = {known[0] for known in leader.client.ask("status")["flows"]}
            for number, flow in enumerate(build()):
                if flow.uuid not in held:
                    for chunk in compile_flow(flow):
                        leader.client.ask("submit", chunk)
                Path(case.folder, f"told-{number}").touch()
            leader.run_jobs_until_idle()
            if falls:
                os.kill(os.getpid(), signal.SIGKILL)
        finally:
            leader.close()
    Path(case.folder, "result").write_bytes(pickle.dumps(mortal.seen))


# --------------------------------------------------------------------------------------------------------- the graph


class Row(NamedTuple):
    """What is committed of a job."""

    uuid: str
    index: int
    name: str
    state: str
    attempt: tuple[int, int]
    output: Any
    """None without one."""
    metadata: bytes
    parents: tuple[tuple[str, int, int], ...]
    """uuid, index and what the edge means, sorted."""
    hosts: tuple[str, ...]


Graph = dict[tuple[str, int], Row]
"""By uuid and index."""


def graph_of(case: Case) -> Graph:
    """The graph that the store holds, read without a leader."""

    async def read() -> Graph:
        with mortal_store(case._replace(point=Point(NEVER))):
            try:
                loaded = await replay.load(case.url)
            except NoStore:
                return {}
            try:
                rows = [await _row(loaded, row) for row in range(loaded.core.ledger.graph.size)]
            finally:
                await loaded.store.close()
        return {(row.uuid, row.index): row for row in rows}

    return asyncio.run(read())


async def _row(loaded: replay.Loaded, row: int) -> Row:
    graph = loaded.core.ledger.graph
    spec = loaded.core.ledger.specs[graph.spec[row]]
    place = graph.output(row)
    output = None
    if place is not None:
        output = await files.load_async(files.Files(loaded.store.objects), await loaded.reader.read(place))
    edges = [(graph.edge_parent[edge], graph.edge_kind[edge]) for edge in graph.parent_edges(row)]
    return Row(
        uuid=graph.uuid(row),
        index=graph.index[row],
        name=spec.name,
        state=JobState(graph.state[row]).label,
        attempt=(graph.epoch[row], graph.counter[row]),
        output=output,
        metadata=spec.metadata,
        parents=tuple(sorted((graph.uuid(parent), graph.index[parent], kind) for parent, kind in edges)),
        hosts=tuple(spec.hosts),
    )


def normal(graph: Graph) -> dict[tuple[str, int], Any]:
    """The graph in names: a uuid is the name of the job that had it first, a flow is the set of the jobs inside it."""
    name = {uuid: graph[uuid, 1].name for uuid, index in graph if index == 1}
    assert len(set(name.values())) == len(name), "names are unique"
    inside: dict[str, set[str]] = {}
    for row in graph.values():
        for host in row.hosts:
            inside.setdefault(host, set()).add(name[row.uuid])
    return {
        (name[row.uuid], row.index): (
            row.name,
            row.state,
            row.output,
            row.metadata,
            sorted((name[uuid], index, kind) for uuid, index, kind in row.parents),
            [sorted(inside[host]) for host in row.hosts],
        )
        for row in graph.values()
    }

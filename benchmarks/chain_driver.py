"""The driver process of `chain`: hands a chain in, or goes on with one, and tells of each step in a JSON line on stdout.

The steps are those of `towline.run()`, one by one, so that each can be timed: build, a leader and its workers up, hand in, wait.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from typing import Any

import msgspec

from towline import client as lines
from towline import job, orders, session, waiting
from towline.benchmarks.peers.ray_tasks import local_ray
from towline.benchmarks.shapes import chain, level
from towline.engine.authoring.flow import Flow
from towline.engine.authoring.job import Job
from towline.progress import Silent

GATE_REACHED, GATE_OPEN = "reached", "open"
"""Files by which the job half way and the measuring process speak."""

LOOK_S = 0.01


def gate(folder: str, above: int) -> int:
    """The job half way: as any other, once it is let through."""
    path = Path(folder)
    if not (path / GATE_OPEN).exists():
        (path / GATE_REACHED).touch()
        while not (path / GATE_OPEN).exists():
            time.sleep(LOOK_S)
    return level(above)


def jobs_of(count: int, folder: str | None) -> list[Job]:
    """The chain, with the gate half way if there is one."""
    step, half = job(level), count // 2
    made: list[Job] = []
    for above in chain(count).inputs():
        if folder is not None and len(made) == half and above:
            made.append(job(gate)(folder, made[-1].output))
        else:
            made.append(step(*[made[number].output for number in above]))
    return made


class Voice:
    """The measuring process's end of stdout; from now on all else that is printed, by Ray too, goes to stderr."""

    def __init__(self) -> None:
        self._line = os.dup(1)
        os.dup2(2, 1)

    def tell(self, step: str, **facts: Any) -> None:
        """One line."""
        os.write(self._line, msgspec.json.encode({"step": step, **facts}) + b"\n")


def lead(order: orders.Order, voice: Voice, began: float) -> tuple[Any, lines.Line]:
    """Start the leader, tell how long its first answer took, and wait for a worker."""
    leader = session.start(order)
    client = lines.Line(leader.client)
    status = client.ask("status")
    taken = time.perf_counter() - began
    if order.flow is not None:
        while not order.local and not status["workers"]:
            time.sleep(LOOK_S)
            status = client.ask("status")
    voice.tell("leading", s=taken, leader=status["leader"]["pid"], completed=status["counts"].get("completed", 0))
    return leader, client


def finish(leader: Any, client: lines.Line, local: bool) -> None:
    """Run to the end."""
    if not local:
        waiting.watch(client, Silent())
        return
    with waiting.Watcher(client, Silent()):
        leader.run_jobs_until_idle()


def drive(order: orders.Order, voice: Voice) -> None:
    """All steps."""
    began = time.perf_counter()
    leader, client = lead(order, voice, began)
    try:
        at, wall = time.perf_counter(), time.time()
        if order.flow is not None:
            session.hand_in(client, order, Silent())
            voice.tell("submitted", s=time.perf_counter() - at, began=wall)
        finish(leader, client, order.local)
        voice.tell("ended", s=time.perf_counter() - at)
    finally:
        leader.close()


def main() -> None:
    """`python -m towline.benchmarks.chain_driver`, for `chain` alone."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--store", required=True)
    parser.add_argument("--jobs", type=int, required=True)
    parser.add_argument("--gate")
    parser.add_argument("--local", action="store_true")
    parser.add_argument("--resume", action="store_true")
    given = parser.parse_args()
    voice = Voice()
    flow = None
    if not given.resume:
        began = time.perf_counter()
        jobs = jobs_of(given.jobs, given.gate)
        flow = Flow(jobs, name=f"chain-{given.jobs}")
        voice.tell("built", s=time.perf_counter() - began, last=jobs[-1].uuid)
    order = orders.Order(store=given.store, create=not given.resume, flow=flow, local=given.local)
    if given.local:
        drive(order, voice)
        return
    with local_ray(len(os.sched_getaffinity(0))):
        drive(order, voice)


if __name__ == "__main__":
    main()

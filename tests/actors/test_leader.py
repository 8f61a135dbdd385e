"""The leader as a Ray actor: killed, it is restarted and goes on; fenced, it stops its workers; closed, nothing stays."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import pytest

import towline
from tests.kit.leaks import eventually
from towline import Flow, Run, job
from towline.actors import inprocess, leader
from towline.actors.identity import start_time
from towline.actors.leader import Turns
from towline.engine.errors import FencedError

# ------------------------------------------------------------------------------------------------------------ turns


class Order:
    """Callers that note when it was their turn."""

    def __init__(self, first: int | None) -> None:
        self.turns = Turns(first)
        self.begun: list[int] = []

    async def call(self, number: int, error: bool = False) -> None:
        await self.turns.wait(number)
        self.begun.append(number)
        await asyncio.sleep(0)
        self.turns.done(number)


async def test_calls_begin_in_the_order_of_their_numbers() -> None:
    order = Order(0)
    await asyncio.wait_for(asyncio.gather(*(order.call(n) for n in (3, 1, 0, 4, 2))), 30)
    assert order.begun == [0, 1, 2, 3, 4]


async def test_a_restarted_leader_begins_with_the_lowest_that_is_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leader, "GATHER_S", 0.01)
    order = Order(None)
    await asyncio.wait_for(asyncio.gather(*(order.call(n) for n in (7, 5, 8, 6))), 30)
    assert order.begun == [5, 6, 7, 8]
    await asyncio.wait_for(asyncio.gather(order.call(4), order.call(10), order.call(9)), 30)
    assert order.begun[4:] == [4, 9, 10]


async def test_one_that_never_comes_does_not_stop_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leader, "TURN_S", 0.01)
    order = Order(0)
    await asyncio.wait_for(asyncio.gather(order.call(0), order.call(2)), 30)
    await asyncio.wait_for(order.call(3), 30)
    assert order.begun == [0, 2, 3]


# ------------------------------------------------------------------------------------------------------------- runs


@job
def mark(folder: str, number: int, before: Any = None) -> int:
    """Leaves a line for each execution: its process. Number 20 and those behind it wait for the word `go`."""
    import time

    with Path(folder, "ran").open("a") as log:
        log.write(f"{number} {os.getpid()}\n")
    while number >= 20 and not Path(folder, "go").exists():
        time.sleep(0.01)
    return number + (before or 0)


def executions(folder: Path) -> list[tuple[int, int]]:
    path = folder / "ran"
    if not path.exists():
        return []
    return [(int(number), int(pid)) for number, pid in (line.split() for line in path.read_text().splitlines())]


def chains(folder: Path) -> Flow:
    """Two chains of 30, so that both workers have something to do."""
    made = []
    for _ in range(2):
        last: Any = None
        for number in range(30):
            made.append(mark(str(folder), number, last.output if last is not None else None))
            last = made[-1]
    return Flow(made)


@pytest.fixture
def submitted(tmp_path: Path, local_ray: None, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A run of two chains on two workers, once both wait for the word; and its flow."""
    monkeypatch.setenv("TOWLINE_LEASE_S", "30")
    flow = chains(tmp_path)
    run = towline.submit(flow, store=tmp_path / "store", workers=2)
    try:
        assert eventually(lambda: sum(number == 20 for number, _ in executions(tmp_path)) == 2, 60)
        yield run, flow
    finally:
        (tmp_path / "go").touch()
        run.close()


def towline_processes(pids: set[int]) -> set[int]:
    return {pid for pid in pids if start_time(pid)}


@pytest.mark.ray
def test_killed_it_is_restarted_and_nothing_is_lost(submitted: tuple[Run, Flow], tmp_path: Path) -> None:
    run, flow = submitted
    before = run.status()
    os.kill(before["leader"]["pid"], signal.SIGKILL)
    (tmp_path / "go").touch()
    assert run.wait() == "completed"
    after = run.status()
    assert after["counts"] == {"completed": 60}
    assert after["epoch"] == before["epoch"] + 1
    assert after["leader"]["pid"] != before["leader"]["pid"]
    assert run.output(flow.jobs[-1]) == sum(range(30))
    ran = executions(tmp_path)
    assert len({pid for _, pid in ran}) == 2  # the same workers have joined it again
    assert len(ran) == 60  # and handed in what they held: nothing was executed twice
    leader_pid = after["leader"]["pid"]
    run.close()
    assert eventually(lambda: not towline_processes({leader_pid, *(pid for _, pid in ran)}))
    assert (tmp_path / "store" / "leader.json").read_bytes() == b""
    assert towline.connect(tmp_path / "store").status()["leader"]["closed"]


@pytest.mark.ray
def test_fenced_it_stops_its_workers(submitted: tuple[Run, Flow], tmp_path: Path) -> None:
    run, _flow = submitted
    workers = {pid for _, pid in executions(tmp_path)}
    assert len(towline_processes(workers)) == 2
    taken = inprocess.start(str(tmp_path / "store"), takeover=True)
    try:
        assert eventually(lambda: not towline_processes(workers), 60)
        with pytest.raises(FencedError, match="was taken over"):
            run._client.ask("status")  # type: ignore[union-attr]  # of the old leader, not of whoever leads now
        (tmp_path / "go").touch()
        taken.run_jobs_until_idle()
        assert taken.client.ask("status")["counts"] == {"completed": 60}
    finally:
        taken.close()

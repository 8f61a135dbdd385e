"""Twelve faults in CI (`make torture` for more), a second leader among them, and that the oracle sees what it is there to see."""

from __future__ import annotations

import asyncio
import random
from array import array
from pathlib import Path

import pytest

import towline
from tests.torture import oracle
from tests.torture.body import Line, build, write
from tests.torture.oracle import Execution, Journal
from tests.torture.run import BATCH, SHARES, draw
from tests.torture.trial import KINDS, Trial
from towline.actors.config import LeaderConfig
from towline.actors.service import LeaderService
from towline.stores.errors import StoreLocked
from towline.stores.store import Store


@pytest.mark.ray
@pytest.mark.timeout(900)
def test_twelve_faults_break_no_promise() -> None:
    with Trial(1, 2000, 60, print) as trial:
        trial.begin()
        a_second_leader_is_refused(str(trial.folder / "store"))
        trial.torment(draw(list(SHARES), BATCH, random.Random(1)))
    assert trial.violations == []
    assert len(trial.faults) == BATCH
    assert {"takeover", "freeze-leader"} <= {fault.kind for fault in trial.faults}, "by choice it takes over"
    assert trial.found is not None
    assert trial.found.told == 2000


def a_second_leader_is_refused(store: str) -> None:
    """While the first lives: by the driver, before it starts anything, and by the claim itself."""
    with pytest.raises(StoreLocked, match="is being led by process"):
        towline.resume(store, workers=2)
    with pytest.raises(StoreLocked):
        asyncio.run(_claim(store))


async def _claim(store: str) -> None:
    """What a second leader does first, without the driver's own look at `leader.json`."""
    service = LeaderService(await Store.open(store), LeaderConfig())
    try:
        await service.start(takeover=False)
    finally:
        await service.drop()


# ------------------------------------------------------------------------------------------------- the oracle is awake


def run(nonce: str, began: float, ended: float | None, *inputs: str, uuid: str = "u", pid: int = 1) -> Execution:
    return Execution(uuid, nonce, began, ended, pid, list(inputs))


def journal(*outputs: str, parents: dict[int, list[int]] | None = None) -> Journal:
    """Job 0 is `u`, job 1 is `v`, ... with these nonces as outcomes."""
    from towline.engine import codec

    uuids = {row: chr(ord("u") + row) for row in range(len(outputs))}
    found = {row: [codec.encode(nonce) for nonce in text.split()] for row, text in enumerate(outputs)}
    return Journal(uuids, found, parents or {row: [] for row in uuids}, 1)


def test_it_sees_overlaps() -> None:
    apart, over = [run("a", 1, 2), run("b", 2, 3)], [run("a", 1, 2.5), run("b", 2, 3)]
    assert list(oracle.overlaps({"u": apart})) == []
    assert len(list(oracle.overlaps({"u": over}))) == 1


def test_it_sees_no_outcome_and_two() -> None:
    assert list(oracle.outcomes(journal("a", "b"), 2)) == []
    assert len(list(oracle.outcomes(journal("a c", ""), 2))) == 2
    assert len(list(oracle.outcomes(journal("a"), 2))) == 1


def test_it_sees_what_was_begun_again() -> None:
    runs = {"a": run("a", 1, 2), "b": run("b", 3, 4)}
    assert list(oracle.committed(journal("b"), runs, {"u": list(runs.values())})) == []
    assert len(list(oracle.committed(journal("a"), runs, {"u": list(runs.values())}))) == 1
    assert list(oracle.begun_after_told({"u": list(runs.values())}, {"u": 5.0})) == []
    assert len(list(oracle.begun_after_told({"u": list(runs.values())}, {"u": 2.5}))) == 1


def test_it_sees_inputs_that_were_not_committed() -> None:
    runs = {"a": run("a", 1, 2), "c": run("c", 3, 4, "a", uuid="v")}
    by_uuid = {one.uuid: [one] for one in runs.values()}
    parents = {0: [], 1: [0]}
    assert list(oracle.committed(journal("a", "c", parents=parents), runs, by_uuid)) == []
    runs["a2"] = run("a2", 2.5, 3)
    by_uuid["u"].append(runs["a2"])
    assert len(list(oracle.committed(journal("a2", "c", parents=parents), runs, by_uuid))) == 1


def test_it_sees_what_is_left_behind(tmp_path: Path) -> None:
    for name in ("t/ray", "store/.tmp"):
        (tmp_path / name).mkdir(parents=True)
    assert list(oracle.left_behind(tmp_path)) == []
    (tmp_path / "t" / "towline-x").touch()
    (tmp_path / "store" / ".tmp" / "half").touch()
    assert len(list(oracle.left_behind(tmp_path))) == 2


def test_a_log_is_read_as_it_was_written(tmp_path: Path) -> None:
    lines = [
        Line("B", "u", "n", 1.5, 7, "a,b"),
        Line("B", "v", "m", 1.7, 7),
        Line("E", "u", "n", 2.5, 7),
        Line("R", "u", "o", 3.0, 7),
    ]
    with (tmp_path / "7").open("wb") as file:
        for line in lines:
            write(file.fileno(), line)
    assert list(oracle.read_log(tmp_path)) == lines
    assert oracle.executions(lines) == {
        "n": Execution("u", "n", 1.5, 2.5, 7, ["a", "b"]),
        "m": Execution("v", "m", 1.7, None, 7, []),
    }


# --------------------------------------------------------------------------------------------------------- the choices


def test_every_kind_has_its_share() -> None:
    assert sum(SHARES.values()) == BATCH
    assert set(SHARES) <= set(KINDS)
    assert sorted(draw(list(SHARES), BATCH, random.Random(5))) == sorted(kind for kind in SHARES for _ in range(SHARES[kind]))


def test_the_flow_is_the_same_for_a_seed() -> None:
    from towline.engine.flows import compile_flow
    from towline.engine.model import decode_chunk

    shapes = []
    for _ in range(2):
        [chunk] = map(decode_chunk, compile_flow(build("folder", 300, 9, random.Random(3))))
        shapes.append((chunk.count, chunk.parents, chunk.parent_counts))
    assert shapes[0] == shapes[1]
    assert shapes[0][0] == 300
    assert max(array("I", shapes[0][2])) <= 3

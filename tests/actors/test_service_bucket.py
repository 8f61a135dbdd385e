"""A leader on a bucket, where every look is a request: it looks seldom, gathers, and puts its small segments together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from tests.kit.builders import chunk
from tests.kit.journals import claim
from towline.actors import service
from towline.actors.config import LeaderConfig
from towline.actors.service import LeaderService
from towline.engine import model
from towline.engine.errors import FencedError
from towline.stores import locate
from towline.stores.objects.memory import MemoryObjects
from towline.stores.objects.wrappers import Counting
from towline.stores.store import ENDPOINT, Store

Start = Callable[..., Awaitable[LeaderService]]
NAME = "service-bucket"


@pytest.fixture
def bucket() -> Any:
    """The objects behind memory:service-bucket."""
    made = locate._memories[NAME] = Counting(MemoryObjects(appendable=False, name=f"memory:{NAME}"))  # type: ignore[assignment]  # wrapped
    yield made
    del locate._memories[NAME]


@pytest.fixture
async def start(bucket: Any, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Start]:
    """Starts services; each is closed in the end. They look around at every turn, and say themselves as often as they like."""
    monkeypatch.setattr(service, "CHECK_S", 0.0)
    monkeypatch.setattr(service, "LOOKS", 1e9)
    made: list[LeaderService] = []

    async def one(**options: Any) -> LeaderService:
        new = LeaderService(await Store.open(f"memory:{NAME}", create=True), LeaderConfig(**options))
        made.append(new)
        await new.start(takeover=False)
        return new

    yield one
    for old in made:
        await old.close()


async def until(true: Callable[[], Any]) -> None:
    """Let the loop turn until it holds; the test's own time limit ends it."""
    while not true():
        await asyncio.sleep(0)


async def test_an_idle_leader_finds_out_that_it_was_replaced(start: Start, bucket: Any) -> None:
    leader = await start()
    await claim(bucket, "B")
    await leader.performer.finished.wait()
    assert isinstance(leader.performer.failure, FencedError)


async def test_a_leader_that_commits_need_not_look(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    leader = await start()
    assert leader._writer is not None
    rounds = looks = 0
    busy = True

    async def said() -> None:
        nonlocal rounds
        rounds += 1
        leader.performer.commits += busy  # as if one went through before the next round

    async def checked() -> None:
        nonlocal looks
        looks += 1

    monkeypatch.setattr(leader, "_publish", said)
    monkeypatch.setattr(leader._writer, "check", checked)
    await until(lambda: rounds == 2)
    looks = 0
    await until(lambda: rounds == 20)
    assert looks == 0
    busy = False
    await until(lambda: looks == 3)


async def test_small_segments_are_put_together_after_so_many(start: Start, bucket: Any) -> None:
    leader = await start(snapshot_segments=5, snapshot_bytes=0)
    parts: list[str] = []
    number = 0
    while not parts:
        await leader.ask("submit", model.encode(chunk(1, flow=f"flow-{number}", first=10 * number)))
        number += 1
        parts = [meta.key async for meta in bucket.list("parts/")]
    assert number >= 3
    await until(lambda: leader.core.ledger.snapshot is not None)
    await leader.performer.barrier()
    again = await Store.open(f"memory:{NAME}")
    assert [meta.key async for meta in again.objects.list("snapshots/")]


async def test_a_new_leader_counts_the_segments_that_it_finds(start: Start, bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "SAY_S", 0.0)
    for number in range(3):
        leader = await start(snapshot_segments=0)
        await leader.ask("submit", model.encode(chunk(1, flow=f"flow-{number}", first=10 * number)))
        assert not leader._wants_snapshot()
        await leader.close()
    leader = await start(snapshot_segments=8, snapshot_bytes=0)
    await until(lambda: leader.core.ledger.snapshot is not None)


async def test_the_word_of_where_it_listens_is_not_taken_back_at_once(
    start: Start, bucket: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "SAY_S", 0.05)
    leader = await start()
    await leader.close()
    assert bucket.tally.writes[ENDPOINT] == 2
    assert bucket.tally.gaps_s[ENDPOINT] >= 0.04
    assert await bucket.get(ENDPOINT) == b""


async def test_the_window_never_costs_a_leader_its_authority(start: Start) -> None:
    leader = await start(commit_delay_ms=60_000.0, lease_s=6.0, touch_s=1.0)
    leader.performer.window.took(0.0, 100.0)
    assert leader.performer.window.length_s == 0.5

"""What a leader answers those who wait for many jobs, stop some, or look for an outcome to reuse: only what is committed (R5)."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.actors.test_service import FakeLink, hello
from tests.kit.builders import chunk, plain, uuid_of
from towline.actors.config import LeaderConfig
from towline.actors.service import LeaderService
from towline.engine import model
from towline.engine.errors import UsageError
from towline.engine.ids import pack_uuid
from towline.stores.store import Store


@pytest.fixture
async def leader(store_dir: Path) -> AsyncIterator[LeaderService]:
    service = LeaderService(await Store.open(str(store_dir), create=True), LeaderConfig())
    try:
        await service.start(takeover=False)
        yield service
    finally:
        await service.close(0.0)


async def leased(leader: LeaderService, jobs: int) -> tuple[FakeLink, model.Lease]:
    link = FakeLink()
    leader.on_frame(link, hello(os.getpid()))
    await link.get(model.Welcome)
    await leader.ask("submit", model.encode(chunk(jobs)))
    return link, await link.get(model.Lease)


async def news_of(leader: LeaderService, after: int, timeout_s: float = 30.0) -> dict[str, Any]:
    said: dict[str, Any] = await leader.ask("outcomes", {"after": after, "timeout_s": timeout_s})
    return said


async def test_outcomes_are_told_by_the_commit_that_makes_them_true(
    leader: LeaderService, monkeypatch: pytest.MonkeyPatch
) -> None:
    link, lease = await leased(leader, 1)
    after = (await news_of(leader, -1))["next"]
    assert (await news_of(leader, after, 0.0))["ended"] == []
    writer = leader._writer
    assert writer is not None
    gate, commit = asyncio.Event(), writer.commit

    async def held_back(payloads: Any) -> Any:
        await gate.wait()
        return await commit(payloads)

    monkeypatch.setattr(writer, "commit", held_back)
    asked = asyncio.ensure_future(news_of(leader, after))
    leader.on_frame(link, model.encode(model.Pull("w1", 1, lease.epoch, plain([(0, lease.jobs[0].counter)], [b"\x05"]))))
    for _ in range(20):
        await asyncio.sleep(0)
    assert leader.core.ledger.graph.state[0] == 6, "the core knows it"
    assert not asked.done()
    gate.set()
    said = await asked
    assert said["ended"] == [[pack_uuid(uuid_of(0)), 6, b"\x05", None]]
    assert (await news_of(leader, said["next"], 0.0)) == {"next": said["next"], "ended": [], "look": False}
    assert (await news_of(leader, after))["ended"] == said["ended"], "whoever asks again hears it again"


async def test_who_waits_hears_that_the_leader_has_closed(leader: LeaderService) -> None:
    after = (await news_of(leader, -1))["next"]
    asked = asyncio.ensure_future(news_of(leader, after))
    await asyncio.sleep(0)
    await leader.close()
    with pytest.raises(UsageError, match="has closed"):
        await asked


async def test_jobs_are_stopped_by_their_uuids(leader: LeaderService) -> None:
    await leader.ask("submit", model.encode(chunk(3)))
    after = (await news_of(leader, -1))["next"]
    said = await leader.ask("stop", {"uuids": [uuid_of(2), "nobody", uuid_of(0)]})
    assert sorted(said["stopped"]) == sorted([uuid_of(0), uuid_of(2)])
    assert (await leader.ask("stop", {"uuids": [uuid_of(0)]})) == {"stopped": []}
    assert sorted(told[0] for told in (await news_of(leader, after))["ended"]) == [pack_uuid(uuid_of(n)) for n in (0, 2)]
    assert await leader.ask("states", {"uuids": [uuid_of(0), uuid_of(1)]}) == [["stopped", 1], ["ready", 1]]


async def test_a_filed_outcome_that_is_on_its_way_is_waited_for(leader: LeaderService) -> None:
    link, lease = await leased(leader, 1)
    cached = model.Cached(b"key", "f code:1")
    ending = model.Ending(0, lease.jobs[0].counter, b"\x05", cached=cached)
    leader.on_frame(link, model.encode(model.Pull("w1", 1, lease.epoch, endings=[ending])))
    assert leader.core.ledger.filed == {b"key": 0}
    seq = leader.core.ledger.graph.out_seq[0]
    assert leader._writer is not None
    assert leader._writer.next_seq <= seq, "it is not committed yet"
    assert await leader.ask("filed", {"key": b"key"}) == {"row": 0, "output": b"\x05"}
    assert leader._writer.next_seq > seq
    assert await leader.ask("filed", {"key": b"other"}) is None

"""The pool keeps so many workers alive, and starts no more than that. Ray is a fake: actors are names, calls are futures."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import ray

from towline.actors import pool
from towline.actors.config import LeaderConfig
from towline.actors.pool import Pool


class FakeWorker:
    """An actor and the call `run` on it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.run = self
        self.ref: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.killed = False

    def remote(self) -> asyncio.Future[None]:
        return self.ref

    def die(self) -> None:
        self.ref.set_exception(ray.exceptions.ActorDiedError())


class FakeKind:
    """The actor class."""

    def __init__(self) -> None:
        self.workers: list[FakeWorker] = []
        self.name = ""

    def options(self, *, name: str, lifetime: str, namespace: str, **_options: Any) -> FakeKind:
        assert (lifetime, namespace) == ("detached", "towline")
        self.name = name
        return self

    def remote(self, *_args: Any) -> FakeWorker:
        self.workers.append(FakeWorker(self.name))
        return self.workers[-1]


class Rig:
    """A pool for two workers, and what it has of Ray."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.kind = FakeKind()
        self.named: dict[str, FakeWorker] = {}
        self.joined: set[str] = set()
        monkeypatch.setattr(pool, "RayWorker", self.kind)
        monkeypatch.setattr(pool, "SOONEST_S", 0.001)
        monkeypatch.setattr(pool.ray, "kill", lambda actor, no_restart: setattr(actor, "killed", no_restart))
        monkeypatch.setattr(pool.ray, "get_actor", self._get)
        monkeypatch.setattr(pool.ray.util, "list_named_actors", self._list)
        self.pool = Pool(None, "led", "store", 2, LeaderConfig(), [], "", lambda: set(self.joined))

    def _list(self, all_namespaces: bool) -> list[dict[str, str]]:
        assert all_namespaces
        return [{"name": name, "namespace": "towline"} for name in self.named] + [
            {"name": "towline-worker-led-x", "namespace": "another user's"}
        ]

    def _get(self, name: str, namespace: str) -> FakeWorker:
        worker = self.named[name]
        if worker.ref.done():
            raise ValueError(f"no actor named {name}")
        return worker

    def alive(self) -> list[FakeWorker]:
        return [worker for worker in self.kind.workers if not worker.ref.done()]

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(30):
            while not condition():
                await asyncio.sleep(0.001)

    async def settle(self) -> None:
        for _ in range(20):
            await asyncio.sleep(0)

    def join(self) -> None:
        self.joined |= {worker.name.rsplit("-", 1)[1] for worker in self.alive()}
        self.pool.changed()


@pytest.fixture
async def rig(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Rig]:
    made = Rig(monkeypatch)
    yield made
    await made.pool.close()
    assert not made.pool._watchers
    assert made.pool._task is None or made.pool._task.done()


async def test_as_many_as_there_shall_be_and_no_more(rig: Rig) -> None:
    rig.pool.start()
    await rig.until(lambda: len(rig.alive()) == 2)
    rig.join()
    for _ in range(3):
        rig.pool.changed()
        await rig.settle()
    assert len(rig.kind.workers) == 2
    assert len({worker.name for worker in rig.kind.workers}) == 2


async def test_one_that_dies_is_replaced(rig: Rig) -> None:
    rig.pool.start()
    await rig.until(lambda: len(rig.alive()) == 2)
    rig.join()
    await rig.settle()
    victim = rig.alive()[0]
    victim.die()
    rig.joined.discard(victim.name.rsplit("-", 1)[1])
    rig.pool.changed()
    await rig.until(lambda: len(rig.kind.workers) == 3)
    assert len(rig.alive()) == 2


async def test_those_that_die_before_they_join_are_replaced_ever_more_slowly(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.pool.start()
    await rig.until(lambda: len(rig.alive()) == 2)
    for n in range(5):
        rig.alive()[0].die()
        await rig.until(lambda n=n: len(rig.kind.workers) == 3 + n)
    assert rig.pool._failures == 5
    rig.join()
    await rig.until(lambda: rig.pool._failures == 0)


async def test_one_that_never_joins_does_not_count_for_ever(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.pool.start()
    await rig.until(lambda: len(rig.alive()) == 2)
    rig.pool.changed()
    await rig.settle()
    assert len(rig.alive()) == 2, "they may still come"
    monkeypatch.setattr(pool, "LATE_S", -1.0)
    rig.pool.changed()
    await rig.until(lambda: len(rig.alive()) == 4)


async def test_those_that_are_there_already_are_taken_on(rig: Rig) -> None:
    for name in ("towline-worker-led-old", "towline-worker-led-ended", "towline-worker-other-x", "somebody else's"):
        rig.named[name] = FakeWorker(name)
    rig.named["towline-worker-led-ended"].die()
    old = rig.named["towline-worker-led-old"]
    rig.pool.start()
    await rig.until(lambda: len(rig.kind.workers) == 1)
    rig.join()
    rig.joined.add("old")
    rig.pool.changed()
    await rig.settle()
    assert len(rig.kind.workers) == 1
    await rig.pool.close()
    assert old.killed
    assert rig.kind.workers[0].killed
    assert not rig.named["towline-worker-other-x"].killed


async def test_close_ends_them_and_starts_none(rig: Rig) -> None:
    rig.pool.start()
    await rig.until(lambda: len(rig.alive()) == 2)
    await rig.pool.close()
    assert all(worker.killed for worker in rig.kind.workers)
    rig.pool.changed()
    await rig.settle()
    assert len(rig.kind.workers) == 2
    await rig.pool.close()


async def test_close_before_start(rig: Rig) -> None:
    await rig.pool.close()
    assert rig.kind.workers == []

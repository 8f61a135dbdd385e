"""The leader as a Ray actor: `LeaderService` with a pool of Ray workers. Ray restarts it; it then claims its store again."""

from __future__ import annotations

import asyncio
import contextlib
import os
import uuid
from typing import Any

import ray

from towline.actors.config import LeaderConfig
from towline.actors.endpoint import Endpoint
from towline.actors.identity import host_id, start_time
from towline.actors.pool import Pool
from towline.actors.service import LeaderService
from towline.engine.errors import TowlineError
from towline.stores.store import Store

GATHER_S = 0.2
"""A restarted leader waits this long for the calls that Ray repeats, to begin with the first of them."""

TURN_S = 60.0
"""Longest wait for a call that should have come before."""

LINGER_S = 30.0
"""How long a failed leader still answers its driver."""


class Plan:
    """What a leader is started with; goes to the actor by value."""

    def __init__(
        self, store_url: str, *, create: bool, takeover: bool, workers: int, config: LeaderConfig, name: str, address: str,
        sys_path: list[str], cwd: str, detached: bool,
    ) -> None:  # fmt: skip
        self.leader = uuid.uuid4().hex  # the same for all incarnations
        self.store_url, self.create, self.takeover, self.workers = store_url, create, takeover, workers
        self.config, self.name, self.address = config, name, address
        self.sys_path, self.cwd, self.detached = sys_path, cwd, detached
        self.driver = (host_id(), os.getpid(), start_time(os.getpid()))


class Turns:
    """Lets numbered callers go one after the other. `first` None: it goes by the lowest of those that come at the beginning."""

    def __init__(self, first: int | None) -> None:
        self._next = first
        self._lowest: int | None = None
        self._waiting: dict[int, asyncio.Event] = {}

    async def wait(self, number: int) -> None:
        """Until it is this number's turn, or nobody has come for the turns before it for TURN_S."""
        if self._next is None:
            self._lowest = number if self._lowest is None else min(number, self._lowest)
            await asyncio.sleep(GATHER_S)
            if self._next is None:
                self._next = self._lowest
        if number > self._next:
            event = self._waiting.setdefault(number, asyncio.Event())
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(event.wait(), TURN_S)

    def done(self, number: int) -> None:
        """This one has begun, or never will."""
        self._next = max(self._next or 0, number + 1)
        for turn in [turn for turn in self._waiting if turn <= self._next]:
            self._waiting.pop(turn).set()


@ray.remote
class RayLeader:
    """One run's leader. `start` must be the first call of a new one; a restarted one starts by itself."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._service: LeaderService | None = None
        self._pool: Pool | None = None
        self._ending: asyncio.Task[None] | None = None
        self._starting = asyncio.Lock()
        self._closing = False
        self._turns: dict[str, Turns] = {}
        self._restarted = ray.get_runtime_context().was_current_actor_reconstructed

    async def start(self) -> Endpoint:
        """Claim the store, restore, listen, start workers.

        Raises:
            StoreMissing, StoreForeign, StoreNewer, StoreLocked: one sentence each.
        """
        async with self._starting:
            if self._service is None:
                self._service = await self._lead()
        assert self._service.endpoint is not None
        return self._service.endpoint

    async def _lead(self) -> LeaderService:
        plan = self._plan
        store = await Store.open(plan.store_url, create=plan.create and not self._restarted)
        service = LeaderService(
            store, plan.config, on_roster=self._roster_changed, asks_may_repeat=self._restarted, name=plan.leader
        )
        try:
            # The incarnation that Ray restarted is dead by Ray's word, and the fence makes that safe (P4). But if somebody
            # else took the store from it, a restart is no reason to take it back.
            again = plan.leader if self._restarted else ""
            await service.start(
                takeover=plan.takeover and not again, actor=plan.name, address=plan.address, successor_of=again,
                driver=self._driver(),
            )  # fmt: skip
        except BaseException:
            await service.drop()
            raise
        self._pool = Pool(
            ray.get_runtime_context().current_actor, plan.leader, plan.store_url, plan.workers, plan.config, plan.sys_path,
            plan.cwd, lambda: set(service.core.sessions),
        )  # fmt: skip
        self._pool.start()
        self._ending = asyncio.get_running_loop().create_task(self._end_by_itself(service), name="towline-end")
        return service

    def _driver(self) -> tuple[int, float]:
        """The process that this leader ends with: none if it is detached, or if the driver is on another machine."""
        host, pid, started = self._plan.driver
        return (0, 0.0) if self._plan.detached or host != host_id() else (pid, started)

    async def _end_by_itself(self, service: LeaderService) -> None:
        """A leader that was fenced, whose store failed or whom somebody but its driver has closed stops its workers and exits
        (P4, R5); so does a detached one that has had nothing to run for a while: nobody else would ever end it."""
        performer, config = service.performer, self._plan.config
        while self._plan.detached and config.exit_when_idle_s and not performer.finished.is_set():
            with contextlib.suppress(TowlineError):  # it failed, and `finished` is set
                if await performer.idle(3600.0):
                    await asyncio.sleep(config.exit_when_idle_s)
                    if service.core.idle():
                        await self.close()
                        self._exit()
        await performer.finished.wait()
        if not self._closing:
            assert self._pool is not None
            await self._pool.close()
            await service.drop()
            await asyncio.sleep(LINGER_S)  # its driver may still ask why
            self._exit()

    @staticmethod
    def _exit() -> None:
        """End this process for good. Ray's exit_actor works inside of calls only."""
        ray.kill(ray.get_runtime_context().current_actor, no_restart=True)

    def _roster_changed(self) -> None:
        if self._pool is not None:
            self._pool.changed()

    async def endpoint(self) -> Endpoint | None:
        """Where this leader listens, or None while it cannot lead (workers ask again). Starts a restarted one."""
        if self._closing:
            return None
        if self._service is None and self._restarted:
            await self.start()
        return self._service.endpoint if self._service is not None else None

    async def ask(self, verb: str, payload: Any = None) -> Any:
        """The verbs of `LeaderService.ask`."""
        if self._service is None:
            await self.start()
        assert self._service is not None
        if verb == "close":
            return await self.close()
        return await self._service.ask(verb, payload)

    async def ask_in_turn(self, client: str, number: int, verb: str, payload: Any = None) -> Any:
        """`ask`, begun in the order of a client's numbers (0, 1, ...), however the calls arrive."""
        if client not in self._turns:
            # a restarted leader goes on with what Ray repeats: what came before was the old one's
            self._turns[client] = Turns(None if self._restarted else 0)
        turns = self._turns[client]
        await turns.wait(number)
        try:
            await self.start()
            asking = asyncio.ensure_future(self.ask(verb, payload))
            await asyncio.sleep(0)  # it has begun: the event is fed
        finally:
            turns.done(number)
        return await asking

    async def close(self) -> None:
        """A clean end: workers stopped, Closed recorded, sockets gone. Idempotent."""
        self._closing = True
        if self._service is not None:
            await self._service.close()
        if self._pool is not None:
            await self._pool.close()

    async def failure(self) -> str:
        """Why this leader is over, or an empty text."""
        if self._service is None or not self._service.performer.finished.is_set():
            return ""
        error = self._service.performer.failure
        return str(error) if error is not None else f"the leader of {self._plan.store_url} was closed; resume goes on"

"""Starts a run's workers as Ray actors, and new ones for those that die. Knows how many there shall be, not what they do.

Workers are detached and named, so that a leader that Ray restarts finds the old ones still running (they join it again);
only what is missing a moment later is started anew.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import ray

from towline.actors.clock import boottime
from towline.actors.config import LeaderConfig
from towline.actors.ray_worker import RayWorker

LATE_S = 60.0
"""A worker that has not joined after this long does not count any more."""

SETTLE_S = 2.0
"""A restored leader gives the workers of its roster this long to join before it starts others."""

SOONEST_S = 0.2
"""Pause before a worker is replaced; doubles with each one that died without having joined, up to 30 s."""


def name_of(worker: str) -> str:
    """A worker's name in Ray."""
    return f"towline-worker-{worker}"


class Pool:
    """Keeps `target` workers alive."""

    def __init__(
        self, leader: Any, store_url: str, target: int, config: LeaderConfig, sys_path: list[str], cwd: str,
        joined: Callable[[], set[str]],
    ) -> None:  # fmt: skip
        self._leader = leader
        self._store_url = store_url
        self._target = target
        self._config = config
        self._sys_path = sys_path
        self._cwd = cwd
        self._joined = joined
        self._starting: dict[str, float] = {}
        """Worker to the boot time at which it was started, until it joins."""
        self._handles: dict[str, Any] = {}
        self._failures = 0
        self._closed = False
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._watchers: set[asyncio.Task[None]] = set()

    def start(self, expected: int) -> None:
        """Begin; `expected` workers of an earlier leader may join by themselves."""
        self._task = asyncio.get_running_loop().create_task(self._keep(expected), name="towline-pool")

    def changed(self) -> None:
        """Somebody joined or left."""
        self._news.set()

    async def _keep(self, expected: int) -> None:
        settled = boottime() + SETTLE_S
        while expected and len(self._joined()) < min(expected, self._target) and (left := settled - boottime()) > 0:
            self._news.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), left)
        while not self._closed:
            joined = self._joined()
            for worker, since in list(self._starting.items()):
                if worker in joined:
                    del self._starting[worker]
                    self._failures = 0
                elif boottime() - since > LATE_S:
                    del self._starting[worker]
            for _ in range(self._target - len(joined | self._starting.keys())):
                self._launch()
            self._news.clear()
            try:
                await asyncio.wait_for(self._news.wait(), 1.0)
            except TimeoutError:
                continue
            if self._failures:
                await asyncio.sleep(min(30.0, SOONEST_S * 2 ** min(self._failures, 10)))

    def _launch(self) -> None:
        worker = uuid.uuid4().hex
        self._starting[worker] = boottime()
        actor = RayWorker.options(  # type: ignore[attr-defined]  # added by ray.remote
            name=name_of(worker), lifetime="detached", num_cpus=1, max_restarts=0, get_if_exists=False
        ).remote(worker, self._leader, self._store_url, self._config, self._sys_path, self._cwd)
        self._handles[worker] = actor
        watcher = asyncio.get_running_loop().create_task(self._watch(worker, actor.run.remote()))
        self._watchers.add(watcher)
        watcher.add_done_callback(self._watchers.discard)

    async def _watch(self, worker: str, ref: Any) -> None:
        try:
            await ref
        except ray.exceptions.RayError:
            if worker in self._starting:
                self._failures += 1
        self._starting.pop(worker, None)
        self._handles.pop(worker, None)
        self._news.set()

    async def close(self) -> None:
        """Start no more, and end those that have not ended by themselves."""
        self._closed = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        for actor in self._handles.values():
            ray.kill(actor, no_restart=True)
        for worker in self._joined() - self._handles.keys():  # an earlier incarnation of this leader started it
            with suppress(ValueError):  # it has ended
                ray.kill(ray.get_actor(name_of(worker)), no_restart=True)
        for watcher in list(self._watchers):
            watcher.cancel()
        await asyncio.gather(*self._watchers, return_exceptions=True)

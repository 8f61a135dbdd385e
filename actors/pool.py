"""Starts a run's workers as Ray actors, and new ones for those that die. Knows how many there shall be, not what they do.

Workers are detached and named after their leader, so that a leader that Ray restarts finds the old ones: those that run join
it again, and those that its predecessor had only just made are told to run (a call dies with its caller). Only what is missing
then is started anew.
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

SOONEST_S = 0.2
"""Pause before a worker is replaced; doubles with each one that died without having joined, up to 30 s."""


NAMESPACE = "towline"
"""Of all named actors, whatever namespace the driver is in."""


def prefix_of(leader: str) -> str:
    """How the names of a leader's workers begin; `leader` is the same for all its incarnations."""
    return f"towline-worker-{leader}-"


def launch(prefix: str, leader: Any, store_url: str, config: LeaderConfig, sys_path: list[str], cwd: str) -> tuple[str, Any]:
    """Start one worker; its name and its actor. It joins as soon as the leader says where it listens."""
    worker = uuid.uuid4().hex
    actor = RayWorker.options(  # type: ignore[attr-defined]  # added by ray.remote
        name=prefix + worker, namespace=NAMESPACE, lifetime="detached", num_cpus=1, max_restarts=0
    ).remote(worker, leader, store_url, config, sys_path, cwd)
    return worker, actor


class Pool:
    """Keeps `target` workers alive."""

    def __init__(
        self, leader: Any, name: str, store_url: str, target: int, config: LeaderConfig, sys_path: list[str], cwd: str,
        joined: Callable[[], set[str]],
    ) -> None:  # fmt: skip
        """`name` is the leader's, the same for all its incarnations; `joined` tells who has a session."""
        self._prefix = prefix_of(name)
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

    def start(self) -> None:
        """Begin with the workers that are there: the driver's first ones, or what an earlier incarnation has left."""
        self._task = asyncio.get_running_loop().create_task(self._keep(), name="towline-pool")

    def changed(self) -> None:
        """Somebody joined or left."""
        self._news.set()

    async def _keep(self) -> None:
        for worker, actor in await asyncio.to_thread(self._left_over):
            self._take(worker, actor)
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

    def _left_over(self) -> list[tuple[str, Any]]:
        """Name and actor of the workers that are there already. Blocking."""
        found = []
        for entry in ray.util.list_named_actors(all_namespaces=True):
            if entry["namespace"] == NAMESPACE and entry["name"].startswith(self._prefix):
                with suppress(ValueError):  # it has ended meanwhile
                    found.append((entry["name"].removeprefix(self._prefix), ray.get_actor(entry["name"], namespace=NAMESPACE)))
        return found

    def _launch(self) -> None:
        self._take(*launch(self._prefix, self._leader, self._store_url, self._config, self._sys_path, self._cwd))

    def _take(self, worker: str, actor: Any) -> None:
        """Let it run (one that runs already does so once), and hear of its end."""
        self._starting[worker] = boottime()
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
        for watcher in list(self._watchers):
            watcher.cancel()
        await asyncio.gather(*self._watchers, return_exceptions=True)

"""A worker as a Ray actor: one process, one thread for jobs, one for the line to the leader, a supervisor beside it."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import msgspec
import ray

from towline.actors.capture import FileCapture
from towline.actors.config import LeaderConfig
from towline.actors.endpoint import Endpoint
from towline.actors.identity import host_id, start_time
from towline.actors.leasefile import LeaseFile
from towline.actors.runner import make_runner
from towline.actors.stream import Stream, StreamClosed
from towline.actors.supervisor import MARK, Orders
from towline.actors.worker import Worker
from towline.engine.worker import Identity

ENDPOINT_S = 10.0
"""Longest wait for Ray to say where the leader listens."""


class SupervisorGuard:
    """The supervisor process, seen from its worker."""

    touches = True

    def __init__(self, worker: str, touch_s: float) -> None:
        self._lease = LeaseFile()
        self._orders = Orders(worker, os.getpid(), start_time(os.getpid()), self._lease.path, touch_s=touch_s)
        env = {k: v for k, v in os.environ.items() if k != MARK}  # the mark is what the supervisor kills by
        self._process = subprocess.Popen(
            [sys.executable, "-m", "towline.actors.supervisor"], stdin=subprocess.PIPE, start_new_session=True, env=env
        )
        self.pid = self._process.pid
        self.started = start_time(self.pid)
        self._told = False

    def point_at(self, endpoint: Endpoint) -> None:
        """Tell the supervisor where the leader listens now."""
        self._orders = msgspec.structs.replace(self._orders, socket=endpoint.socket, token=endpoint.token)
        assert self._process.stdin is not None
        self._process.stdin.write(msgspec.json.encode(self._orders) + b"\n")
        self._process.stdin.flush()

    def deadline(self) -> float:
        return self._lease.deadline

    def extend(self, deadline: float) -> None:
        self._lease.extend(deadline)

    def obey(self, epoch: int) -> None:
        self._lease.obey(epoch)

    def is_up(self) -> bool:
        return self._process.poll() is None


@ray.remote
class RayWorker:
    """Stateless: whatever it knows came with a lease."""

    def __init__(
        self, worker: str, leader: Any, store_url: str, config: LeaderConfig, sys_path: list[str], cwd: str
    ) -> None:
        os.environ[MARK] = worker
        sys.path.extend(entry for entry in sys_path if entry not in sys.path)
        if cwd and os.path.isdir(cwd):  # noqa: PTH112 - a string that came over the wire
            os.chdir(cwd)
        self._leader = leader
        self._endpoint: Endpoint | None = None
        self._guard = SupervisorGuard(worker, config.touch_s)
        host = host_id()
        identity = Identity(
            worker, host.host, host.boot_id, host.pid_namespace, os.getpid(), start_time(os.getpid()), self._guard.pid,
            self._guard.started,
        )  # fmt: skip
        self._worker = Worker(
            identity,
            self._connect,
            lambda owner: make_runner(owner, store_url, config.allow_pickle),
            self._guard,
            FileCapture(),
            self._die,
        )

    def _connect(self) -> Stream | None:
        """A stream to whoever leads now, or None: try again soon."""
        try:
            endpoint: Endpoint | None = ray.get(self._leader.endpoint.remote(), timeout=ENDPOINT_S)
        except (ray.exceptions.RayError, TimeoutError):
            return None
        if endpoint is None:
            return None
        if endpoint != self._endpoint:
            self._guard.point_at(endpoint)
            self._endpoint = endpoint
        try:
            return Stream(endpoint.socket, endpoint.token)
        except StreamClosed:
            return None

    def run(self) -> None:
        """Run jobs until the leader says stop; then leave the roster and end the process."""
        self._worker.start()
        self._worker.run()
        self._worker.say_goodbye("stopped")
        self._worker.stop()
        ray.actor.exit_actor()  # type: ignore[no-untyped-call]  # Ray's own

    @staticmethod
    def _die(why: str) -> None:
        """At once, whatever runs: the supervisor ends what it started."""
        os._exit(70)

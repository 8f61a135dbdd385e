"""A worker as a Ray actor: one process, one thread for jobs, one for the line to the leader, a supervisor beside it."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import msgspec
import ray

from towline.actors.capture import FileCapture
from towline.actors.clock import boottime
from towline.actors.config import LeaderConfig
from towline.actors.endpoint import Endpoint
from towline.actors.identity import host_id, open_pidfd, start_time
from towline.actors.leasefile import LeaseFile
from towline.actors.runner import make_runner
from towline.actors.stream import Stream, StreamClosed
from towline.actors.supervisor import MARK, Orders, kill_marked
from towline.actors.worker import Worker
from towline.engine.model import Identity

ENDPOINT_S = 10.0
"""Longest wait for Ray to say where the leader listens."""


WELCOME_S = 120.0
"""A worker that no leader has welcomed after so long ends: its leader is gone, and no lease will ever end it."""

DETACH = 'exec 3<&0; "$@" <&3 3<&- & echo $!'
"""Shell: start a command that is nobody's child and say its pid. A worker that ends kills its own children (Ray sees to it), and
the supervisor has yet to kill what the worker started."""


class SupervisorGuard:
    """The supervisor process, seen from its worker."""

    touches = True

    def __init__(self, worker: str, touch_s: float) -> None:
        self._lease = LeaseFile(worker=worker)
        self._orders = Orders(worker, os.getpid(), start_time(os.getpid()), self._lease.fd, touch_s=touch_s)
        env = {k: v for k, v in os.environ.items() if k != MARK}  # the mark is what the supervisor kills by
        # the shell ends at once; what it started holds the read end of stdin, and must not hold that of stdout
        self._shell = subprocess.Popen(
            ["/bin/sh", "-c", DETACH, "sh", sys.executable, "-m", "towline.actors.supervisor"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True, env=env, pass_fds=[self._lease.fd],
        )  # fmt: skip
        assert self._shell.stdout is not None
        self.pid = int(self._shell.stdout.readline())
        self._shell.wait()
        self._lease.hide()
        self.started = start_time(self.pid)
        self._pidfd = open_pidfd(self.pid, self.started)
        self._tell()

    def watch(self, die: Callable[[str], None]) -> None:
        """See to it, in a thread, that the worker does not outlive its supervisor nor, should that one be frozen, its lease."""
        threading.Thread(target=self._watch, args=(die,), name="towline-guard", daemon=True).start()

    def _watch(self, die: Callable[[str], None]) -> None:
        unwanted_at = boottime() + WELCOME_S
        while self.is_up(wait_s=min(1.0, max(0.01, (self._lease.deadline or unwanted_at) - boottime()))):
            if boottime() >= (self._lease.deadline or unwanted_at):
                die("its lease has ended, or it was never given one")
        die("its supervisor is gone")

    def point_at(self, endpoint: Endpoint) -> None:
        """Tell the supervisor where the leader listens now."""
        self._orders = msgspec.structs.replace(self._orders, socket=endpoint.socket, token=endpoint.token)
        self._tell()

    def _tell(self) -> None:
        """Its first orders come at once: it guards the worker before there is a leader, too."""
        assert self._shell.stdin is not None
        with suppress(OSError):  # it is gone; `is_up` says so
            self._shell.stdin.write(msgspec.json.encode(self._orders) + b"\n")
            self._shell.stdin.flush()

    def deadline(self) -> float:
        return self._lease.deadline

    def extend(self, deadline: float) -> None:
        self._lease.extend(deadline)

    def obey(self, epoch: int, touch_s: float) -> None:
        self._lease.obey(epoch)
        if touch_s != self._orders.touch_s:
            self._orders = msgspec.structs.replace(self._orders, touch_s=touch_s)
            self._tell()

    def is_up(self, wait_s: float = 0.0) -> bool:
        """Is it there, and for `wait_s` more seconds?"""
        if self._pidfd is None:
            return False
        poll = select.poll()
        poll.register(self._pidfd, select.POLLIN)
        return not poll.poll(1000 * wait_s)


def _documents_of(config: LeaderConfig) -> Any:
    """The JobStore of the run, connected, if it has one."""
    if not config.documents:
        return None
    import cloudpickle

    documents = cloudpickle.loads(config.documents)
    documents.connect()
    return documents


@ray.remote
class RayWorker:
    """Stateless: whatever it knows came with a lease."""

    def __init__(self, worker: str, leader: Any, store_url: str, config: LeaderConfig, sys_path: list[str], cwd: str) -> None:
        os.environ[MARK] = worker
        sys.path.extend(entry for entry in sys_path if entry not in sys.path)
        if cwd and os.path.isdir(cwd):  # noqa: PTH112 - a string that came over the wire
            os.chdir(cwd)
        self._leader = leader
        self._name = worker
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
            lambda owner: make_runner(owner, store_url, config.allow_pickle, _documents_of(config)),
            self._guard,
            FileCapture(),
            self._die,
        )
        self._guard.watch(self._die)

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
        try:
            self._worker.start()
            self._worker.run()
            self._worker.say_goodbye("stopped")
            self._worker.stop()
        except BaseException as error:  # a process that goes on without running jobs would keep those it holds
            self._die(f"{type(error).__name__}: {error}")
        ray.actor.exit_actor()

    def _die(self, why: str) -> None:
        """At once, whatever runs: the supervisor ends what it started. If that is gone, it is done here."""
        if not self._guard.is_up():
            kill_marked(self._name)
        os._exit(70)

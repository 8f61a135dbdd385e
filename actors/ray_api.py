"""What a driver needs of Ray: a cluster (its own or a given one), a leader actor on it, questions to that actor."""

from __future__ import annotations

import hashlib
import itertools
import logging
import os
import sys
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import Future, InvalidStateError
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import ray

from towline.actors.config import LeaderConfig
from towline.actors.leader import Plan, RayLeader
from towline.actors.pool import NAMESPACE, launch, prefix_of
from towline.actors.ray_life import RayLife
from towline.engine.errors import TowlineError, UsageError

START_S = 120.0
"""Longest wait for a leader to claim and restore a store (a large one on a slow disk)."""

OBJECT_STORE_BYTES = 256 << 20
"""Of an own local Ray."""


@contextmanager
def translated() -> Iterator[None]:
    """Ray's errors as ours, at this one border."""
    try:
        yield
    except ray.exceptions.RayTaskError as error:
        cause = error.cause
        if isinstance(cause, TowlineError):
            raise cause from None
        raise
    except ray.exceptions.GetTimeoutError as error:
        raise TimeoutError(str(error)) from None
    except (ray.exceptions.RayActorError, ray.exceptions.RaySystemError) as error:
        raise ConnectionError(f"the leader is gone: {error}") from None


class RayClient:
    """Asks a leader actor."""

    def __init__(self, leader: Any, life: RayLife) -> None:
        self._leader = leader
        self._name = uuid.uuid4().hex
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self._open: set[Future[Any]] = set()
        self._over = ""
        """Why nothing is answered any more, if so."""
        life.on_end(lambda: self.give_up("the leader is gone: the local Ray that it ran on has ended"))

    def begin(self, verb: str, payload: Any = None) -> Future[Any]:
        """Ask without waiting; what one client begins is taken in order (Ray alone does not keep it for large arguments).

        Raises ConnectionError once it is known that nobody answers.
        """
        self._refuse_if_over()
        return self.awaited(self._leader.ask_in_turn.remote(self._name, next(self._numbers), verb, payload))

    def ask(self, verb: str, payload: Any = None, timeout_s: float | None = None) -> Any:
        """Ask and wait. Raises TimeoutError, ConnectionError, or what the leader refuses with."""
        self._refuse_if_over()
        answer = self.awaited(self._leader.ask.remote(verb, payload))
        try:
            return answer.result(timeout_s)
        except TimeoutError:
            if answer.done():
                raise
            raise TimeoutError(f"the leader did not answer {verb!r} within {timeout_s} s") from None

    def awaited(self, ref: Any) -> Future[Any]:
        """What a call will come to: its answer, or the end of Ray."""
        made: Future[Any] = ref.future()
        done: Future[Any] = Future()
        with self._lock:
            over = self._over
            if not over:
                self._open.add(done)
        if over:
            done.set_exception(ConnectionError(over))
            return done
        done.add_done_callback(self._forget)

        def pass_on(future: Future[Any]) -> None:
            with suppress(InvalidStateError):  # cancelled, or given up
                try:
                    with translated():
                        answer = future.result()
                except BaseException as error:
                    done.set_exception(error)
                else:
                    done.set_result(answer)

        made.add_done_callback(pass_on)
        return done

    def _refuse_if_over(self) -> None:
        if self._over:
            raise ConnectionError(self._over)

    def _forget(self, done: Future[Any]) -> None:
        with self._lock:
            self._open.discard(done)

    def give_up(self, why: str) -> None:
        """Whoever waits for an answer, or asks from now on, gets a ConnectionError that says why. The first reason stays."""
        with self._lock:
            self._over = self._over or why
            waiting = list(self._open)
        for future in waiting:
            with suppress(InvalidStateError):
                future.set_exception(ConnectionError(self._over))


class StartedLeader:
    """A leader on Ray, and the local Ray that was started for it, if any."""

    def __init__(self, leader: Any, client: RayClient, *, own_ray: bool) -> None:
        self._leader = leader
        self._own_ray = own_ray
        self._closed = False
        self.client = client

    def close(self) -> None:
        """A clean end of the leader; an own local Ray goes too. Idempotent."""
        if self._closed:
            return
        self._closed = True
        try:
            self.client.awaited(self._leader.close.remote()).result(START_S)
        except (ConnectionError, TimeoutError):
            pass  # it is gone already: the store is as after a crash
        finally:
            self.client.give_up("the leader has closed")
            ray.kill(self._leader, no_restart=True)
            if self._own_ray:
                ray.shutdown()


def connect_ray(address: str | None, workers: int | None) -> bool:
    """Make sure of a Ray; True if it was started here and is ours to end."""
    if ray.is_initialized():
        return False  # the driver's own, with or without our namespace
    if address is None:
        ray.init(
            address="local",
            namespace=NAMESPACE,
            num_cpus=workers or len(os.sched_getaffinity(0)),
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            object_store_memory=OBJECT_STORE_BYTES,
            _node_ip_address="127.0.0.1",
        )
        _tighten_token()
        return True
    try:
        ray.init(address=address, namespace=NAMESPACE, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, ValueError) as error:
        raise UsageError(f"no Ray cluster answers at {address!r}: {error}") from None
    return True


def _tighten_token() -> None:
    """Ray writes its cluster token readable for everybody; it is a secret of this user's."""
    path = Path("~/.ray/auth_token").expanduser()
    if path.exists():
        path.chmod(0o600)


def start(
    store_url: str,
    *,
    workers: int | None = None,
    address: str | None = None,
    takeover: bool = False,
    create: bool = False,
    detached: bool = False,
    config: LeaderConfig | None = None,
) -> StartedLeader:
    """A leader for this store on Ray, with `workers` workers (None: one for each CPU of the cluster).

    Raises:
        UsageError: no cluster answers, or the store is missing, foreign, newer or locked.
    """
    own = connect_ray(address, workers)
    leader: Any = None
    first: list[Any] = []
    try:
        count = workers or max(1, int(ray.cluster_resources().get("CPU", 1)))
        name = "towline-leader-" + hashlib.blake2b(store_url.encode(), digest_size=8).hexdigest()
        plan = Plan(
            store_url, create=create, takeover=takeover, workers=count, config=config or LeaderConfig(), name=name,
            address=address or "", sys_path=[p for p in sys.path if p], cwd=str(Path.cwd()), detached=detached,
        )  # fmt: skip
        options: dict[str, Any] = {"lifetime": "detached"} if detached else {}
        leader = RayLeader.options(  # type: ignore[attr-defined]  # added by ray.remote
            name=name, namespace=NAMESPACE, num_cpus=0, max_restarts=-1, max_task_retries=-1, max_concurrency=1000, **options
        ).remote(plan)
        client = RayClient(leader, RayLife())
        for _ in range(count):
            # beside the leader, not after it: a process takes a second to start, and the leader finds them by name
            first.append(launch(prefix_of(plan.leader), leader, store_url, plan.config, plan.sys_path, plan.cwd)[1])
        client.awaited(leader.start.remote()).result(START_S)
    except BaseException as error:
        for actor in first:
            ray.kill(actor, no_restart=True)
        if leader is not None:
            ray.kill(leader, no_restart=True)  # a detached one would stay, and keep its name
        if own:
            ray.shutdown()
        if leader is None and isinstance(error, ValueError) and "already" in str(error):
            raise UsageError(f"a leader for {store_url} is already on this cluster: use connect() to follow it") from None
        raise
    return StartedLeader(leader, client, own_ray=own and not detached)

"""The baseline: the same work as bare Ray tasks, all submitted, one get. Nothing of it survives the process.

A job's inputs are the object references of the tasks above it, so that Ray orders them; only tasks that nothing waits for
are fetched, in one `ray.get`. This is the fastest plain use of Ray: no options, no retries beyond the default, results
small enough to travel with the answer.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from towline.benchmarks.peers.base import compare
from towline.benchmarks.shapes import Shape, level

WARM_TASKS = 200
"""Tasks that a Ray is warmed with, for each CPU: its worker processes are up and know the function."""

SETTLE_S = 60.0
"""Longest wait for what the measurement before had taken."""


@contextmanager
def local_ray(cpus: int) -> Iterator[None]:
    """A Ray of this size on this machine, started once: all peers that need one use it."""
    import ray

    ray.init(
        address="local", namespace="towline", num_cpus=cpus, include_dashboard=False, log_to_driver=False,
        logging_level=logging.ERROR, _node_ip_address="127.0.0.1",
    )  # fmt: skip
    try:
        yield
    finally:
        ray.shutdown()


class RayTasks:
    """Bare `ray.remote` tasks on the Ray that this process is connected to."""

    name = "Ray tasks"
    durability = "none"

    def __init__(self) -> None:
        import ray

        self._task = ray.remote(level)

    def settle(self) -> None:
        import ray

        until = time.monotonic() + SETTLE_S
        cpus = ray.cluster_resources().get("CPU", 1)
        while ray.available_resources().get("CPU", 0) < cpus:
            if time.monotonic() > until:
                raise TimeoutError(f"after {SETTLE_S:.0f} s something still holds CPUs of this Ray")
            time.sleep(0.05)
        ray.get([self._task.remote() for _ in range(WARM_TASKS * int(cpus))])

    def build(self, shape: Shape) -> list[int]:
        return shape.sinks()

    def run(self, shape: Shape, built: list[int]) -> tuple[list[Any], list[Any]]:
        import ray

        task = self._task
        refs: list[Any] = []
        for above in shape.inputs():
            refs.append(task.remote(*[refs[number] for number in above]))
        return refs, ray.get([refs[number] for number in built])

    def check(self, shape: Shape, built: list[int], ran: tuple[list[Any], list[Any]]) -> int:
        return compare(dict(zip(built, ran[1], strict=True)), shape.levels())

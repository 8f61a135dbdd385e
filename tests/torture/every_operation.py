"""A run of 200 jobs in a process that dies at one chosen point: before, inside or after an operation of its store.

On a local disk every system call is a point, and a write may be cut in the middle; over the memory store and a bucket each
verb is two points, before and after. Death is SIGKILL; the dying process saves the memory store as a disk would have kept it.
"""

from __future__ import annotations

import os
import pickle
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from towline import Flow, Response, job
from towline.actors import inprocess
from towline.actors.config import LeaderConfig
from towline.engine import codec
from towline.engine.flows import compile_flow
from towline.stores import files, locate, store
from towline.stores.errors import StoreMissing
from towline.stores.objects.local import LocalObjects
from towline.stores.objects.memory import MemoryObjects
from towline.stores.objects.syscalls import Os

JOBS = 200
LARGE = 40_000
"""Bytes of an output that is a file."""
GROWN = 3
"""Jobs that are added while the run goes on."""
NEVER = 1 << 60


class Point(NamedTuple):
    """Where a process dies."""

    number: int
    """Of the operation, from 0."""
    half: bool = False
    """In the middle of it, where it has one."""


class Mortal:
    """Counts points; kills this process at one of them."""

    last_words: Callable[[], None]
    """Called by the dying process."""

    def __init__(self, point: Point) -> None:
        self.point = point
        self.seen = 0

    def here(self) -> bool:
        """A point has come; dies here, unless it is to be in the middle: then True."""
        mine = self.seen == self.point.number
        self.seen += 1
        if mine and not self.point.half:
            self.die()
        return mine

    def die(self) -> None:
        self.last_words()
        os.kill(os.getpid(), signal.SIGKILL)


class MortalOs(Os):
    """The system calls of the local store, each of them a point."""

    def __init__(self, mortal: Mortal) -> None:
        self._mortal = mortal

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("_") or name not in vars(Os):
            return object.__getattribute__(self, name)
        mortal: Mortal = object.__getattribute__(self, "_mortal")
        call = object.__getattribute__(self, name)

        def act(*args: Any) -> Any:
            if mortal.here():
                if name == "write":
                    whole = b"".join(args[1])
                    os.write(args[0], whole[: len(whole) // 2])
                else:
                    call(*args)
                mortal.die()
            return call(*args)

        return act


VERBS = frozenset({"put", "get", "head", "delete_many", "upload", "copy", "sync"})


class MortalObjects:
    """Any place for bytes; before and after each verb there is a point."""

    def __init__(self, inner: Any, mortal: Mortal) -> None:
        self._inner = inner
        self._mortal = mortal

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._inner, name)
        if name not in VERBS:
            return call

        async def act(*args: Any, **options: Any) -> Any:
            middle = self._mortal.here()
            done = await call(*args, **options)
            if middle:
                self._mortal.die()
            return done

        return act


class Case(NamedTuple):
    """One life and its place."""

    folder: str
    """Where the store, the log and the results lie."""
    kind: str
    """`local`, `memory` or the URL of a bucket."""
    point: Point

    @property
    def url(self) -> str:
        match self.kind:
            case "local":
                return f"{self.folder}/store"
            case "memory":
                return "memory:every"
            case bucket:
                return f"{bucket}/{Path(self.folder).name}"

    @property
    def saved(self) -> Path:
        return Path(self.folder) / "memory"


@contextmanager
def mortal_store(case: Case) -> Iterator[Mortal]:
    """Every store that is opened in this process is a mortal one; they share one count."""
    mortal = Mortal(case.point)
    held = MemoryObjects(appendable=False, name=case.url)
    if case.saved.exists():
        held._held, held._generation = pickle.loads(case.saved.read_bytes())
    really = locate.open_objects

    def opened(place: Any, *rest: Any) -> Any:
        match case.kind:
            case "local":
                path = place.path if isinstance(place, locate.Place) else locate.parse(place).path
                return LocalObjects(path, calls=MortalOs(mortal))
            case "memory":
                return MortalObjects(held, mortal)
            case _:
                return MortalObjects(really(place, *rest), mortal)

    def save() -> None:
        if case.kind == "memory":
            case.saved.write_bytes(pickle.dumps((held._held, held._generation)))

    mortal.last_words = save
    before = [(module, module.open_objects) for module in (locate, store, files)]
    for module, _ in before:
        vars(module)["open_objects"] = opened
    try:
        yield mortal
    finally:
        for module, function in before:
            vars(module)["open_objects"] = function
        save()


def say(folder: str, uuid: str) -> None:
    """One body has begun."""
    fd = os.open(f"{folder}/log", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(fd, f"{uuid}\n".encode())
    os.close(fd)


def who() -> str:
    from towline import CURRENT_JOB

    return str(CURRENT_JOB.job.uuid)


@job
def step(folder: str, value: int, *parents: int) -> int:
    say(folder, who())
    return value + sum(parents)


@job
def large(folder: str, value: int) -> bytes:
    say(folder, who())
    return bytes([value]) * LARGE


@job
def measure(folder: str, data: bytes) -> int:
    say(folder, who())
    return len(data)


@job
def grow(folder: str) -> Any:
    say(folder, who())
    return Response(output=1, addition=Flow([step(folder, n) for n in range(GROWN)]))


def build(folder: str) -> Flow:
    """Chains, a fan-out and its fan-in, large values, and growth."""
    import uuid
    from random import Random

    jobs: list[Any] = [grow(folder)]
    for start in range(10):
        chain = [step(folder, start)]
        for _ in range(14):
            chain.append(step(folder, 1, chain[-1].output))
        jobs += chain
    for value in range(4):
        one = large(folder, value)
        jobs += [one, measure(folder, one.output)]
    wide = [step(folder, n) for n in range(JOBS - len(jobs) - 1)]
    jobs += [*wide, step(folder, 0, *(one.output for one in wide))]
    seeded = Random(1)
    for made in jobs:  # the same flow in every life: what the second one asks for must be what the first one gave
        made.set_uuid(str(uuid.UUID(int=seeded.getrandbits(128), version=4)))
    return Flow(jobs)


def live(case: Case, environment: dict[str, str]) -> None:
    """A whole life: make the store or go on with it, to the end, or to the point. Leaves what was found in `result`."""
    os.environ.update(environment)  # the process that is forked began with another one
    with mortal_store(case) as mortal:
        config = LeaderConfig(lease_s=5.0, touch_s=1.0)
        try:
            leader = inprocess.start(case.url, config=config)
        except StoreMissing:
            leader = inprocess.start(case.url, create=True, config=config)
        try:
            status = leader.client.ask("status")
            if not status["total"]:
                for chunk in compile_flow(build(case.folder)):
                    leader.client.ask("submit", chunk)
                (Path(case.folder) / "told").touch()
            leader.run_jobs_until_idle()
            status = leader.client.ask("status")
            last = [leader.client.ask("output", {"uuid": one}) for one in wanted(case.folder)]
        finally:
            leader.close()
    outputs = [codec.decode(data) for data in last]
    Path(case.folder, "result").write_bytes(pickle.dumps((status["counts"], status["total"], outputs, mortal.seen)))


def wanted(folder: str) -> list[str]:
    """The jobs whose outputs say whether all went well: the ends of the chains, and the fan-in."""
    jobs = build(folder).jobs
    return [jobs[15 * n].uuid for n in range(1, 11)] + [jobs[-1].uuid]

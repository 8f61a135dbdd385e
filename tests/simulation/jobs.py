"""Random flows and what their bodies do. A body's plan lies in its arguments; its value says which attempt computed it from what.

The value of a job is `[uuid, epoch, counter, digests of its inputs]`, so that two runs of one job never yield the same bytes, and
a child shows which of them it has seen.
"""

from __future__ import annotations

import hashlib
import random
from array import array

import msgspec

from towline.engine import model
from towline.engine.ids import NO_ROW
from towline.engine.states import EdgeKind, Missing, edge_byte

FUNCTION = model.Function("f0", "sim:body")


class Plan(msgspec.Struct, array_like=True, omit_defaults=True):
    """What a body does."""

    seconds: float
    fails: int = 0
    """Attempts (as users count them) that end with an error."""
    poison: str = ""
    """`worker`: kills its worker every time; `machine`: once it is suspected, also the machine of the leader."""
    growth: str = ""
    """addition, detour, replace or heir (a replacement that takes over the children)."""
    depth: int = 0
    """How often grown jobs may grow again."""
    file: bool = False
    """Does it write a file before it ends?"""
    stores: bool = False
    """Does it yield stored data (an Ending without growth)?"""


class Value(msgspec.Struct, array_like=True):
    """What a body yields."""

    uuid: str
    epoch: int
    counter: int
    inputs: list[bytes]
    file: str = ""


def digest(data: bytes) -> bytes:
    """Eight bytes that stand for a value."""
    return hashlib.blake2b(data, digest_size=8).digest()


class SimJob(msgspec.Struct):
    """A job before it is put into a chunk."""

    uuid: str
    plan: Plan
    parents: list[int] = []
    """Numbers within the submission."""
    edges: list[int] = []
    options: model.Options = model.Options()
    function: str = "f0"


def fresh_uuid(rng: random.Random) -> str:
    """A canonical uuid."""
    h = f"{rng.getrandbits(128):032x}"
    return f"{h[:8]}-{h[8:12]}-{h[12:16]}-{h[16:20]}-{h[20:]}"


def chunk_of(flow: str, base: int, total: int, jobs: list[SimJob]) -> model.Chunk:
    """Jobs `base`.. of a submission, as they travel."""
    specs: list[model.Spec] = []
    numbers: dict[bytes, int] = {}
    spec_of = array("I")
    for job in jobs:
        spec = model.Spec(job.function, job.function, job.options)
        key = model.encode(spec)
        if key not in numbers:
            numbers[key] = len(specs)
            specs.append(spec)
        spec_of.append(numbers[key])
    args, ends = b"", array("I")
    for job in jobs:
        args += msgspec.msgpack.encode(job.plan)
        ends.append(len(args))
    functions = [model.Function(name, f"sim:{name}") for name in dict.fromkeys(job.function for job in jobs)]
    return model.Chunk(
        flow=flow,
        base=base,
        count=len(jobs),
        total=total,
        uuids=b"".join(bytes.fromhex(job.uuid.replace("-", "")) for job in jobs),
        indices=b"",
        specs=specs,
        spec_of=spec_of.tobytes(),
        functions=functions,
        parent_counts=array("I", [len(job.parents) for job in jobs]).tobytes(),
        parents=array("I", [p for job in jobs for p in job.parents]).tobytes(),
        edges=bytes(e for job in jobs for e in job.edges),
        externals=[],
        name=flow,
        arg_ends=ends.tobytes(),
        args=args,
    )


def grown(kind: str, uuid: str, epoch: int, counter: int, depth: int) -> model.Growth:
    """What a body asks for; the new uuids are minted anew by every attempt, as real bodies do."""
    rng = random.Random(f"{uuid}.{epoch}.{counter}")
    count = rng.randint(1, 3)
    jobs = []
    for number in range(count):
        parents = [number - 1] if number and rng.random() < 0.6 else []
        again = rng.choice(("", "addition", "detour", "heir", "replace")) if depth and rng.random() < 0.4 else ""
        plan = Plan(rng.uniform(0.005, 0.3), growth=again, depth=depth - 1 if depth else 0)
        jobs.append(SimJob(fresh_uuid(rng), plan, parents, [0] * len(parents)))
    chunk = chunk_of(f"grown-by-{uuid}-{epoch}-{counter}", 0, count, jobs)
    match kind:
        case "addition":
            return model.Growth(addition=chunk)
        case "detour":
            return model.Growth(detour=chunk)
        case "replace":
            return model.Growth(replace=chunk)
        case "heir":
            return model.Growth(replace=chunk, heir=rng.randrange(count))
    raise AssertionError(kind)


class Shape(msgspec.Struct, frozen=True):
    """What a profile wants of its flows: shares are probabilities a job."""

    least: int = 5
    most: int = 25
    seconds: tuple[float, float] = (0.005, 0.4)
    long_share: float = 0.1
    long_s: tuple[float, float] = (1.0, 6.0)
    surprises: float = 0.0
    """Share of long jobs that look like short ones: the leader cannot know, and others are stuck behind them."""
    parents: float = 0.7
    fails: float = 0.08
    growth: float = 0.08
    poison: float = 0.0
    poison_kind: str = "worker"
    committed: float = 0.1
    files: float = 0.1
    stores: float = 0.05
    missing: float = 0.05
    priorities: float = 0.3
    chains: float = 0.3
    """Share of flows that are made of chains that fan out."""


def random_flow(rng: random.Random, shape: Shape) -> list[SimJob]:
    """A directed graph without cycles, parents before children."""
    count = rng.randint(shape.least, shape.most)
    chains = rng.random() < shape.chains
    jobs: list[SimJob] = []
    for number in range(count):
        parents: list[int] = []
        if number and rng.random() < shape.parents:
            near = range(max(0, number - 3), number) if chains else range(number)
            parents = sorted(rng.sample(list(near), min(len(near), rng.choice((1, 1, 1, 2, 3)))))
        edges = []
        for _ in parents:
            kind = EdgeKind.ORDER if rng.random() < 0.1 else EdgeKind.DATA
            missing = rng.choice((Missing.NONE, Missing.PASS)) if rng.random() < shape.missing else Missing.ERROR
            edges.append(edge_byte(kind, missing))
        jobs.append(_job(rng, shape, parents, edges))
    return jobs


def _job(rng: random.Random, shape: Shape, parents: list[int], edges: list[int]) -> SimJob:
    is_long = rng.random() < shape.long_share
    seconds = rng.uniform(*(shape.long_s if is_long else shape.seconds))
    plan = Plan(seconds)
    retries = rng.choice((0, 0, 1, 2))
    if rng.random() < shape.fails:
        plan.fails = rng.choice((1, 1, 2, retries, 99))
    if rng.random() < shape.growth:
        plan.growth, plan.depth = rng.choice(("addition", "detour", "replace", "heir")), 1
    if rng.random() < shape.poison:
        plan = Plan(rng.uniform(0.01, 0.3), poison=shape.poison_kind)
    plan.file = rng.random() < shape.files
    plan.stores = rng.random() < shape.stores
    options = model.Options(
        retries=retries,
        backoff_s=rng.choice((0.05, 0.5, 2.0)),
        priority=rng.choice((0, 0, 5, 200)) if rng.random() < shape.priorities else 0,
        release="committed" if rng.random() < shape.committed else "early",
    )
    if shape.surprises and rng.random() < shape.surprises:
        plan.seconds = rng.uniform(*shape.long_s)
    return SimJob(fresh_uuid(rng), plan, parents, edges, options, "long" if is_long else "f0")


__all__ = ["NO_ROW", "Plan", "Shape", "SimJob", "Value", "chunk_of", "digest", "grown", "random_flow"]

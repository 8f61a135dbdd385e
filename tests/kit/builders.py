"""Builds the engine's words by hand: chunks from lists of parents, frames of a worker, a leader's claim.

A test that says `chunk([[], [0], [0, 1]])` shows its graph; everything that it does not name has a plain default.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence

import msgspec

from towline.engine import model
from towline.engine.graph import Graph
from towline.engine.ids import pack_uuid
from towline.engine.model import Identity

CALL = b"\x92\x90\x80"
"""The arguments of `f()`."""

FUNCTION = model.Function("key", "module:f")
SPEC = model.Spec("key", "f")

Parents = Sequence[Sequence[int]]


def uuid_of(number: int, flow: int = 0) -> str:
    """A canonical uuid that tells its number."""
    return f"{flow:08x}-0000-4000-8000-{number:012x}"


def u32(values: Iterable[int]) -> bytes:
    return array("I", values).tobytes()


def spec(name: str = "f", function: str = "key", **options: object) -> model.Spec:
    return model.Spec(function, name, model.Options(**options))  # type: ignore[arg-type]  # as given


def chunk(
    parents: Parents | int,
    *,
    flow: str = "flow",
    base: int = 0,
    total: int | None = None,
    uuids: Sequence[str] | None = None,
    first: int = 0,
    indices: Sequence[int] = (),
    specs: Sequence[model.Spec] = (SPEC,),
    spec_of: Sequence[int] = (),
    edges: Sequence[int] = (),
    externals: Sequence[tuple[str, int]] = (),
    functions: Sequence[model.Function] = (FUNCTION,),
    args: Sequence[bytes] = (),
) -> model.Chunk:
    """A chunk of `len(parents)` jobs (or so many without parents); `first` numbers the uuids that are not given."""
    rows = [[] for _ in range(parents)] if isinstance(parents, int) else parents
    n = len(rows)
    names = list(uuids) if uuids is not None else [uuid_of(base + i + first) for i in range(n)]
    keys = [pack_uuid(name) for name in names]
    flat = [parent for row in rows for parent in row]
    blobs = list(args) or [CALL] * n
    ends = [sum(map(len, blobs[: i + 1])) for i in range(n)] if args else [len(CALL) * (i + 1) for i in range(n)]
    return model.Chunk(
        flow=flow,
        base=base,
        count=n,
        total=base + n if total is None else total,
        uuids=b"".join(keys) if all(len(key) == 16 for key in keys) else names,
        indices=array("H", indices).tobytes(),
        specs=list(specs),
        spec_of=u32(spec_of),
        functions=list(functions),
        parent_counts=u32(map(len, rows)) if flat else b"",
        parents=u32(flat),
        edges=bytes(edges),
        externals=list(externals),
        name="a flow",
        arg_ends=u32(ends),
        args=b"".join(blobs),
    )


def graph_of(*chunks: model.Chunk) -> Graph:
    """A graph that has checked and taken these chunks; each is a submission of its own."""
    graph = Graph()
    for number, one in enumerate(chunks):
        graph.check(one)
        graph.add(one, [(one.base, graph.size)], list(range(len(one.specs))), [s.options.priority for s in one.specs], number)
    return graph


def led(epoch: int = 1, *, lease_s: float = 60.0, grants: bool = True) -> model.Led:
    return model.Led(epoch, f"leader-{epoch}", "host", "boot", "pid:[1]", 100 + epoch, 1.0, 0.0, lease_s, grants)


def identity(worker: str = "w1") -> Identity:
    return Identity(worker, "host", "boot", "pid:[1]", 10, 1.0, 11, 1.5)


def hello(worker: str = "w1", held: Sequence[model.Held] = (), stream: int = 0) -> model.Hello:
    return model.Hello(*msgspec.structs.astuple(identity(worker)), list(held), stream)


def plain(jobs: Sequence[tuple[int, int]], outputs: Sequence[bytes] = (), *, elapsed: float = 0.001) -> model.Plain:
    """Plain outcomes of (row, counter) pairs."""
    blobs = list(outputs) or [b"\xc0"] * len(jobs)
    return model.Plain(
        u32(row for row, _ in jobs),
        u32(counter for _, counter in jobs),
        array("d", [1.0] * len(jobs)).tobytes(),
        array("f", [elapsed] * len(jobs)).tobytes(),
        u32(sum(map(len, blobs[: i + 1])) for i in range(len(jobs))),
        b"".join(blobs),
    )


def leased(
    row: int, counter: int, *, inputs: Sequence[model.Input] = (), needs: Sequence[int] = (), report: bool = False
) -> model.LeasedJob:
    return model.LeasedJob(row, counter, 0, CALL, pack_uuid(uuid_of(row)), 1, list(inputs), report, list(needs))


def lease(*jobs: model.LeasedJob, epoch: int = 1) -> model.Lease:
    return model.Lease(epoch, list(jobs), [], [])


def failure(kind: str = "error", *, retry: bool = True) -> model.Failure:
    return model.Failure(kind, "ValueError: no", retry=retry)

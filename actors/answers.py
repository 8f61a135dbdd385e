"""The questions that drivers and the command line ask of a run, answered alike by a live leader and from a dead store.

Each takes the core, a reader of the journal and plain msgpack data, and returns plain msgpack data. A live leader awaits its
commit before it hands an answer out (R5). What looks at all rows lets the event loop have its turn now and then: leases are
renewed in it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from itertools import compress
from typing import Any, Protocol

from towline.engine import model
from towline.engine.core import LeaderCore
from towline.engine.errors import UsageError
from towline.engine.graph import NIL, Graph
from towline.engine.ledger import Ledger
from towline.engine.states import ENDED, JobState

LOOKED_AT = 1 << 16
"""Rows that are looked at in one turn of the event loop."""

PUT_TOGETHER = 500
"""Rows that are put into words in one turn."""

SHORTEST = 4
"""Characters of a shortened uuid."""

SHOWN = 3
"""Jobs that are named where a text means several."""


class Reader(Protocol):
    """What answers need of `stores.journal.reader.JournalReader`."""

    async def read(self, location: model.Location) -> bytes: ...

    async def payload(self, seq: int) -> bytes:
        """The whole payload of a record."""
        ...


QUESTIONS = frozenset({"status", "jobs", "output", "completed", "logs", "cached", "states"})


async def answer(core: LeaderCore, reader: Reader, verb: str, payload: Any) -> Any:
    """Answer one of QUESTIONS.

    Raises:
        UsageError: the verb, the flow, the job or a state is not known.
    """
    match verb:
        case "status":
            return status(core, flow_in(payload))
        case "jobs":
            return await jobs(core, reader, states_of(payload["states"]), int(payload["limit"]), flow_in(payload))
        case "output":
            return await output(core, reader, await find(core, payload))
        case "completed":
            return await completed(core, reader, flow_in(payload))
        case "logs":
            return await logs(core, reader, await find(core, payload))
        case "states":
            return states(core, payload["uuids"])
        case "cached":
            return await cached_as(core, reader, await find(core, payload))
    raise UsageError(f"{verb!r} is not a question that a run answers")


def flow_in(payload: Any) -> str:
    """uuid of the submission that a question is limited to, or an empty text."""
    return str(payload.get("flow") or "") if payload else ""


def states_of(labels: list[str]) -> list[JobState]:
    """The states that are named. UsageError."""
    known = {state.label: state for state in JobState}
    for label in labels:
        if label not in known:
            raise UsageError(f"{label!r} is no state of a job; there are {', '.join(known)}")
    return [known[label] for label in labels]


def status(core: LeaderCore, flow: str = "") -> dict[str, Any]:
    """Counts and state of all that the store holds, or of one submission. UsageError if that is not here."""
    ledger = core.ledger
    if flow and flow not in ledger.flows:
        raise UsageError(f"flow {flow} is not in this store; the command `towline status` lists those that are")
    led = ledger.led
    flows = [ledger.flows[flow]] if flow else list(ledger.flows.values())
    counts = ledger.counts_of(flow) if flow else ledger.counts
    return {
        "state": state_of(core, flow) if flow else core.run_state(),
        "counts": {s.label: counts[s] for s in JobState if counts[s]},
        "total": sum(counts),
        "flows": [[f.uuid, f.name, f.total, f.added] for f in flows],
        "workers": len(core.sessions),
        "epoch": led.epoch if led is not None else 0,
        "store": ledger.store,
        "incomplete": any(f.added < f.total for f in flows),
        "leader": {"host": led.host, "pid": led.pid, "closed": ledger.closed} if led is not None else {},
    }


def state_of(core: LeaderCore, flow: str) -> str:
    """`LeaderCore.run_state` of one submission.

    One whose jobs wait for one that failed is running while others are: it is not known what they wait for.
    """
    ledger = core.ledger
    counts = ledger.counts_of(flow)
    arriving = ledger.flows[flow].added < ledger.flows[flow].total
    if not core.idle() and (arriving or sum(counts) > sum(counts[state] for state in ENDED)):
        return "running"
    if ledger.run_stopped and counts[JobState.STOPPED]:
        return "stopped"
    return "failed" if counts[JobState.FAILED] or counts[JobState.WAITING] or arriving else "completed"


# -------------------------------------------------------------------------------------------------- which job is meant


async def find(core: LeaderCore, payload: Any) -> int:
    """The row that {uuid, index} names: by its uuid, the beginning of one, or a name that one job has. UsageError."""
    text, index = str(payload["uuid"]), int(payload.get("index") or 0)
    graph = core.ledger.graph
    row = graph.find(text, index)
    if row != NIL:
        return row
    which = f" (index {index})" if index else ""
    if graph.find(text) == NIL:
        meant = list(dict.fromkeys(map(graph.uuid, _begins(graph, text))))
        meant = meant or list(dict.fromkeys([graph.uuid(at) async for at in _called(core.ledger, text)]))
        if len(meant) > 1:
            some = ", ".join(f"{uuid} ({_name(core.ledger, graph.find(uuid))})" for uuid in meant[:SHOWN])
            raise UsageError(f"{len(meant)} jobs are meant by {text!r}, such as {some}: give a uuid")
        row = graph.find(meant[0], index) if meant else NIL
    if row == NIL:
        raise UsageError(f"job {text}{which} is not in this store; the command `towline status` lists its flows")
    return row


def _begins(graph: Graph, text: str) -> Iterator[int]:
    """Rows whose uuid begins so."""
    if len(text) < SHORTEST:
        return
    yield from (row for row in graph.odd_uuids if graph.uuid(row).startswith(text))
    digits = text.replace("-", "")
    try:
        packed = bytes.fromhex(digits[: len(digits) & ~1])
    except ValueError:
        return
    at = graph.uuids.find(packed)
    while at >= 0:
        row, within = divmod(at, 16)
        if not within and row not in graph.odd_uuids and graph.uuid(row).startswith(text):
            yield row
        at = graph.uuids.find(packed, at + 1)


async def _called(ledger: Ledger, text: str) -> AsyncIterator[int]:
    """Rows of jobs of this name."""
    graph = ledger.graph
    specs = {number for number, spec in enumerate(ledger.specs) if spec.name == text}
    for start in range(0, graph.size if specs else 0, LOOKED_AT):
        for row, spec in enumerate(graph.spec[start : start + LOOKED_AT], start):
            if spec in specs:
                yield row
        await asyncio.sleep(0)


def _name(ledger: Ledger, row: int) -> str:
    return ledger.specs[ledger.graph.spec[row]].name


# ---------------------------------------------------------------------------------------------------- what a job has


async def output(core: LeaderCore, reader: Reader, row: int) -> bytes | None:
    """The codec bytes of a job's output, or None if it has none yet."""
    place = core.ledger.graph.output(row)
    if place is None or core.ledger.graph.state[row] != JobState.COMPLETED:
        return None
    return await reader.read(place)


async def completed(core: LeaderCore, reader: Reader, flow: str = "") -> list[tuple[str, int, bytes]]:
    """uuid, index and output (codec bytes) of each job that has completed, of all or of one submission, by row."""
    graph = core.ledger.graph
    found: list[tuple[str, int, bytes]] = []
    async for row in _rows_in(core.ledger, [JobState.COMPLETED], flow):
        place = graph.output(row)
        if place is not None:
            found.append((graph.uuid(row), graph.index[row], await reader.read(place)))
        if len(found) % PUT_TOGETHER == 0:
            await asyncio.sleep(0)
    return found


async def logs(core: LeaderCore, reader: Reader, row: int) -> dict[str, bytes]:
    """What all attempts of a job wrote, in order, a line between the attempts."""
    out: list[bytes] = []
    err: list[bytes] = []
    for seq in core.ledger.logs_at.get(row, ()):
        record = model.decode_record(await reader.payload(seq))
        assert isinstance(record, model.Logged)
        for log in record.logs:
            if log.row == row:
                for parts, text in ((out, log.stdout), (err, log.stderr)):
                    if text:
                        parts += [b"--- next attempt ---\n"] if parts else []
                        parts.append(text)
    return {"stdout": b"".join(out), "stderr": b"".join(err)}


def states(core: LeaderCore, uuids: list[str]) -> list[list[Any] | None]:
    """[state, index] of the newest job of each uuid, None where there is none."""
    graph = core.ledger.graph
    rows = [graph.find(str(uuid)) for uuid in uuids]
    return [None if row == NIL else [JobState(graph.state[row]).label, graph.index[row]] for row in rows]


async def filed(core: LeaderCore, reader: Reader, payload: Any) -> dict[str, Any] | None:
    """Row and output that are filed under a key, or None. The reader waits until they are committed (R5)."""
    row = core.ledger.filed.get(payload["key"], NIL)
    data = None if row == NIL else await output(core, reader, row)
    return None if data is None else {"row": row, "output": data}


async def cached_as(core: LeaderCore, reader: Reader, row: int) -> dict[str, Any] | None:
    """Under what a job's outcome is filed, in its parts, and whose outcome it is; None if it is not filed."""
    place = core.ledger.graph.output(row)
    record = None if place is None else model.decode_record(await reader.payload(place.seq))
    cached = record.ending.cached if isinstance(record, model.Ended) else None
    if cached is None:
        return None
    reused = "" if cached.reused == NIL else core.ledger.graph.uuid(cached.reused)
    return {"key": cached.key, "function": cached.function, "arguments": dict(cached.arguments), "reused": reused}


async def jobs(core: LeaderCore, reader: Reader, states: list[JobState], limit: int, flow: str = "") -> list[dict[str, Any]]:
    """Up to `limit` jobs in these states, of all or of one submission, by row; failed ones with why."""
    found: list[dict[str, Any]] = []
    if limit > 0:
        async for row in _rows_in(core.ledger, states, flow):
            found.append(await job_info(core.ledger, reader, row))
            if len(found) >= limit:
                break
            if len(found) % PUT_TOGETHER == 0:
                await asyncio.sleep(0)
    return found


async def _rows_in(ledger: Ledger, states: list[JobState], flow: str) -> AsyncIterator[int]:
    """The rows that are in these states when it is their turn."""
    state = ledger.graph.state
    wanted = bytes(number in states for number in range(256))
    looked = 0
    for rows in ledger.rows_of(flow) if flow else [range(ledger.graph.size)]:
        for start in range(rows.start, rows.stop, LOOKED_AT):
            end = min(start + LOOKED_AT, rows.stop)
            for row in compress(range(start, end), state[start:end].translate(wanted)):
                if wanted[state[row]]:  # the loop may have gone on meanwhile
                    yield row
            looked += end - start
            if looked >= LOOKED_AT:
                looked = 0
                await asyncio.sleep(0)


async def job_info(ledger: Ledger, reader: Reader, row: int) -> dict[str, Any]:
    """One job as users see it."""
    graph = ledger.graph
    failure: model.Failure | None = None
    if row in ledger.failed_at and graph.state[row] != JobState.COMPLETED:
        record = model.decode_record(await reader.payload(ledger.failed_at[row]))
        assert isinstance(record, model.Ended)
        failure = record.ending.failure
    return {
        "row": row,
        "uuid": graph.uuid(row),
        "index": graph.index[row],
        "name": _name(ledger, row),
        "state": JobState(graph.state[row]).label,
        "kind": failure.kind if failure else "",
        "message": failure.message if failure else "",
        "traceback": failure.traceback if failure else "",
        "attempts": graph.attempts[row],
    }

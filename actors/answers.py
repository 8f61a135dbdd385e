"""The questions that drivers and the command line ask of a run, answered alike by a live leader and from a dead store.

Each takes the core, a reader of the journal and plain msgpack data, and returns plain msgpack data. A live leader awaits its
commit before it hands an answer out (R5).
"""

from __future__ import annotations

from typing import Any, Protocol

from towline.engine import model
from towline.engine.core import LeaderCore
from towline.engine.errors import UsageError
from towline.engine.graph import NIL
from towline.engine.ledger import Ledger
from towline.engine.states import JobState


class Reader(Protocol):
    """What answers need of `stores.journal.reader.JournalReader`."""

    async def read(self, location: model.Location) -> bytes: ...

    async def payload(self, seq: int) -> bytes:
        """The whole payload of a record."""
        ...


QUESTIONS = frozenset({"status", "jobs", "output", "logs"})


async def answer(core: LeaderCore, reader: Reader, verb: str, payload: Any) -> Any:
    """Answer one of QUESTIONS.

    Raises:
        UsageError: the verb or the job is not known.
    """
    match verb:
        case "status":
            return status(core)
        case "jobs":
            return await jobs(core, reader, [JobState[s.upper()] for s in payload["states"]], int(payload["limit"]))
        case "output":
            return await output(core, reader, find(core, payload))
        case "logs":
            return await logs(core, reader, find(core, payload))
    raise UsageError(f"{verb!r} is not a question that a run answers")


def status(core: LeaderCore) -> dict[str, Any]:
    """Counts and state of the whole run."""
    ledger = core.ledger
    led = ledger.led
    return {
        "state": core.run_state(),
        "counts": {s.label: ledger.counts[s] for s in JobState if ledger.counts[s]},
        "total": ledger.graph.size,
        "flows": [[f.uuid, f.name, f.total, f.added] for f in ledger.flows.values()],
        "workers": len(core.sessions),
        "epoch": led.epoch if led is not None else 0,
        "store": ledger.store,
        "incomplete": bool(ledger.open_flows()),
        "leader": {"host": led.host, "pid": led.pid, "closed": ledger.closed} if led is not None else {},
    }


def find(core: LeaderCore, payload: Any) -> int:
    """The row that {uuid, index} names. A uuid may be shortened to a unique beginning of at least four characters."""
    uuid, index = str(payload["uuid"]), int(payload.get("index") or 0)
    row = core.ledger.graph.find(uuid, index)
    if row == NIL and len(uuid) >= 4:
        graph = core.ledger.graph
        found = {graph.uuid(at) for at in range(graph.size) if graph.uuid(at).startswith(uuid)}
        if len(found) == 1:
            row = graph.find(found.pop(), index)
    if row == NIL:
        which = f" (index {index})" if index else ""
        raise UsageError(f"job {uuid}{which} is not in this store; the command `towline status` lists its flows")
    return row


async def output(core: LeaderCore, reader: Reader, row: int) -> bytes | None:
    """The codec bytes of a job's output, or None if it has none yet."""
    place = core.ledger.graph.output(row)
    if place is None or core.ledger.graph.state[row] != JobState.COMPLETED:
        return None
    return await reader.read(place)


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


async def jobs(core: LeaderCore, reader: Reader, states: list[JobState], limit: int) -> list[dict[str, Any]]:
    """Up to `limit` jobs in these states, by row; failed ones with why."""
    graph, ledger = core.ledger.graph, core.ledger
    wanted = frozenset(int(s) for s in states)
    found: list[dict[str, Any]] = []
    for row in range(graph.size):
        if graph.state[row] not in wanted:
            continue
        if len(found) >= limit:
            break
        found.append(await job_info(ledger, reader, row))
    return found


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
        "name": ledger.specs[graph.spec[row]].name,
        "state": JobState(graph.state[row]).label,
        "kind": failure.kind if failure else "",
        "message": failure.message if failure else "",
        "traceback": failure.traceback if failure else "",
        "attempts": graph.attempts[row],
    }

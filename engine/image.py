"""A ledger as plain columns and back: what a snapshot holds. Knows nothing of files or Arrow."""

from __future__ import annotations

from array import array

import msgspec

from towline.engine import model
from towline.engine.graph import EDGE_COLUMNS, ROW_COLUMNS, ChunkArgs, column
from towline.engine.ledger import Flow, Ledger
from towline.engine.states import JobState


class Small(msgspec.Struct, array_like=True):
    """Everything of a ledger that is not a column; msgpack in `Image.small`."""

    specs: list[model.Spec]
    functions: list[model.Function]
    flows: list[Flow]
    roster: list[model.Joined]
    left: list[str]
    suspects: list[int]
    deaths: list[tuple[int, int]]
    until: list[tuple[int, float]]
    failed_at: list[tuple[int, int]]
    logs_at: list[tuple[int, list[int]]]
    stored_at: list[tuple[int, int]]
    odd_uuids: list[tuple[int, bytes]]
    older: list[tuple[bytes, int, int]]
    late_edges: list[tuple[int, list[int]]]
    chunks: list[tuple[int, int, int]]
    """(row, count, flow number); `Image.blobs` holds ends and args of each, in this order."""
    store: str
    led: model.Led | None
    closed: bool
    run_stopped: bool
    snapshot: model.Snapshotted | None
    alone: list[model.Alone] = []
    longest_s: float = 0.0
    filed: list[tuple[bytes, int]] = []


class Image(msgspec.Struct, array_like=True):
    """A ledger in columns."""

    seq: int
    """First record that is not in it."""
    rows: int
    edges: int
    columns: dict[str, bytes]
    """Little-endian values; type codes in `graph.ROW_COLUMNS` and `EDGE_COLUMNS`, and `uuids` with 16 bytes a row."""
    blobs: list[bytes]
    small: bytes


def image_of(ledger: Ledger) -> Image:
    """The durable part of a ledger; READY, LEASED, RUNNING and LOST rows are what they are to it: WAITING or STOPPED."""
    graph = ledger.graph
    columns = {name: bytes(getattr(graph, name)) for name in (*ROW_COLUMNS, *EDGE_COLUMNS)}
    waiting = bytes([JobState.WAITING])
    volatile = bytes([JobState.READY, JobState.LEASED, JobState.RUNNING, JobState.LOST])
    state = bytearray(graph.state.translate(bytes.maketrans(volatile, waiting * len(volatile))))
    for row in ledger.stopping:
        state[row] = JobState.STOPPED
    columns["state"] = bytes(state)
    columns["uuids"] = bytes(graph.uuids)
    small = Small(
        ledger.specs,
        list(ledger.functions.values()),
        [ledger.flows[uuid] for uuid in ledger.flow_names],
        list(ledger.roster.values()),
        sorted(ledger.left),
        sorted(ledger.suspects),
        sorted(ledger.deaths.items()),
        sorted(ledger.until.items()),
        sorted(ledger.failed_at.items()),
        sorted(ledger.logs_at.items()),
        sorted(ledger.stored_at.items()),
        sorted(graph.odd_uuids.items()),
        [(key, index, row) for (key, index), row in graph.older.items()],
        sorted(graph.late_edges.items()),
        [(chunk.row, chunk.count, chunk.flow) for chunk in graph.chunks],
        ledger.store,
        ledger.led,
        ledger.closed,
        ledger.run_stopped,
        ledger.snapshot,
        list(ledger.alone.values()),
        ledger.longest_s,
        sorted(ledger.filed.items()),
    )
    blobs = [blob for chunk in graph.chunks for blob in (chunk.ends.tobytes(), chunk.args)]
    return Image(ledger.next_seq, graph.size, len(graph.edge_child), columns, blobs, model.encode(small))


def ledger_from(image: Image) -> Ledger:
    """The ledger that `image_of` was given."""
    small = msgspec.msgpack.decode(image.small, type=Small)
    ledger = Ledger()
    graph = ledger.graph
    for name, code in (ROW_COLUMNS | EDGE_COLUMNS).items():
        data = image.columns[name]
        setattr(graph, name, bytearray(data) if code == "B" else column(code, data))
    graph.size = image.rows
    graph.uuids = bytearray(image.columns["uuids"])
    graph.odd_uuids = dict(small.odd_uuids)
    graph.older = {(key, index): row for key, index, row in small.older}
    packed = bytes(graph.uuids)
    keys = [packed[i : i + 16] for i in range(0, len(packed), 16)]
    for row, key in graph.odd_uuids.items():
        keys[row] = key
    graph.latest = dict(zip(keys, range(graph.size), strict=True))  # a later row of one uuid has the higher index
    graph.late_edges = dict(small.late_edges)
    for i, (row, count, flow) in enumerate(small.chunks):
        ends: array[int] = column("I", image.blobs[2 * i])
        graph.chunks.append(ChunkArgs(row, count, ends, image.blobs[2 * i + 1], flow))
        graph.chunk_rows.append(row)
    ledger.specs = small.specs
    ledger.spec_numbers = {model.encode(spec): number for number, spec in enumerate(small.specs)}
    ledger.functions = {function.key: function for function in small.functions}
    ledger.flows = {flow.uuid: flow for flow in small.flows}
    ledger.flow_names = [flow.uuid for flow in small.flows]
    ledger.flow_numbers = {uuid: number for number, uuid in enumerate(ledger.flow_names)}
    ledger.arriving = {flow.uuid: flow for flow in small.flows if flow.added < flow.total}
    ledger.roster = {joined.worker: joined for joined in small.roster}
    ledger.left, ledger.suspects = set(small.left), set(small.suspects)
    ledger.longest_s = small.longest_s
    ledger.alone = {alone.row: alone for alone in small.alone}
    ledger.deaths, ledger.until = dict(small.deaths), dict(small.until)
    ledger.failed_at, ledger.stored_at = dict(small.failed_at), dict(small.stored_at)
    ledger.logs_at, ledger.filed = dict(small.logs_at), dict(small.filed)
    ledger.store, ledger.led, ledger.closed = small.store, small.led, small.closed
    ledger.run_stopped, ledger.snapshot = small.run_stopped, small.snapshot
    ledger.next_seq = image.seq
    for state in JobState:
        ledger.counts[state] = graph.state.count(state)
    return ledger

"""The words that leave the process: what the journal keeps and what leader, workers and drivers say to each other.

All are frozen, tagged msgspec Structs written as msgpack arrays. A persisted Struct only ever grows at its end, and a new
field has a default, so that an older journal still reads (docs/FORMAT.md). Columns are little-endian arrays in one `bytes`:
a million jobs are a few hundred objects. In `Chunk` and `Completed` the large blob stands LAST, so that the place of each
slice of it is known from the length of the record alone (`Location`).
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from towline.engine.ids import NO_ROW

INLINE_LIMIT = 16 * 1024
"""Encoded outputs up to this many bytes travel and rest inside records; larger ones are files."""

ERROR_LIMIT = 8 * 1024
"""An encoded exception that is longer is not kept: its message and traceback are."""

EXTERNAL = 0x80000000
"""A parent number at or above this one names `Chunk.externals[number - EXTERNAL]` instead of a job of the submission."""


class Location(NamedTuple):
    """Where bytes lie in the journal: `length` bytes at `offset` of the payload of record `seq`."""

    seq: int
    offset: int
    length: int


# ---------------------------------------------------------------------------------------------------- what a job is


class Function(msgspec.Struct, frozen=True, array_like=True, omit_defaults=True):
    """How to get a callable: by import path, or by value (cloudpickle), named by its content hash."""

    key: str
    """Content hash of what follows; the name under which workers cache it."""
    path: str
    """`module:qualname`, always given for display; imported when `pickled` is empty."""
    pickled: bytes = b""
    """cloudpickle of the callable, or empty: import it."""


class Options(msgspec.Struct, frozen=True, array_like=True, omit_defaults=True):
    """How a job is run. One object is shared by all jobs that were made alike."""

    retries: int = 0
    """Attempts after the first that the job's own faults may use."""
    backoff_s: float = 1.0
    """Delay before the first retry, in seconds; doubles for each further one."""
    backoff_max_s: float = 600.0
    """Longest delay between two attempts, in seconds."""
    priority: int = 0
    """0..255; higher goes first (P5)."""
    release: str = "early"
    """`early` or `committed`: may the job run on inputs whose outcome is not yet committed?"""
    requirements: dict[str, float] = {}
    """Resource name to amount: cores, memory (bytes), disk (bytes), time (seconds), accelerators, custom names."""
    mode: str = "thread"
    """`thread`: in the worker's interpreter; `process`: in one of its own."""
    timeout_s: float = 0.0
    """Longest run of the body in seconds; 0 means none."""
    limits: list[str] = []
    """Limit groups that the job counts in."""
    cache: str = ""
    """Empty: outcomes are not reused. `code`: they are while the code is the same; `=v2`: while this version is given."""
    stores: dict[str, msgspec.Raw] = {}
    """Additional store name to what is kept there (jobflow's extra keywords), msgpack."""


class Spec(msgspec.Struct, frozen=True, array_like=True, omit_defaults=True):
    """What many jobs share: function, name, hosts and options. Interned; a job holds its number."""

    function: str
    """`Function.key`."""
    name: str
    options: Options = Options()
    hosts: list[str] = []
    """uuids of the flows around the job, innermost first (jobflow)."""
    metadata: bytes = b""
    """codec bytes of the metadata dict; empty for none."""
    config: bytes = b""
    """codec bytes of what the worker needs to know of jobflow's JobConfig and output schema; empty for defaults."""


class Chunk(msgspec.Struct, frozen=True, array_like=True):
    """A piece of a submission: some thousand jobs in columns. Job numbers count from the submission's first job."""

    flow: str
    """uuid of the submission's outermost flow."""
    base: int
    """Number of this chunk's first job within the submission."""
    count: int
    total: int
    """Jobs in the whole submission; the last chunk is the one with base + count == total."""
    uuids: bytes | list[str]
    """count x 16 bytes when all are canonical, else the strings."""
    indices: bytes
    """count x uint16; empty means that all are 1."""
    specs: list[Spec]
    spec_of: bytes
    """count x uint32 into `specs`; empty means that all are 0."""
    functions: list[Function]
    """Those that `specs` of this chunk name and no earlier chunk of the submission brought."""
    parent_counts: bytes
    """count x uint32; empty means that no job has a parent."""
    parents: bytes
    """uint32 each: a job number of the submission, lower than this job's own or in an earlier or this chunk, or EXTERNAL + k."""
    edges: bytes
    """One byte a parent (`states.edge_byte`); empty means that all are DATA with OnMissing ERROR."""
    externals: list[tuple[str, int]]
    """(uuid, index) of parents outside the submission; index 0 means the newest."""
    name: str
    """Name of the flow, for display."""
    arg_ends: bytes
    """count x uint32: where each job's arguments end inside `args`."""
    args: bytes
    """Arguments, one after the other: each the codec bytes of [args list, kwargs dict]."""


# ------------------------------------------------------------------------------------------- outcomes of an attempt


class Failure(msgspec.Struct, frozen=True, array_like=True, omit_defaults=True):
    """Why an attempt ended badly."""

    kind: str
    """A `FailureKind`."""
    message: str
    """`ValueError: bad input`, one line."""
    traceback: str = ""
    """The job's own frames, as Python prints them."""
    retry: bool = True
    """May another attempt help? False where the outcome is certain (a schema error)."""
    error: bytes = b""
    """codec bytes of the exception itself, where it has an encoding of at most `ERROR_LIMIT` bytes."""


class Growth(msgspec.Struct, frozen=True, array_like=True, omit_defaults=True):
    """What a Response asks of the graph. The chunks' numbers count from the first job of each chunk."""

    replace: Chunk | None = None
    heir: int = NO_ROW
    """Job number inside `replace` that takes over this job's uuid and children; NO_ROW: children see the own output."""
    detour: Chunk | None = None
    addition: Chunk | None = None
    stop_children: bool = False
    stop_jobflow: bool = False


class Cached(msgspec.Struct, frozen=True, array_like=True, omit_defaults=True):
    """What an outcome is filed under for reuse, and the parts that the key was made of (decision 0008)."""

    key: bytes
    """Hash of the parts."""
    function: str
    """`code:HASH` or `version:TEXT`, behind the name of the function: `towline.m:f code:HASH`."""
    arguments: list[tuple[str, bytes]] = []
    """Name and hash of each argument, as the body received it."""
    reused: int = NO_ROW
    """Row whose outcome this is; NO_ROW: the body ran."""


class Ending(msgspec.Struct, frozen=True, array_like=True, omit_defaults=True):
    """The outcome of one attempt, when it is more than plain bytes."""

    row: int
    counter: int
    output: bytes = b""
    """codec bytes; meaningless when `failure` is set."""
    failure: Failure | None = None
    growth: Growth | None = None
    stored_data: bytes = b""
    """codec bytes of Response.stored_data."""
    began: float = 0.0
    """Wall clock, seconds since the epoch of 1970."""
    elapsed: float = 0.0
    """Seconds."""
    cached: Cached | None = None
    """Where the output may be reused, or was: under what it is filed."""


class Log(msgspec.Struct, frozen=True, array_like=True):
    """What an attempt wrote. Longer texts keep head and tail, with a line between that says how much was left out."""

    row: int
    counter: int
    stdout: bytes
    stderr: bytes


class Plain(msgspec.Struct, frozen=True, array_like=True):
    """Outcomes that are nothing but bytes, in columns; the hot path. `outputs` stands last."""

    rows: bytes = b""
    """uint32 each."""
    counters: bytes = b""
    """uint32 each: the attempt, under the epoch of the frame around it."""
    began: bytes = b""
    """float64 each: wall clock, seconds."""
    elapsed: bytes = b""
    """float32 each: seconds."""
    ends: bytes = b""
    """uint32 each: where each output ends inside `outputs`."""
    outputs: bytes = b""


# ------------------------------------------------------------------------------------------------ records (journal)


class Opened(msgspec.Struct, frozen=True, array_like=True, tag="opened"):
    """The first record of a store."""

    store: str
    """uuid of the store, minted once."""
    towline: str
    """Version that made it."""
    wall: float


class Led(msgspec.Struct, frozen=True, array_like=True, tag="led"):
    """A leader took over; everything after it is of its epoch."""

    epoch: int
    leader: str
    host: str
    boot_id: str
    pid_namespace: str
    pid: int
    started: float
    """Start time of the process in clock ticks since boot (/proc/PID/stat field 22)."""
    wall: float
    lease_s: float
    """T of rule R1: no grant of this leader outlives the start of its last committed append by more than this."""
    grants: bool = True
    """False for an epoch of a verb on a dead run (R8): such a leader grants nothing."""


class Beat(msgspec.Struct, frozen=True, array_like=True, tag="beat"):
    """The leader is alive (R1: an idle leader appends every T/3)."""

    wall: float


class Closed(msgspec.Struct, frozen=True, array_like=True, tag="closed"):
    """The leader stopped its workers and left: whoever comes next need not wait (R8)."""

    wall: float


class Added(msgspec.Struct, frozen=True, array_like=True, tag="added"):
    """Jobs of a submission. `chunk` stands last: its `args` end where the record ends."""

    row: int
    """Row of the chunk's first job; the others follow."""
    wall: float
    chunk: Chunk


class Identity(msgspec.Struct, frozen=True, array_like=True):
    """Who a worker is, for the roster: enough to prove its death on its own host. The first fields of what tells of it."""

    worker: str
    host: str
    boot_id: str
    pid_namespace: str
    pid: int
    started: float
    supervisor_pid: int
    supervisor_started: float


class Joined(Identity, frozen=True, array_like=True, tag="joined"):
    """A worker is on the roster; committed before its first grant (R1)."""

    wall: float


class Left(msgspec.Struct, frozen=True, array_like=True, tag="left"):
    """A worker is off the roster for good: known dead, or its lease has ended. What it held is open again."""

    worker: str
    cause: str
    wall: float
    suspects: list[int] = []
    """Rows that may have killed it: granted alone from now on (R9)."""
    charged: list[int] = []
    """Rows that died alone: an attempt is charged; see the Ended record that follows each."""


class Completed(msgspec.Struct, frozen=True, array_like=True, tag="completed"):
    """Plain outcomes of one worker under one epoch, as it sent them."""

    worker: str
    epoch: int
    wall: float
    plain: Plain


class Ended(msgspec.Struct, frozen=True, array_like=True, tag="ended"):
    """One outcome that is more than bytes, with what the leader decided."""

    worker: str
    epoch: int
    wall: float
    ending: Ending
    state: int
    """`JobState` that follows: COMPLETED, FAILED or DELAYED."""
    attempts: int
    """Attempts charged to the job so far, this one included where it was charged."""
    until: float = 0.0
    """Wall clock at which a DELAYED job is ready."""
    row: int = NO_ROW
    """Row of the first job that the growth added (replace, detour, addition in this order)."""


class Logged(msgspec.Struct, frozen=True, array_like=True, tag="logged"):
    """What attempts wrote to stdout and stderr."""

    epoch: int
    logs: list[Log]


class Steered(msgspec.Struct, frozen=True, array_like=True, tag="steered"):
    """A user's verb, decided: the rows that changed and the state they are in now."""

    verb: str
    rows: bytes
    """uint32 each; empty with `run` set: only the run's own state changes."""
    state: int
    wall: float
    run: str = ""
    """`stopped` when the verb ended the whole run."""


class Snapshotted(msgspec.Struct, frozen=True, array_like=True, tag="snapshotted"):
    """The snapshot object `key` with this digest holds everything up to and without record `seq`."""

    seq: int
    key: str
    digest: str
    wall: float


class Alone(msgspec.Struct, frozen=True, array_like=True, tag="alone"):
    """A suspect is granted alone once this is committed. If neither its outcome nor its worker is heard of again, it is
    charged, also by a later leader: it may have taken this one's machine with it (R9)."""

    row: int
    worker: str
    epoch: int
    counter: int
    wall: float


Record = Opened | Led | Beat | Closed | Added | Joined | Left | Completed | Ended | Logged | Steered | Snapshotted | Alone

# ------------------------------------------------------------------------------------------ frames (worker -> leader)


class Held(msgspec.Struct, frozen=True, array_like=True):
    """A job that a worker holds from an earlier leader, and the attempts its inputs came from (R3)."""

    row: int
    epoch: int
    counter: int
    inputs: list[tuple[int, int, int]] = []
    """(row, epoch, counter) of each input."""
    running: bool = False


class Hello(Identity, frozen=True, array_like=True, tag="hello"):
    """A worker joins, or joins again after the leader or the stream changed: who it is and what it holds."""

    held: list[Held] = []
    """Jobs not ended; and ended ones whose outcomes were never acknowledged (their Pull frames follow, in order)."""
    stream: int = 0
    """Counts this worker's streams up: the Hello of an older one, that comes late, is passed over (also by the shell, which must
    not send on it)."""


class Pull(msgspec.Struct, frozen=True, array_like=True, tag="pull", omit_defaults=True):
    """Outcomes in, leases out: the one call of the hot path."""

    worker: str
    number: int
    """Counts this worker's frames that hold outcomes from 1 up; acknowledged when committed."""
    epoch: int
    """Epoch of the attempts in this frame (a frame holds attempts of one epoch only)."""
    plain: Plain = Plain()
    endings: list[Ending] = []
    logs: list[Log] = []
    returned: list[tuple[int, int]] = []
    """(row, counter) given back unstarted: revoked, or after a parent in the rope that did not simply complete."""
    running: int = NO_ROW
    """Row whose body has run for a while."""
    busy_s: float = 0.0
    """How long the current body has run so far, in seconds."""


class Touch(msgspec.Struct, frozen=True, array_like=True, tag="touch"):
    """A supervisor asks for more time for its worker."""

    worker: str
    sent: float
    """The sender's own boot clock; comes back in `Touched`."""


class Goodbye(msgspec.Struct, frozen=True, array_like=True, tag="goodbye"):
    """A worker has stopped: it runs nothing any more and never will."""

    worker: str
    cause: str = ""


# ------------------------------------------------------------------------------------------ frames (leader -> worker)


class Input(msgspec.Struct, frozen=True, array_like=True, omit_defaults=True):
    """A parent's output, as a lease names it. `data` inline, or `place` in the journal, or neither: the worker has it."""

    row: int
    epoch: int
    counter: int
    data: bytes = b""
    place: tuple[int, int, int] | None = None
    """`Location`."""
    missing: bool = False
    """The parent ended without output and the edge allows it."""
    uuid: str = ""
    """The parent's uuid where it is missing (OnMissing.PASS hands the reference on)."""


class LeasedJob(msgspec.Struct, frozen=True, array_like=True, omit_defaults=True):
    """One job of a lease."""

    row: int
    counter: int
    spec: int
    args: bytes
    uuid: bytes
    """`ids.pack_uuid` form."""
    index: int = 1
    inputs: list[Input] = []
    """One a parent edge of kind DATA, in the order of the references' numbers."""
    report: bool = False
    """Others wait for this outcome: send it at once."""
    needs: list[int] = []
    """Rows of earlier jobs of this lease that must end as plain outcomes first (a rope); else the job goes back."""
    attempt: int = 1
    """Which attempt of the job this is, as users count them from 1."""


class Lease(msgspec.Struct, frozen=True, array_like=True, tag="lease"):
    """Jobs to run in this order, under this epoch."""

    epoch: int
    jobs: list[LeasedJob]
    specs: list[tuple[int, Spec]]
    """Those that the worker has not seen."""
    functions: list[Function]


class Welcome(msgspec.Struct, frozen=True, array_like=True, tag="welcome"):
    """The worker is on the roster of this epoch; it answers no lower one from now on."""

    epoch: int
    lease_s: float
    touch_s: float
    resend: bool = True
    """Send every unacknowledged Pull frame again, oldest first."""


class Refused(msgspec.Struct, frozen=True, array_like=True, tag="refused"):
    """The worker is off the roster: kill everything and exit."""

    why: str


class Revoke(msgspec.Struct, frozen=True, array_like=True, tag="revoke"):
    """A request to give back what has not begun (R7). Answered by `Pull.returned`."""

    rows: list[int]


class Ack(msgspec.Struct, frozen=True, array_like=True, tag="ack"):
    """All frames of this worker up to `number` are committed: forget them."""

    number: int


class Touched(msgspec.Struct, frozen=True, array_like=True, tag="touched"):
    """The worker may run until `sent` + `valid_s` on its own boot clock (R1)."""

    epoch: int
    sent: float
    valid_s: float


class Stop(msgspec.Struct, frozen=True, array_like=True, tag="stop"):
    """Begin nothing more and exit."""

    why: str = ""


# --------------------------------------------------------------------------------------------- clients (drivers, CLI)


class Ask(msgspec.Struct, frozen=True, array_like=True, tag="ask"):
    """A client's question or order; `payload` is msgpack as the verb says."""

    number: int
    verb: str
    payload: bytes = b""


class Answer(msgspec.Struct, frozen=True, array_like=True, tag="answer"):
    """Told only after everything that the answer rests on is committed (P1, R5)."""

    number: int
    ok: bool
    payload: bytes = b""


ToLeader = Hello | Pull | Touch | Goodbye | Ask
ToWorker = Lease | Welcome | Refused | Revoke | Ack | Touched | Stop | Answer

_encoder = msgspec.msgpack.Encoder()
encode = _encoder.encode
"""Any Struct of this module to bytes."""

decode_record = msgspec.msgpack.Decoder(Record).decode
decode_to_leader = msgspec.msgpack.Decoder(ToLeader).decode
decode_to_worker = msgspec.msgpack.Decoder(ToWorker).decode
decode_chunk = msgspec.msgpack.Decoder(Chunk).decode

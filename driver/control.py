"""A run as its user holds it: state, outputs, failures and logs, while it goes on and after it has ended.

A Run asks the leader as long as one lives, and the store when none does; the verbs and the answers are the same. A
leader that goes away between two questions is no error of the question: it is put to whoever answers now.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeVar

import msgspec

from towline import client as lines
from towline import offline
from towline.client import LeaderClient, Status
from towline.engine.errors import UsageError

if TYPE_CHECKING:
    from towline.engine.authoring.flow import Flow
    from towline.engine.authoring.reference import OutputReference

T = TypeVar("T")

RUNNING = "running"

WAIT_STEP_S = 5.0
"""Longest single question of `Run.wait`: a leader that dies is noticed at the next one at the latest."""

ANSWER_S = 60.0
"""A leader that does not say how it stands for so long is frozen, or gone in a way that nobody notices."""

JOBS_MAX = 10_000
"""Failures that `Run.failures` lists unless told otherwise."""


class Leader(Protocol):
    """A leader that this process started and has to close."""

    def close(self) -> None:
        """A clean end: workers stopped, `Closed` written, whatever was started for it gone. Idempotent."""
        ...


class JobInfo(msgspec.Struct, frozen=True):
    """A job as it stands; for a failed one, why."""

    uuid: str
    index: int
    name: str
    kind: str = ""
    """A FailureKind, or empty."""
    message: str = ""
    """One line, `ValueError: bad input`."""
    traceback: str = ""
    """The job's own frames, as Python prints them."""
    attempts: int = 0
    """Attempts charged to the job."""
    state: str = ""
    row: int = -1
    """Number of the job in its store."""

    @classmethod
    def of(cls, said: Mapping[str, Any]) -> Self:
        """From an entry of the answer to the verb "jobs"."""
        return cls(**{name: said[name] for name in cls.__struct_fields__ if said.get(name) is not None})


class Logs(msgspec.Struct, frozen=True):
    """What a job wrote, all its attempts one after the other."""

    stdout: str
    stderr: str

    def __str__(self) -> str:
        return self.stdout + self.stderr


class Run:
    """A run in a store: one submission (`run`, `submit`) or all that the store holds (`resume`, `connect`). Thread-safe.

    While a leader lives the answers are its own, told after the commit; after that they are read from the store, once.
    """

    def __init__(
        self,
        store: str,
        *,
        client: LeaderClient | None = None,
        leader: Leader | None = None,
        status: Status | None = None,
        flow: str = "",
    ) -> None:
        """`leader` is closed when the run has ended or `close` is called; `status` is what was told last.

        `flow` is the uuid of the submission that this is the run of; without one it is all that the store holds.
        """
        self._store = store
        self._scope = {"flow": flow} if flow else {}
        self._client = client
        self._leader = leader
        self._offline = offline.OfflineClient(store)
        self._status = status
        self._generation = offline.generation(store)

    def __repr__(self) -> str:
        # from what is known already: printing a Run must not read a store
        state = self._status["state"] if self._status else "not asked yet"
        return f"<Run {self._store!r}: {state}>"

    @property
    def store(self) -> str:
        """The locator of the store, as it was given."""
        return self._store

    @property
    def state(self) -> str:
        """`running`, `completed`, `failed`, `stopped`, or `interrupted`: jobs are left and no leader works on them."""
        state: str = self.status()["state"]
        return state

    def status(self) -> Status:
        """All that is told of a run: state, counts, total, flows, workers, epoch, store, incomplete, leader.

        TimeoutError if the leader says nothing for ANSWER_S.
        """
        known = self._status
        if known is not None and self._client is None and self._generation == offline.generation(self._store):
            return known
        self._generation = offline.generation(self._store)
        self._status = self._ask("status", self._scope, ANSWER_S)
        return self._status

    def counts(self) -> dict[str, int]:
        """Number of jobs by state, without the states that no job is in."""
        return {label: number for label, number in self.status()["counts"].items() if number}

    def failures(self, limit: int = JOBS_MAX) -> list[JobInfo]:
        """The jobs that have failed, in the order of the store; at most `limit`."""
        return self.jobs(["failed"], limit)

    def jobs(self, states: list[str] | None = None, limit: int = JOBS_MAX) -> list[JobInfo]:
        """Jobs in these states (None: in any), in the order of the store; at most `limit`."""
        if states is None:
            states = list(self.status()["counts"])
        return [JobInfo.of(said) for said in self._ask("jobs", {"states": states, "limit": limit} | self._scope)]

    def output(self, job: Any, index: int | None = None) -> Any:
        """The output of a job, given as the job, its uuid or a reference to it or a part of it; the newest by default.

        Of a Flow it is what its own `output` has become. References inside an output are resolved where their jobs have
        completed. UsageError if the store has no such job, or it has no output.
        """
        return self.outputs([job], index)[0]

    def outputs(self, jobs: Sequence[Any], index: int | None = None) -> list[Any]:
        """The outputs of many jobs, each given as for `output`, in their order; quicker than one by one."""
        alone = [job for job in jobs if not _is_flow(job)]
        questions = [{"uuid": uuid_of(job), "index": index_of(job) if index is None else index} for job in alone]
        said = iter(self._ask_all("output", questions))
        return [self._of_flow(job) if _is_flow(job) else self._value(job, next(said)) for job in jobs]

    def _of_flow(self, flow: Flow) -> Any:
        from towline.engine import codec

        if flow.output is None:
            raise UsageError(f"the flow {flow.name!r} was made without an output: ask for that of one of its jobs")
        parts = codec.references_in(flow.output)
        found = dict(zip(parts, self.outputs(parts), strict=True))
        return codec.decode(codec.encode(flow.output), free=found.__getitem__)

    def _value(self, job: Any, data: bytes | None) -> Any:
        if data is None:
            raise UsageError(f"job {uuid_of(job)} has no output in {self._store}: it has not completed (the run is {self.state})")
        return self._read(data, getattr(job, "attributes", ()), (uuid_of(job),))

    def value_of(self, uuid: str, data: bytes) -> Any:
        """The value of a job's output that was told as bytes; references inside are resolved as by `output`."""
        return self._read(data, (), (uuid,))

    def _read(self, data: bytes, path: Any, inside: tuple[str, ...]) -> Any:
        """What lies at this path of an output; `inside` are the jobs whose outputs are being read, outermost first."""
        from towline.engine import codec
        from towline.engine.authoring.reference import follow

        def free(ref: OutputReference) -> Any:
            if ref.uuid in inside:
                return ref  # it leads back to where it stands
            try:
                further = self._ask("output", {"uuid": ref.uuid, "index": 0})
            except UsageError:
                return ref  # of a job that is not in this store
            return ref if further is None else self._read(further, ref.attributes, (*inside, ref.uuid))

        stub = codec.stub_token(data) is not None
        return follow(self._content(data, free) if stub else codec.decode(data, free=free), path)

    def _content(self, data: bytes, free: Callable[[OutputReference], Any]) -> Any:
        """A large output, whose content is a file of the store."""
        from towline.stores.files import Files, load_async

        async def read() -> Any:
            files = Files.at(self._store)
            try:
                return await load_async(files, data, free=free)
            finally:
                await files.close()

        return offline.settle(read())

    def logs(self, job: Any, index: int | None = None) -> Logs:
        """What a job wrote to stdout and stderr. UsageError if the store has no such job."""
        said = self._ask("logs", {"uuid": uuid_of(job), "index": index_of(job) if index is None else index})
        return Logs(said["stdout"].decode(errors="replace"), said["stderr"].decode(errors="replace"))

    def wait(self, timeout_s: float | None = None) -> str:
        """Wait until the run has ended and return its state; `running` if that took longer than `timeout_s` seconds.

        UsageError if jobs are left and no leader works on them.
        """
        until = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            step = WAIT_STEP_S if until is None else max(0.0, min(WAIT_STEP_S, until - time.monotonic()))
            status: Status = self._ask("wait", {"timeout_s": step} | self._scope, step + ANSWER_S)
            self._status = status
            if status["state"] != RUNNING:
                self._end_leader()
                return str(status["state"])
            if until is not None and time.monotonic() >= until:
                return RUNNING

    def cancel(self) -> int:
        """End all runs of the store: jobs that have not ended become `stopped`. Returns how many jobs are.

        UsageError if no leader lives.
        """
        stopped: int = self._ask("cancel")["stopped"]
        return stopped

    def close(self) -> None:
        """Let go: a leader that this process started ends cleanly (`resume` goes on later); any other is left alone."""
        client = self._client
        if self._leader is not None:
            self._end_leader()
            # jobs may be left that no leader works on any more
            self._status = None
        elif client is not None:
            self._client = self._status = None
            client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _end_leader(self) -> None:
        leader, self._leader, self._client = self._leader, None, None
        if leader is not None:
            leader.close()
            offline.forget(self._store)
            self._generation = offline.generation(self._store)

    def _ask(self, verb: str, payload: Any = None, timeout_s: float | None = None) -> Any:
        return self._put(lambda client: client.ask(verb, payload, timeout_s))

    def _ask_all(self, verb: str, payloads: Sequence[Any]) -> list[Any]:
        return self._put(lambda client: client.ask_all(verb, payloads))

    def _put(self, question: Callable[[LeaderClient], T]) -> T:
        """The answer of the leader, of the next one, or of the store, whoever there is."""
        client = self._client
        if client is None:
            return question(self._offline)
        try:
            return question(client)
        except ConnectionError:
            # a new leader may have taken over, or the run is over and the leader gone
            with contextlib.suppress(OSError):
                client.close()
            offline.forget(self._store)
            self._client = lines.find(self._store)
        return question(self._client or self._offline)


def _is_flow(job: Any) -> bool:
    from towline.engine.authoring.flow import Flow

    return isinstance(job, Flow)


def index_of(job: Any) -> int:
    """The index that is meant where none is given: a JobInfo names one run of its job; 0 is the newest."""
    return job.index if isinstance(job, JobInfo) else 0


def uuid_of(job: Any) -> str:
    """The uuid of a Job, a JobInfo or a reference, or the text itself. UsageError for anything else."""
    uuid = job if isinstance(job, str) else getattr(job, "uuid", None)
    if not isinstance(uuid, str):
        raise UsageError(f"expected a job, a reference or a uuid, got {type(job).__name__}")
    return uuid

"""A job as the job store knows it: names, needs, tries, body, and how it is tied to other jobs and to files.

Successors stand on a stack of phases that are run from the top down: the top one holds children, the one below it follow-ons;
jobs that were chained into one leave more below (`replace`). A description is an object of its owner: the store hands out a new
one at each load, and `version` says which stored version it came from, by which `update_job` knows whether it is stale.

Attributes that a user adds are stored too, if the codec can write them without pickle. Those whose name begins with an
underscore are not. Every name has Toil's old spelling as well (`jobStoreID`, `addChild`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from enum import IntEnum
from typing import Any, ClassVar, NamedTuple
from uuid import uuid4

import msgspec

from towline.engine import codec
from towline.engine.errors import CorruptionError
from towline.stores.jobstore import requirements as needs
from towline.stores.jobstore.config import Config
from towline.stores.jobstore.errors import JobException
from towline.stores.jobstore.spelling import TwoSpellings


class TemporaryID(str):
    """The id of a job that has none yet: unlike any other, and never stored."""

    __slots__ = ()

    def __new__(cls) -> TemporaryID:
        return super().__new__(cls, f"unassigned-{uuid4().hex}")


class JobBodyReference(NamedTuple):
    """Where the body of a job lies: a file of the job store, and the module that can run it."""

    file_store_id: str
    module_string: str


class BatchJobExitReason(IntEnum):
    """Why a run of a job ended."""

    FINISHED = 1
    FAILED = 2
    LOST = 3
    """The machine went away, or was taken away."""
    KILLED = 4
    ERROR = 5
    MEMLIMIT = 6


class Names(NamedTuple):
    """What a job is called."""

    job_name: str
    unit_name: str
    display_name: str
    stats_name: str
    job_store_id: str


class Stored(msgspec.Struct, frozen=True, array_like=True):
    """A description's bytes: the body of a `JobPut`. Grows at the end only, with defaults."""

    kind: str
    """`job`, `service`, `checkpoint`, or what a subclass calls itself."""
    job_name: str
    unit_name: str
    display_name: str
    requirements: dict[str, Any]
    """Only what the job says itself."""
    tries: int | None
    """Remaining tries; nil: the workflow's default."""
    command: str | None
    body: tuple[str, str] | None
    phases: list[list[str]]
    services: dict[str, list[str]]
    predecessor_number: int
    predecessors_finished: list[str]
    files_to_use: list[str]
    files_to_delete: list[str]
    log: str | None
    merged: list[str]
    checkpoint: Any
    """Of a checkpoint that has begun: command or body to restore."""
    checkpoint_files: list[str]
    flags: list[str | None]
    """Of a service: files that say started, terminate, error."""
    local: bool
    extra: bytes
    """Codec bytes of a dict: attributes that the user added."""


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Stored).decode


class JobDescription(TwoSpellings):
    """What the job store keeps of a job."""

    kind: ClassVar[str] = "job"
    """How a stored description says of which class it is; a subclass with another one is known once it is imported."""
    _kinds: ClassVar[dict[str, type[JobDescription]]] = {}
    _known: ClassVar[frozenset[str]] = frozenset()

    job_store_id: str
    version: int
    """Stored version that this came from; 0: never stored."""
    job_name: str
    unit_name: str
    display_name: str
    _requirements: dict[str, Any]
    _remaining_try_count: int | None
    _config: Config | None
    command: str | None
    """What to run, where the body is not a file."""
    body: JobBodyReference | None
    successor_phases: list[set[str]]
    """Bottom first; the last is run first."""
    service_tree: dict[str, list[str]]
    """Service to the services that run inside it."""
    predecessor_number: int
    predecessors_finished: set[str]
    files_to_use: set[str]
    files_to_delete: list[str]
    """Files that are to go before this job is changed again: a deletion that was begun."""
    log_job_store_file_id: str | None
    merged_jobs: list[str]
    """Ids of jobs that were chained into this one."""
    local: bool

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "kind" in vars(cls):
            JobDescription._kinds[cls.kind] = cls

    def __init__(
        self,
        requirements: dict[str, Any] | None = None,
        job_name: str = "",
        unit_name: str = "",
        display_name: str = "",
        local: bool | None = None,
        files: Iterable[str] | None = None,
        **spelled: Any,
    ) -> None:
        """`requirements`: memory, cores, disk, preemptible, accelerators, as numbers or texts. The names may be spelled
        `jobName`, `unitName`, `displayName`; other keywords become attributes. UsageError for a requirement that is none."""
        vars(self).update(  # at once: assigning one by one costs a translation of each name
            job_store_id=TemporaryID(),
            version=0,
            job_name=str(job_name),
            unit_name=str(unit_name or ""),
            display_name=str(display_name or ""),
            _requirements={},
            _remaining_try_count=None,
            _config=None,
            command=None,
            body=None,
            successor_phases=[set(), set()],
            service_tree={},
            predecessor_number=0,
            predecessors_finished=set(),
            files_to_use=set(files or ()),
            files_to_delete=[],
            log_job_store_file_id=None,
            merged_jobs=[],
            local=bool(local),
        )
        for name, value in (requirements or {}).items():
            known = "preemptible" if name == "preemptable" else name
            self._requirements[known] = needs.parse(known, value)
        for name, value in spelled.items():
            setattr(self, name, value)

    # --------------------------------------------------------------------------------------------------- requirements

    @property
    def memory(self) -> int:
        """Bytes."""
        return int(self._need("memory"))

    @memory.setter
    def memory(self, value: int | str | None) -> None:
        self._set_need("memory", value)

    @property
    def cores(self) -> float:
        """Whole where it can be."""
        cores: float = self._need("cores")
        return cores

    @cores.setter
    def cores(self, value: float | str | None) -> None:
        self._set_need("cores", value)

    @property
    def disk(self) -> int:
        """Bytes."""
        return int(self._need("disk"))

    @disk.setter
    def disk(self, value: int | str | None) -> None:
        self._set_need("disk", value)

    @property
    def preemptible(self) -> bool:
        """May it run where the machine can be taken away?"""
        return bool(self._need("preemptible"))

    @preemptible.setter
    def preemptible(self, value: bool | str | None) -> None:
        self._set_need("preemptible", value)

    @property
    def preemptable(self) -> bool:
        """Another spelling of `preemptible`."""
        return self.preemptible

    @preemptable.setter
    def preemptable(self, value: bool | str | None) -> None:
        self._set_need("preemptible", value)

    @property
    def accelerators(self) -> list[dict[str, Any]]:
        """Each a dict with count, kind and what else was said."""
        found: list[dict[str, Any]] = self._need("accelerators")
        return found

    @accelerators.setter
    def accelerators(self, value: Any) -> None:
        self._set_need("accelerators", value)

    @property
    def requirements(self) -> dict[str, Any]:
        """All of them, the workflow's defaults filled in."""
        return {name: getattr(self, name) for name in needs.NAMES}

    def _need(self, name: str) -> Any:
        value = self._requirements.get(name)
        if value is not None:
            return value
        return needs.parse(name, getattr(self._config or Config, f"default_{name}"))

    def _set_need(self, name: str, value: Any) -> None:
        self._requirements[name] = needs.parse(name, value)

    # ---------------------------------------------------------------------------------------------------------- tries

    def assign_config(self, config: Config) -> None:
        """The workflow's defaults hold for this job from now on. The store does it at each load."""
        self._config = config

    @property
    def default_try_count(self) -> int:
        """Tries of a job that says nothing itself."""
        return int((self._config or Config).retry_count) + 1

    @property
    def remaining_try_count(self) -> int:
        """How often it may still be tried."""
        return self.default_try_count if self._remaining_try_count is None else self._remaining_try_count

    @remaining_try_count.setter
    def remaining_try_count(self, value: int | None) -> None:
        self._remaining_try_count = None if value is None else int(value)

    def clear_remaining_try_count(self) -> bool:
        """Back to the default; was it otherwise?"""
        changed = self._remaining_try_count is not None
        self._remaining_try_count = None
        return changed

    def reset_job(self) -> bool:
        """As before its first try: tries and log. Did anything change? (The log file itself is the caller's to delete.)"""
        changed = self.clear_remaining_try_count() or self.log_job_store_file_id is not None
        self.log_job_store_file_id = None
        return changed

    def setup_job_after_failure(self, exit_status: int | None = None, exit_reason: BatchJobExitReason | None = None) -> None:
        """Charge a try, unless the machine was lost and the workflow forgives that; give it the memory and disk to go on with.

        After MEMLIMIT the memory doubles if the workflow's `double_mem` says so. The caller stores it (`update_job`).
        """
        config = self._config or Config()
        if not (config.enable_unlimited_preemptible_retries and exit_reason == BatchJobExitReason.LOST):
            self.remaining_try_count = max(0, self.remaining_try_count - 1)
        if config.double_mem and exit_reason == BatchJobExitReason.MEMLIMIT:
            self.memory = self.memory * 2
        self.memory = max(self.memory, needs.parse_bytes(config.default_memory))
        self.disk = max(self.disk, needs.parse_bytes(config.default_disk))

    # ----------------------------------------------------------------------------------------------------------- body

    def has_body(self) -> bool:
        """Is there something to run? Not any more, once it has run."""
        return self.body is not None or self.command is not None

    def attach_body(self, file_store_id: str, module_string: str = "") -> None:
        """The body is this file of the store."""
        self.body = JobBodyReference(str(file_store_id), str(module_string))

    def detach_body(self) -> None:
        """It has run: only its successors are left of it."""
        self.body = self.command = None

    def get_body(self) -> JobBodyReference:
        """JobException if it has none."""
        if self.body is None:
            raise JobException(f"the job {self} has no body in a file")
        return self.body

    # ------------------------------------------------------------------------------------------------------ successors

    @property
    def child_ids(self) -> set[str]:
        """Run when this job's body has run."""
        return self.successor_phases[-1]

    @child_ids.setter
    def child_ids(self, ids: Iterable[str]) -> None:
        self.successor_phases[-1] = set(ids)

    @property
    def follow_on_ids(self) -> set[str]:
        """Run when the children and all that follows from them are done."""
        return self.successor_phases[-2]

    @follow_on_ids.setter
    def follow_on_ids(self, ids: Iterable[str]) -> None:
        self.successor_phases[-2] = set(ids)

    @property
    def services(self) -> list[str]:
        """Ids of all services."""
        return list(self.service_tree)

    def add_child(self, child_id: str) -> None:
        """One more child."""
        self.child_ids.add(child_id)

    def add_follow_on(self, follow_on_id: str) -> None:
        """One more follow-on."""
        self.follow_on_ids.add(follow_on_id)

    def add_service_host_job(self, service_id: str, parent_service_id: str | None = None) -> None:
        """A service; inside another one, which then starts first."""
        if parent_service_id is not None and parent_service_id not in self.service_tree:
            raise JobException(f"the job {self} has no service {parent_service_id!r} to run another one inside")
        self.service_tree.setdefault(service_id, [])
        if parent_service_id is not None:
            self.service_tree[parent_service_id].append(service_id)

    def has_child(self, child_id: str) -> bool:
        """Is it a child?"""
        return child_id in self.child_ids

    def has_follow_on(self, follow_on_id: str) -> bool:
        """Is it a follow-on?"""
        return follow_on_id in self.follow_on_ids

    def has_service_host_job(self, service_id: str) -> bool:
        """Is it a service?"""
        return service_id in self.service_tree

    def service_host_ids_in_batches(self) -> Iterator[list[str]]:
        """Those that may start at once, then those inside these, and so on."""
        inside = {service for services in self.service_tree.values() for service in services}
        batch = [service for service in self.service_tree if service not in inside]
        while batch:
            yield batch
            batch = [inner for service in batch for inner in self.service_tree.get(service, ())]

    def successors_by_phase(self) -> Iterator[tuple[int, str]]:
        """(phase, id) of all; the highest phase runs first."""
        for phase, ids in enumerate(self.successor_phases):
            for job in sorted(ids):
                yield phase, job

    def all_successors(self) -> Iterator[str]:
        """Children, follow-ons and what jobs chained into this one left."""
        return (job for _, job in self.successors_by_phase())

    def successors_and_service_hosts(self) -> Iterator[str]:
        """All other jobs that this one holds on to."""
        yield from self.all_successors()
        yield from self.services

    def next_successors(self) -> set[str] | None:
        """What may run next: empty while the job itself has yet to run; None when nothing is left."""
        if self.has_body():
            return set()
        return next((ids for ids in reversed(self.successor_phases) if ids), None)

    def filter_successors(self, predicate: Callable[[str], bool]) -> None:
        """Keep the successors of which this is true."""
        phases = [{job for job in ids if predicate(job)} for ids in self.successor_phases]
        self.successor_phases = [ids for ids in phases[:-2] if ids] + phases[-2:]

    def filter_service_hosts(self, predicate: Callable[[str], bool]) -> None:
        """Keep the services of which this is true."""
        keep = {service for service in self.service_tree if predicate(service)}
        self.service_tree = {s: [i for i in inner if i in keep] for s, inner in self.service_tree.items() if s in keep}

    def clear_dependents(self) -> None:
        """No successors, no services."""
        self.successor_phases = [set(), set()]
        self.service_tree = {}

    def is_subtree_done(self) -> bool:
        """Has it run, and nothing is left to follow?"""
        return not self.has_body() and next(self.successors_and_service_hosts(), None) is None

    def add_predecessor(self, predecessor_id: str = "") -> None:
        """One more job must finish before this one."""
        self.predecessor_number += 1

    def rename_references(self, renames: dict[str, str]) -> None:
        """Ids that other jobs have got meanwhile."""
        self.successor_phases = [{renames.get(job, job) for job in ids} for ids in self.successor_phases]
        tree = self.service_tree.items()
        self.service_tree = {renames.get(s, s): [renames.get(i, i) for i in inner] for s, inner in tree}
        self.predecessors_finished = {renames.get(job, job) for job in self.predecessors_finished}

    def replace(self, other: JobDescription) -> None:
        """Take the place of `other`, whose last successor this is: its id and version, and what it had yet to do after this.

        JobException while either has deletions pending: those must be done first.
        """
        for one in (self, other):
            if one.files_to_delete:
                raise JobException(f"the job {one} has files to delete: commit that before it is chained")
        own = self.job_store_id
        below = [{job for job in ids if job != own} for ids in other.successor_phases]
        self.successor_phases = [ids for ids in below if ids] + self.successor_phases
        self.merged_jobs = [*other.merged_jobs, *self.merged_jobs, own]
        self.files_to_use |= other.files_to_use
        self.job_store_id, self.version = other.job_store_id, other.version

    # -------------------------------------------------------------------------------------------------------- versions

    def assert_is_not_newer_than(self, other: JobDescription) -> None:
        """JobException if `other` is an older version of the same job."""
        if other.is_updated_by(self):
            raise JobException(f"the job {other} was read before the version that is at hand was stored")

    def is_updated_by(self, other: JobDescription) -> bool:
        """Is `other` a later version of this very job?"""
        return self.job_store_id == other.job_store_id and self.version < other.version

    def pre_update_hook(self) -> None:
        """Called by the store before each create and update; for subclasses to make themselves ready to be written."""

    async def on_registration(self, job_store: Any) -> None:
        """Called by the store when it has given this job its id; for subclasses."""

    def get_job_kind(self) -> str:
        """What sort of job it is, for statistics: its name and unit."""
        return self.unit_name or self.job_name or self.display_name

    def get_names(self) -> Names:
        """What it is called."""
        stats = self.display_name or self.job_name
        return Names(self.job_name, self.unit_name, self.display_name, stats, str(self.job_store_id))

    def __str__(self) -> str:
        name = repr(self.display_name or self.job_name) + (f" {self.unit_name}" if self.unit_name else "")
        return f"{name} {self.job_store_id} v{self.version}"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self})"

    # ---------------------------------------------------------------------------------------------------------- bytes

    def encode(self) -> bytes:
        """For the store. EncodingError names an attribute that cannot be stored; JobException: a successor has no id yet."""
        if any(isinstance(job, TemporaryID) for job in self.successors_and_service_hosts()):
            raise JobException(f"the job {self} has successors without an id: assign ids first, then rename_references")
        extra = {name: value for name, value in vars(self).items() if name[0] != "_" and name not in self._known}
        return _encode(Stored(
            self.kind, self.job_name, self.unit_name, self.display_name,
            {name: value for name, value in self._requirements.items() if value is not None},
            self._remaining_try_count, _text(self.command), self.body,
            [sorted(map(str, ids)) for ids in self.successor_phases],
            {str(service): list(map(str, inner)) for service, inner in self.service_tree.items()}, self.predecessor_number,
            sorted(map(str, self.predecessors_finished)), sorted(map(str, self.files_to_use)),
            list(map(str, self.files_to_delete)), _text(self.log_job_store_file_id), list(map(str, self.merged_jobs)),
            *self._special(), self.local,
            codec.encode(extra, allow_pickle=False, root="job") if extra else b"",
        ))  # fmt: skip

    def _special(self) -> tuple[Any, list[str], list[str | None]]:
        """Of a checkpoint and of a service."""
        return None, [], []

    @classmethod
    def decode(cls, data: bytes, job: str, version: int, config: Config | None = None) -> JobDescription:
        """A new object with what was stored. CorruptionError; JobException if its class is not imported here."""
        try:
            stored = _decode(data)
        except msgspec.MsgspecError as error:
            raise CorruptionError(f"the description of job {job} cannot be read ({error}), in record {version}") from error
        made_by = JobDescription._kinds.get(stored.kind)
        if made_by is None:
            raise JobException(f"the job {job} is a {stored.kind!r}: import the module with that kind of JobDescription first")
        desc = made_by.__new__(made_by)
        vars(desc).update(job_store_id=job, version=version, _config=config)
        desc._restore(stored)
        return desc

    def _restore(self, stored: Stored) -> None:
        vars(self).update(
            job_name=stored.job_name,
            unit_name=stored.unit_name,
            display_name=stored.display_name,
            _requirements=stored.requirements,
            _remaining_try_count=stored.tries,
            command=stored.command,
            body=JobBodyReference(*stored.body) if stored.body else None,
            successor_phases=[set(ids) for ids in stored.phases],
            service_tree=stored.services,
            predecessor_number=stored.predecessor_number,
            predecessors_finished=set(stored.predecessors_finished),
            files_to_use=set(stored.files_to_use),
            files_to_delete=stored.files_to_delete,
            log_job_store_file_id=stored.log,
            merged_jobs=stored.merged,
            local=stored.local,
        )
        if stored.extra:
            vars(self).update(codec.decode(stored.extra, allow_pickle=False))


def _text(value: str | None) -> str | None:
    """A plain string: ids are subclasses of it, which the encoder does not know."""
    return None if value is None else str(value)


JobDescription._kinds["job"] = JobDescription
JobDescription._known = frozenset(vars(JobDescription())) | {"checkpoint", "checkpoint_files_to_delete", "signals"}

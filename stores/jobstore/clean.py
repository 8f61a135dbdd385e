"""What a restart finds, put in order: planned by a pure function, committed in one piece.

The plan goes over the jobs that can be reached from the root, breadth first and without recursion, once:

- jobs that cannot be reached go, with the files that they were about to delete;
- a checkpoint that was started gets its body back, and all that followed from it goes;
- files that a job was about to delete go;
- of a job whose body has run, successors and services that are finished (their jobs are gone) are forgotten;
- signals of services that are missing are made anew;
- tries are reset, and logs of earlier tries go, those of jobs and those of the store;
- files that were to go with a job that does not exist go.

One commit makes it so. A crash before it changed nothing, and after it a second `clean` finds nothing to do. If another
instance changed one of the jobs meanwhile, the plan is made anew.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Iterator, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from towline.stores.jobstore.chain import Chain
from towline.stores.jobstore.config import Config
from towline.stores.jobstore.description import JobDescription
from towline.stores.jobstore.errors import ConcurrentFileModificationException, JobException
from towline.stores.jobstore.filestore import FileStore
from towline.stores.jobstore.kinds import SIGNAL, CheckpointJobDescription, ServiceJobDescription
from towline.stores.jobstore.records import Change, FileDeleted, JobDeleted, JobPut, LogsDropped
from towline.stores.jobstore.state import State

_TRIES = 20
Cache = MutableMapping[Any, JobDescription]


@dataclass
class Plan:
    """What is to be done. `changed` hold the descriptions as they are to be stored."""

    deleted: dict[str, int] = field(default_factory=dict)
    """Job to the version that was judged."""
    changed: dict[str, JobDescription] = field(default_factory=dict)
    bodies: dict[str, bytes] = field(default_factory=dict)
    """Of each changed job: its bytes (see `encode`)."""
    files: dict[str, None] = field(default_factory=dict)
    """Files to be deleted."""
    signals: list[str] = field(default_factory=list)
    """Services that lack a signal (each as often as one is missing): to be made before this can be committed."""
    logs_before: int = 0
    """Log messages with a lower number are dropped; 0: none is there."""

    def changes(self, state: State) -> Sequence[Change]:
        """What to commit. ConcurrentFileModificationException if a job that is to go was changed since."""
        for job, version in self.deleted.items():
            held = state.jobs.get(job)
            if held is not None and held.version != version:
                raise ConcurrentFileModificationException(job)
        changes: list[Change] = [FileDeleted(file) for file in self.files if file in state.files]
        changes += [JobDeleted(job) for job in self.deleted if job in state.jobs]
        changes += [JobPut(job, self.changed[job].version, body) for job, body in self.bodies.items()]
        return [*changes, LogsDropped(self.logs_before)] if self.logs_before else changes

    def encode(self) -> None:
        """Nothing is going to be altered any more."""
        for job, desc in self.changed.items():
            desc.pre_update_hook()
            self.bodies[job] = desc.encode()


class _Table:
    """The jobs of a state, decoded when they are asked for."""

    def __init__(self, state: State, config: Config) -> None:
        self.state = state
        self._config = config
        self._decoded: dict[str, JobDescription] = {}

    def __contains__(self, job: str) -> bool:
        return job in self.state.jobs

    def get(self, job: str) -> JobDescription:
        desc = self._decoded.get(job)
        if desc is None:
            held = self.state.jobs[job]
            desc = self._decoded[job] = JobDescription.decode(held.body, job, held.version, self._config)
        return desc

    def existing(self, jobs: Iterable[str]) -> Iterator[str]:
        return (job for job in jobs if job in self)

    def reachable(self, roots: Iterable[str]) -> dict[str, None]:
        """These jobs and all that they lead to, breadth first."""
        found = dict.fromkeys(self.existing(roots))
        todo = deque(found)
        while todo:
            for job in self.existing(self.get(todo.popleft()).successors_and_service_hosts()):
                if job not in found:
                    found[job] = None
                    todo.append(job)
        return found


def plan(state: State, seq: int, config: Config) -> Plan:
    """What `clean` has to do in this state, which nobody changes meanwhile and whose next record is `seq`. JobException."""
    if state.root not in state.jobs:
        raise JobException(f"the root job {state.root!r} does not exist" if state.root else "no root job is set")
    table, todo = _Table(state, config), Plan(logs_before=seq if state.logs else 0)
    reached = table.reachable([state.root])
    for job in state.jobs:
        if job not in reached:
            _delete(table.get(job), todo)
    for job in reached:
        desc = table.get(job)
        if job not in todo.deleted and isinstance(desc, CheckpointJobDescription):
            _restore(desc, table, todo)
    for job in reached:
        if job not in todo.deleted:
            _repair(table.get(job), table, todo)
    for file in state.files.values():
        entry = file.entry
        if entry.cleanup and entry.owner and (entry.owner not in state.jobs or entry.owner in todo.deleted):
            todo.files[entry.id] = None
    return todo


def _delete(desc: JobDescription, todo: Plan) -> None:
    todo.deleted[str(desc.job_store_id)] = desc.version
    todo.files.update(dict.fromkeys(map(str, desc.files_to_delete)))
    if desc.log_job_store_file_id is not None:
        todo.files[str(desc.log_job_store_file_id)] = None


def _restore(desc: CheckpointJobDescription, table: _Table, todo: Plan) -> None:
    """The checkpoint begins anew: what followed from it goes."""
    followers = table.reachable(desc.successors_and_service_hosts())
    if desc.restore_checkpoint():
        for job in followers:
            if job != desc.job_store_id and job not in todo.deleted:
                _delete(table.get(job), todo)
        todo.changed[str(desc.job_store_id)] = desc


def _repair(desc: JobDescription, table: _Table, todo: Plan) -> None:
    changed = False
    if desc.files_to_delete:
        todo.files.update(dict.fromkeys(map(str, desc.files_to_delete)))
        desc.files_to_delete = []
        changed = True
    if not desc.has_body():
        before = sum(1 for _ in desc.successors_and_service_hosts())
        desc.filter_successors(lambda job: job in table and job not in todo.deleted)
        desc.filter_service_hosts(lambda job: job in table and job not in todo.deleted)
        changed |= before != sum(1 for _ in desc.successors_and_service_hosts())
    if desc.log_job_store_file_id is not None:
        todo.files[str(desc.log_job_store_file_id)] = None
    changed |= desc.reset_job()
    if isinstance(desc, ServiceJobDescription):
        changed |= _signal(desc, table, todo)
    if changed:
        todo.changed[str(desc.job_store_id)] = desc


def _signal(desc: ServiceJobDescription, table: _Table, todo: Plan) -> bool:
    """Replace the signals that are missing by files that were made to be signals and are none yet; ask for the rest."""
    service, changed = str(desc.job_store_id), False
    missing = [at for at, file in enumerate(desc.signals) if file not in table.state.files]
    entries = (held.entry for held in table.state.files_of(service)) if missing else ()
    spare = [e.id for e in entries if e.hint == SIGNAL and e.cleanup and not e.size and e.id not in desc.signals]
    for at in missing:
        if spare:
            desc.signals[at], changed = spare.pop(), True
        else:
            todo.signals.append(service)
    return changed


class Cleaner:
    """Carries plans out in one open job store."""

    def __init__(self, chain: Chain, files: FileStore) -> None:
        self._chain = chain
        self._files = files

    async def clean(self, config: Config, cache: Cache | None = None) -> None:
        """See the module. A cache of descriptions is brought up to date with what was deleted and changed."""
        for attempt in range(_TRIES):
            todo = await self._plan(config)
            try:
                await self._files.commit(todo.changes)
            except ConcurrentFileModificationException:
                if attempt == _TRIES - 1:
                    raise
            else:
                break
        _note(todo, self._chain.state, cache)
        await self._files.sweep()

    async def _plan(self, config: Config) -> Plan:
        """A plan that lacks nothing: signals of services are files, which must be there before they are named."""
        while True:
            state = (await self._chain.refresh()).copy()
            seq = self._chain.position.seq
            todo = await asyncio.to_thread(_planned, state, seq, config)
            if not todo.signals:
                return todo
            for service in todo.signals:
                await self._files.get_empty_file_store_id(service, cleanup=True, basename=SIGNAL)


def _planned(state: State, seq: int, config: Config) -> Plan:
    todo = plan(state, seq, config)
    todo.encode()
    return todo


def _note(todo: Plan, state: State, cache: Cache | None) -> None:
    """It is committed: the cache loses and gets the descriptions that are gone and changed."""
    if cache is None:
        return
    for job in todo.deleted:
        cache.pop(job, None)
    for job, desc in todo.changed.items():
        held = state.jobs.get(job)
        if held is not None and held.body == todo.bodies[job]:
            desc.version = held.version
        cache[job] = desc

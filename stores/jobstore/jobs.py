"""The job verbs: create, load, update, delete, iterate, and several of them at once (`batch`).

A description that was loaded says from which stored version it came; an update is refused (ConcurrentFileModificationException)
unless that is still the stored one, so of two updates of one version one wins. What is read is as of one commit, and no older
than the call.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextvars import ContextVar, Token
from dataclasses import dataclass
from types import TracebackType
from uuid import uuid4

from towline.stores.jobstore import kinds
from towline.stores.jobstore.chain import Chain
from towline.stores.jobstore.config import Config
from towline.stores.jobstore.description import JobDescription, TemporaryID
from towline.stores.jobstore.errors import ConcurrentFileModificationException, JobException
from towline.stores.jobstore.filestore import FileStore
from towline.stores.jobstore.records import ABSENT, Change, JobDeleted, JobPut, RootSet
from towline.stores.jobstore.state import State

__all__ = ["Batch", "Jobs", "kinds"]

_NEVER = -2
"""As `expected`: an update of a description that was never stored."""
_SLICE = 256
"""Descriptions decoded before others get their turn on the event loop."""


class Jobs:
    """The jobs of one open job store."""

    def __init__(self, chain: Chain, files: FileStore, config: Callable[[], Config]) -> None:
        self._chain = chain
        self._files = files
        self._config = config

    # ------------------------------------------------------------------------------------------------------- changing

    async def create(self, desc: JobDescription, root: bool = False) -> None:
        """Store a new job, which gets an id if it has none; with `root`, as the root job, in one commit.

        ConcurrentFileModificationException if there is a job of this id. In a batch nothing is there before its end.
        """
        if isinstance(desc.job_store_id, TemporaryID):
            desc.job_store_id = new_job_id()
        put = _Put(desc, ABSENT, self._body(desc))
        desc.assign_config(self._config())
        batch = _batch_of(self)
        if batch is not None:
            batch.put(put)
            batch.root = put.job if root else batch.root
        else:
            await self._commit([put], [], put.job if root else None)

    async def update(self, desc: JobDescription) -> None:
        """Store a changed job. NoSuchJobException, ConcurrentFileModificationException."""
        put = _Put(desc, desc.version or _NEVER, self._body(desc))
        batch = _batch_of(self)
        if batch is not None:
            batch.put(put)
        else:
            await self._commit([put], [], None)

    async def delete(self, job: str) -> None:
        """The job goes, with the files that it owns with `cleanup`. One that does not exist is no error."""
        batch = _batch_of(self)
        if batch is not None:
            batch.delete(str(job))
        else:
            await self._commit([], [str(job)], None)

    async def set_root(self, job: str) -> None:
        """This job is the root from now on; it need not exist yet."""
        batch = _batch_of(self)
        if batch is not None:
            batch.root = str(job)
        else:
            await self._commit([], [], str(job))

    @staticmethod
    def _body(desc: JobDescription) -> bytes:
        desc.pre_update_hook()
        return desc.encode()

    async def _commit(self, puts: Sequence[_Put], deleted: Sequence[str], root: str | None) -> None:
        """All in one commit. Deletions first: a job may be deleted and then created anew."""

        def build(state: State) -> Sequence[Change]:
            changes: list[Change] = [JobDeleted(job) for job in deleted if _holds(state, job)]
            changes += [put.change(state) for put in puts]
            return changes if root is None else [*changes, RootSet(root)]

        await self._files.commit(build)  # it deletes the blobs of the files that go, too
        for put in puts:
            put.stored(self._chain.state)

    # -------------------------------------------------------------------------------------------------------- reading

    async def load(self, job: str) -> JobDescription:
        """A new object. NoSuchJobException."""
        found = (await self._chain.refresh()).job(str(job))
        return JobDescription.decode(found.body, str(job), found.version, self._config())

    async def exists(self, job: str) -> bool:
        """Is there a job of this id?"""
        return str(job) in (await self._chain.refresh()).jobs

    async def root(self) -> JobDescription:
        """The root job. JobException if none is set, or if it is gone."""
        state = await self._chain.refresh()
        if not state.root:
            raise JobException(f"{self._chain.objects.url} has no root job: set one by set_root_job or create_root_job")
        found = state.jobs.get(state.root)
        if found is None:
            raise JobException(f"the root job {state.root!r} of {self._chain.objects.url} does not exist (any more)")
        return JobDescription.decode(found.body, state.root, found.version, self._config())

    async def all(self) -> AsyncIterator[JobDescription]:
        """Every job, as of one commit."""
        state = await self._chain.refresh()
        held, config = list(state.jobs.items()), self._config()
        for at, (job, found) in enumerate(held):
            if at % _SLICE == _SLICE - 1:
                await asyncio.sleep(0)
            yield JobDescription.decode(found.body, job, found.version, config)

    # ---------------------------------------------------------------------------------------------------------- batch

    def batch(self) -> Batch:
        """`async with` it: what is created, updated, deleted or made root inside becomes one commit at its end."""
        return Batch(self)


def new_job_id() -> str:
    """An id that no job had before."""
    return str(uuid4())


@dataclass(slots=True)
class _Put:
    """A description on its way into the store."""

    desc: JobDescription
    expected: int
    body: bytes

    @property
    def job(self) -> str:
        """Its id."""
        return str(self.desc.job_store_id)

    def change(self, state: State) -> Change:
        """What to commit. NoSuchJobException, ConcurrentFileModificationException."""
        if self.expected == _NEVER:
            state.job(self.job)
            raise ConcurrentFileModificationException(self.job)
        return JobPut(self.job, self.expected, self.body)

    def stored(self, state: State) -> None:
        """It is committed: from now on the description is of this version. (If it was changed again since, it stays stale.)"""
        found = state.jobs.get(self.job)
        if found is not None and found.body == self.body:
            self.desc.version = found.version


def _holds(state: State, job: str) -> bool:
    """Is there anything that the deletion of this job would take away?"""
    return job in state.jobs or any(file.entry.cleanup for file in state.files_of(job))


# --------------------------------------------------------------------------------------------------------------- batch

_open: ContextVar[tuple[Batch, ...]] = ContextVar("towline_job_batches", default=())
"""The batches that the current task, or the one that started it, is inside of."""


def _batch_of(jobs: Jobs) -> Batch | None:
    """The innermost batch of these jobs that is still open here."""
    return next((batch for batch in reversed(_open.get()) if batch.jobs is jobs and not batch.closed), None)


class Batch:
    """Job verbs that become one commit at the end of an `async with`; after an exception, none.

    Tasks started inside belong to it. Reading does not see what is pending. For callers without a context of their own (the
    blocking face): `enter`, `leave`, then `commit` unless there was an exception.
    """

    def __init__(self, jobs: Jobs) -> None:
        self.jobs = jobs
        self.closed = False
        self.root: str | None = None
        self._puts: dict[str, _Put] = {}
        self._deleted: dict[str, None] = {}
        self._token: Token[tuple[Batch, ...]] | None = None

    def enter(self) -> Batch:
        """From now on the job verbs of this context are collected."""
        self._token = _open.set((*_open.get(), self))
        return self

    def leave(self) -> None:
        """No more."""
        self.closed = True
        if self._token is not None:
            _open.reset(self._token)
            self._token = None

    def put(self, put: _Put) -> None:
        """Remember a creation or update; a later one of the same job takes its place."""
        earlier = self._puts.get(put.job)
        if earlier is not None:
            put.expected = earlier.expected
        self._puts[put.job] = put

    def delete(self, job: str) -> None:
        """Remember a deletion; what was put before is forgotten."""
        self._puts.pop(job, None)
        self._deleted[job] = None

    async def commit(self) -> None:
        """Make it all durable. The errors are those of the verbs; after one of them, nothing was changed."""
        if self._puts or self._deleted or self.root is not None:
            await self.jobs._commit(list(self._puts.values()), list(self._deleted), self.root)

    async def __aenter__(self) -> Batch:
        return self.enter()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.leave()
        if error is None:
            await self.commit()

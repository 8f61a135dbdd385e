"""AbstractJobStore: a workflow's jobs, files, shared files and logs, durable, by Toil's verbs (its living, snake_case names).

    store = AbstractJobStore("s3://bucket/run")
    await store.initialize(Config())                  # or: await store.resume()
    job = await store.create_root_job(JobDescription(requirements={"memory": "2Gi"}, job_name="align"))
    async with store.write_file_stream(job.job_store_id, cleanup=True) as (stream, file_id):
        await stream.write(b"...")
    await store.close()

Any number of instances, in any processes, may share a store: every change is one commit of the job table's chain (`chain`), so
each verb happens at one moment for everybody, and a verb that has returned is durable. Reading verbs see all that was committed
before they were called. An instance belongs to the event loop in which it was opened. `towline.stores.blocking` is the same
without an event loop, and knows Toil's old names.

This file only says which part does what: `jobs`, `clean`, `filestore`, `exchange`, `leader`.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import AsyncIterator, Callable, Mapping, MutableMapping, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import IO, Any, NamedTuple, Self
from uuid import uuid4

from towline.engine import codec
from towline.engine.errors import TowlineError, UsageError
from towline.stores.destroy import destroy
from towline.stores.errors import NoStore, StoreForeign
from towline.stores.jobstore import leader, remains
from towline.stores.jobstore.blobs import ORPHAN_AGE_S, Collected
from towline.stores.jobstore.chain import Chain
from towline.stores.jobstore.clean import Cleaner
from towline.stores.jobstore.config import Config, config_of
from towline.stores.jobstore.description import JobDescription
from towline.stores.jobstore.errors import JobException, JobStoreExistsException, NoSuchFileException, NoSuchJobStoreException
from towline.stores.jobstore.exchange import Exchange
from towline.stores.jobstore.filestore import PUBLIC_URL_S, FileStore
from towline.stores.jobstore.hints import FileID
from towline.stores.jobstore.jobs import Batch, Jobs, new_job_id
from towline.stores.jobstore.records import Began, ConfigWritten, Destroyed
from towline.stores.locate import open_objects, parse
from towline.stores.objects.base import Objects
from towline.stores.objects.s3_encryption import KEY_FILE, Encryption
from towline.stores.store import Store
from towline.stores.transfer import transfer
from towline.stores.transfer.bulk import PARALLEL, Progress
from towline.stores.transfer.reading import UrlStream

AnyPath = str | os.PathLike[str]

RETURN_VALUE = "rootJobReturnValue"
"""The shared file with what the root job returned: codec bytes."""
_ENVIRONMENT: dict[str, tuple[str, ...]] = {
    "s3": (
        "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE", "AWS_CONFIG_FILE",
        "AWS_SHARED_CREDENTIALS_FILE", "AWS_CA_BUNDLE", "TOWLINE_SSE_KEY_FILE", "TOWLINE_SSE_KMS_KEY",
    ),
    "gs": (
        "GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_CLOUD_PROJECT", "STORAGE_EMULATOR_HOST", "TOWLINE_SSE_KEY_FILE",
        "TOWLINE_SSE_KMS_KEY",
    ),
}  # fmt: skip
"""What a worker's clients look at. Names and places only: no secret is handed on."""


class _Opened(NamedTuple):
    """An instance's parts, once it is connected."""

    objects: Objects
    chain: Chain
    files: FileStore
    jobs: Jobs
    cleaner: Cleaner
    exchange: Exchange


class AbstractJobStore:
    """A job store at a locator. Nothing is created or looked at before `initialize` or `resume`.

    `AbstractJobStore(locator)` raises LocatorError (a ValueError) for a text that names no place.
    """

    rootJobStoreIDFileName = "rootJobStoreID"
    publicUrlExpiration = timedelta(seconds=PUBLIC_URL_S)
    sharedFileNameRegex = re.compile(r"^[a-zA-Z0-9._-]+$")

    def __init__(
        self, locator: AnyPath, *, allow_pickle: bool = False, hardlinks: bool = False, sse_key_file: AnyPath | None = None
    ) -> None:
        """`allow_pickle`: the root job's return value may be one that only pickle can read. `hardlinks`: `read_file` may make
        hard links to a local store's own copies, which are made read-only then. `sse_key_file`: the key (SSE-C) of a bucket's
        store, unless TOWLINE_SSE_KEY_FILE or, at `initialize`, the configuration's `sse_key_file` names it."""
        self._locator = os.fspath(locator)
        self._place = parse(locator)
        self._allow_pickle = allow_pickle
        self._hardlinks = hardlinks
        self._key_file = None if sse_key_file is None else _absolute(sse_key_file)
        self._config: Config | None = None
        self._open: _Opened | None = None

    # ------------------------------------------------------------------------------------------------------- lifecycle

    @staticmethod
    def create_job_store(locator: AnyPath) -> AbstractJobStore:
        """The job store at this locator, as the constructor gives it."""
        return AbstractJobStore(locator)

    @property
    def config(self) -> Config:
        """The workflow's configuration, as it was written or resumed. UsageError before that."""
        if self._config is None:
            raise UsageError(f"the job store {self._locator} is not connected: call initialize or resume first")
        return self._config

    @config.setter
    def config(self, config: Any) -> None:
        self._config = config_of(config)

    @property
    def locator(self) -> str:
        """What names the store, as it was given."""
        return self._locator

    async def initialize(self, config: Any) -> None:
        """Make the job store, with a new workflow id, which the given configuration gets too.

        Raises:
            JobStoreExistsException: there is one.
            StoreForeign: something else is there.
            EncodingError: an attribute of the configuration cannot be stored; nothing was created.
        """
        given = config_of(config)
        ids: dict[str, Any] = {"workflow_id": str(uuid4()), "workflow_attempt_number": 0}
        began = Began(ids["workflow_id"], Config(**given.attributes() | ids).encode(), _version(), time.time())
        await self.close()
        if said := given.get("sse_key_file"):
            self._key_file = _absolute(said)
        objects = await self._objects(create=True)
        try:
            chain = await Chain.create(objects, began)
        except BaseException:
            await objects.close()
            raise
        self._connect(objects, chain)
        for name, value in ids.items():
            setattr(given, name, value)
            if given is not config:
                _set(config, name, value)
        self._config = given

    async def resume(self) -> None:
        """Connect to the job store that is there, and read its configuration. NoSuchJobStoreException."""
        await self.close()
        objects = await self._objects(create=False)
        try:
            chain = await Chain.open(objects)
        except NoStore as error:
            await objects.close()
            raise NoSuchJobStoreException(self._locator) from error
        except BaseException:
            await objects.close()
            raise
        self._connect(objects, chain)
        self._config = Config.decode(chain.state.config)

    async def _objects(self, create: bool) -> Objects:
        try:
            store = await Store.open(self._locator, create=create, encryption=self._encryption())
        except (NoStore, StoreForeign) as error:
            if create:
                raise
            raise NoSuchJobStoreException(self._locator) from error
        return store.objects

    def _encryption(self) -> Encryption | None:
        if self._key_file is None:
            return None
        if self._place.kind not in ("s3", "gs"):
            raise UsageError(f"{self._locator} cannot be encrypted: local stores have no key; leave sse_key_file away")
        return Encryption.by_key_file(self._key_file)

    def _connect(self, objects: Objects, chain: Chain) -> None:
        files = FileStore(objects, chain, hardlinks=self._hardlinks)
        jobs = Jobs(chain, files, lambda: self.config)
        exchange = Exchange(self._place.kind, files, lambda name: self.config.get(name))
        self._open = _Opened(objects, chain, files, jobs, Cleaner(chain, files), exchange)

    @property
    def _parts(self) -> _Opened:
        if self._open is None:
            raise UsageError(f"the job store {self._locator} is not connected: call initialize or resume first")
        return self._open

    @property
    def chain(self) -> Chain:
        """The job table's chain, for tools that look below the verbs (`verify`, `gc`, statistics)."""
        return self._parts.chain

    async def write_config(self) -> None:
        """Make the attributes that `config` has now the ones that others resume with."""
        data = self.config.encode()
        await self._parts.chain.commit(lambda state: [ConfigWritten(data)])

    async def close(self) -> None:
        """Wait for what runs, and let go of connections. Idempotent; the store stays as it is."""
        opened, self._open = self._open, None
        if opened is not None:
            await opened.exchange.close()
            await opened.files.close()
            await opened.chain.close()
            await opened.objects.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def destroy(self) -> None:
        """Delete all of the store, whatever is left of it, a run's journal at the same place included.

        May be called again and again, by instances that were never connected too. What others still do with the store fails
        from now on: NoSuchJobStoreException, also where another store is made in this place.
        """
        objects = self._open.objects if self._open is not None else open_objects(self._place, self._encryption())
        try:
            with suppress(TowlineError):  # it may be damaged, half gone, or none: what is there goes all the same
                chain = self._open.chain if self._open is not None else await Chain.open(objects)
                await chain.commit(lambda state: [Destroyed(time.time())])
                await chain.close()
            await (destroy(objects) if await remains.is_store(objects) else remains.delete(objects))
        finally:
            await self.close()
            await objects.close()

    def get_env(self) -> dict[str, str]:
        """Environment variables that a worker needs to reach this store: where, never with which secret."""
        said = {name: os.environ[name] for name in _ENVIRONMENT.get(self._place.kind, ()) if name in os.environ}
        return said if self._key_file is None else said | {KEY_FILE: self._key_file}

    def default_caching(self) -> bool:
        """Is a copy on the worker's own disk worth while?"""
        return self._place.kind in ("s3", "gs")

    async def clean(
        self,
        job_cache: MutableMapping[Any, JobDescription] | None = None,
        jobCache: MutableMapping[Any, JobDescription] | None = None,
    ) -> JobDescription:
        """Put the store in order after a restart, in one commit, and return the root job. See `clean`.

        A cache of descriptions by id is brought up to date. JobException if there is no root job. Nobody else should be at work.
        """
        await self._parts.cleaner.clean(self.config, job_cache if job_cache is not None else jobCache)
        return await self.load_root_job()

    # ------------------------------------------------------------------------------------------------------------ jobs

    async def set_root_job(self, job_id: str) -> None:
        """Make this job the root of the workflow."""
        await self._parts.jobs.set_root(job_id)

    async def load_root_job(self) -> JobDescription:
        """JobException if no root is set, or if it does not exist."""
        return await self._parts.jobs.root()

    async def create_root_job(self, job_description: JobDescription) -> JobDescription:
        """`create_job` and `set_root_job` in one commit."""
        await self._parts.jobs.create(job_description, root=True)
        return job_description

    async def get_root_job_return_value(self) -> Any:
        """What the root job returned. JobException if it has not (yet)."""
        try:
            async with self.read_shared_file_stream(RETURN_VALUE) as stream:
                data = await stream.read()
        except NoSuchFileException as error:
            raise JobException(f"the root job of {self._locator} has not returned yet: there is no {RETURN_VALUE}") from error
        return codec.decode(data, allow_pickle=self._allow_pickle)

    async def set_root_job_return_value(self, value: Any) -> None:
        """Fulfil the root job's promise. EncodingError names what cannot be stored."""
        data = codec.encode(value, allow_pickle=self._allow_pickle)
        async with self.write_shared_file_stream(RETURN_VALUE) as stream:
            await stream.write(data)

    async def assign_job_id(self, job_description: JobDescription) -> None:
        """Give the job an id that no other has. Files may be tied to it from now on."""
        job_description.job_store_id = new_job_id()
        job_description.version = 0
        await job_description.on_registration(self)

    def batch(self) -> Batch:
        """`async with store.batch():` job verbs inside become one commit at the end; after an exception, nothing of them."""
        return self._parts.jobs.batch()

    async def create_job(self, job_description: JobDescription) -> JobDescription:
        """Store a new job; one without an id gets one. ConcurrentFileModificationException if the id is taken."""
        await self._parts.jobs.create(job_description)
        return job_description

    async def job_exists(self, job_id: str) -> bool:
        """Is there such a job?"""
        return await self._parts.jobs.exists(job_id)

    async def load_job(self, job_id: str) -> JobDescription:
        """A new object of what is stored. NoSuchJobException."""
        return await self._parts.jobs.load(job_id)

    async def update_job(self, job_description: JobDescription) -> None:
        """Store what was changed. NoSuchJobException; ConcurrentFileModificationException if somebody else changed the job since
        this object was loaded or stored: load it again, then decide."""
        await self._parts.jobs.update(job_description)

    async def delete_job(self, job_id: str) -> None:
        """The job goes, and its files with `cleanup`, in one commit. One that does not exist is no error."""
        await self._parts.jobs.delete(job_id)

    def jobs(self) -> AsyncIterator[JobDescription]:
        """All jobs, exactly, as of one commit: `async for job in store.jobs()`."""
        return self._parts.jobs.all()

    # ----------------------------------------------------------------------------------------------------------- files

    async def write_file(self, local_path: AnyPath, job_id: str | None = None, cleanup: bool = False) -> FileID:
        """See `FileStore.write_file`."""
        return await self._parts.files.write_file(local_path, job_id, cleanup)

    def write_file_stream(
        self,
        job_id: str | None = None,
        cleanup: bool = False,
        basename: str | None = None,
        encoding: str | None = None,
        errors: str | None = None,
    ) -> AbstractAsyncContextManager[tuple[Any, FileID]]:
        """See `FileStore.write_file_stream`: (stream, id of the file to come)."""
        return self._parts.files.write_file_stream(job_id, cleanup, basename, encoding, errors)

    async def get_empty_file_store_id(
        self, job_id: str | None = None, cleanup: bool = False, basename: str | None = None
    ) -> FileID:
        """The id of a new, empty file."""
        return await self._parts.files.get_empty_file_store_id(job_id, cleanup, basename)

    async def read_file(self, file_id: str, local_path: AnyPath, symlink: bool = False) -> None:
        """See `FileStore.read_file`."""
        await self._parts.files.read_file(file_id, local_path, symlink)

    def read_file_stream(
        self, file_id: str, encoding: str | None = None, errors: str | None = None
    ) -> AbstractAsyncContextManager[Any]:
        """See `FileStore.read_file_stream`."""
        return self._parts.files.read_file_stream(file_id, encoding, errors)

    async def delete_file(self, file_id: str) -> None:
        """One that does not exist is no error."""
        await self._parts.files.delete_file(file_id)

    async def file_exists(self, file_id: str) -> bool:
        """Is there such a file?"""
        return await self._parts.files.file_exists(file_id)

    async def get_file_size(self, file_id: str) -> int:
        """Bytes; 0 if there is no such file."""
        return await self._parts.files.get_file_size(file_id)

    async def update_file(self, file_id: str, local_path: AnyPath) -> None:
        """See `FileStore.update_file`."""
        await self._parts.files.update_file(file_id, local_path)

    def update_file_stream(
        self, file_id: str, encoding: str | None = None, errors: str | None = None
    ) -> AbstractAsyncContextManager[Any]:
        """See `FileStore.update_file_stream`."""
        return self._parts.files.update_file_stream(file_id, encoding, errors)

    async def get_all_file_ids(self) -> list[FileID]:
        """The ids of all files, as of one commit."""
        return await self._parts.files.get_all_file_ids()

    async def get_file_job_association(self, file_id: str) -> str | None:
        """The job that the file was written for. NoSuchFileException."""
        return await self._parts.files.get_file_job_association(file_id)

    async def get_public_url(self, file_name: str) -> str:
        """See `FileStore.get_public_url`."""
        return await self._parts.files.get_public_url(file_name)

    async def get_shared_public_url(self, shared_file_name: str) -> str:
        """See `FileStore.get_shared_public_url`."""
        return await self._parts.files.get_shared_public_url(shared_file_name)

    async def gc(self, *, dry_run: bool = True, older_than_s: float = ORPHAN_AGE_S) -> Collected:
        """Blobs that no file is made of: see `Blobs.gc`."""
        return await self._parts.files.gc(dry_run=dry_run, older_than_s=older_than_s)

    # ------------------------------------------------------------------------------------------ shared files and logs

    def write_shared_file_stream(
        self, shared_file_name: str, encrypted: bool | None = None, encoding: str | None = None, errors: str | None = None
    ) -> AbstractAsyncContextManager[Any]:
        """See `SharedFiles.write_stream`."""
        return self._parts.files.shared.write_stream(shared_file_name, encrypted, encoding, errors)

    def read_shared_file_stream(
        self, shared_file_name: str, encoding: str | None = None, errors: str | None = None
    ) -> AbstractAsyncContextManager[Any]:
        """See `SharedFiles.read_stream`."""
        return self._parts.files.shared.read_stream(shared_file_name, encoding, errors)

    async def write_logs(self, msg: str | bytes) -> None:
        """Add a log message."""
        await self._parts.files.logs.write(msg)

    async def read_logs(self, callback: Callable[..., Any], read_all: bool = False) -> int:
        """Hand each unread message (or each there is) to `callback`, oldest first; how many that was. See `Logs.read`."""
        return await self._parts.files.logs.read(callback, read_all)

    async def write_leader_pid(self) -> None:
        """Say that this process leads."""
        await leader.write_text(self._parts.files.shared, leader.PID, leader.pid())

    async def read_leader_pid(self) -> int:
        """NoSuchFileException if nobody said so."""
        return await leader.read_pid(self._parts.files.shared)

    async def write_leader_node_id(self) -> None:
        """Say that this machine leads."""
        await leader.write_text(self._parts.files.shared, leader.NODE_ID, leader.node_id())

    async def read_leader_node_id(self) -> str:
        """NoSuchFileException if nobody said so."""
        return (await leader.read_text(self._parts.files.shared, leader.NODE_ID)).strip()

    async def write_kill_flag(self, kill: bool = False) -> None:
        """Ask the leader to end, or take that back."""
        await leader.write_kill_flag(self._parts.files.shared, kill)

    async def read_kill_flag(self) -> bool:
        """Is the leader to end?"""
        return await leader.read_kill_flag(self._parts.files.shared)

    # ------------------------------------------------------------------------------------------------ import and export

    async def import_file(
        self, src_uri: AnyPath, shared_file_name: str | None = None, hardlink: bool = False, symlink: bool = True
    ) -> FileID | None:
        """See `Exchange.import_file`: the new id, or None with a shared name."""
        return await self._parts.exchange.import_file(src_uri, shared_file_name, hardlink=hardlink, symlink=symlink)

    async def import_files(
        self, src_uris: Sequence[AnyPath], *, parallel: int = PARALLEL, progress: Callable[[Progress], None] | None = None
    ) -> list[FileID]:
        """Several at once; their ids in the order of the URLs."""
        return await self._parts.exchange.import_files(src_uris, parallel, progress)

    async def export_file(self, file_id: str, dst_uri: AnyPath) -> None:
        """See `Exchange.export_file`."""
        await self._parts.exchange.export_file(file_id, dst_uri)

    async def export_files(
        self,
        exports: Sequence[tuple[str, AnyPath]],
        *,
        parallel: int = PARALLEL,
        progress: Callable[[Progress], None] | None = None,
    ) -> None:
        """Several (file id, URL) at once."""
        await self._parts.exchange.export_files(exports, parallel, progress)

    @classmethod
    async def url_exists(cls, src_uri: AnyPath) -> bool:
        """See `Transfer.url_exists`."""
        return await transfer.url_exists(src_uri)

    @classmethod
    async def get_size(cls, src_uri: AnyPath) -> int | None:
        """See `Transfer.get_size`."""
        return await transfer.get_size(src_uri)

    @classmethod
    async def get_is_directory(cls, src_uri: AnyPath) -> bool:
        """See `Transfer.get_is_directory`."""
        return await transfer.get_is_directory(src_uri)

    @classmethod
    async def list_url(cls, src_uri: AnyPath) -> list[str]:
        """See `Transfer.list_url`."""
        return await transfer.list_url(src_uri)

    @classmethod
    async def read_from_url(cls, src_uri: AnyPath, writable: IO[bytes] | Any) -> tuple[int, bool]:
        """See `Transfer.read_from_url`: (bytes, executable)."""
        return await transfer.read_from_url(src_uri, writable)

    @classmethod
    async def open_url(cls, src_uri: AnyPath) -> UrlStream:
        """See `Transfer.open_url`."""
        return await transfer.open_url(src_uri)


class JobStoreSupport(AbstractJobStore):
    """For its class methods only: URLs that belong to no job store."""


async def open_store(locator: AnyPath, *, create: bool = False, config: Any = None) -> AbstractJobStore:
    """The job store at this locator, connected; with `create`, made where there is none. NoSuchJobStoreException."""
    store = AbstractJobStore(locator)
    if create:
        with suppress(JobStoreExistsException):
            await store.initialize(Config() if config is None else config)
            return store
    await store.resume()
    return store


def _absolute(path: AnyPath) -> str:
    """Of a file that workers, too, shall find, wherever they run."""
    return str(Path(path).expanduser().absolute())


def _set(target: Any, name: str, value: Any) -> None:
    """On what the caller gave instead of a Config."""
    if isinstance(target, MutableMapping):
        target[name] = value
    elif not isinstance(target, Mapping):
        setattr(target, name, value)


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("towline")
    except PackageNotFoundError:
        return "0"

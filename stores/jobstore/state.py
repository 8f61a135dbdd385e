"""What the job table's records add up to: a pure fold, without I/O, clock or chance.

`check` says whether a change may follow, `apply` makes it follow; both know nothing of how changes become durable. A `fork`
is the same state with a thin layer on top, in which changes can be tried (and thrown away) while readers go on seeing what is
committed. Everything held is immutable, so a reader may keep what it was given.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from typing import Any, NamedTuple, TypeVar, cast

from towline.stores.jobstore import records
from towline.stores.jobstore.errors import (
    ConcurrentFileModificationException,
    JobStoreExistsException,
    NoSuchFileException,
    NoSuchJobException,
    NoSuchJobStoreException,
)
from towline.stores.jobstore.records import ABSENT, ANY, Change, FileEntry, LogWritten, Snapshotted

K = TypeVar("K")
V = TypeVar("V")
_GONE: Any = object()


class Job(NamedTuple):
    """A job as it is stored."""

    version: int
    """Number of the record that put this version."""
    body: bytes
    """msgpack of `description.Stored`."""


class File(NamedTuple):
    """A file or shared file as it is stored."""

    version: int
    entry: FileEntry


class Layer(MutableMapping[K, V]):
    """A mapping on top of another that is left as it is."""

    def __init__(self, base: Mapping[K, V]) -> None:
        self._base = base
        self._own: dict[K, V] = {}

    def __getitem__(self, key: K) -> V:
        value = self._own.get(key, None)
        if value is None:
            return self._base[key]
        if value is _GONE:
            raise KeyError(key)
        return value

    def __setitem__(self, key: K, value: V) -> None:
        assert value is not None, "None stands for `not in this layer`"
        self._own[key] = value

    def __delitem__(self, key: K) -> None:
        if key not in self:
            raise KeyError(key)
        self._own[key] = _GONE

    def __iter__(self) -> Iterator[K]:
        for key in self._base:
            if key not in self._own:
                yield key
        for key, value in self._own.items():
            if value is not _GONE:
                yield key

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __contains__(self, key: object) -> bool:
        value: Any = cast(dict[object, V], self._own).get(key)
        return key in self._base if value is None else value is not _GONE


class State:
    """The folded job table. Read its attributes freely; change it by `apply` alone."""

    def __init__(self) -> None:
        self.began = False
        self.destroyed = False
        self.workflow = ""
        """Id of the workflow."""
        self.config = b""
        """Codec bytes of the configuration's attributes."""
        self.config_version = 0
        self.root = ""
        """Id of the root job; empty: none is set."""
        self.jobs: MutableMapping[str, Job] = {}
        self.files: MutableMapping[str, File] = {}
        self.shared: MutableMapping[str, File] = {}
        """By name."""
        self.owned: MutableMapping[str, dict[str, bool]] = {}
        """Owner to the ids of its files; of a fork, only what it changed (False: not its file any more). Use `files_of`."""
        self.condemned: MutableMapping[str, bool] = {}
        """Blobs that nobody may name any more; for ever, since a writer may be slow without bound."""
        self.doomed: MutableMapping[str, bool] = {}
        """Blobs that were named once and are to be deleted."""
        self.logs: MutableMapping[int, LogWritten] = {}
        """By number, oldest first."""
        self.unread: MutableMapping[int, bool] = {}
        """Numbers of the logs that nobody has read."""
        self.snapshot: Snapshotted | None = None
        """The last one that was named."""
        self._forked: State | None = None

    # ------------------------------------------------------------------------------------------------------- reading

    def job(self, job: str) -> Job:
        """NoSuchJobException if there is none."""
        found = self.jobs.get(job)
        if found is None:
            raise NoSuchJobException(job)
        return found

    def file(self, file: str) -> File:
        """NoSuchFileException if there is none."""
        found = self.files.get(file)
        if found is None:
            raise NoSuchFileException(file)
        return found

    def shared_file(self, name: str) -> File:
        """NoSuchFileException if nothing was written under this name."""
        found = self.shared.get(name)
        if found is None:
            raise NoSuchFileException(name)
        return found

    def files_of(self, owner: str) -> list[File]:
        """The files that were written for this job, whether it exists or not."""
        if self._forked is None:
            return [self.files[file] for file in self.owned.get(owner, ())]
        mine = self.owned.get(owner, {})
        below = [file.entry.id for file in self._forked.files_of(owner) if file.entry.id not in mine]
        return [self.files[file] for file in (*below, *(file for file, still in mine.items() if still))]

    def blobs(self) -> set[str]:
        """Every blob that is in use: named by a file, a shared file or a log."""
        held = {file.entry.blob for table in (self.files, self.shared) for file in table.values()}
        return held | {log.blob.blob for log in self.logs.values() if log.blob is not None}

    # ------------------------------------------------------------------------------------------------------ changing

    def fork(self) -> State:
        """The same state to try changes on; what is applied to it does not show here. Good as long as this one stands still."""
        fork = State()
        fork._take_scalars(self)
        fork._forked = self
        for name in _TABLES:
            setattr(fork, name, Layer(getattr(self, name)))
        return fork

    def copy(self) -> State:
        """The same state, which goes its own way; costs a shallow copy of the tables."""
        copy = State()
        copy._take_scalars(self)
        for name in _TABLES:
            setattr(copy, name, dict(getattr(self, name)))
        copy.owned = {owner: dict(files) for owner, files in self.owned.items()}
        return copy

    def _take_scalars(self, other: State) -> None:
        for name in _SCALARS:
            setattr(self, name, getattr(other, name))

    def check(self, change: Change) -> Exception | None:
        """What forbids that `change` follows, or None. Raised as it is to the caller whose change it is."""
        if self.destroyed:
            return NoSuchJobStoreException(self.workflow)
        match change:
            case records.Began():
                return JobStoreExistsException(None, self.workflow) if self.began else None
            case records.JobPut():
                return self._check_job(change)
            case records.FilePut(entry=entry):
                return self._check_blob(entry) or _check_version(self.files.get(entry.id), change.expected, entry.id)
            case records.SharedPut(entry=entry):
                fault = self._check_blob(entry)
                if fault is None and change.expected != ANY:
                    fault = _check_version(self.shared.get(entry.id), change.expected, entry.id)
                return fault
            case records.LogWritten(blob=FileEntry() as entry):
                return self._check_blob(entry)
            case records.LogsRead(numbers=numbers, undone=undone):
                wrong = [n for n in numbers if n not in self.logs or (n in self.unread) is undone]
                return ConcurrentFileModificationException(f"log {wrong[0]}") if wrong else None
            case _:
                return None

    def _check_job(self, put: records.JobPut) -> Exception | None:
        held = self.jobs.get(put.job)
        if put.expected == ABSENT:
            return ConcurrentFileModificationException(put.job) if held is not None else None
        if held is None:
            return NoSuchJobException(put.job)
        return None if put.expected in (held.version, ANY) else ConcurrentFileModificationException(put.job)

    def _check_blob(self, entry: FileEntry) -> Exception | None:
        """A blob that the collector condemned, or that was deleted already, cannot be named again."""
        lost = entry.blob in self.condemned or entry.blob in self.doomed
        return ConcurrentFileModificationException(entry.id) if lost else None

    def apply(self, seq: int, change: Change) -> None:
        """Let `change`, which `check` let pass, follow as record `seq`."""
        match change:
            case records.JobPut():
                self.jobs[change.job] = Job(seq, change.body)
            case records.JobDeleted():
                self._delete_job(change.job)
            case records.FilePut():
                self._put_file(seq, change.entry)
            case records.FileDeleted():
                self._delete_file(change.file)
            case records.SharedPut():
                self._put_shared(seq, change.entry)
            case records.SharedDeleted():
                self._doom(self.shared.pop(change.name, None))
            case records.Condemned():
                self.condemned.update(dict.fromkeys(change.blobs, True))
            case records.Swept():
                self._drop(self.doomed, change.blobs)
            case records.LogWritten():
                self.logs[seq] = change
                self.unread[seq] = True
            case records.LogsRead():
                self._read_logs(change)
            case records.LogsDropped():
                self._drop_logs(change.before)
            case _:
                self._apply_rare(seq, change)

    def _apply_rare(self, seq: int, change: Change) -> None:
        match change:
            case records.RootSet():
                self.root = change.job
            case records.Began():
                self.began, self.workflow = True, change.workflow
                self.config, self.config_version = change.config, seq
            case records.ConfigWritten():
                self.config, self.config_version = change.config, seq
            case records.Snapshotted():
                self.snapshot = change
            case records.Destroyed():
                self.destroyed = True
            case _:
                raise AssertionError(f"{type(change).__name__} is applied above")

    def _delete_job(self, job: str) -> None:
        self.jobs.pop(job, None)
        for file in self.files_of(job):
            if file.entry.cleanup:
                self._delete_file(file.entry.id)

    def _put_file(self, seq: int, entry: FileEntry) -> None:
        old = self.files.get(entry.id)
        self.files[entry.id] = File(seq, entry)
        if old is not None and old.entry.blob != entry.blob:
            self.doomed[old.entry.blob] = True
        if old is not None and old.entry.owner != entry.owner:
            self._disown(old.entry)
        if entry.owner:
            self.owned.setdefault(entry.owner, {})[entry.id] = True

    def _delete_file(self, file: str) -> None:
        old = self.files.pop(file, None)
        self._doom(old)
        if old is not None:
            self._disown(old.entry)

    def _disown(self, entry: FileEntry) -> None:
        if self._forked is not None:
            if entry.owner:
                self.owned.setdefault(entry.owner, {})[entry.id] = False
            return
        held = self.owned.get(entry.owner)
        if held is not None:
            held.pop(entry.id, None)
            if not held:
                del self.owned[entry.owner]

    def _put_shared(self, seq: int, entry: FileEntry) -> None:
        old = self.shared.get(entry.id)
        self.shared[entry.id] = File(seq, entry)
        if old is not None and old.entry.blob != entry.blob:
            self.doomed[old.entry.blob] = True

    def _doom(self, file: File | None) -> None:
        if file is not None:
            self.doomed[file.entry.blob] = True

    def _read_logs(self, change: records.LogsRead) -> None:
        if change.undone:
            self.unread.update(dict.fromkeys(change.numbers, True))
        else:
            self._drop(self.unread, change.numbers)

    def _drop_logs(self, before: int) -> None:
        gone = [number for number in self.logs if number < before]
        for number in gone:
            blob = self.logs.pop(number).blob
            self.unread.pop(number, None)
            if blob is not None:
                self.doomed[blob.blob] = True

    @staticmethod
    def _drop(table: MutableMapping[Any, bool], keys: Iterable[Any]) -> None:
        for key in keys:
            table.pop(key, None)

    # ---------------------------------------------------------------------------------------------------- comparing

    def facts(self) -> dict[str, Any]:
        """All of it as plain values, for tests that compare states: a snapshot and the full replay must give equal ones."""
        tables = {name: dict(sorted(getattr(self, name).items())) for name in (*_TABLES, "owned")}
        return {name: getattr(self, name) for name in _SCALARS} | tables


_SCALARS = ("began", "destroyed", "workflow", "config", "config_version", "root", "snapshot")
_TABLES = ("jobs", "files", "shared", "condemned", "doomed", "logs", "unread")


def _check_version(held: File | None, expected: int, name: str) -> Exception | None:
    if expected == ABSENT:
        return None if held is None else ConcurrentFileModificationException(name)
    if held is None:
        return NoSuchFileException(name)
    return None if expected in (held.version, ANY) else ConcurrentFileModificationException(name)

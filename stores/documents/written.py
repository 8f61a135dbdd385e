"""The documents that somebody wrote: rows of a chain of their own, `documents/<collection>/` in the store (decision 0009).

It is the job table's machinery (`jobstore.chain`, `jobstore.blobs`) in another place: any number of writers, each commit one
segment by conditional create, all of its documents or none. A document is a row whose body is msgpack `[over, document]`:

    over      the attempt [epoch, counter] of the run's outcome that it stands in front of, or nil
    document  codec bytes; empty for one that hides the outcome (it was removed); nil if the bytes are the row's blob

A row's id is `<index>.<salt>.<field>:<text>`: what the document says in its `index` field, something that makes the id unique
where that is not enough, and the field that documents are found by with its value. So an index over all documents costs no look
into their bodies.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple
from uuid import uuid4

import msgspec

from towline.engine import codec
from towline.engine.errors import CorruptionError, UsageError
from towline.engine.model import INLINE_LIMIT
from towline.stores.documents.criteria import Document
from towline.stores.fileformat import PART
from towline.stores.jobstore import records
from towline.stores.jobstore.blobs import Blobs, Collected
from towline.stores.jobstore.chain import Chain
from towline.stores.jobstore.errors import JobStoreExistsException, NoSuchFileException, NoSuchJobStoreException
from towline.stores.jobstore.hints import new_blob
from towline.stores.jobstore.records import ABSENT, ANY, Change, FileDeleted, FileEntry, FilePut, JobDeleted, JobPut
from towline.stores.jobstore.state import Job, State
from towline.stores.jobstore.streams import BlobWriter
from towline.stores.objects.base import Objects, ObjectsError
from towline.stores.objects.wrappers import Prefixed
from towline.stores.store import is_ours

PREFIX = "documents/"
MAIN = "main"
"""The collection that stands before the runs' own documents."""


class Id(NamedTuple):
    """What a row's id says. `number` is the document's index, or empty."""

    number: str
    salt: str
    field: str
    text: str

    @classmethod
    def parse(cls, id: str) -> Id:
        """From a row."""
        head, _, text = id.partition(":")
        number, salt, field = head.split(".", 2)
        return cls(number, salt, field, text)

    def __str__(self) -> str:
        return f"{self.number}.{self.salt}.{self.field}:{self.text}"


def id_of(document: Document, key: str) -> Id:
    """The id of a document that is found by the field `key`."""
    text, index = document.get(key), document.get("index")
    number = str(index) if type(index) is int else ""
    return Id(number, "", key, text) if type(text) is str else Id(number, uuid4().hex, "", "")


class Entry(NamedTuple):
    """A row that is to be written."""

    id: str
    document: Document | None
    """None: hide the outcome."""
    over: list[int] | None = None


class Row(NamedTuple):
    """A row as it is stored."""

    over: list[int] | None
    document: bytes | None
    """Codec bytes; None: in the row's blob; empty: the outcome is hidden."""

    @property
    def hides(self) -> bool:
        """Is there no document?"""
        return self.document == b""


def _row(body: bytes, name: str) -> Row:
    try:
        over, document = msgspec.msgpack.decode(body, type=tuple[list[int] | None, bytes | None])
    except msgspec.MsgspecError as error:
        raise CorruptionError(f"{name}: a document's row cannot be read ({error}), at offset 0") from error
    return Row(over, document)


class Index(dict[str, Job]):
    """The rows by id, with the ids by what they say. Replaces `State.jobs`, so that it is kept up by whatever changes that."""

    def __init__(self, jobs: Iterable[tuple[str, Job]] = ()) -> None:
        super().__init__()
        self._by: dict[tuple[str, str], dict[str, None]] = {}
        self._fields: dict[str, dict[str, None]] = {}
        for id, job in jobs:
            self[id] = job

    def __setitem__(self, id: str, job: Job) -> None:
        if id not in self:
            said = Id.parse(id)
            self._by.setdefault((said.field, said.text), {})[id] = None
            self._fields.setdefault(said.field, {})[id] = None
        super().__setitem__(id, job)

    def __delitem__(self, id: str) -> None:
        super().__delitem__(id)
        self._forget(id)

    def pop(self, id: str, *default: Any) -> Any:
        """See `dict.pop`."""
        if id in self:
            self._forget(id)
        return super().pop(id, *default)

    def _forget(self, id: str) -> None:
        said = Id.parse(id)
        self._by[said.field, said.text].pop(id, None)
        self._fields[said.field].pop(id, None)

    def having(self, field: str, text: str) -> Iterator[str]:
        """The ids that say this of this field."""
        return iter(list(self._by.get((field, text), ())))

    def silent_on(self, field: str) -> Iterator[str]:
        """The ids that say nothing of this field: their documents must be looked at."""
        for other, ids in self._fields.items():
            if other != field:
                yield from list(ids)


class Written:
    """One collection of a store. Lives in one event loop; `close` at the end."""

    def __init__(self, objects: Objects, collection: str = MAIN) -> None:
        self._objects = Prefixed(objects, PREFIX + collection)
        self._chain: Chain | None = None
        self._blobs: Blobs | None = None

    @property
    def rows(self) -> Index:
        """The rows that are committed, as far as the last `refresh` has seen."""
        if self._chain is None:
            return Index()
        state = self._chain.state
        if not isinstance(state.jobs, Index):  # it was loaded anew
            state.jobs = Index(state.jobs.items())
        return state.jobs

    async def refresh(self) -> None:
        """See all that was committed before this call. No chain yet: no documents."""
        if self._chain is None:
            try:
                await self._open()
            except NoSuchJobStoreException:
                return
        else:
            await self._chain.refresh()

    async def _open(self) -> tuple[Chain, Blobs]:
        if self._chain is None or self._blobs is None:
            self._chain = await Chain.open(self._objects)
            self._blobs = Blobs(self._objects, self._chain)
        return self._chain, self._blobs

    async def _made(self) -> tuple[Chain, Blobs]:
        """The chain, begun by the first who needs it."""
        if self._chain is None:
            try:
                self._chain = await Chain.create(self._objects, records.Began(uuid4().hex, b""))
                self._blobs = Blobs(self._objects, self._chain)
            except JobStoreExistsException:
                pass
        return await self._open()

    async def gc(self, *, dry_run: bool = True) -> Collected:
        """Find, and without `dry_run` delete, content that no row names; keys count from the collection. See `Blobs.gc`."""
        _, blobs = await self._open()
        return await blobs.gc(dry_run=dry_run)

    async def close(self) -> None:
        """Let go."""
        if self._chain is not None and self._blobs is not None:
            await self._blobs.close()
            await self._chain.close()
        self._chain = self._blobs = None

    # --------------------------------------------------------------------------------------------------------- reading

    def row(self, id: str) -> Row | None:
        """A row, or None."""
        job = self.rows.get(id)
        return None if job is None else _row(job.body, self._objects.url)

    def version(self, id: str) -> int:
        """What a change may make depend on; ABSENT if there is no such row."""
        job = self.rows.get(id)
        return ABSENT if job is None else job.version

    async def documents(self, ids: Sequence[str]) -> dict[str, Document]:
        """The documents of these rows; those that hide something, or went meanwhile, are left out."""
        found = {id: row for id in ids if (row := self.row(id)) is not None and not row.hides}
        small = {id: row.document for id, row in found.items() if row.document is not None}
        documents = await asyncio.to_thread(_decoded, small)
        for id in found:
            if id not in small:
                data = await self._large(id)
                if data is not None:
                    documents[id] = await asyncio.to_thread(codec.decode, data)
        return {id: documents[id] for id in ids if id in documents}

    async def _large(self, id: str) -> bytes | None:
        assert self._blobs is not None
        try:
            async with self._blobs.reading(lambda state: state.file(id)) as (_, reader):
                data = await reader.read()
        except NoSuchFileException:
            row = self.row(id)
            return None if row is None or row.hides else row.document
        assert isinstance(data, bytes)
        return data

    # --------------------------------------------------------------------------------------------------------- writing

    async def commit(self, entries: Sequence[Entry], removed: Sequence[str] = (), expected: dict[str, int] | None = None) -> None:
        """Write these rows and delete those, all or nothing; of two entries with one id the later counts.

        `expected`: versions that rows must still have. ConcurrentFileModificationException, NoSuchJobException if they have not.
        """
        _, blobs = await self._made()
        entries = list({entry.id: entry for entry in entries}.values())
        encoded = await asyncio.to_thread(lambda: [codec.encode(entry.document, root="document") for entry in entries])
        beside: dict[str, FileEntry] = {}
        written: list[str] = []
        try:
            for entry, data in zip(entries, encoded, strict=True):
                if entry.document is not None and len(data) > INLINE_LIMIT:
                    beside[entry.id] = await self._lay_aside(blobs, entry.id, data, written)
            await blobs.commit(self._build(entries, encoded, beside, removed, expected or {}))
        except ObjectsError:
            raise  # it may still come to pass; if not, the blobs are orphans for `gc`
        except Exception:
            if written:
                await blobs.to_the_end(self._objects.delete_many(written))
            raise

    async def _lay_aside(self, blobs: Blobs, id: str, data: bytes, written: list[str]) -> FileEntry:
        key, secret = new_blob(uuid4().hex), blobs.encrypts
        writer = BlobWriter(blobs.view(secret), key)
        try:
            await writer.write(data)
            content = await writer.finish()
        except BaseException:
            await blobs.to_the_end(writer.abandon())
            raise
        written.append(key)
        return FileEntry(id, key, content.size, PART, content.crcs, owner=id, cleanup=True, encrypted=secret)

    def _build(
        self,
        entries: Sequence[Entry],
        encoded: Sequence[bytes],
        beside: dict[str, FileEntry],
        removed: Sequence[str],
        expected: dict[str, int],
    ) -> Callable[[State], Sequence[Change]]:
        def build(state: State) -> Sequence[Change]:
            changes: list[Change] = []
            for entry, data in zip(entries, encoded, strict=True):
                held = state.jobs.get(entry.id)
                body = b"" if entry.document is None else None if entry.id in beside else data
                version = expected.get(entry.id, ABSENT if held is None else held.version)
                changes.append(JobPut(entry.id, version, msgspec.msgpack.encode([entry.over, body])))
                if entry.id in beside:
                    changes.append(FilePut(beside[entry.id], ANY if entry.id in state.files else ABSENT))
                elif entry.id in state.files:
                    changes.append(FileDeleted(entry.id))
            for id in removed:
                if id in state.jobs:
                    changes.append(JobDeleted(id))
            return changes

        return build


def _decoded(data: dict[str, bytes]) -> dict[str, Document]:
    return {id: codec.decode(said) for id, said in data.items()}


async def collections(objects: Objects) -> list[str]:
    """The names of the collections that a store has."""
    found = {meta.key.split("/")[1] async for meta in objects.list(PREFIX) if is_ours(meta.key)}
    return sorted(found)


async def gc(objects: Objects, *, dry_run: bool = True) -> list[str]:
    """Find, and without `dry_run` delete, what no document of any collection names; the keys in the store. See `Blobs.gc`."""
    gone = []
    for name in await collections(objects):
        collection = Written(objects, name)
        try:
            found = await collection.gc(dry_run=dry_run)
        except NoSuchJobStoreException:
            continue  # what is left of one that was never begun
        finally:
            await collection.close()
        gone += [f"{PREFIX}{name}/{key}" for key in (*found.orphans, *found.doomed)]
    return gone


def check_collection(name: str) -> str:
    """The name itself, or UsageError: it becomes part of a key."""
    if not name or len(name) > 100 or not name.replace("_", "a").replace("-", "a").isalnum() or not name.isascii():
        raise UsageError(f"{name[:100]!r} cannot name a collection: use letters, digits, _ and -")
    return name

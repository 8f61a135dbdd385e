"""What files, shared files and long logs have in common: bytes first, then the record that names them, then the old bytes go.

A blob is written under a key that nobody had before, so nobody sees it; the record's commit is what makes it a file. A blob that
a commit names no longer is *doomed*: its deletion is safe at any time, and is recorded by `Swept` with some later commit of this
process; what a crash leaves doomed is swept by `clean` and `gc`. A doomed blob that is being read here goes when the last reader
has closed; one that others may be reading in parts (long content in a bucket, replaced a short while ago) is kept for
SUPERSEDED_GRACE_S. A blob that was written and never named is an orphan: it is *condemned* by a record first, and deleted
afterwards only if no record has named it before; whoever names it later is refused. So the collector is safe at any age of a
blob, with any slow writer (R10), and the age limit of `gc` is only politeness.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, NamedTuple, TypeVar

from towline.engine.errors import CorruptionError, UsageError
from towline.stores.fileformat import PART
from towline.stores.jobstore import ondisk, records
from towline.stores.jobstore.chain import Build, Chain
from towline.stores.jobstore.errors import ConcurrentFileModificationException, NoSuchFileException, NoSuchJobStoreException
from towline.stores.jobstore.hints import PREFIX, new_blob, parse_blob
from towline.stores.jobstore.records import Change, Condemned, FileEntry, Swept
from towline.stores.jobstore.state import File, State
from towline.stores.jobstore.streams import Blob, BlobReader, BlobWriter, Content, TextReader, TextWriter, whole
from towline.stores.journal.parts import store_now
from towline.stores.objects.base import NotFound, Objects, ObjectsError, Unfinished
from towline.stores.objects.local import LocalObjects
from towline.stores.objects.memory import MemoryObjects
from towline.stores.objects.streaming import end

T = TypeVar("T")

SUPERSEDED_GRACE_S = 600.0
"""How long replaced content of more than one part stays in a bucket for readers of other processes."""
ORPHAN_AGE_S = 86400.0
"""What `gc` takes for abandoned, by default: unnamed for so long, in seconds of the store's clock."""
_BATCH = 1000

Find = Callable[[State], File]
"""The file that is meant, in a state; raises NoSuchFileException if there is none."""


class Collected(NamedTuple):
    """What `gc` found, and deleted unless it was a dry run."""

    orphans: list[str]
    """Keys of blobs that no record names."""
    doomed: list[str]
    """Keys of blobs that were named once: deletions that a crash cut short, and replaced content on its last grace."""
    unfinished: list[Unfinished]
    """Uploads that nobody has completed."""
    size: int
    """Bytes of the orphans."""


class _Ahead(NamedTuple):
    """A blob of one part that is being fetched."""

    blob: str
    content: asyncio.Future[bytes]


class Blobs:
    """The blobs of one job store. Lives in one event loop."""

    def __init__(self, objects: Objects, chain: Chain) -> None:
        self.objects = objects
        self.chain = chain
        self.encrypts = objects.plain is not objects
        """Has the store a key of its own?"""
        self._keeps_open = isinstance(objects, LocalObjects | MemoryObjects)  # what is being read may be deleted there
        self._swept: list[str] = []  # deleted, and not yet recorded as such
        self._readers: Counter[str] = Counter()
        self._waiting: set[str] = set()  # doomed, and to be deleted when their readers have gone
        self._graced: dict[str, float] = {}  # doomed, and to be deleted at this time (monotonic), in order
        self._running: set[asyncio.Task[Any]] = set()

    # ---------------------------------------------------------------------------------------------------- encryption

    def encryption(self, wanted: bool | None) -> bool:
        """Will a file be encrypted with the store's own key? UsageError where that is demanded and cannot be had."""
        if wanted and not self.encrypts:
            raise UsageError(
                f"{self.objects.url} has no key to encrypt with: local stores never have one, give a bucket's store one by "
                "TOWLINE_SSE_KEY_FILE or TOWLINE_SSE_KMS_KEY; or write with encrypted=None"
            )
        return self.encrypts if wanted is None else wanted

    def view(self, encrypted: bool) -> Objects:
        """The objects through which such a blob is written and read."""
        return self.objects if encrypted or not self.encrypts else self.objects.plain

    def blob_of(self, entry: FileEntry) -> Blob:
        """Where this file's content lies."""
        if entry.crcs and entry.part != PART:
            raise CorruptionError(f"{entry.blob}: its record has checksums of {entry.part} bytes each, not {PART}, at offset 0")
        return Blob(self.view(entry.encrypted), entry.blob, Content(entry.size, entry.crcs))

    # ------------------------------------------------------------------------------------------------------- writing

    @asynccontextmanager
    async def writing(
        self, digits: str, encrypted: bool, encoding: str | None, errors: str | None, keep: Callable[[str, Content], Build]
    ) -> AsyncIterator[BlobWriter | TextWriter]:
        """A stream into a new blob of this file. At its end the changes of `keep(key, content)` are committed; after an
        exception nothing is left."""
        key = new_blob(digits)
        binary = BlobWriter(self.view(encrypted), key)
        text = TextWriter(binary, encoding, errors) if encoding else None
        try:
            yield text or binary
            if text is not None:
                await text.close()
            content = await binary.finish()
        except BaseException:
            await self.to_the_end(binary.abandon())
            raise
        await self.keep(key, encrypted, keep(key, content))

    async def from_path(self, key: str, encrypted: bool, path: ondisk.AnyPath) -> tuple[Content, bool]:
        """As `ondisk.upload`; a caller that is cancelled leaves nothing."""
        try:
            return await ondisk.upload(self.view(encrypted), key, path)
        except (OSError, UsageError):
            raise
        except BaseException:
            await self.to_the_end(self._delete([key]))
            raise

    async def keep(self, key: str, encrypted: bool, build: Build) -> None:
        """Commit the changes that name a finished blob; where they are refused, the blob goes.

        A caller that is cancelled leaves the commit to end by itself: it happens whole or not at all, and nothing leaks.
        """

        async def commit() -> None:
            try:
                await self.commit(build)
            except ObjectsError:
                raise  # it may still come to pass; if not, the blob is an orphan for `gc`
            except Exception:
                await self._delete([key])
                raise

        await self._running_to_the_end(commit())

    async def commit(self, build: Build) -> None:
        """Commit what `build` says, delete the blobs that it dooms, and note what was swept before."""
        swept, self._swept = self._swept, []
        doomed: list[str] = []
        graced: list[str] = []

        def with_notes(state: State) -> Sequence[Change]:
            doomed.clear()
            graced.clear()
            changes = list(build(state))
            for change in changes:
                later, now = self._doomed_by(state, change)
                graced.extend(later)
                doomed.extend(now)
            return [Swept(swept), *changes] if swept and changes else changes

        try:
            done = await self.chain.commit(with_notes)
        except BaseException:
            self._swept += swept
            raise
        if not done.changes:
            self._swept += swept
        due = time.monotonic() + SUPERSEDED_GRACE_S
        self._graced.update(dict.fromkeys(graced, due))
        await self.sweep([*doomed, *self._due()])

    def _doomed_by(self, state: State, change: Change) -> tuple[list[str], list[str]]:
        """(blobs to be deleted after a grace, blobs to be deleted at once) when this change is committed upon this state."""
        match change:
            case records.FilePut(entry=entry):
                return self._replaced(state.files.get(entry.id))
            case records.SharedPut(entry=entry):
                return self._replaced(state.shared.get(entry.id))
            case records.FileDeleted(file=name):
                gone = [state.files.get(name)]
            case records.SharedDeleted(name=name):
                gone = [state.shared.get(name)]
            case records.JobDeleted(job=job):
                gone = [file for file in state.files_of(job) if file.entry.cleanup]
            case records.LogsDropped(before=before):
                logs = [log for number, log in state.logs.items() if number < before]
                return [], [log.blob.blob for log in logs if log.blob is not None]
            case _:
                gone = []
        return [], [file.entry.blob for file in gone if file is not None]

    def _replaced(self, old: File | None) -> tuple[list[str], list[str]]:
        if old is None:
            return [], []
        # one part is fetched when a reader begins; longer content may be in the middle of being read by another process
        blob = [old.entry.blob]
        return ([], blob) if self._keeps_open or old.entry.size <= PART else (blob, [])

    # ------------------------------------------------------------------------------------------------------- reading

    @asynccontextmanager
    async def reading(
        self, find: Find, encoding: str | None = None, errors: str | None = None
    ) -> AsyncIterator[tuple[FileEntry, BlobReader | TextReader]]:
        """A stream of one version of a file, the newest when it is entered. NoSuchFileException; CorruptionError; ObjectsError.

        ConcurrentFileModificationException where another process replaced or deleted long content and the store let go of it.
        """
        async with self._ahead(find) as ahead:
            entry, binary = await self.newest(find, lambda entry: self._begin(entry, ahead))
        try:
            yield entry, TextReader(binary, encoding, errors) if encoding else binary
        except ObjectsError as error:
            if await self._is_replaced(find, entry):
                raise ConcurrentFileModificationException(entry.id) from error
            raise
        finally:
            if binary.busy or entry.blob in self._waiting:
                await self.to_the_end(self._end(entry, binary))
            else:
                await self._end(entry, binary)  # nothing to wait for, so nothing that could be cut short

    @asynccontextmanager
    async def _ahead(self, find: Find) -> AsyncIterator[_Ahead | None]:
        """The content that is the newest as far as is known here, on its way while the table is asked whether it still is: so
        that a small file of a bucket takes the time of one request, not of two."""
        entry = None
        with suppress(NoSuchFileException):
            entry = find(self.chain.state).entry
        if entry is None or self._keeps_open or not 0 < entry.size <= PART:
            yield None
            return
        ahead = _Ahead(entry.blob, asyncio.ensure_future(whole(self.blob_of(entry))))
        try:
            yield ahead
        finally:
            await end([ahead.content])

    async def _begin(self, entry: FileEntry, ahead: _Ahead | None) -> tuple[FileEntry, BlobReader]:
        binary = BlobReader(self.blob_of(entry))
        try:
            await binary.begin(ahead.content if ahead is not None and ahead.blob == entry.blob else None)
        except BaseException:
            await self.to_the_end(binary.close())
            raise
        self._readers[entry.blob] += 1
        return entry, binary

    async def _end(self, entry: FileEntry, binary: BlobReader) -> None:
        await binary.close()
        await self._release(entry.blob)

    async def newest(self, find: Find, use: Callable[[FileEntry], Awaitable[T]]) -> T:
        """What `use` makes of the newest version; of a newer one if that was replaced before `use` was done with it."""
        entry = find(await self.chain.refresh()).entry
        while True:
            self._readers[entry.blob] += 1
            try:
                return await use(entry)
            except ObjectsError as error:
                now = find(await self.chain.refresh()).entry
                if now.blob == entry.blob:
                    if isinstance(error, NotFound):
                        raise CorruptionError(f"{self.blob_of(entry).name}: the content is missing, at offset 0") from error
                    raise
            finally:
                await self._release(entry.blob)
            entry = now

    async def _is_replaced(self, find: Find, entry: FileEntry) -> bool:
        with suppress(ObjectsError, NoSuchFileException):
            return find(await self.chain.refresh()).entry.blob != entry.blob
        return True

    async def _release(self, blob: str) -> None:
        self._readers[blob] -= 1
        if self._readers[blob] <= 0:
            del self._readers[blob]
            if blob in self._waiting:
                self._waiting.discard(blob)
                await self.sweep([blob])

    # ------------------------------------------------------------------------------------------------------ sweeping

    async def sweep(self, blobs: Iterable[str] | None = None) -> None:
        """Delete those of these blobs that are doomed (None: all that are), but for those being read here: they go afterwards.

        Where the store fails they stay doomed, and `gc` takes them.
        """
        held = self.chain.state.doomed
        mine = [blob for blob in (list(held) if blobs is None else blobs) if blob in held]
        self._waiting.update(blob for blob in mine if blob in self._readers)
        now = [blob for blob in mine if blob not in self._readers]
        for at in range(0, len(now), _BATCH):
            if await self._delete(now[at : at + _BATCH]):
                self._swept += now[at : at + _BATCH]

    def _due(self) -> list[str]:
        due = []
        for blob, when in self._graced.items():
            if when > time.monotonic():
                break
            due.append(blob)
        for blob in due:
            del self._graced[blob]
        return due

    async def _delete(self, keys: Sequence[str]) -> bool:
        with suppress(ObjectsError):
            await self.objects.delete_many(keys)
            return True
        return False

    async def note_swept(self) -> None:
        """Record what was swept and not noted yet. Otherwise the next commit does it."""
        if self._swept:
            swept, self._swept = self._swept, []
            try:
                await self.chain.commit(lambda state: [Swept([blob for blob in swept if blob in state.doomed])])
            except BaseException:
                self._swept += swept
                raise

    async def close(self) -> None:
        """Wait for commits whose callers have gone, and note what was swept."""
        while self._running:
            await asyncio.wait(self._running)
        with suppress(ObjectsError, NoSuchJobStoreException):  # of a store that was destroyed nothing need be noted
            await self.note_swept()

    # ---------------------------------------------------------------------------------------------------- collecting

    async def gc(self, *, dry_run: bool = True, older_than_s: float = ORPHAN_AGE_S) -> Collected:
        """Find, and without `dry_run` delete, what no record names: orphans and unfinished uploads that are older than so many
        seconds by the store's clock, and everything doomed. Safe beside any writer."""
        before = await store_now(self.objects) - older_than_s
        listed = [meta async for meta in self.objects.list(PREFIX) if parse_blob(meta.key) and meta.modified <= before]
        uploads = [upload async for upload in self.objects.unfinished(PREFIX) if upload.started <= before]
        state = await self.chain.refresh()  # after the listing: who was named by now is no orphan
        named = state.blobs()
        orphans = [meta for meta in listed if meta.key not in named and meta.key not in state.doomed]
        doomed = [blob for blob in state.doomed if blob not in self._readers]
        keys = [meta.key for meta in orphans]
        if not dry_run:
            for at in range(0, len(keys), _BATCH):
                await self._collect(keys[at : at + _BATCH])
            await self.objects.abort(uploads)
            await self.sweep(doomed)
            await self.note_swept()
        return Collected(keys, doomed, uploads, sum(meta.size for meta in orphans))

    async def _collect(self, keys: Sequence[str]) -> None:
        """Condemn, then delete. What a record named before the condemnation came is left alone (R10)."""
        condemned: list[str] = []

        def condemn(state: State) -> Sequence[Change]:
            named = state.blobs()
            condemned[:] = [key for key in keys if key not in named]
            new = [key for key in condemned if key not in state.condemned]
            return [Condemned(new)] if new else []

        await self.chain.commit(condemn)
        await self.objects.delete_many(condemned)

    # ------------------------------------------------------------------------------------------------------- the end

    async def to_the_end(self, work: Awaitable[object]) -> None:
        """Tidying that a cancellation must not cut short; errors of the store in it are left to `gc`."""

        async def quietly() -> None:
            with suppress(ObjectsError):
                await work

        await self._running_to_the_end(quietly())

    async def _running_to_the_end(self, work: Awaitable[T]) -> T:
        task = asyncio.ensure_future(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        return await asyncio.shield(task)

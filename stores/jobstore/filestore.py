"""The files of a job store: Toil's verbs, with its arguments. `AbstractJobStore` hands its file verbs on to this class.

A file is a record that names a blob (`blobs`): it appears, changes and goes in one commit, so it is never seen half written, a
reader sees one version entirely, and of several updates at once the last one wins whole. An id is never used again. `job_id` says
which job a file was written for (it need not exist yet); with `cleanup` the file goes in the commit that deletes that job.

Where the caller lets it (`FileStore.hardlinks`, `symlinks`), reading to a path on a local store's disk makes a link to a blob
that is made read-only; by default it copies, so that what a user does to a file never reaches the store (`ondisk`).
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

from towline.stores.fileformat import PART
from towline.stores.jobstore import ondisk, sharing
from towline.stores.jobstore.blobs import ORPHAN_AGE_S, Blobs, Collected, Find
from towline.stores.jobstore.chain import Build, Chain
from towline.stores.jobstore.errors import NoSuchFileException
from towline.stores.jobstore.hints import FileID, digits_of, hint_of, new_blob, new_id
from towline.stores.jobstore.logs import Logs
from towline.stores.jobstore.ondisk import AnyPath
from towline.stores.jobstore.records import ABSENT, ANY, Change, FileDeleted, FileEntry, FilePut
from towline.stores.jobstore.shared import SharedFiles
from towline.stores.jobstore.state import State
from towline.stores.jobstore.streams import Content
from towline.stores.objects.base import Objects

PUBLIC_URL_S = 7 * 86400.0
"""How long a public URL is good: the longest that S3 and GCS sign for."""

Piece = bytes | memoryview


class FileStore:
    """Files, shared files and logs of one open job store. Lives in one event loop; `close` at the end."""

    def __init__(self, objects: Objects, chain: Chain, *, hardlinks: bool = False, symlinks: bool = True) -> None:
        self.blobs = Blobs(objects, chain)
        self.shared = SharedFiles(self.blobs)
        self.logs = Logs(self.blobs)
        self.hardlinks = hardlinks
        """May `read_file` make hard links to the store's blobs?"""
        self.symlinks = symlinks
        """May it make symlinks, when the call allows one?"""
        self._chain = chain

    # ------------------------------------------------------------------------------------------------------- writing

    async def write_file(self, local_path: AnyPath, job_id: str | None = None, cleanup: bool = False) -> FileID:
        """Store the content of a file of this machine, its basename and its executable bit.

        Raises OSError as `open` does, ObjectsError.
        """
        file = new_id(Path(local_path).name)
        secret, key = self.blobs.encrypts, new_blob(file[:32])
        content, file.executable = await self.blobs.from_path(key, secret, local_path)
        await self.blobs.keep(key, secret, _create(file, key, content, job_id, cleanup, secret))
        return file

    @asynccontextmanager
    async def write_file_stream(
        self,
        job_id: str | None = None,
        cleanup: bool = False,
        basename: str | None = None,
        encoding: str | None = None,
        errors: str | None = None,
        executable: bool = False,
    ) -> AsyncIterator[tuple[Any, FileID]]:
        """(a stream with an async `write`, the id of the file to come). The file exists when the context has ended without an
        exception, and only then."""
        file = new_id(basename)
        file.executable = executable
        secret = self.blobs.encrypts

        def keep(key: str, content: Content) -> Build:
            return _create(file, key, content, job_id, cleanup, secret)

        async with self.blobs.writing(file[:32], secret, encoding, errors, keep) as stream:
            yield stream, file

    async def get_empty_file_store_id(
        self, job_id: str | None = None, cleanup: bool = False, basename: str | None = None
    ) -> FileID:
        """The id of a new, empty file."""
        async with self.write_file_stream(job_id, cleanup, basename) as (_, file):
            return file

    async def write_pieces(
        self,
        pieces: AsyncIterable[Piece],
        *,
        basename: str | None = None,
        job_id: str | None = None,
        cleanup: bool = False,
        executable: bool = False,
    ) -> FileID:
        """Store what comes in pieces, as an import does."""
        async with self.write_file_stream(job_id, cleanup, basename, executable=executable) as (stream, file):
            async for piece in pieces:
                await stream.write(piece)
        return file

    async def copy_in(self, source: Objects, source_key: str, *, basename: str | None = None, executable: bool = False) -> FileID:
        """Store an object of any place, copied by the server where it can (`Objects.copy`).

        No byte passes through here then, so the file has no checksums of ours: its length is proved on reading, no more.
        """
        file, secret = new_id(basename), self.blobs.encrypts
        key = new_blob(file[:32])
        file.executable = executable
        content = await self._copy(source, source_key, key, secret)
        await self.blobs.keep(key, secret, _create(file, key, content, None, False, secret))
        return file

    async def link_in(self, local_path: AnyPath, symbolic: bool) -> FileID | None:
        """Store a file of this machine by a link to it; None, and nothing done, where none can be made (see `sharing`)."""
        file = new_id(Path(local_path).name)
        key = new_blob(file[:32])
        try:
            found = await sharing.link_in(self.blobs.objects, key, local_path, symbolic)
        except BaseException:
            await self.blobs.to_the_end(self.blobs.objects.delete_many([key]))
            raise
        if found is None:
            return None
        content, file.executable = found
        await self.blobs.keep(key, False, _create(file, key, content, None, False, False))
        return file

    async def _copy(self, source: Objects, source_key: str, key: str, secret: bool) -> Content:
        view = self.blobs.view(secret)
        try:
            await view.copy(source, source_key, key)
            return Content((await view.head(key)).size, b"")
        except BaseException:
            await self.blobs.to_the_end(view.delete_many([key]))
            raise

    async def update_file(self, file_id: str, local_path: AnyPath) -> None:
        """Replace the content of a file, and its executable bit. NoSuchFileException; OSError as `open` raises it."""
        await self._entry(file_id)
        secret, key = self.blobs.encrypts, new_blob(file_id[:32])
        content, executable = await self.blobs.from_path(key, secret, local_path)
        await self.blobs.keep(key, secret, _update(file_id, key, content, secret, executable))

    @asynccontextmanager
    async def update_file_stream(
        self, file_id: str, encoding: str | None = None, errors: str | None = None
    ) -> AsyncIterator[Any]:
        """A stream whose content replaces that of the file when the context has ended without an exception; its executable bit
        stays. NoSuchFileException on entry, or at the end if it was deleted meanwhile."""
        await self._entry(file_id)
        secret = self.blobs.encrypts

        def keep(key: str, content: Content) -> Build:
            return _update(file_id, key, content, secret)

        async with self.blobs.writing(file_id[:32], secret, encoding, errors, keep) as stream:
            yield stream

    async def delete_file(self, file_id: str) -> None:
        """Delete a file; one that does not exist is no error."""
        name = str(file_id)  # a FileID is no plain string for the encoder
        await self.blobs.commit(lambda state: [FileDeleted(name)] if name in state.files else [])

    async def commit(self, build: Build) -> None:
        """Commit any changes of the table, and delete the blobs of the files that go by it (`JobDeleted`, `LogsDropped`)."""
        await self.blobs.commit(build)

    # ------------------------------------------------------------------------------------------------------- reading

    async def read_file(self, file_id: str, local_path: AnyPath, symlink: bool = False) -> None:
        """Make `local_path` a copy of the file, or a link to it where that is allowed; its executable bit is kept.

        The path is as it was before, or has all of the content. NoSuchFileException; CorruptionError; OSError.
        """

        async def copy(entry: FileEntry) -> None:
            blob = self.blobs.blob_of(entry)
            if symlink and self.symlinks and await ondisk.link_to(blob, local_path, entry.executable, os.symlink):
                return
            if self.hardlinks and await ondisk.link_to(blob, local_path, entry.executable, os.link):
                return
            await ondisk.write_to(blob, local_path, entry.executable)

        await self.blobs.newest(_find(file_id), copy)

    @asynccontextmanager
    async def read_file_stream(self, file_id: str, encoding: str | None = None, errors: str | None = None) -> AsyncIterator[Any]:
        """A stream of the content: `read`, `readline`, `async for` over its lines. NoSuchFileException on entry."""
        async with self.blobs.reading(_find(file_id), encoding, errors) as (_, stream):
            yield stream

    @asynccontextmanager
    async def read_pieces(self, file_id: str) -> AsyncIterator[tuple[FileEntry, AsyncGenerator[bytes, None]]]:
        """(what is recorded of the file, its content in proved pieces), as an export needs it. NoSuchFileException on entry."""
        async with (
            self.blobs.reading(_find(file_id)) as (entry, stream),
            aclosing(_pieces(stream)) as pieces,
        ):
            yield entry, pieces

    async def entry(self, file_id: str) -> FileEntry:
        """What is recorded of a file. NoSuchFileException."""
        return await self._entry(file_id)

    async def source_of(self, file_id: str) -> tuple[Objects, FileEntry]:
        """Where the file's very bytes lie (`entry.blob` is the key), for copies by the server. NoSuchFileException."""
        entry = await self._entry(file_id)
        return self.blobs.view(entry.encrypted), entry

    async def file_exists(self, file_id: str) -> bool:
        """Is there such a file?"""
        return file_id in (await self._chain.refresh()).files

    async def get_file_size(self, file_id: str) -> int:
        """Bytes; 0 if there is no such file."""
        found = (await self._chain.refresh()).files.get(file_id)
        return 0 if found is None else found.entry.size

    async def get_all_file_ids(self) -> list[FileID]:
        """The ids of all files, as of one commit."""
        state = await self._chain.refresh()
        return [FileID(file.entry.id, file.entry.size, file.entry.executable) for file in state.files.values()]

    async def get_file_job_association(self, file_id: str) -> str | None:
        """The id of the job that the file was written for, which may be gone; None: for no job. NoSuchFileException."""
        return (await self._entry(file_id)).owner or None

    async def get_public_url(self, file_name: str) -> str:
        """A URL by which anyone may read the file as it is now: `file:`, or signed and good for PUBLIC_URL_S.

        NoSuchFileException.
        """
        return await self._sign(await self._entry(file_name))

    async def get_shared_public_url(self, shared_file_name: str) -> str:
        """As `get_public_url`, of a shared file."""
        return await self._sign(await self.shared.entry(shared_file_name))

    async def _sign(self, entry: FileEntry) -> str:
        return await self.blobs.view(entry.encrypted).sign(entry.blob, expires_s=PUBLIC_URL_S)

    async def _entry(self, file_id: str) -> FileEntry:
        return _find(file_id)(await self._chain.refresh()).entry

    # ------------------------------------------------------------------------------------------------------- tidying

    async def sweep(self) -> None:
        """Delete all blobs whose deletion a crash cut short, or whose grace is not over: for `clean`, when nobody else reads."""
        await self.blobs.sweep()
        await self.blobs.note_swept()

    async def gc(self, *, dry_run: bool = True, older_than_s: float = ORPHAN_AGE_S) -> Collected:
        """See `Blobs.gc`."""
        return await self.blobs.gc(dry_run=dry_run, older_than_s=older_than_s)

    async def close(self) -> None:
        """Wait for what runs. Idempotent."""
        await self.blobs.close()


def _find(file_id: str) -> Find:
    if digits_of(file_id) is None:
        raise NoSuchFileException(file_id)
    return lambda state: state.file(file_id)


async def _pieces(stream: Any) -> AsyncGenerator[bytes, None]:
    while piece := await stream.read1():
        yield piece


def _create(file: FileID, key: str, content: Content, job: str | None, cleanup: bool, secret: bool) -> Build:
    file.size = content.size
    owner = str(job) if job else ""
    entry = FileEntry(
        str(file), key, content.size, PART, content.crcs, file.executable, owner, bool(cleanup and owner), secret, hint_of(file)
    )
    return lambda state: [FilePut(entry, ABSENT)]


def _update(file_id: str, key: str, content: Content, secret: bool, executable: bool | None = None) -> Build:
    def build(state: State) -> Sequence[Change]:
        old = state.file(file_id).entry
        bit = old.executable if executable is None else executable
        entry = FileEntry(old.id, key, content.size, PART, content.crcs, bit, old.owner, old.cleanup, secret, old.hint)
        return [FilePut(entry, ANY)]

    return build

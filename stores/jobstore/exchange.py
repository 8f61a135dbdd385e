"""Files in from a URL and out to one: the transfer's connections at one end, the file store at the other.

Where both ends lie at one provider its server copies (`Objects.copy`): no byte passes through here, and none is proved here.
Otherwise the content streams through this process; an export proves every part of it before it is sent. What is imported is a
copy of its own unless a link is asked for (`sharing`). An import that fails leaves nothing, an export to a path leaves what was
there before.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from typing import Any
from urllib.parse import unquote

from towline.stores.jobstore import sharing
from towline.stores.jobstore.errors import NoSuchFileException
from towline.stores.jobstore.filestore import FileStore
from towline.stores.jobstore.hints import FileID
from towline.stores.locate import Kind
from towline.stores.objects.base import NotFound
from towline.stores.transfer.base import missing
from towline.stores.transfer.bulk import PARALLEL, Progress, many
from towline.stores.transfer.transfer import Stored, Transfer, Uri
from towline.stores.transfer.url import Url, parse

Moved = Callable[[int], None]
Options = Callable[[str], Any]
"""The configuration's attribute of this name, or None."""


class Exchange:
    """Imports and exports of one open job store."""

    def __init__(self, kind: Kind, files: FileStore, options: Options = lambda name: None) -> None:
        self._kind = kind
        self._files = files
        self._options = options
        self._transfer = Transfer()

    async def close(self) -> None:
        """Let go of connections; idempotent."""
        await self._transfer.close()

    # --------------------------------------------------------------------------------------------------------- import

    async def import_file(
        self,
        src_uri: Uri,
        shared_name: str | None = None,
        moved: Moved | None = None,
        *,
        hardlink: bool = False,
        symlink: bool = True,
    ) -> FileID | None:
        """The id of the new file; None with `shared_name`, under which the content then stands.

        A local store shares a local file by a hard link if `hardlink` asks for it, by a symlink if `symlink` allows it and the
        configuration's `symlink_imports` asks for it. FileNotFoundError, IsADirectoryError, UnimplementedURLException,
        InvalidImportExportUrlException, TransferError.
        """
        url = parse(src_uri)
        if shared_name is not None:
            await self._import_shared(src_uri, shared_name, moved)
            return None
        symbolic = not hardlink and symlink and bool(self._options("symlink_imports") or self._options("link_imports"))
        if url.scheme == "file" and not url.names_directory:
            linked = await self._files.link_in(url.path, symbolic) if hardlink or symbolic else None
            file = linked or await self._files.write_file(url.path)
            if moved is not None:
                moved(file.size)
            return file
        if url.scheme == self._kind and (source := self._transfer.object_at(src_uri)) is not None:
            return await self._copy_in(url, source, moved)
        async with self._transfer.reading(src_uri, "import") as fetched:
            pieces = told(fetched.pieces, moved)
            return await self._files.write_pieces(pieces, basename=basename(url), executable=fetched.executable)

    async def _copy_in(self, url: Url, source: Stored, moved: Moved | None) -> FileID:
        await self._transfer.find(url, "import")
        try:
            file = await self._files.copy_in(source.objects, source.key, basename=basename(url))
        except NotFound as error:
            raise missing(url) from error
        if moved is not None:
            moved(file.size)
        return file

    async def _import_shared(self, uri: Uri, name: str, moved: Moved | None) -> None:
        async with (
            self._transfer.reading(uri, "import") as fetched,
            self._files.shared.write_stream(name, executable=fetched.executable) as stream,
        ):
            async for piece in told(fetched.pieces, moved):
                await stream.write(piece)

    async def import_files(
        self, uris: Sequence[Uri], parallel: int = PARALLEL, progress: Callable[[Progress], None] | None = None
    ) -> list[FileID]:
        """Several at once; their ids in the order of the URLs. All or none: after a failure, those that had come are deleted."""
        come: list[FileID] = []

        async def act(uri: Uri, moved: Moved) -> FileID:
            file = await self.import_file(uri, None, moved)
            assert file is not None
            come.append(file)
            return file

        try:
            return await many(list(uris), act, parallel=parallel, progress=progress, shown=lambda uri: str(parse(uri)))
        except BaseException:
            await self._files.blobs.to_the_end(self._forget(come))
            raise

    async def _forget(self, files: Sequence[FileID]) -> None:
        for file in files:
            await self._files.delete_file(file)

    # --------------------------------------------------------------------------------------------------------- export

    async def export_file(self, file_id: str, dst_uri: Uri, moved: Moved | None = None) -> None:
        """Make what the URL names a copy of the file; executable if the file is (on a disk). NoSuchFileException, and as
        `import_file`. With `move_exports`, a local store keeps no more than a symlink to what was exported to a path."""
        url = parse(dst_uri)
        if url.scheme == self._kind and url.scheme in ("s3", "gs"):
            objects, entry = await self._files.source_of(file_id)
            try:
                await self._transfer.copy_out(Stored(objects, entry.blob), dst_uri)
            except NotFound as error:
                raise NoSuchFileException(file_id) from error
            if moved is not None:
                moved(entry.size)
            return
        async with self._files.read_pieces(file_id) as (entry, pieces):
            await self._transfer.store(dst_uri, pieces, entry.executable, size=entry.size, moved=moved)
            if url.scheme == "file" and self._options("move_exports"):
                await sharing.lead_to(self._files.blobs.objects, entry.blob, url.path)

    async def export_files(
        self, exports: Sequence[tuple[str, Uri]], parallel: int = PARALLEL, progress: Callable[[Progress], None] | None = None
    ) -> None:
        """Several (file id, URL) at once. The first failure ends the rest; what was exported stays."""

        async def act(export: tuple[str, Uri], moved: Moved) -> None:
            await self.export_file(export[0], export[1], moved)

        await many(list(exports), act, parallel=parallel, progress=progress, shown=lambda export: str(parse(export[1])))


async def told(pieces: AsyncIterator[bytes], moved: Moved | None) -> AsyncGenerator[bytes, None]:
    """The same pieces; `moved` is told how many bytes have passed."""
    at = 0
    async for piece in pieces:
        yield piece
        at += len(piece)
        if moved is not None:
            moved(at)


def basename(url: Url) -> str:
    """What the file is called at its place."""
    name = url.path.rstrip("/").rpartition("/")[2]
    return unquote(name) if url.scheme in ("http", "https") else name

"""The verbs for URLs, whatever their scheme: does it exist, how long is it, what is in it, read it, write it, copy it.

A `Transfer` holds the connections of many calls (one session for http, one client for each bucket) and lives in one event loop;
the functions of this module make one for a single call. Only here text becomes a Url, a scheme is looked up and an unknown one
refused, by scheme and verb. Every wait is bounded: an answer by ASK_S, content by STALL_S without a byte.

    async with Transfer() as transfer:
        async with await transfer.open_url("ftp://me:secret@host/reads.bam") as stream:
            header = await stream.read(4)
"""

from __future__ import annotations

import asyncio
import inspect
import os
from collections.abc import AsyncIterable, AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, NamedTuple, Self, TypeVar

from towline.stores.objects.base import NotFound, Objects
from towline.stores.objects.streaming import in_thread
from towline.stores.transfer.base import (
    ASK_S,
    STALL_S,
    Fetched,
    Found,
    Piece,
    Scheme,
    TransferError,
    counted,
    directory,
    missing,
    unimplemented,
    watched,
)
from towline.stores.transfer.reading import UrlStream
from towline.stores.transfer.url import Url, component, parse

if TYPE_CHECKING:
    from towline.stores.transfer.buckets import BucketScheme

T = TypeVar("T")

Uri = str | os.PathLike[str]
Moved = Callable[[int], None]
"""Is told how many bytes have gone so far."""

COPY_S = 6 * 3600.0
"""A server may take so long to copy an object by itself; it says nothing meanwhile."""


class Stored(NamedTuple):
    """Where an object of a URL lies, for `Objects.copy`."""

    objects: Objects
    key: str


class Transfer:
    """Connections to wherever URLs lead. To be used as `async with Transfer() as transfer`."""

    def __init__(self) -> None:
        self._schemes: dict[str, Scheme] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()

    async def close(self) -> None:
        """Let go of all connections; idempotent."""
        while self._schemes:
            await self._schemes.popitem()[1].close()

    def _scheme(self, url: Url, verb: str) -> Scheme:
        """Who knows such URLs. UnimplementedURLException if nobody does."""
        name = _ALIKE.get(url.scheme, url.scheme)
        if name not in self._schemes:
            self._schemes[name] = _made(name) or unimplemented(url, verb)
        return self._schemes[name]

    # ------------------------------------------------------------------------------------------------------- looking

    async def url_exists(self, uri: Uri) -> bool:
        """Is there a file, or a directory, at this URL?"""
        url = parse(uri)
        try:
            await _asked(url, self._scheme(url, "look for").look(url))
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    async def get_size(self, uri: Uri) -> int | None:
        """Bytes of the file; None where the server does not say. FileNotFoundError, IsADirectoryError."""
        return (await self.find(parse(uri), "get the size of")).size

    async def get_is_directory(self, uri: Uri) -> bool:
        """Is a directory (or a bucket's prefix) there? False where nothing is. The URL may end in `/` or not."""
        url = parse(uri)
        scheme = self._scheme(url, "look at")
        if url.scheme in ("http", "https"):  # has none: nothing to ask
            return False
        try:
            return (await _asked(url, scheme.look(url))).directory
        except FileNotFoundError:
            return False

    async def list_url(self, uri: Uri) -> list[str]:
        """What is in the directory, as components that can be joined with `/` onto the URL: already URL-encoded (for a plain
        path: literal), those of directories ending in `/`, sorted. FileNotFoundError, NotADirectoryError."""
        url = parse(uri)
        names = await self._scheme(url, "list").entries(url)
        return [component(url, name) for name in names]

    # ------------------------------------------------------------------------------------------------------- reading

    @asynccontextmanager
    async def reading(self, uri: Uri, verb: str = "read") -> AsyncIterator[Fetched]:
        """The file's content: pieces, size, executable bit. FileNotFoundError, IsADirectoryError on entry; TransferError."""
        url = parse(uri)
        async with AsyncExitStack() as held:
            entered = held.enter_async_context(self._scheme(url, verb).read(url))
            found = await _asked(url, entered)
            pieces = await held.enter_async_context(aclosing(counted(url, found.pieces, found.size)))
            yield found._replace(pieces=pieces)

    async def open_url(self, uri: Uri) -> UrlStream:
        """The file as a stream, which the caller must close (`async with` does). FileNotFoundError, IsADirectoryError."""
        async with AsyncExitStack() as held:
            fetched = await held.enter_async_context(self.reading(uri))
            return UrlStream(fetched, held.pop_all())

    async def read_from_url(self, uri: Uri, writable: IO[bytes] | Any, moved: Moved | None = None) -> tuple[int, bool]:
        """Write the file's content to a stream (of Python's, or one whose `write` is awaited): bytes, and is it executable."""
        at = 0
        async with self.reading(uri) as fetched:
            async for piece in fetched.pieces:
                await _write_all(writable, piece)
                at += len(piece)
                if moved is not None:
                    moved(at)
            return at, fetched.executable

    def object_at(self, uri: Uri) -> Stored | None:
        """Where the object of an s3 or gs URL lies, for a copy by the server itself; None for other URLs. IsADirectoryError if
        the URL cannot name an object."""
        url = parse(uri)
        if url.scheme not in ("s3", "gs"):
            return None
        if url.names_directory:
            raise directory(url)
        return Stored(self._bucket_scheme(url).objects(url.bucket), url.path)

    # ------------------------------------------------------------------------------------------------------- writing

    async def store(
        self,
        uri: Uri,
        pieces: AsyncIterable[Piece],
        executable: bool = False,
        *,
        size: int | None = None,
        moved: Moved | None = None,
        verb: str = "export",
    ) -> None:
        """Make this the content of the file at the URL, whole or (where the protocol allows) not at all.

        `size` is what will come, if it is known: many http servers demand it. IsADirectoryError, FileNotFoundError (the folder of
        a path does not exist), PermissionError, TransferError.
        """
        url = parse(uri)
        scheme = self._scheme(url, verb)
        try:
            async with asyncio.timeout(STALL_S) as limit:
                async with aclosing(watched(url, pieces, size, limit, moved)) as watched_pieces:
                    await scheme.write(url, watched_pieces, size, executable)
        except TimeoutError:
            raise TransferError(f"{url}: nothing moved for {STALL_S:.0f} s; try again later") from None

    async def copy(self, source: Uri, target: Uri, moved: Moved | None = None) -> None:
        """Make the file at `target` what the one at `source` is; by the server itself where both are at one provider."""
        url = parse(source)
        there = self.object_at(source)
        if there is not None and url.scheme == parse(target).scheme:
            size = (await self.find(url, "copy")).size
            try:
                await self.copy_out(there, target)
            except NotFound as error:
                raise missing(url) from error
            if moved is not None and size is not None:
                moved(size)
            return
        async with self.reading(source) as fetched:
            await self.store(target, fetched.pieces, fetched.executable, size=fetched.size, moved=moved)

    async def find(self, url: Url, verb: str) -> Found:
        """What is known of a file. FileNotFoundError, IsADirectoryError."""
        found = await _asked(url, self._scheme(url, verb).look(url))
        if found.directory:
            raise directory(url)
        return found

    async def copy_out(self, source: Stored, target: Uri) -> None:
        """Copy an object of a provider to an s3 or gs URL of the same one, by the server where it can. NotFound: there is no such
        source; IsADirectoryError, FileNotFoundError (the bucket), PermissionError, of the target."""
        url = parse(target)
        scheme = self._bucket_scheme(url)
        try:
            async with asyncio.timeout(COPY_S):
                await scheme.copy(url, source.objects, source.key)
        except TimeoutError:
            raise TransferError(f"{url}: the copy did not end in {COPY_S:.0f} s") from None

    def _bucket_scheme(self, url: Url) -> BucketScheme:
        from towline.stores.transfer.buckets import BucketScheme

        scheme = self._scheme(url, "copy")
        assert isinstance(scheme, BucketScheme)
        return scheme


_ALIKE = {"https": "http", "ftps": "ftp"}


def _made(scheme: str) -> Scheme | None:
    """Imported when it is needed: most calls need one."""
    match scheme:
        case "file":
            from towline.stores.transfer.file_ import FileScheme

            return FileScheme()
        case "http":
            from towline.stores.transfer.http_ import HttpScheme

            return HttpScheme()
        case "ftp":
            from towline.stores.transfer.ftp_ import FtpScheme

            return FtpScheme()
        case "s3":
            from towline.stores.transfer.s3_ import S3Scheme

            return S3Scheme()
        case "gs":
            from towline.stores.transfer.gs_ import GsScheme

            return GsScheme()
    return None


async def _asked(url: Url, question: Coroutine[Any, Any, T]) -> T:
    try:
        async with asyncio.timeout(ASK_S):
            return await question
    except TimeoutError:
        raise TransferError(f"{url}: no answer for {ASK_S:.0f} s; try again later") from None


async def _write_all(writable: Any, piece: bytes) -> None:
    """To a file object of either kind; unbuffered ones may take less than they are given."""
    if inspect.iscoroutinefunction(writable.write):
        await writable.write(piece)
        return

    def write() -> None:
        rest = memoryview(piece)
        while rest:
            taken = writable.write(rest)
            rest = rest[len(rest) if taken is None else taken :]

    await in_thread(write)


# ------------------------------------------------------------------------------------------------------------- one call


async def url_exists(uri: Uri) -> bool:
    """See `Transfer.url_exists`."""
    async with Transfer() as transfer:
        return await transfer.url_exists(uri)


async def get_size(uri: Uri) -> int | None:
    """See `Transfer.get_size`."""
    async with Transfer() as transfer:
        return await transfer.get_size(uri)


async def get_is_directory(uri: Uri) -> bool:
    """See `Transfer.get_is_directory`."""
    async with Transfer() as transfer:
        return await transfer.get_is_directory(uri)


async def list_url(uri: Uri) -> list[str]:
    """See `Transfer.list_url`."""
    async with Transfer() as transfer:
        return await transfer.list_url(uri)


async def read_from_url(uri: Uri, writable: IO[bytes] | Any) -> tuple[int, bool]:
    """See `Transfer.read_from_url`."""
    async with Transfer() as transfer:
        return await transfer.read_from_url(uri, writable)


async def open_url(uri: Uri) -> UrlStream:
    """See `Transfer.open_url`. The stream holds its own connections."""
    async with AsyncExitStack() as held:
        transfer = await held.enter_async_context(Transfer())
        fetched = await held.enter_async_context(transfer.reading(uri))
        return UrlStream(fetched, held.pop_all())


async def fetch(uri: Uri) -> UrlStream:
    """The same stream; its `pieces()`, `size` and `executable` are what an import needs."""
    return await open_url(uri)


async def store(uri: Uri, pieces: AsyncIterable[Piece], executable: bool = False, *, size: int | None = None) -> None:
    """See `Transfer.store`."""
    async with Transfer() as transfer:
        await transfer.store(uri, pieces, executable, size=size)

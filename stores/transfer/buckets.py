"""What s3 and gs have in common: a bucket of objects that somebody else named, seen as files and directories.

Keys are text: everything up to the last `/` is taken for directories, which exist as long as a key begins with them. An object
whose own key ends in `/` is the mark that consoles leave for an empty directory; it is no file. No object is executable.

The access is that of the job store's own objects (`objects.s3`, `objects.gcs`), but for the rule that a key has to keep:
`raw_key` takes whatever the provider would take.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from typing import Protocol

from towline.engine.errors import UsageError
from towline.stores.objects.base import NotFound, Objects, ObjectsError
from towline.stores.transfer.base import Fetched, Found, Noted, Piece, directory, missing, no_directory, refused
from towline.stores.transfer.url import Url

KEY_BYTES_MAX = 1024
"""Of UTF-8, at S3 and at GCS."""


class ForeignObjects(Objects, Protocol):
    """A whole bucket whose keys may be any text."""

    def children(self, prefix: str) -> AsyncGenerator[str, None]:
        """The names directly behind a prefix that is empty or ends in `/`, in order; of what has more names behind it, up to
        and with the `/`, once. An object with the very name of the prefix is not among them."""
        ...


def raw_key(key: str) -> str:
    """The key itself, or UsageError: what no provider takes."""
    if not key or "\0" in key or len(key.encode()) > KEY_BYTES_MAX:
        raise UsageError(f"{key[:200]!r} cannot be the key of an object: it needs 1 to {KEY_BYTES_MAX} bytes and no NUL")
    return key


class BucketScheme:
    """URLs of one provider. One client for each bucket."""

    def __init__(self) -> None:
        self._buckets: dict[str, ForeignObjects] = {}

    @abstractmethod
    def _open(self, bucket: str) -> ForeignObjects:
        """The objects of a bucket; nothing is looked at yet."""

    @abstractmethod
    def _status(self, error: Exception) -> int:
        """The HTTP status behind an error of the objects; 0 if there was none."""

    @contextmanager
    def _translated(self, url: Url, noted: Noted | None = None) -> Iterator[None]:
        """A bucket that is not there, or not for us, as the errors that all schemes raise; those of a source pass."""
        try:
            yield
        except ObjectsError as error:
            if noted is not None and error is noted.error:
                raise
            status = self._status(error)
            if isinstance(error, NotFound) or status == 404:
                raise missing(url, "nor is there a bucket of this name" if not isinstance(error, NotFound) else "") from error
            if status in (401, 403):
                raise refused(url) from error
            raise

    def objects(self, bucket: str) -> ForeignObjects:
        """The objects of a bucket, with this scheme's connections."""
        if bucket not in self._buckets:
            self._buckets[bucket] = self._open(bucket)
        return self._buckets[bucket]

    async def look(self, url: Url) -> Found:
        """See `Scheme.look`."""
        objects = self.objects(url.bucket)
        with self._translated(url):
            if not url.names_directory:
                try:
                    return Found((await objects.head(url.path)).size)
                except NotFound:
                    pass
            async for _ in objects.list(prefix := _prefix(url)):
                return Found(None, directory=True)
        if not prefix:
            return Found(None, directory=True)
        raise missing(url)

    async def entries(self, url: Url) -> list[str]:
        """See `Scheme.entries`."""
        with self._translated(url):
            names = [name async for name in self.objects(url.bucket).children(_prefix(url))]
        if not names and not (await self.look(url)).directory:
            raise no_directory(url)
        return sorted(names)

    @asynccontextmanager
    async def read(self, url: Url) -> AsyncIterator[Fetched]:
        """See `Scheme.read`."""
        found = await self.look(url)
        if found.directory:
            raise directory(url)
        async with aclosing(self._pieces(url)) as pieces:
            yield Fetched(pieces, found.size, False)

    async def _pieces(self, url: Url) -> AsyncGenerator[bytes, None]:
        with self._translated(url):
            async with aclosing(self.objects(url.bucket).download(url.path)) as pieces:
                async for piece in pieces:
                    yield piece

    async def write(self, url: Url, pieces: AsyncIterable[Piece], size: int | None, executable: bool) -> None:
        """See `Scheme.write`. That other keys begin with this one and a `/` is no hindrance in a bucket."""
        if url.names_directory:
            raise directory(url)
        noted = Noted(pieces)
        async with aclosing(noted.read()) as content:
            with self._translated(url, noted):
                await self.objects(url.bucket).upload(url.path, content)

    async def copy(self, url: Url, source: Objects, source_key: str) -> None:
        """Make the object what another one is, by the server where it can. NotFound if that other one is gone."""
        if url.names_directory:
            raise directory(url)
        try:
            await self.objects(url.bucket).copy(source, source_key, url.path)
        except NotFound:
            raise
        except ObjectsError as error:
            with self._translated(url):
                raise error

    async def close(self) -> None:
        """Drop all connections."""
        while self._buckets:
            await self._buckets.popitem()[1].close()


def _prefix(url: Url) -> str:
    return url.path if url.names_directory else f"{url.path}/"

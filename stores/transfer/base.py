"""What a scheme must offer to be imported from and exported to, and what all schemes have in common: bounds and errors.

A scheme knows one protocol; `transfer` dispatches to it, translates text to Urls and sets the deadlines of asking. The errors
are those that Python has for files, so that a caller need not know what the scheme was:

    FileNotFoundError      nothing is there
    IsADirectoryError      a directory (or a bucket's prefix) is there, and a file was needed
    NotADirectoryError     a file is there, and a directory was needed
    PermissionError        the credentials do not suffice
    TransferError          the other side failed, or what came is not what it announced
    UnimplementedURLException, InvalidImportExportUrlException    this URL can never be used so

No message holds a user, a password or the query of a URL.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import NamedTuple, NoReturn, Protocol

from towline.stores.jobstore.errors import UnimplementedURLException
from towline.stores.objects.base import ObjectsError
from towline.stores.objects.retry import Policy, Retry
from towline.stores.transfer.url import Url, parsed

PIECE = 1 << 20
"""Bytes at once, where we choose."""
CONNECT_S = 30.0
ASK_S = 120.0
"""An answer that holds no file's content is awaited so long, retries included."""
STALL_S = 300.0
"""A transfer in which no byte moves for so long has failed."""

ASKING = Retry(Policy(deadline_s=ASK_S / 2, attempt_s=ASK_S / 2, attempts=6))
"""For what moves no content: asked again while the other side is busy or cannot be reached."""

Piece = bytes | memoryview


class TransferError(ObjectsError):
    """The other side failed, or what came is not what it announced. Nothing of it was kept; it may be tried again."""


class Found(NamedTuple):
    """What is known of a URL without reading it."""

    size: int | None
    """Bytes; None where the server does not say, and of directories."""
    executable: bool = False
    directory: bool = False


class Fetched(NamedTuple):
    """A file that is being read."""

    pieces: AsyncIterator[bytes]
    size: int | None
    """Bytes that will come; None where the server does not say."""
    executable: bool


class Scheme(Protocol):
    """One protocol. Lives in one event loop; `close` lets go of what it holds."""

    async def look(self, url: Url) -> Found:
        """What is there. FileNotFoundError if nothing is."""
        ...

    async def entries(self, url: Url) -> list[str]:
        """Names in a directory, decoded, those of directories ending in `/`, sorted. NotADirectoryError, FileNotFoundError."""
        ...

    def read(self, url: Url) -> AbstractAsyncContextManager[Fetched]:
        """The file's content, in pieces of bounded size. FileNotFoundError, IsADirectoryError on entry."""
        ...

    async def write(self, url: Url, pieces: AsyncIterable[Piece], size: int | None, executable: bool) -> None:
        """Make this the content of the file, whole or not at all as far as the protocol lets us. `size` is what will come,
        if that is known. IsADirectoryError if a directory is there."""
        ...

    async def close(self) -> None: ...


# ---------------------------------------------------------------------------------------------------------------- errors


def missing(url: Url, why: str = "") -> FileNotFoundError:
    """Nothing is there."""
    return FileNotFoundError(errno.ENOENT, _sentence("there is no such file", why), str(url))


def directory(url: Url) -> IsADirectoryError:
    """A file is needed and a directory is there."""
    return IsADirectoryError(errno.EISDIR, "a directory is there, where a file is needed", str(url))


def no_directory(url: Url) -> NotADirectoryError:
    """A directory is needed and a file is there."""
    return NotADirectoryError(errno.ENOTDIR, "a file is there, where a directory is needed", str(url))


def refused(url: Url, why: str = "") -> PermissionError:
    """The credentials do not suffice."""
    return PermissionError(errno.EACCES, _sentence("access is refused; check the credentials", why), str(url))


def unimplemented(url: Url, verb: str) -> NoReturn:
    """The scheme has no such verb."""
    raise UnimplementedURLException(parsed(str(url)), verb)


def _sentence(text: str, why: str) -> str:
    return f"{text} ({why})" if why else text


@contextmanager
def translated(url: Url) -> Iterator[None]:
    """The border: errors of sockets, of TLS and of waiting become TransferError with the URL; those of files pass."""
    try:
        yield
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError):
        raise
    except TimeoutError as error:
        raise TransferError(f"{url}: the other side did not answer in time; try again later") from error
    except OSError as error:
        raise TransferError(f"{url}: {error.strerror or type(error).__name__}") from error
    except EOFError as error:
        raise TransferError(f"{url}: the other side closed the connection") from error


# ---------------------------------------------------------------------------------------------------------------- bounds


async def counted(url: Url, pieces: AsyncIterator[bytes], size: int | None) -> AsyncGenerator[bytes, None]:
    """The same pieces; TransferError unless they come to `size` bytes, or when none comes for STALL_S."""
    got = 0
    while piece := await _next(url, pieces):
        got += len(piece)
        yield piece
    if size is not None and got != size:
        raise TransferError(f"{url}: {got} bytes came, {size} were announced; it broke off or changed meanwhile")


async def _next(url: Url, pieces: AsyncIterator[bytes]) -> bytes:
    """The next piece that is not empty; an empty one at the end."""
    with translated(url):
        async with asyncio.timeout(STALL_S):
            async for piece in pieces:
                if piece:
                    return piece
    return b""


async def watched(
    url: Url, pieces: AsyncIterable[Piece], size: int | None, limit: asyncio.Timeout, moved: Callable[[int], None] | None = None
) -> AsyncGenerator[Piece, None]:
    """The same pieces on their way out: each moves the deadline on, and is said to `moved`; TransferError unless they come to
    `size` bytes."""
    sent = 0
    async for piece in pieces:
        limit.reschedule(asyncio.get_running_loop().time() + STALL_S)
        sent += memoryview(piece).nbytes
        if size is not None and sent > size:
            break
        yield piece
        if moved is not None:
            moved(sent)
    if size is not None and sent != size:
        raise TransferError(f"{url}: the content that was to be written there has not the {size} bytes that were announced")


class Noted:
    """Pieces on their way into a protocol, and why they ended early if they did: that error is not the other side's."""

    def __init__(self, pieces: AsyncIterable[Piece]) -> None:
        self._pieces = pieces
        self.error: BaseException | None = None

    async def read(self) -> AsyncGenerator[bytes, None]:
        """The same pieces, but for empty ones."""
        try:
            async for piece in self._pieces:
                if len(piece):
                    yield bytes(piece)
        except (Exception, asyncio.CancelledError) as error:
            self.error = error
            raise

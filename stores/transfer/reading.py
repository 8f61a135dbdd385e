"""A URL's content as a stream that is read like a file: forwards, in bounded memory, with the names that Python's files have."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack
from types import TracebackType

from towline.stores.transfer.base import Fetched


class UrlStream:
    """An open URL. Use it as `async with await open_url(uri) as stream`, or await `close`. Errors are those of the transfer."""

    def __init__(self, fetched: Fetched, held: AsyncExitStack) -> None:
        self._pieces = fetched.pieces
        self._held = held
        self._piece = b""
        self._from = 0
        self._before = 0
        self._closed = False
        self.size = fetched.size
        """Bytes of the whole; None where the server does not say."""
        self.executable = fetched.executable

    async def read1(self, n: int = -1) -> bytes:
        """Some bytes, at most `n` of them; none at the end only."""
        if n == 0 or not await self._more():
            return b""
        to = len(self._piece) if n < 0 else min(len(self._piece), self._from + n)
        taken = self._piece[self._from : to]
        self._from = to
        return taken

    async def read(self, n: int = -1) -> bytes:
        """`n` bytes, fewer at the end only; all the rest by default."""
        pieces: list[bytes] = []
        while n and (piece := await self.read1(n)):
            pieces.append(piece)
            n -= len(piece) if n > 0 else 0
        return b"".join(pieces)

    async def readline(self) -> bytes:
        """Up to and with the next line feed."""
        pieces: list[bytes] = []
        while await self._more():
            cut = self._piece.find(b"\n", self._from) + 1
            pieces.append(await self.read1(cut - self._from if cut else -1))
            if cut:
                break
        return b"".join(pieces)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while line := await self.readline():
            yield line

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        """All the rest, as it comes."""
        while piece := await self.read1():
            yield piece

    def tell(self) -> int:
        """Bytes read so far."""
        return self._before + self._from

    async def close(self) -> None:
        """Let go of the connection; idempotent. Unread bytes are simply left."""
        self._closed = True
        await self._held.aclose()

    async def __aenter__(self) -> UrlStream:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()

    async def _more(self) -> bool:
        """See to it that there is something at hand; False at the end."""
        if self._closed:
            raise ValueError("the stream is closed")
        if self._from == len(self._piece):
            self._before += self._from
            self._piece, self._from = await anext(self._pieces, b""), 0
        return self._from < len(self._piece)

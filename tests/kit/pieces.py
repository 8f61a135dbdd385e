"""Content in pieces, as transfers take it, and what must be the same when it has arrived."""

from __future__ import annotations

import hashlib
import random
from collections.abc import AsyncIterator

MIB = 1 << 20


def content(size: int) -> bytes:
    """So many bytes that do not compress, the same each time."""
    return random.Random(size).randbytes(size)


def digest(data: bytes) -> str:
    """Short enough to be read in a failure."""
    return hashlib.sha256(data).hexdigest()[:16] + f"/{len(data)}"


async def pieces_of(data: bytes, size: int = 300_000) -> AsyncIterator[bytes]:
    """In pieces of this size."""
    for at in range(0, len(data), size):
        yield data[at : at + size]


async def breaking(data: bytes, error: BaseException) -> AsyncIterator[bytes]:
    """Ends in an error."""
    async for piece in pieces_of(data):
        yield piece
    raise error

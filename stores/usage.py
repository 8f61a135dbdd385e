"""What lies in a store and how large it is, object by object: plain facts from a listing, and an object's content as a stream."""

from __future__ import annotations

from array import array
from collections.abc import AsyncIterator
from typing import NamedTuple

import msgspec

from towline.engine.errors import CorruptionError
from towline.stores.fileformat import MAGIC, TAIL, Footer
from towline.stores.files import parse_key
from towline.stores.objects.base import Objects


class Share(NamedTuple):
    """Objects that begin alike."""

    name: str
    """Their common beginning, with `/` at its end if they lie below it."""
    objects: int
    bytes: int


async def usage(objects: Objects, prefix: str = "", depth: int = 1) -> list[Share]:
    """The objects under a prefix, summed up by the first `depth` segments of their keys behind it, largest first."""
    counts: dict[str, int] = {}
    sizes: dict[str, int] = {}
    async for meta in objects.list(prefix):
        segments = meta.key[len(prefix) :].split("/")
        name = prefix + "/".join(segments[:depth]) + ("/" if len(segments) > depth else "")
        counts[name] = counts.get(name, 0) + 1
        sizes[name] = sizes.get(name, 0) + meta.size
    return sorted((Share(name, counts[name], sizes[name]) for name in counts), key=lambda share: (-share.bytes, share.name))


async def content(objects: Objects, key: str) -> AsyncIterator[bytes]:
    """The bytes of an object; of one that holds a user's file, the file's. Raises NotFound before the first piece."""
    start, length = await _inner(objects, key) if parse_key(key) else (0, None)
    async for piece in objects.download(key, start, length):
        yield piece


async def _inner(objects: Objects, key: str) -> tuple[int, int | None]:
    """Where the user's bytes lie in a sealed file object (`fileformat`); all of it if it holds a value of the codec."""
    import google_crc32c

    size = (await objects.head(key)).size
    tail = await objects.get(key, max(0, size - TAIL.size))
    at = size - TAIL.size
    if len(tail) < TAIL.size or (said := TAIL.unpack(tail))[2] != MAGIC or said[0] > at:
        raise CorruptionError(f"{objects.url}/{key}: the tail of the file is damaged, at offset {max(0, at)}")
    packed = await objects.get(key, at - said[0], said[0])
    if google_crc32c.value(packed) != said[1]:
        raise CorruptionError(f"{objects.url}/{key}: the footer of the file is damaged, at offset {at - said[0]}")
    footer = msgspec.msgpack.decode(packed, type=Footer)
    if footer.kind != "file":
        return 0, None
    return array("Q", footer.offsets)[0], array("Q", footer.lengths)[0]

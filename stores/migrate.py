"""A store moves house: every object of one place to another, of whatever kind, each proved by digest at its new place.

The destination becomes a store by its last write, `towline.json`; until then `migrating.json` says where it comes from and up
to which key all is proved, so that a migration that was interrupted goes on there. A key is copied if it is missing or differs
(sizes first, then digests of what can really be read back). The source is only read. It must be at rest: the caller asks
`actors.standing`, and `migrate` looks once more at the end whether anything has changed meanwhile.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import AsyncIterator, Callable, Iterable
from typing import NamedTuple

import msgspec

from towline.engine.errors import CorruptionError, UsageError
from towline.stores.errors import StoreExists, StoreForeign
from towline.stores.objects.base import ABSENT, NotFound, Objects, Version
from towline.stores.store import ENDPOINT, MARK, MOVING, foreign, is_ours, read_mark

AT_ONCE = 16
"""Objects that are on their way at the same time."""
WINDOW = 256
"""Objects after which the proved key moves on."""
SAY_S = 2.0
"""`migrating.json` is replaced at most once in so many seconds (a bucket allows about one a second)."""
SKIPPED = frozenset({ENDPOINT, MOVING, MARK, "clock/now"})
"""What is of its place alone, and what is written last."""
CHUNK = 1 << 20
"""Digests are made of so many bytes at a time."""


class Moving(msgspec.Struct, frozen=True):
    """What `migrating.json` says."""

    store: str
    """uuid of the store that is being copied."""
    source: str
    proved: str = ""
    """All keys up to this one are at the destination, and proved."""


class Moved(NamedTuple):
    """What a migration did."""

    objects: int
    """All that are at the destination now, `towline.json` included."""
    copied: int
    """Of these, how many were copied in this call; the others were there before."""
    bytes: int
    """Bytes of those that were copied."""


class _Job(NamedTuple):
    """What every object's copying needs to know."""

    source: Objects
    destination: Objects
    progress: Callable[[int, int], None]


async def migrate(source: Objects, destination: Objects, progress: Callable[[int, int], None] | None = None) -> Moved:
    """Copy a whole store; safe to interrupt and to repeat. `progress(objects, bytes)` is told what has been proved so far.

    Raises:
        StoreExists: the destination is another store, or this one already.
        StoreForeign: something that is no store lies there.
        UsageError: source and destination are one place, or the source changed while it was read: a leader works on it.
        NotFound, StoreError: the source is no store.
        CorruptionError: what can be read back at the destination is not what was read.
    """
    if source.url == destination.url:
        raise UsageError(f"{source.url} cannot be migrated to itself")
    image = await source.get(MARK)
    mark = read_mark(image, source.url)
    moving = await _begin(source, destination, mark.store)
    if moving is None:
        await destination.delete_many([MOVING])
        return Moved(sum([1 async for meta in destination.list() if is_ours(meta.key)]), 0, 0)
    job = _Job(source, destination, progress or (lambda objects, bytes_: None))
    before = await _listing(source)
    moved = await _all(job, moving, before)
    if changed := sorted(set(before).symmetric_difference(await _listing(source))):
        raise UsageError(
            f"{source.url} changed while it was copied ({changed[0][0]}): end the run that works on it, and migrate again"
        )
    await destination.put(MARK, image, ABSENT)
    if await destination.get(MARK) != image:
        raise CorruptionError(f"{destination.url}/{MARK} does not read back as it was written, at offset 0")
    await destination.delete_many([MOVING])
    return moved._replace(objects=moved.objects + 1)


async def _begin(source: Objects, destination: Objects, store: str) -> Moving | None:
    """The migration that is going on there, or a new one; None: it is whole, only its last word is missing."""
    moving = await _moving_at(destination)
    if moving is not None and moving.store != store:
        raise StoreForeign.at(destination.url, f"the unfinished migration of {moving.source}")
    try:
        await destination.head(MARK)
    except NotFound:
        pass
    else:
        if moving is None:
            raise StoreExists.at(destination.url)
        return None
    if moving is None:
        if found := await foreign(destination):
            raise StoreForeign.at(destination.url, found)
        moving = Moving(store, source.url)
        await destination.put(MOVING, _encode(moving), ABSENT)
    return moving


async def _moving_at(destination: Objects) -> Moving | None:
    try:
        return msgspec.json.decode(await destination.get(MOVING), type=Moving)
    except NotFound:
        return None
    except msgspec.MsgspecError as error:
        raise StoreForeign.at(destination.url, f"a {MOVING} that cannot be read ({error})") from error


def _moves(key: str) -> bool:
    return is_ours(key) and key not in SKIPPED


async def _listing(source: Objects) -> dict[tuple[str, int, Version], None]:
    return {(meta.key, meta.size, meta.version): None async for meta in source.list() if _moves(meta.key)}


async def _all(job: _Job, moving: Moving, listing: Iterable[tuple[str, int, Version]]) -> Moved:
    """Copy and prove in windows; after each, all keys up to its last are proved."""
    sizes = {meta.key: meta.size async for meta in job.destination.list(start_after=moving.proved)}
    moved, said = Moved(0, 0, 0), time.monotonic()
    window: list[tuple[str, int]] = []
    async for window in _windows(listing):
        todo = [(key, size) for key, size in window if key > moving.proved]
        gate = asyncio.Semaphore(AT_ONCE)
        async with asyncio.TaskGroup() as group:
            copying = [group.create_task(_one(job, gate, key, size, sizes.get(key))) for key, size in todo]
        copied = [size for task, (_, size) in zip(copying, todo, strict=True) if task.result()]
        moved = Moved(moved.objects + len(window), moved.copied + len(copied), moved.bytes + sum(copied))
        job.progress(moved.objects, moved.bytes)
        if time.monotonic() - said > SAY_S:
            await job.destination.put(MOVING, _encode(msgspec.structs.replace(moving, proved=window[-1][0])))
            said = time.monotonic()
    return moved


async def _windows(listing: Iterable[tuple[str, int, Version]]) -> AsyncIterator[list[tuple[str, int]]]:
    window: list[tuple[str, int]] = []
    for key, size, _ in listing:
        window.append((key, size))
        if len(window) == WINDOW:
            yield window
            window = []
    if window:
        yield window


async def _one(job: _Job, gate: asyncio.Semaphore, key: str, size: int, there: int | None) -> bool:
    """One object, proved by what can be read back; was it copied?"""
    async with gate:
        wanted = await _digest(job.source, key)
        if there == size and await _digest(job.destination, key) == wanted:
            return False
        await job.destination.copy(job.source, key, key)
        if await _digest(job.destination, key) != wanted:
            raise CorruptionError(f"{job.destination.url}/{key} does not read back as it was written, at offset 0")
        return True


async def _digest(objects: Objects, key: str) -> bytes:
    hasher = hashlib.blake2b()
    async for piece in objects.download(key):
        if len(piece) < CHUNK:
            hasher.update(piece)
        else:
            await asyncio.to_thread(hasher.update, piece)
    return hasher.digest()


def _encode(moving: Moving) -> bytes:
    return json.dumps(msgspec.to_builtins(moving)).encode() + b"\n"

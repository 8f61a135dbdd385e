"""Does a place for bytes keep its word on conditional writes? Asked once, before it is made a store.

Everything that makes a journal safe rests on one act: of many who create the same object, exactly one succeeds (P4, R6). There
are servers that take the condition and ignore it, and others that check it first and write later, so that several win. Such a
place looks well until the day when two leaders meet; so it is refused before anything is entrusted to it.

A probe can catch a liar, not prove an honest server: what it does is race, several times, with more rivals than a store will
ever have.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from uuid import uuid4

from towline.engine.errors import UsageError
from towline.stores.objects.base import ABSENT, Ambiguous, NotFound, Objects, ObjectsError, PreconditionFailed, Version, When

PREFIX = "probe/"
"""Where a probe writes. What one that was killed has left there is nobody's, and goes with a later one."""
ROUNDS = 3
RACERS = 16
STALE_S = 3600.0
"""No probe takes so long."""
_TRIES = 4
_PADDING = (0, 4 << 10, 64 << 10)
"""Bytes added to what is written in each round: a longer body keeps the gap between check and write open for longer."""


async def probe(objects: Objects, *, rounds: int = ROUNDS, racers: int = RACERS) -> None:
    """Return if the place honours conditional create and replace; UsageError if it does not.

    ObjectsError where it cannot be asked at all (no bucket, no access). Leaves nothing behind.
    """
    nonce = f"{PREFIX}{uuid4().hex}"
    keys = [f"{nonce}/create", f"{nonce}/replace", *(f"{nonce}/race-{i}" for i in range(rounds))]
    try:
        await _creates(objects, keys[0])
        await _replaces(objects, keys[1])
        for number, key in enumerate(keys[2:]):
            await _race(objects, key, racers, _PADDING[number % len(_PADDING)])
    finally:
        await _clean(objects, keys)


def _refusal(objects: Objects, what: str, seen: str) -> UsageError:
    return UsageError(
        f"{objects.url} does not honour conditional {what} ({seen}): no run can be led from it, for two leaders "
        "could both write; use another bucket or server"
    )


async def _creates(objects: Objects, key: str) -> None:
    """The first create succeeds, the second fails and changes nothing."""
    try:
        await _put(objects, key, b"first", ABSENT)
    except PreconditionFailed as error:
        raise _refusal(objects, "create", "a new object was said to exist") from error
    try:
        await _put(objects, key, b"second", ABSENT)
    except PreconditionFailed:
        if await objects.get(key) == b"first":
            return
    raise _refusal(objects, "create", "an existing object was replaced")


async def _replaces(objects: Objects, key: str) -> None:
    """A version is replaced once."""
    version = await objects.put(key, b"first")
    try:
        await _put(objects, key, b"second", version)
    except PreconditionFailed as error:
        raise _refusal(objects, "replace", "the version that is there was not recognised") from error
    except Ambiguous:
        raise
    except ObjectsError as error:
        raise _refusal(objects, "replace", str(error)) from error
    try:
        await _put(objects, key, b"third", version)
    except PreconditionFailed:
        if await objects.get(key) == b"second":
            return
    raise _refusal(objects, "replace", "a version was replaced that was there no more")


async def _race(objects: Objects, key: str, racers: int, padding: int) -> None:
    """Of many creators one succeeds, and what it wrote is there."""
    bodies = [b"%04d" % i + bytes(padding) for i in range(racers)]
    outcomes = await asyncio.gather(*(objects.put(key, body, ABSENT) for body in bodies), return_exceptions=True)
    for outcome in outcomes:
        if isinstance(outcome, BaseException) and not isinstance(outcome, PreconditionFailed | Ambiguous):
            raise outcome
    winners = [body for body, outcome in zip(bodies, outcomes, strict=True) if not isinstance(outcome, BaseException)]
    doubtful = [body for body, outcome in zip(bodies, outcomes, strict=True) if isinstance(outcome, Ambiguous)]
    if len(winners) > 1:
        raise _refusal(objects, "create", f"{len(winners)} of {racers} racing creators succeeded")
    if await _found(objects, key) not in (winners or doubtful):
        raise _refusal(objects, "create", "what lies there is not what the one that succeeded has written")


async def _put(objects: Objects, key: str, body: bytes, when: When | Version) -> None:
    """A conditional put; a lost answer is settled by reading back, and the put made again where it was not carried out."""
    doubt: Ambiguous | None = None
    for _ in range(_TRIES):
        try:
            await objects.put(key, body, when)
            return
        except Ambiguous as error:
            doubt = error
        except PreconditionFailed:
            # after a lost answer it may be our own object that was met
            if doubt is None or await _found(objects, key) != body:
                raise
            return
        if await _found(objects, key) == body:
            return
    assert doubt is not None
    raise doubt


async def _found(objects: Objects, key: str) -> bytes:
    try:
        return await objects.get(key)
    except NotFound:
        return b""


async def _clean(objects: Objects, keys: Sequence[str]) -> None:
    """Delete our keys, and those of probes that have died."""
    found = {meta.key: meta.modified async for meta in objects.list(PREFIX)}
    newest = max(found.values(), default=0.0)
    stale = [key for key, modified in found.items() if modified < newest - STALE_S]
    await objects.delete_many([*(key for key in keys if key in found), *stale])

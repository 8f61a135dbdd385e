"""Snapshots of the job table: the folded state at a position of the chain, so that an open need not replay everything.

A snapshot counts only if a committed record behind it names it with its digest; whoever starts from one reads on from its
position and meets that record. `load` finds the newest that counts. `tidy` lets older ones go, gathers the segments below the
one before into parts and drops what is older than a grace period, exactly as the journal does.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import re
import struct
from contextlib import suppress
from typing import NamedTuple

import msgspec

from towline.engine.errors import CorruptionError
from towline.stores.errors import NewerFormat
from towline.stores.jobstore.links import Position
from towline.stores.jobstore.records import FileEntry, LogWritten, Snapshotted
from towline.stores.jobstore.state import File, Job, State
from towline.stores.journal import parts
from towline.stores.journal.reader import JournalReader
from towline.stores.objects.base import ABSENT, Objects, PreconditionFailed

PREFIX = "snapshots/"
MAGIC = b"TOWLTAB\n"
FORMAT = 1
_HEAD = struct.Struct("<8sI")
_shape = re.compile(r"snapshots/(\d{20})-([0-9a-f]{16})\.state").fullmatch


class Image(msgspec.Struct, frozen=True, array_like=True):
    """What a snapshot holds behind its head. Tables are sorted by key, so equal states have equal bytes."""

    position: Position
    workflow: str
    config: bytes
    config_version: int
    root: str
    jobs: list[tuple[str, int, bytes]]
    """id, version, body."""
    files: list[tuple[int, FileEntry]]
    """version, entry."""
    shared: list[tuple[int, FileEntry]]
    condemned: list[str]
    doomed: list[str]
    logs: list[tuple[int, LogWritten]]
    unread: list[int]
    snapshot: Snapshotted | None
    """The one that was named before this was made."""


class Found(NamedTuple):
    """A snapshot that may count: it does once a record that follows its position names it."""

    key: str
    digest: str
    state: State
    position: Position


def digest_of(data: bytes) -> str:
    """Of a whole snapshot: BLAKE2b, 32 bytes, hex."""
    return hashlib.blake2b(data, digest_size=32).hexdigest()


def seq_of(key: str) -> int | None:
    """First record that is not in this snapshot; None: the key is no snapshot's."""
    found = _shape(key)
    return int(found[1]) if found else None


def encode(state: State, position: Position) -> bytes:
    """The snapshot's bytes. Of a state that stands still: a copy, or the committed one between two awaits."""
    image = Image(
        position, state.workflow, state.config, state.config_version, state.root,
        [(job, held.version, held.body) for job, held in sorted(state.jobs.items())],
        [(held.version, held.entry) for _, held in sorted(state.files.items())],
        [(held.version, held.entry) for _, held in sorted(state.shared.items())],
        sorted(state.condemned), sorted(state.doomed), sorted(state.logs.items()), sorted(state.unread), state.snapshot,
    )  # fmt: skip
    return _HEAD.pack(MAGIC, FORMAT) + msgspec.msgpack.encode(image)


def decode(data: bytes, name: str) -> tuple[State, Position]:
    """The state in a snapshot and where it stands. CorruptionError, NewerFormat."""
    if len(data) < _HEAD.size or data[:8] != MAGIC:
        raise CorruptionError(f"{name}: this is no snapshot of a job table, at offset 0")
    version = _HEAD.unpack_from(data)[1]
    if version > FORMAT:
        raise NewerFormat(f"{name} has format {version}; this towline reads up to {FORMAT}: upgrade towline")
    try:
        image = msgspec.msgpack.decode(memoryview(data)[_HEAD.size :], type=Image)
    except msgspec.MsgspecError as error:
        raise CorruptionError(f"{name}: the snapshot cannot be read ({error}), at offset {_HEAD.size}") from error
    return _state(image), image.position


def _state(image: Image) -> State:
    state = State()
    state.began = True
    state.workflow, state.root, state.snapshot = image.workflow, image.root, image.snapshot
    state.config, state.config_version = image.config, image.config_version
    state.jobs = {job: Job(version, body) for job, version, body in image.jobs}
    state.files = {entry.id: File(version, entry) for version, entry in image.files}
    state.shared = {entry.id: File(version, entry) for version, entry in image.shared}
    for held in state.files.values():
        if held.entry.owner:
            state.owned.setdefault(held.entry.owner, {})[held.entry.id] = True
    state.condemned, state.doomed = dict.fromkeys(image.condemned, True), dict.fromkeys(image.doomed, True)
    state.logs, state.unread = dict(image.logs), dict.fromkeys(image.unread, True)
    return state


# ------------------------------------------------------------------------------------------------------------- objects


async def listed(objects: Objects) -> list[str]:
    """The keys of all snapshots, named or not, oldest first."""
    return [meta.key async for meta in objects.list(PREFIX) if seq_of(meta.key) is not None]


async def fetch(objects: Objects, key: str) -> Found:
    """The snapshot under this key. NotFound if it was tidied away; CorruptionError if it is not what its name says."""
    data = await objects.get(key)
    return await asyncio.to_thread(_found, key, data, f"{objects.url}/{key}")


def _found(key: str, data: bytes, name: str) -> Found:
    shape, digest = _shape(key), digest_of(data)
    if shape is None or not hmac.compare_digest(shape[2], digest[:16]):
        raise CorruptionError(f"{name}: the snapshot is not the one that its name says, at offset 0 or later")
    state, position = decode(data, name)
    if position.seq != int(shape[1]):
        raise CorruptionError(f"{name}: it holds the records up to {position.seq}, not up to {int(shape[1])}, at offset 0")
    return Found(key, digest, state, position)


async def write(objects: Objects, state: State, position: Position) -> Snapshotted:
    """Write the snapshot of a state that stands still. The caller's next duty: commit the record that this returns."""
    data = await asyncio.to_thread(encode, state, position)
    digest = await asyncio.to_thread(digest_of, data)
    key = f"{PREFIX}{position.seq:020d}-{digest[:16]}.state"
    with suppress(PreconditionFailed):  # the key names the content: what is there is this very snapshot
        await objects.put(key, data, ABSENT)
    return Snapshotted(position.seq, position.number, key, digest, len(data))


async def tidy(objects: Objects, old: Snapshotted, new: Snapshotted, grace_s: float) -> None:
    """Drop what `old`, which is named and stays for slow readers, makes superfluous. `new` is named by now as well."""
    keys = [key for key in await listed(objects) if (seq_of(key) or 0) < new.seq and key != old.key]
    await objects.delete_many(keys)
    await parts.make_part(objects, await JournalReader.open(objects), old.seq)
    await parts.drop_segments(objects, old.seq, grace_s=grace_s, now=await parts.store_now(objects))

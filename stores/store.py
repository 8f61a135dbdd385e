"""A store: a place that holds `towline.json`, and from there the journal, snapshots and files of its runs.

`towline.json` is written once, by conditional create, and says what the rest is: `{"format": 1, "store": uuid, "towline":
version}`. A place is only ever made a store if nothing else lies there. Nothing here decides who may lead: that is the
journal's claim. `leader.json` is a note for processes that look for a living leader (address and secret; 0600 on a local
disk); it is no part of the truth and may be missing, stale or somebody else's at any time.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import msgspec

from towline.engine.errors import CorruptionError
from towline.stores.errors import StoreDestroyed, StoreExists, StoreForeign, StoreMissing, StoreMoving, StoreNewer
from towline.stores.files import Files
from towline.stores.locate import open_objects, parse
from towline.stores.objects.base import ABSENT, NotFound, Objects, ObjectsError, PreconditionFailed
from towline.stores.objects.local import LocalObjects
from towline.stores.objects.memory import MemoryObjects
from towline.stores.objects.probe import PREFIX, probe

if TYPE_CHECKING:
    from towline.stores.objects.s3_encryption import Encryption

FORMAT = 1
"""Of the store as a whole; a reader refuses higher ones."""
MARK = "towline.json"
ENDPOINT = "leader.json"
MOVING = "migrating.json"
"""Stands at the destination of a migration until `towline.json` does (`stores.migrate`)."""


class Mark(msgspec.Struct, frozen=True, omit_defaults=True):
    """What `towline.json` says."""

    format: int
    store: str
    """uuid, minted once."""
    towline: str
    """Version that made it."""
    destroyed: bool = False
    """Its destruction has begun: what is left is no store any more."""


class Store:
    """An open store. Holds no file and no lock; any number of processes may have it open."""

    def __init__(self, objects: Objects, mark: Mark) -> None:
        self.objects = objects
        self.url = objects.url
        """Names it from any process; with the region or project, if it was opened by them."""
        self.uuid = mark.store
        self.mark = mark

    @classmethod
    async def open(
        cls,
        url: str | os.PathLike[str],
        *,
        create: bool = False,
        exclusive: bool = False,
        uuid: str | None = None,
        encryption: Encryption | None = None,
    ) -> Store:
        """The store at this locator; with `create`, made where there is none (with this uuid, or a new one).

        `encryption` of a bucket: see `locate.open_objects`.

        Raises:
            LocatorError: the locator names no place.
            UsageError: with `create`, a bucket that does not honour conditional writes.
            StoreMissing: nothing is there, and `create` was not given.
            StoreForeign: something else is there.
            StoreDestroyed, StoreMoving: a store that is on its way out, or in.
            StoreNewer: written by a later towline.
            StoreExists: with `create` and `exclusive`, where there is a store already.
        """
        place = parse(url)
        objects = open_objects(place, encryption)
        try:
            store = await cls._open(objects, create, exclusive, uuid)
        except BaseException:
            await objects.close()
            raise
        store.url = place.url
        return store

    @classmethod
    async def _open(cls, objects: Objects, create: bool, exclusive: bool, uuid: str | None) -> Store:
        mark = await _read_mark(objects)
        if mark is not None:
            if create and exclusive:
                raise StoreExists.at(objects.url)
            return cls(objects, mark)
        found = await foreign(objects)
        if found is None and create:
            if not isinstance(objects, LocalObjects | MemoryObjects):
                await probe(objects)  # UsageError: a bucket that does not honour conditional writes is entrusted with nothing
            return cls(objects, await _create(objects, uuid or str(uuid4()), exclusive))
        # another process may have made it a store between the two looks
        if mark := await _read_mark(objects):
            if create and exclusive:
                raise StoreExists.at(objects.url)
            return cls(objects, mark)
        if found is None:
            raise StoreMissing.at(objects.url)
        raise StoreMoving.at(objects.url) if await _is_moving(objects) else StoreForeign.at(objects.url, found)

    @cached_property
    def files(self) -> Files:
        """Content too large for records, without the node's cache: for tools, which read a file once (others: `Files.at`)."""
        return Files(self.objects)

    async def close(self) -> None:
        """Let go of connections."""
        await self.objects.close()

    # ------------------------------------------------------------------------------------------------- leader.json

    async def put_endpoint(self, data: bytes) -> None:
        """Say where the leader listens, replacing what was said before."""
        await self.objects.put(ENDPOINT, data)

    async def get_endpoint(self) -> bytes | None:
        """What the last leader said of itself; None if there is none that left word."""
        try:
            return await self.objects.get(ENDPOINT) or None
        except NotFound:
            return None

    async def drop_endpoint(self, mine: bytes) -> None:
        """Take back what `put_endpoint` said, unless somebody else has said something since."""
        try:
            version = (await self.objects.head(ENDPOINT)).version
            if await self.objects.get(ENDPOINT) == mine:
                # emptied rather than deleted: only a write can be made to depend on what it replaces
                await self.objects.put(ENDPOINT, b"", when=version)
        except (NotFound, PreconditionFailed):
            pass


async def _is_moving(objects: Objects) -> bool:
    try:
        await objects.head(MOVING)
    except ObjectsError:
        return False
    return True


async def _read_mark(objects: Objects) -> Mark | None:
    try:
        data = await objects.get(MARK)
    except NotFound:
        return None
    return read_mark(data, objects.url)


def read_mark(data: bytes, url: str) -> Mark:
    """What the bytes of `towline.json` say. StoreNewer, StoreForeign (another program's file), CorruptionError."""
    try:
        said: Any = json.loads(data)
    except ValueError as error:
        raise CorruptionError(f"{url}/{MARK}: it is not JSON ({error}), at offset 0") from error
    if not isinstance(said, dict) or not isinstance(said.get("format"), int):
        raise StoreForeign.at(url, f"a {MARK} that does not describe a store")
    if said["format"] > FORMAT:
        raise StoreNewer.at(url, said["format"], FORMAT, str(said.get("towline", "of unknown version")))
    try:
        mark = msgspec.convert(said, Mark)
    except msgspec.ValidationError as error:
        raise CorruptionError(f"{url}/{MARK}: {error}, at offset 0") from error
    if mark.destroyed:
        raise StoreDestroyed.at(url)
    return mark


def doomed(data: bytes) -> bytes:
    """`towline.json` of a store that is being destroyed, whatever state its own is in."""
    try:
        said = json.loads(data)
    except ValueError:
        said = {}
    return json.dumps({"format": FORMAT, **(said if isinstance(said, dict) else {}), "destroyed": True}).encode() + b"\n"


async def _create(objects: Objects, uuid: str, exclusive: bool) -> Mark:
    mark = Mark(FORMAT, uuid, _version())
    try:
        await objects.put(MARK, msgspec.json.encode(mark) + b"\n", ABSENT)
    except PreconditionFailed:
        if exclusive:
            raise StoreExists.at(objects.url) from None
        return read_mark(await objects.get(MARK), objects.url)
    return mark


async def foreign(objects: Objects) -> str | None:
    """The name of something that lies at a place that is no store; None: it is free."""
    if isinstance(objects, LocalObjects):
        return await asyncio.to_thread(_foreign_entry, objects)
    async for meta in objects.list():
        if not meta.key.startswith(PREFIX):  # a probe may be under way, or have died
            return meta.key
    return None


def _foreign_entry(objects: LocalObjects) -> str | None:
    # listing keys would not do: what has a name that is no key (a space, a dot in front) is somebody's, too
    try:
        names = sorted(entry.name for entry in objects.root.iterdir())
    except FileNotFoundError:
        return "a broken symlink" if objects.root.is_symlink() else None
    except NotADirectoryError:
        return "a file"
    except PermissionError as error:
        raise ObjectsError(f"cannot list {objects.url}: permission denied; run as the user that owns the store") from error
    return next((name for name in names if name not in OWN), None)


_ours = re.compile(
    r"(?:(?:documents/[^/]+/)?table/)?(?:journal/\d{20}\.seg|parts/\d{20}-\d{20}\.part|snapshots/\d{20}-[0-9a-f]{16}\.(?:arrow|state)|clock/now)"
    r"|files/[^/]+/\d{1,10}-\d{1,10}/[^/]+"
    r"|(?:documents/[^/]+/)?blobs/[0-9a-f]{2}/[0-9a-f]{32}\.[0-9a-f]{16}"
).fullmatch


def is_ours(key: str) -> bool:
    """Does a store write objects of this key? Whatever else lies in the same place is never copied or deleted: what somebody has
    put below one of our folders, another store further down in the same bucket, an upload of another program."""
    return key in (MARK, ENDPOINT, MOVING) or _ours(key) is not None


OWN = frozenset({".tmp", ".lock"})
"""What a crash in the middle of creating a store may leave behind."""


@cache
def _version() -> str:
    """Of the installed package; looked up once, because that reads and parses a file."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("towline")
    except PackageNotFoundError:
        return "0"

"""Files: content too large for a record, in objects of their own, keyed by the attempt that wrote them.

A key is `files/<owner>/<epoch>-<counter>/<id>`: what an attempt leaves behind when it dies can be told from what counts, and
only files of attempts that the journal has closed may go (R10, `collect`). A file counts once a committed record holds its
`FileRef`; before that it is durable but nobody's. Nothing of a failed write is visible.

On a local disk nothing meets an event loop, and what is read is memory-mapped, proved once and handed out as read-only Arrow
buffers; other places are streamed (`remotefiles`), through the node's cache if there is one. Workers call the blocking methods
from the job's thread. `store_output` and `load` are the glue between the codec and this: what a job returns becomes bytes for a
record, inline up to `model.INLINE_LIMIT`, else a stub that holds a FileRef.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import msgspec

from towline.engine import codec
from towline.engine.errors import CorruptionError, UsageError
from towline.engine.ids import Attempt, pack_uuid
from towline.stores import background, fileformat, filewriting, remotefiles
from towline.stores.cache import Cache, of_this_node
from towline.stores.fileformat import Buffer, Footer, Opened, Sealed
from towline.stores.filewriting import Writing
from towline.stores.locate import open_objects, parse
from towline.stores.objects.base import ABSENT, Objects, check_key
from towline.stores.objects.local import LocalObjects
from towline.stores.objects.streaming import in_thread
from towline.stores.objects.syscalls import mapped

PREFIX = "files/"
SHARED = "shared"
"""Owner of files that belong to no job."""

Content = tuple[bytes, Sequence[Any]]
"""A value taken apart by `codec.split`: header, and buffers (anything with the buffer protocol)."""


class FileRef(msgspec.Struct, frozen=True, array_like=True):
    """What a record holds of a file: enough to find it and to prove every byte of it."""

    key: str
    size: int
    """Bytes of the whole object."""
    crc32c: int
    """Of its footer, which holds the checksums of the rest."""


class Key(NamedTuple):
    """What a file's key says."""

    owner: str
    """A folder name as `owner_of` gives it."""
    attempt: Attempt
    id: str


_shape = re.compile(r"files/([^/]+)/(\d{1,10})-(\d{1,10})/([^/]+)").fullmatch


def owner_of(uuid: str) -> str:
    """The folder of a job's files. Canonical uuids are themselves; others, which may hold any text, are hashed."""
    if len(pack_uuid(uuid)) == 16:
        return uuid
    return "x-" + hashlib.blake2b(uuid.encode(), digest_size=20).hexdigest()


def new_key(uuid: str | None, attempt: tuple[int, int] = (0, 0)) -> str:
    """A key that nobody has, for a file of this job's attempt (None: shared)."""
    owner = SHARED if uuid is None else owner_of(uuid)
    return f"{PREFIX}{owner}/{attempt[0]}-{attempt[1]}/{uuid4().hex}"


def parse_key(key: str) -> Key | None:
    """What the key says; None if no file of ours has such a key."""
    found = _shape(key)
    return Key(found[1], Attempt(int(found[2]), int(found[3])), found[4]) if found else None


class Files:
    """The files of a store. Safe to use from several threads and event loops.

    Memory stays bounded whatever the size of a file: some parts of 8 MiB. Only values are held whole, and once.
    """

    def __init__(self, objects: Objects, *, cache: Cache | None = None) -> None:
        """`cache`: where this node keeps what it has read from afar; a local disk needs none, and then it is not used."""
        self._objects = objects
        self._local = objects if isinstance(objects, LocalObjects) else None
        self._cache = None if self._local else cache

    @classmethod
    def at(cls, locator: str | os.PathLike[str]) -> Files:
        """The files of the store at this place, those of a distant one through the node's cache. For who reads them again and
        again: a worker, a driver. UsageError; nothing is looked at yet."""
        place = parse(locator)
        distant = place.kind in ("s3", "gs")
        return cls(open_objects(place), cache=of_this_node() if distant else None)

    async def close(self) -> None:
        """Let go of connections."""
        await self._objects.close()

    # ------------------------------------------------------------------------------------------------------- values

    async def put_value(self, key: str, header: bytes, buffers: Sequence[Any] = ()) -> FileRef:
        """Write a value that `codec.split` took apart. Raises ObjectsError; then nothing is visible."""
        return await self._write(key, partial(filewriting.of_value, header, buffers), blocking=False)

    def put_value_sync(self, key: str, header: bytes, buffers: Sequence[Any] = ()) -> FileRef:
        """As `put_value`, for threads without an event loop."""
        if self._local is not None:
            return _write_locally(self._local, key, filewriting.of_value(header, buffers))
        return background.run(self.put_value(key, header, buffers))

    async def get_value(self, ref: FileRef) -> tuple[bytes, list[Buffer]]:
        """Header and buffers: read-only Arrow buffers, memory-mapped on a local disk (valid even after the file is deleted).

        Raises CorruptionError, NotFound, ObjectsError.
        """
        return _as_value(await self._read(ref))

    def get_value_sync(self, ref: FileRef) -> tuple[bytes, list[Buffer]]:
        """As `get_value`, for threads without an event loop."""
        return _as_value(self._read_sync(ref))

    # -------------------------------------------------------------------------------------------------------- files

    async def put_file(self, key: str, path: str | os.PathLike[str]) -> FileRef:
        """Write the content of a file of this machine, its name and its executable bit; streamed.

        UsageError if the path is no regular file that can be read.
        """
        return await self._write(key, partial(filewriting.of_file, Path(path)), blocking=True)

    def put_file_sync(self, key: str, path: str | os.PathLike[str]) -> FileRef:
        """As `put_file`, for threads without an event loop."""
        if self._local is not None:
            return _write_locally(self._local, key, filewriting.of_file(Path(path)))
        return background.run(self.put_file(key, path))

    async def read_file(self, ref: FileRef, path: str | os.PathLike[str]) -> None:
        """Write the proved content to `path`, replacing what is there, all or nothing; the executable bit is kept."""
        target = _Target(Path(path))
        try:
            opened = await self._at_hand(ref)
            if opened is not None:
                await in_thread(_fill, target, opened, self._name(ref))
            else:
                await remotefiles.copy_file(self._objects, _file_key(ref.key), _sealed(ref), self._name(ref), target.open)
            await in_thread(target.publish)
        finally:
            await in_thread(target.drop)

    def read_file_sync(self, ref: FileRef, path: str | os.PathLike[str]) -> None:
        """As `read_file`, for threads without an event loop."""
        if self._local is None:
            return background.run(self.read_file(ref, path))
        target = _Target(Path(path))
        try:
            _fill(target, self._mapped(self._local, ref), self._name(ref))
            target.publish()
        finally:
            target.drop()

    async def read_range(self, ref: FileRef, start: int, length: int) -> bytes:
        """Bytes of a file's content from `start` on, at most `length` of them (fewer at the end). Only the parts of 8 MiB that
        hold them are read and proved.

        Raises as `get_value` does; UsageError if it is no file.
        """
        if start < 0 or length < 0:
            raise UsageError(f"a range of {length} bytes from {start} on cannot be read: neither may be negative")
        key, name = _file_key(ref.key), self._name(ref)
        if self._local is not None:
            return await in_thread(_range_of, _map(self._local.root / key), _sealed(ref), name, start, length)
        found = await in_thread(self._cache.find, ref.key, _sealed(ref), name) if self._cache else None
        if found is not None:
            content = remotefiles.the_file(found, name)
            return await in_thread(lambda: bytes(content[start : start + length]))
        return await remotefiles.read_range(self._objects, key, _sealed(ref), name, start, length)

    def read_range_sync(self, ref: FileRef, start: int, length: int) -> bytes:
        """As `read_range`, for threads without an event loop."""
        if self._local is not None and start >= 0 <= length:
            return _range_of(_map(self._local.root / _file_key(ref.key)), _sealed(ref), self._name(ref), start, length)
        return background.run(self.read_range(ref, start, length))

    # ------------------------------------------------------------------------------------------------------ the bytes

    async def _write(self, key: str, begin: Callable[[], Writing], *, blocking: bool) -> FileRef:
        if self._local is not None:
            local = self._local
            return await asyncio.to_thread(lambda: _write_locally(local, key, begin()))
        return FileRef(key, *await remotefiles.write(self._objects, _file_key(key), begin, blocking=blocking))

    async def _read(self, ref: FileRef) -> Opened:
        opened = await self._at_hand(ref)
        if opened is not None:
            return opened
        return await remotefiles.read(self._objects, _file_key(ref.key), _sealed(ref), self._name(ref))

    async def _at_hand(self, ref: FileRef) -> Opened | None:
        """The whole file on a disk of this node, fetched to its cache if need be; None where there is none for it."""
        if self._local is not None:
            return await asyncio.to_thread(self._mapped, self._local, ref)
        if self._cache is None:
            return None
        key, sealed, name = _file_key(ref.key), _sealed(ref), self._name(ref)
        return await self._cache.fetched(key, sealed, name, partial(remotefiles.copy_object, self._objects, key, sealed, name))

    def _read_sync(self, ref: FileRef) -> Opened:
        if self._local is not None:
            return self._mapped(self._local, ref)
        if self._cache is not None:
            found = self._cache.find(_file_key(ref.key), _sealed(ref), self._name(ref))
            if found is not None:
                return found
        return background.run(self._read(ref))

    def _mapped(self, local: LocalObjects, ref: FileRef) -> Opened:
        return fileformat.unseal(_map(local.root / _file_key(ref.key)), _sealed(ref), self._name(ref))

    def _name(self, ref: FileRef) -> str:
        return f"{self._objects.url}/{ref.key}"


def _sealed(ref: FileRef) -> Sealed:
    return Sealed(ref.size, ref.crc32c)


def _write_locally(local: LocalObjects, key: str, writing: Writing) -> FileRef:
    local.put_blocking(_file_key(key), ([piece] for piece in writing.pieces()), ABSENT)
    assert writing.sealed is not None
    return FileRef(key, *writing.sealed)


class _Target:
    """A file of this machine that appears whole or not at all. Its methods block; `drop` must be called in the end."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._temp = path.with_name(f".{path.name[:200]}.{uuid4().hex[:8]}")
        self._fd = -1
        self._at = 0

    def open(self, footer: Footer) -> Callable[[Any], None]:
        """Make the temp file; returns what takes its bytes."""
        with mapped("write", str(self._path)):
            mode = 0o777 if footer.executable else 0o666
            self._fd = os.open(self._temp, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        return self._add

    def _add(self, piece: Any) -> None:
        with mapped("write", str(self._path)):
            self._at += remotefiles.pwrite_all(self._fd, piece, self._at)

    def publish(self) -> None:
        """Give it its name."""
        with mapped("write", str(self._path)):
            self._temp.replace(self._path)

    def drop(self) -> None:
        """Close it; what has not been published is gone."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
            with suppress(OSError):
                self._temp.unlink()


def _fill(target: _Target, opened: Opened, name: str) -> None:
    content = remotefiles.the_file(opened, name)
    target.open(opened.footer)(content)


def _range_of(data: Buffer, sealed: Sealed, name: str, start: int, length: int) -> bytes:
    if data.size != sealed.size:
        raise fileformat.wrong_size(data.size, sealed, name)
    footer, body = fileformat.read_footer(data, sealed, name)
    stop = min(start + length, remotefiles.length_of_file(footer, body, name))
    fileformat.check_parts(data, footer, body, name, start, stop)
    return bytes(memoryview(data)[start : max(start, stop)])


def _as_value(opened: Opened) -> tuple[bytes, list[Buffer]]:
    if opened.footer.kind != "value":
        raise UsageError("the stored content is a file, not a value; read it with `read_file`")
    return opened.footer.header, list(opened.buffers)


def _map(path: Path) -> Buffer:
    import pyarrow as pa

    with mapped("read", str(path)), pa.memory_map(str(path), "r") as file:
        return file.read_buffer()


def _file_key(key: str) -> str:
    """References come from records and from users: no key but one of a file leads to an object."""
    if not parse_key(check_key(key)):
        raise UsageError(f"{key!r} is not the key of a file")
    return key


# ------------------------------------------------------------------------------------------------ outputs of jobs


def store_output(files: Files, content: bytes | Content, uuid: str, attempt: tuple[int, int]) -> bytes:
    """What stands in the record for an output: the bytes themselves, or a stub of a file that is written here.

    `content` is what `codec.encode_content(value, INLINE_LIMIT)` gave. Blocking. Raises ObjectsError.
    """
    if isinstance(content, bytes):
        return content
    header, buffers = content
    return codec.stub(msgspec.msgpack.encode(files.put_value_sync(new_key(uuid, attempt), header, buffers)))


def reference_in(data: bytes | memoryview) -> FileRef | None:
    """The reference that an output's bytes hold, or None: they are the output."""
    token = codec.stub_token(data)
    if token is None:
        return None
    try:
        return msgspec.msgpack.decode(token, type=FileRef)
    except msgspec.MsgspecError as error:
        raise CorruptionError(f"a stored reference to a file cannot be read: {error}") from error


def load(files: Files, data: bytes | memoryview, **options: Any) -> Any:
    """The value behind an output's bytes, read from its file where it is one. `options` as for `codec.join`. Blocking."""
    ref = reference_in(data)
    if ref is None:
        return codec.decode(data, **options)
    header, buffers = files.get_value_sync(ref)
    return codec.join(header, buffers, **options)


async def load_async(files: Files, data: bytes | memoryview, **options: Any) -> Any:
    """As `load`, from a coroutine."""
    ref = reference_in(data)
    if ref is None:
        return codec.decode(data, **options)
    header, buffers = await files.get_value(ref)
    return await asyncio.to_thread(codec.join, header, buffers, **options)

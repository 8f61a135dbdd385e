"""Files: content too large for a record, in objects of their own, keyed by the attempt that wrote them.

A key is `files/<owner>/<epoch>-<counter>/<id>`: what an attempt leaves behind when it dies can be told from what counts, and
only files of attempts that the journal has closed may go (R10, `collect`). A file counts once a committed record holds its
`FileRef`; before that it is durable but nobody's. Nothing of a failed write is visible.

Workers call the blocking methods from the job's thread: on a local disk these meet no event loop, and what they read is
memory-mapped, proved once and handed out as read-only Arrow buffers. `store_output` and `load` are the glue between the codec
and this: what a job returns becomes bytes for a record, inline up to `model.INLINE_LIMIT`, else a stub that holds a FileRef.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
from collections.abc import Coroutine, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from uuid import uuid4

import msgspec

from towline.engine import codec
from towline.engine.errors import CorruptionError, UsageError
from towline.engine.ids import Attempt, pack_uuid
from towline.stores import fileformat
from towline.stores.fileformat import PART, Buffer, Opened, Sealed, Sealer
from towline.stores.objects.base import ABSENT, Objects, check_key
from towline.stores.objects.local import LocalObjects
from towline.stores.objects.syscalls import mapped

T = TypeVar("T")

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
    """The files of a store. Safe to use from several threads."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self._local = objects if isinstance(objects, LocalObjects) else None

    # ------------------------------------------------------------------------------------------------------- values

    async def put_value(self, key: str, header: bytes, buffers: Sequence[Any] = ()) -> FileRef:
        """Write a value that `codec.split` took apart. Raises ObjectsError; then nothing is visible."""
        return await self._write(key, _value(header, buffers))

    def put_value_sync(self, key: str, header: bytes, buffers: Sequence[Any] = ()) -> FileRef:
        """As `put_value`, for threads without an event loop."""
        return self._write_sync(key, _value(header, buffers))

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
        return await self._write(key, _from_disk(Path(path)))

    def put_file_sync(self, key: str, path: str | os.PathLike[str]) -> FileRef:
        """As `put_file`, for threads without an event loop."""
        return self._write_sync(key, _from_disk(Path(path)))

    async def read_file(self, ref: FileRef, path: str | os.PathLike[str]) -> None:
        """Write the proved content to `path`, replacing what is there, all or nothing; the executable bit is kept."""
        opened = await self._read(ref)
        await asyncio.to_thread(_to_disk, opened, Path(path))

    def read_file_sync(self, ref: FileRef, path: str | os.PathLike[str]) -> None:
        """As `read_file`, for threads without an event loop."""
        _to_disk(self._read_sync(ref), Path(path))

    # ------------------------------------------------------------------------------------------------------ the bytes

    async def _write(self, key: str, content: Writing) -> FileRef:
        if self._local is not None:
            return await asyncio.to_thread(self._write_sync, key, content)
        pieces = await asyncio.to_thread(lambda: list(content.pieces()))
        await self._objects.put(_file_key(key), pieces, ABSENT)
        return content.ref(key)

    def _write_sync(self, key: str, content: Writing) -> FileRef:
        if self._local is None:
            return _blocking(self._write(key, content))
        self._local.put_blocking(_file_key(key), ([piece] for piece in content.pieces()), ABSENT)
        return content.ref(key)

    async def _read(self, ref: FileRef) -> Opened:
        if self._local is not None:
            return await asyncio.to_thread(self._read_sync, ref)
        import pyarrow as pa

        data = await self._objects.get(_file_key(ref.key))
        return await asyncio.to_thread(self._unseal, pa.py_buffer(data), ref)

    def _read_sync(self, ref: FileRef) -> Opened:
        if self._local is None:
            return _blocking(self._read(ref))
        return self._unseal(_map(self._local, ref), ref)

    def _unseal(self, data: Buffer, ref: FileRef) -> Opened:
        return fileformat.unseal(data, Sealed(ref.size, ref.crc32c), f"{self._objects.url}/{ref.key}")


class Writing:
    """Content on its way into a file object: pieces first, then the reference."""

    def __init__(self, buffers: Iterable[Iterable[Any]], **footer: Any) -> None:
        self._buffers = buffers
        self._footer = footer
        self._sealed: Sealed | None = None

    def pieces(self) -> Iterator[bytes | memoryview]:
        """Everything to be written, in order; memory holds one piece of a file at a time."""
        sealer = Sealer()
        for buffer in self._buffers:
            yield from sealer.add(buffer)
        tail, self._sealed = sealer.finish(**self._footer)
        yield tail

    def ref(self, key: str) -> FileRef:
        """What to remember, once all pieces are written."""
        assert self._sealed is not None
        return FileRef(key, *self._sealed)


def _value(header: bytes, buffers: Sequence[Any]) -> Writing:
    return Writing([[buffer] for buffer in buffers], kind="value", header=bytes(header))


def _from_disk(path: Path) -> Writing:
    try:
        status = path.stat()
    except OSError as error:
        raise UsageError(f"{path} cannot be stored: {error.strerror}") from error
    if not path.is_file():
        raise UsageError(f"{path} cannot be stored: it is no regular file")
    return Writing([_chunks(path)], kind="file", executable=bool(status.st_mode & 0o111), name=path.name)


def _chunks(path: Path) -> Iterator[bytes]:
    # read, not mapped: somebody may cut the file short meanwhile, and that must not be a SIGBUS
    try:
        with path.open("rb") as file:
            while chunk := file.read(PART):
                yield chunk
    except OSError as error:
        raise UsageError(f"{path} cannot be stored: {error.strerror}") from error


def _to_disk(opened: Opened, path: Path) -> None:
    if opened.footer.kind != "file" or len(opened.buffers) != 1:
        raise UsageError(f"{path} cannot be written: the stored content is a value, not a file")
    temp = path.with_name(f".{path.name[:200]}.{uuid4().hex[:8]}")
    with mapped("write", str(path)):
        try:
            fd = os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o777 if opened.footer.executable else 0o666)
            with os.fdopen(fd, "wb") as file:
                file.write(opened.buffers[0])
            temp.replace(path)
        except BaseException:
            with suppress(OSError):
                temp.unlink()
            raise


def _as_value(opened: Opened) -> tuple[bytes, list[Buffer]]:
    if opened.footer.kind != "value":
        raise UsageError("the stored content is a file, not a value; read it with `read_file`")
    return opened.footer.header, list(opened.buffers)


def _map(local: LocalObjects, ref: FileRef) -> Buffer:
    import pyarrow as pa

    path = local.root / _file_key(ref.key)
    with mapped("read", str(path)), pa.memory_map(str(path), "r") as file:
        return file.read_buffer()


def _file_key(key: str) -> str:
    """References come from records and from users: no key but one of a file leads to an object."""
    if not parse_key(check_key(key)):
        raise UsageError(f"{key!r} is not the key of a file")
    return key


def _blocking(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine from a thread without a loop (an async job's thread has one, and must use the async methods)."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    work.close()
    raise RuntimeError("a blocking file call inside an event loop: await the async method instead")


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

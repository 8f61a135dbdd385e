"""Who moves bytes to a bucket and back: the job store, the engine's files and the objects below both; aiobotocore and gcsfs bare.

The bare ones are at their best for a program that wants the bytes there and back: parts of the same size, as many at once, one
client for all, its connections warm. aiobotocore sends a checksum of each body as it does by itself, as ours do; a second one is
told not to, over plain HTTP: it is how fast one can be who does not care whether what arrives is what was sent. gcsfs sends none.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar, cast
from uuid import uuid4

from towline.stores.fileformat import PART
from towline.stores.files import FileRef, Files, new_key
from towline.stores.jobstore.abstract import AbstractJobStore
from towline.stores.jobstore.config import Config
from towline.stores.jobstore.hints import FileID
from towline.stores.locate import Place, open_objects, parse

WIDTH = 4
"""Parts of one stream under way at once: as ours."""
CONCURRENCY = 32
"""Small objects under way at once."""
PIECE = 1 << 20
"""Bytes that a stream is written in."""

Kind = Literal["bare", "unchecked", "ours"]

T = TypeVar("T")
A = TypeVar("A")


async def spread(act: Callable[[A], Awaitable[T]], over: Iterable[A], width: int = CONCURRENCY) -> list[T]:
    """`act` of each, `width` at once; results in order."""
    todo = list(over)
    done: list[Any] = [None] * len(todo)
    steps = iter(enumerate(todo))

    async def work() -> None:
        for at, one in steps:
            done[at] = await act(one)

    await asyncio.gather(*(work() for _ in range(width)))
    return cast(list[T], done)


class Mover(Protocol):
    """One way of moving bytes, open on a place. What a name is, is its own affair; it lacks what it does not offer."""

    name: str
    kind: Kind

    async def delete(self, names: Sequence[Any]) -> None:
        """Not timed."""
        ...


class JobStore:
    """AbstractJobStore: told when the bytes and the record that names them are durable, in a commit of the table."""

    name = "AbstractJobStore"
    kind: Kind = "ours"

    def __init__(self, store: AbstractJobStore) -> None:
        self._store = store

    async def write_path(self, path: Path) -> FileID:
        return await self._store.write_file(path)

    async def read_path(self, name: FileID, path: Path) -> None:
        await self._store.read_file(name, path)

    async def write_stream(self, content: bytes) -> FileID:
        view = memoryview(content)
        async with self._store.write_file_stream() as (stream, name):
            for at in range(0, len(view), PIECE):
                await stream.write(view[at : at + PIECE])
        return name

    async def read_stream(self, name: FileID) -> list[bytes]:
        got = []
        async with self._store.read_file_stream(name) as stream:
            while piece := await stream.read1():
                got.append(piece)
        return got

    async def put(self, contents: Sequence[bytes]) -> list[FileID]:
        return await spread(self.write_stream, contents)

    async def get(self, names: Sequence[FileID]) -> list[bytes]:
        async def one(name: FileID) -> bytes:
            async with self._store.read_file_stream(name) as stream:
                return bytes(await stream.read())

        return await spread(one, names)

    async def delete(self, names: Sequence[FileID]) -> None:
        await spread(self._store.delete_file, names)


class Engine:
    """`stores.files`: where outputs of jobs go that are too large for a record."""

    name = "engine's files"
    kind: Kind = "ours"

    def __init__(self, files: Files, objects: Any) -> None:
        self._files, self._objects = files, objects

    async def write_path(self, path: Path) -> FileRef:
        return await self._files.put_file(new_key(None), path)

    async def read_path(self, name: FileRef, path: Path) -> None:
        await self._files.read_file(name, path)

    async def put(self, contents: Sequence[bytes]) -> list[FileRef]:
        return await spread(lambda content: self._files.put_value(new_key(None), b"", [content]), contents)

    async def get(self, names: Sequence[FileRef]) -> list[bytes]:
        async def one(name: FileRef) -> bytes:
            _, (buffer,) = await self._files.get_value(name)
            return memoryview(buffer).tobytes()

        return await spread(one, names)

    async def delete(self, names: Sequence[FileRef]) -> None:
        await self._objects.delete_many([name.key for name in names])


class Plain:
    """`stores.objects`: objects and nothing else, under the retry policy."""

    name = "objects"
    kind: Kind = "ours"

    def __init__(self, objects: Any) -> None:
        self._objects = objects

    async def put(self, contents: Sequence[bytes]) -> list[str]:
        async def one(content: bytes) -> str:
            key = f"small/{uuid4().hex}"
            await self._objects.put(key, content)
            return key

        return await spread(one, contents)

    async def get(self, names: Sequence[str]) -> list[bytes]:
        return await spread(self._objects.get, names)

    async def delete(self, names: Sequence[str]) -> None:
        await self._objects.delete_many(names)


# ----------------------------------------------------------------------------------------------------------------- bare


class Aiobotocore:
    """aiobotocore bare."""

    def __init__(self, client: Any, place: Place, *, checked: bool = True) -> None:
        self.name = "aiobotocore" if checked else "aiobotocore, unchecked"
        self.kind: Kind = "bare" if checked else "unchecked"
        self._client = client
        self._bucket = place.bucket
        self._folder = f"{place.prefix}/bare/" if place.prefix else "bare/"

    def _new(self) -> dict[str, str]:
        return {"Bucket": self._bucket, "Key": f"{self._folder}{uuid4().hex}"}

    async def _upload(self, parts: Iterable[Callable[[], Awaitable[bytes]]]) -> dict[str, str]:
        at = self._new()
        upload = (await self._client.create_multipart_upload(**at))["UploadId"]

        async def send(numbered: tuple[int, Callable[[], Awaitable[bytes]]]) -> dict[str, Any]:
            number, read = numbered
            answer = await self._client.upload_part(**at, UploadId=upload, PartNumber=number, Body=await read())
            return {"PartNumber": number, "ETag": answer["ETag"]}

        sent = await spread(send, enumerate(parts, 1), WIDTH)
        await self._client.complete_multipart_upload(**at, UploadId=upload, MultipartUpload={"Parts": sent})
        return at

    async def write_path(self, path: Path) -> dict[str, str]:
        with path.open("rb") as file:
            fd = file.fileno()
            starts = range(0, os.fstat(fd).st_size, PART)
            return await self._upload([partial(asyncio.to_thread, os.pread, fd, PART, at) for at in starts])

    async def write_stream(self, content: bytes) -> dict[str, str]:
        view = memoryview(content)

        async def part(at: int) -> bytes:
            return bytes(view[at : at + PART])

        return await self._upload([partial(part, at) for at in range(0, len(view), PART)])

    async def _range(self, at: dict[str, str], start: int) -> bytes:
        answer = await self._client.get_object(**at, Range=f"bytes={start}-{start + PART - 1}")
        async with answer["Body"] as body:
            return cast(bytes, await body.read())

    async def _starts(self, at: dict[str, str]) -> range:
        return range(0, (await self._client.head_object(**at))["ContentLength"], PART)

    async def read_path(self, name: dict[str, str], path: Path) -> None:
        with path.open("wb") as file:

            async def fetch(start: int) -> None:
                await asyncio.to_thread(os.pwrite, file.fileno(), await self._range(name, start), start)

            await spread(fetch, await self._starts(name), WIDTH)

    async def read_stream(self, name: dict[str, str]) -> list[bytes]:
        return await spread(lambda start: self._range(name, start), await self._starts(name), WIDTH)

    async def put(self, contents: Sequence[bytes]) -> list[dict[str, str]]:
        async def one(content: bytes) -> dict[str, str]:
            at = self._new()
            await self._client.put_object(**at, Body=content)
            return at

        return await spread(one, contents)

    async def get(self, names: Sequence[dict[str, str]]) -> list[bytes]:
        async def one(at: dict[str, str]) -> bytes:
            answer = await self._client.get_object(**at)
            async with answer["Body"] as body:
                return cast(bytes, await body.read())

        return await spread(one, names)

    async def delete(self, names: Sequence[dict[str, str]]) -> None:
        keys = [{"Key": at["Key"]} for at in names]
        await spread(lambda key: self._client.delete_object(Bucket=self._bucket, **key), keys)


class Gcsfs:
    """gcsfs bare. Its uploads are one session each, chunk after chunk; with its own chunk size, which is its best."""

    name = "gcsfs"
    kind: Kind = "bare"

    def __init__(self, filesystem: Any, place: Place) -> None:
        self._filesystem = filesystem
        self._folder = f"{place.bucket}/{place.prefix}/bare/" if place.prefix else f"{place.bucket}/bare/"

    def _new(self) -> str:
        return self._folder + uuid4().hex

    async def write_path(self, path: Path) -> str:
        name = self._new()
        await self._filesystem._put_file(str(path), name)
        return name

    async def write_stream(self, content: bytes) -> str:
        name = self._new()
        await self._filesystem._pipe_file(name, content)
        return name

    async def read_path(self, name: str, path: Path) -> None:
        await self._filesystem._get_file(name, str(path), concurrency=WIDTH)

    async def read_stream(self, name: str) -> list[bytes]:
        return [await self._filesystem._cat_file(name, concurrency=WIDTH)]

    async def put(self, contents: Sequence[bytes]) -> list[str]:
        async def one(content: bytes) -> str:
            name = self._new()
            await self._filesystem._pipe_file(name, content)
            return name

        return await spread(one, contents)

    async def get(self, names: Sequence[str]) -> list[bytes]:
        return await spread(self._filesystem._cat_file, names)

    async def delete(self, names: Sequence[str]) -> None:
        await spread(self._filesystem._rm_file, names)


# -------------------------------------------------------------------------------------------------------------- opening


async def open_all(locator: str, held: AsyncExitStack) -> list[Mover]:
    """All that can move bytes at this place; the bare one first. Closed, and the place emptied of ours, with `held`."""
    place = parse(locator)
    here = Place(place.kind, bucket=place.bucket, prefix=f"{place.prefix}/{uuid4().hex}".strip("/"), region=place.region)
    bare = await (_aiobotocore if place.kind == "s3" else _gcsfs)(here, held)
    store = await held.enter_async_context(AbstractJobStore(f"{here.url}/store"))
    await store.initialize(Config())
    held.push_async_callback(store.destroy)
    objects = open_objects(f"{here.url}/objects")
    held.push_async_callback(objects.close)
    return [*bare, JobStore(store), Engine(Files(objects), objects), Plain(objects)]


async def _aiobotocore(place: Place, held: AsyncExitStack) -> list[Mover]:
    from aiobotocore.config import AioConfig
    from aiobotocore.session import AioSession

    signed = {"addressing_style": "path"}
    unsigned: dict[str, Any] = {**signed, "payload_signing_enabled": False}
    needed = dict.fromkeys(("request_checksum_calculation", "response_checksum_validation"), "when_required")
    configs = [
        AioConfig(s3=signed, max_pool_connections=2 * CONCURRENCY),
        AioConfig(s3=unsigned, max_pool_connections=2 * CONCURRENCY, **needed),
    ]
    clients = [await held.enter_async_context(AioSession().create_client("s3", config=config)) for config in configs]
    return [Aiobotocore(clients[0], place), Aiobotocore(clients[1], place, checked=False)]


async def _gcsfs(place: Place, held: AsyncExitStack) -> list[Mover]:
    os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
    from gcsfs.core import GCSFileSystem

    token = {"token": "anon"} if os.environ.get("STORAGE_EMULATOR_HOST", "").startswith("http:") else {}
    filesystem = GCSFileSystem(asynchronous=True, skip_instance_cache=True, use_listings_cache=False, **token)
    session = await filesystem._set_session()
    held.push_async_callback(session.close)
    return [Gcsfs(filesystem, place)]

"""Imports and exports of a job store on each kind of place: the whole matrix, the same errors, and nothing left behind."""

from __future__ import annotations

import os

import pytest

from tests.kit.pieces import content, digest
from tests.kit.places import SOURCES, TARGETS, places
from towline.stores.fileformat import PART
from towline.stores.jobstore.abstract import AbstractJobStore
from towline.stores.jobstore.config import Config
from towline.stores.jobstore.errors import NoSuchFileException, UnimplementedURLException
from towline.stores.jobstore.exchange import basename
from towline.stores.objects.base import ObjectsError
from towline.stores.transfer import http_
from towline.stores.transfer.gs_ import ForeignGcs
from towline.stores.transfer.s3_ import ForeignS3
from towline.stores.transfer.url import parse

NAME = "ä b%20.x"


@pytest.fixture
async def world(tmp_path, moto, gcs, monkeypatch):
    async with places(tmp_path, moto, gcs, monkeypatch) as made:
        yield made


@pytest.fixture(params=["file", "s3", "gs"])
async def store(request, world, tmp_path):
    kind = request.param
    made = AbstractJobStore(tmp_path / "store" if kind == "file" else f"{kind}://{world.clouds[kind].bucket}/stores/one")
    await made.initialize(Config())
    made.kind = kind
    yield made
    await made.close()


async def read(store, file_id):
    async with store.read_file_stream(file_id) as stream:
        return await stream.read()


async def test_what_goes_in_from_everywhere(store, world):
    for source in SOURCES:
        for size in (0, 1, 100_003):
            data = content(size)
            file = await store.import_file(world.put(source, NAME, data))
            assert (file.size, await store.get_file_size(file)) == (size, size)
            assert digest(await read(store, file)) == digest(data), (source, size)
            assert file[32:] == "-_b_20.x"


async def test_what_comes_out_to_everywhere(store, world):
    for size in (0, 1, 100_003):
        data = content(size)
        file = await store.import_file(world.put("path", "in", data))
        for target in TARGETS:
            await store.export_file(file, world.url(target, f"out {size}"))
            there = world.peek(target, f"out {size}")
            assert there is not None, (target, size)
            assert digest(there) == digest(data), (target, size)


@pytest.mark.parametrize("size", [PART - 1, PART, PART + 1])
async def test_at_the_bounds_of_a_part(store, world, size):
    data = content(size)
    file = await store.import_file(world.put("http", "in", data))
    assert file.size == size
    for target in ("path", "s3", "gs"):
        await store.export_file(file, world.url(target, "out"))
        assert digest(world.peek(target, "out")) == digest(data), target


async def test_within_a_provider_the_server_copies(store, world, monkeypatch):
    if store.kind == "file":
        pytest.skip("local places have no server")

    async def download(self, *args):
        raise AssertionError("a byte came by")
        yield b""

    url = world.put(store.kind, "in dir/ü", b"data")
    with monkeypatch.context() as patched:
        for kind in (ForeignS3, ForeignGcs, type(store._parts.objects)):
            patched.setattr(kind, "download", download)
        file = await store.import_file(url)
        await store.export_file(file, world.url(store.kind, "out dir/ö"))
    assert world.peek(store.kind, "out dir/ö") == b"data"
    assert await read(store, file) == b"data"


async def test_a_shared_name(store, world):
    for source in SOURCES:
        assert await store.import_file(world.put(source, "in", source.encode()), "shared.name") is None
        async with store.read_shared_file_stream("shared.name") as stream:
            assert await stream.read() == source.encode()
    with pytest.raises(ValueError, match="name"):
        await store.import_file(world.url("path", "in"), "../x")


async def test_sources_that_are_none(store, world):
    for source in SOURCES:
        for name in (None, "name"):
            with pytest.raises(FileNotFoundError):
                await store.import_file(world.url(source, "gone"), name)
        if source in ("s3", "gs"):
            world.put(source, "d/x", b"")
        elif not source.startswith("http"):
            world._path(source, "d").mkdir(exist_ok=True)
        for url in (world.url(source, "d"), world.url(source, "d") + "/"):
            for name in (None, "name"):
                with pytest.raises(FileNotFoundError if source.startswith("http") else IsADirectoryError):
                    await store.import_file(url, name)
    assert await store.get_all_file_ids() == []


async def test_unknown_schemes_and_unknown_files(store, world):
    with pytest.raises(UnimplementedURLException, match=r"import.*weird"):
        await store.import_file("weird://host/x")
    with pytest.raises(NoSuchFileException):
        await store.export_file("0" * 32 + "-x", world.url("path", "out"))
    with pytest.raises(NoSuchFileException):
        await store.export_file("0" * 32 + "-x", world.url("path" if store.kind == "file" else store.kind, "out"))
    file = await store.import_file(world.put("path", "in", b"data"))
    with pytest.raises(UnimplementedURLException, match=r"export.*weird"):
        await store.export_file(file, "weird://host/x")
    assert os.listdir(world.folder) == ["in"]


async def test_exports_to_what_cannot_be_written(store, world):
    file = await store.import_file(world.put("path", "in", b"data"))
    (world.folder / "d").mkdir()
    s3, gs = world.clouds["s3"].bucket, world.clouds["gs"].bucket
    for url in (f"{world.folder}/d", f"{world.folder}/d/", f"s3://{s3}/d/", f"gs://{gs}"):
        with pytest.raises(IsADirectoryError):
            await store.export_file(file, url)
    for url in (f"{world.folder}/no/x", "s3://no-such-bucket/x", "gs://no-such-bucket/x"):
        with pytest.raises(FileNotFoundError):
            await store.export_file(file, url)


async def test_the_executable_bit_goes_all_the_way(store, world, tmp_path):
    for bit in (0o644, 0o755):
        world.put("path", "in", b"data")
        (world.folder / "in").chmod(bit)
        for uri in (world.url("path", "in"), world.url("file", "in")):
            file = await store.import_file(uri)
            await store.export_file(file, tmp_path / "out")
            assert os.access(tmp_path / "out", os.X_OK) is (bit == 0o755)
            assert file.executable is (bit == 0o755)


async def test_an_import_that_breaks_off_leaves_nothing(store, world, monkeypatch):
    monkeypatch.setattr(http_, "RESUMES_MAX", 0)
    for size in (1000, PART + 1000):
        url = world.put("http", "in", content(size))
        for name in (None, "shared"):
            world.webs["http"].cuts = [size - 100]
            with pytest.raises(ObjectsError, match="broke off"):
                await store.import_file(url, name)
    found = await store.gc(older_than_s=-3600)
    assert (await store.get_all_file_ids(), found.orphans) == ([], [])
    assert not found.unfinished
    with pytest.raises(NoSuchFileException):
        async with store.read_shared_file_stream("shared"):
            pass


async def test_many_at_once_in_order_and_with_progress(store, world):
    told = []
    urls = [world.put(kind, f"in {number}", content(number)) for number, kind in enumerate(SOURCES)]
    files = await store.import_files(urls, parallel=3, progress=told.append)
    assert [file.size for file in files] == list(range(len(SOURCES)))
    assert (told[-1].done, told[-1].of, told[-1].bytes) == (len(SOURCES), len(SOURCES), sum(range(len(SOURCES))))
    outs = [(file, world.url(TARGETS[number % len(TARGETS)], f"out {number}")) for number, file in enumerate(files)]
    told.clear()
    await store.export_files(outs, parallel=3, progress=told.append)
    for number in range(len(files)):
        assert world.peek(TARGETS[number % len(TARGETS)], f"out {number}") == content(number)
    assert told[-1].bytes == sum(range(len(SOURCES)))


async def test_many_are_imported_all_or_none(store, world):
    urls = [world.put("path", f"in{number}", b"data") for number in range(5)] + [world.url("path", "gone")]
    with pytest.raises(FileNotFoundError):
        await store.import_files(urls, parallel=1)
    assert await store.get_all_file_ids() == []


async def test_moving_exports_leaves_a_symlink_in_a_local_store_only(store, world):
    store.config.moveExports = True
    data = content(PART + 5)
    file = await store.import_file(world.put("path", "in", data))
    await store.export_file(file, world.url("file", "out"))
    out = world.folder / "out"
    assert not out.is_symlink()
    assert digest(out.read_bytes()) == digest(await read(store, file)) == digest(data)
    if store.kind == "file":
        blob = store._parts.objects.root / (await store._parts.files.entry(file)).blob
        assert blob.is_symlink()
        assert blob.resolve() == out.resolve()
        await store.export_file(file, world.url("file", "again"))
        assert blob.resolve() == out.resolve()
        await store.delete_file(file)
        assert not blob.is_symlink()
    assert digest(out.read_bytes()) == digest(data)


async def test_the_verbs_of_the_class(world):
    url = world.put("s3", "d/x", b"abc")
    assert await AbstractJobStore.url_exists(url)
    assert await AbstractJobStore.get_size(url) == 3
    assert await AbstractJobStore.get_is_directory(world.url("s3", "d"))
    assert await AbstractJobStore.list_url(world.url("s3", "d")) == ["x"]
    async with await AbstractJobStore.open_url(url) as stream:
        assert await stream.read() == b"abc"


def test_the_name_that_a_file_had():
    assert basename(parse("s3://bucket/a/b%20c")) == "b c"
    assert basename(parse("http://host/a/x%2B.gz?q=/y")) == "x+.gz"
    assert basename(parse("http://host/")) == ""

"""Import and export between the job store and URLs. (Schemes have tests of their own, in tests/stores/transfer.)"""

from __future__ import annotations

from contextlib import asynccontextmanager

import pytest

from tests.kit.filestore_contract import opened, peek, read
from towline.stores.jobstore.errors import NoSuchFileException, UnimplementedURLException
from towline.stores.jobstore.exchange import Exchange
from towline.stores.objects.memory import MemoryObjects


@pytest.fixture
def place():
    return MemoryObjects(appendable=False)


@asynccontextmanager
async def exchange(place):
    async with opened(place) as files:
        both = Exchange("memory", files)
        yield files, both
        await both.close()


async def test_a_local_file_in_and_out(place, tmp_path):
    source = tmp_path / "reads.bam"
    source.write_bytes(b"content")
    source.chmod(0o700)
    async with exchange(place) as (files, both):
        file = await both.import_file(source.as_uri())
        assert file.endswith("-reads.bam")
        assert (file.size, file.executable, await read(files, file)) == (7, True, b"content")
        await both.export_file(file, str(tmp_path / "out"))
        assert (tmp_path / "out").read_bytes() == b"content"
        assert (tmp_path / "out").stat().st_mode & 0o100


async def test_into_a_shared_file(place, tmp_path):
    (tmp_path / "x").write_bytes(b"shared")
    async with exchange(place) as (files, both):
        assert await both.import_file(tmp_path / "x", "name") is None
        async with files.shared.read_stream("name") as stream:
            assert await stream.read() == b"shared"
        with pytest.raises(ValueError, match="name"):
            await both.import_file(tmp_path / "x", "../name")


async def test_what_cannot_be_imported_leaves_nothing(place, tmp_path):
    async with exchange(place) as (files, both):
        with pytest.raises(FileNotFoundError):
            await both.import_file(tmp_path / "never")
        with pytest.raises(IsADirectoryError):
            await both.import_file(tmp_path)
        with pytest.raises(UnimplementedURLException, match="gopher"):
            await both.import_file("gopher://host/x")
        with pytest.raises(UnimplementedURLException, match="gopher"):
            await both.import_file("gopher://host/x", "name")
        assert await files.get_all_file_ids() == []
    assert await peek(place) == set()


async def test_what_cannot_be_exported(place, tmp_path):
    (tmp_path / "x").write_bytes(b"1")
    async with exchange(place) as (_, both):
        with pytest.raises(NoSuchFileException):
            await both.export_file("0" * 32 + "-file", tmp_path / "out")
        file = await both.import_file(tmp_path / "x")
        with pytest.raises(UnimplementedURLException, match="gopher"):
            await both.export_file(file, "gopher://host/x")
        with pytest.raises(IsADirectoryError):
            await both.export_file(file, f"file://{tmp_path}/")
        assert sorted(p.name for p in tmp_path.iterdir()) == ["x"]


async def test_many_at_once_keep_their_order_and_tell_how_far_they_are(place, tmp_path):
    paths = [tmp_path / f"{i}" for i in range(9)]
    for i, path in enumerate(paths):
        path.write_bytes(b"%d" % i)
    told = []
    async with exchange(place) as (files, both):
        ids = await both.import_files(paths, parallel=3, progress=told.append)
        assert [await read(files, file) for file in ids] == [b"%d" % i for i in range(9)]
        assert (told[-1].done, told[-1].of) == (9, 9)
        await both.export_files([(file, tmp_path / f"out{i}") for i, file in enumerate(ids)], parallel=3)
        assert [(tmp_path / f"out{i}").read_bytes() for i in range(9)] == [b"%d" % i for i in range(9)]

"""Local files: whole or not at all, and only what is a file."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from tests.kit.leaks import nothing_left
from tests.kit.pieces import MIB, breaking, content, digest, pieces_of
from towline.stores.transfer.base import Found, TransferError
from towline.stores.transfer.file_ import FileScheme
from towline.stores.transfer.url import parse


@pytest.fixture
def scheme():
    return FileScheme()


async def read(scheme, path):
    async with scheme.read(parse(path)) as fetched:
        data = b"".join([piece async for piece in fetched.pieces])
        assert fetched.size == len(data)
        return data, fetched.executable


@pytest.mark.parametrize("size", [0, 1, MIB - 1, MIB, MIB + 1, 3 * MIB])
@pytest.mark.parametrize("executable", [False, True])
async def test_what_is_written_is_read(scheme, tmp_path, size, executable):
    path = tmp_path / "ä b%20"
    await scheme.write(parse(path), pieces_of(content(size)), size, executable)
    data, bit = await read(scheme, path)
    assert (digest(data), bit) == (digest(content(size)), executable)
    assert os.listdir(tmp_path) == [path.name]


async def test_the_mode_is_what_the_umask_makes_of_a_new_file(scheme, tmp_path):
    old = os.umask(0o027)
    try:
        await scheme.write(parse(tmp_path / "x"), pieces_of(b"1"), None, True)
        await scheme.write(parse(tmp_path / "y"), pieces_of(b"1"), None, False)
    finally:
        os.umask(old)
    assert [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in "xy"] == [0o750, 0o640]


async def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(scheme, tmp_path):
    (tmp_path / "x").write_bytes(b"old")
    with nothing_left("fds"), pytest.raises(ZeroDivisionError):
        await scheme.write(parse(tmp_path / "x"), breaking(content(MIB), ZeroDivisionError()), None, False)
    assert (tmp_path / "x").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["x"]


async def test_the_new_file_shows_only_when_it_is_complete(scheme, tmp_path):
    async def looking():
        async for piece in pieces_of(content(MIB)):
            assert not (tmp_path / "x").exists()
            yield piece

    await scheme.write(parse(tmp_path / "x"), looking(), None, False)
    assert (tmp_path / "x").exists()


async def test_a_link_at_the_destination_is_replaced_not_followed(scheme, tmp_path):
    (tmp_path / "real").write_bytes(b"precious")
    (tmp_path / "link").symlink_to("real")
    await scheme.write(parse(tmp_path / "link"), pieces_of(b"new"), None, False)
    assert (tmp_path / "real").read_bytes() == b"precious"
    assert not (tmp_path / "link").is_symlink()


@pytest.mark.parametrize("there", ["d", "d/", "new/"])
async def test_a_directory_is_not_written_to(scheme, tmp_path, there):
    (tmp_path / "d").mkdir()
    with pytest.raises(IsADirectoryError):
        await scheme.write(parse(f"{tmp_path}/{there}"), pieces_of(b"x"), None, False)
    assert os.listdir(tmp_path) == ["d"]
    assert os.listdir(tmp_path / "d") == []


async def test_no_folder_is_made(scheme, tmp_path):
    with pytest.raises(FileNotFoundError, match="folder"):
        await scheme.write(parse(tmp_path / "no" / "x"), pieces_of(b"x"), None, False)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", ["missing", "file/below", "file/", "broken"])
async def test_what_is_missing(scheme, tmp_path, name):
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "broken").symlink_to("nowhere")
    url = parse(f"{tmp_path}/{name}")
    with pytest.raises(FileNotFoundError):
        await scheme.look(url)
    with pytest.raises(FileNotFoundError):
        await scheme.read(url).__aenter__()


async def test_looking(scheme, tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"abc")
    assert await scheme.look(parse(path)) == Found(3)
    path.chmod(0o700)
    (tmp_path / "link").symlink_to("x")
    assert await scheme.look(parse(tmp_path / "link")) == Found(3, executable=True)
    assert await scheme.look(parse(tmp_path)) == await scheme.look(parse(f"{tmp_path}/")) == Found(None, directory=True)


async def test_reading_a_directory(scheme, tmp_path):
    for text in (f"{tmp_path}", f"{tmp_path}/"):
        with pytest.raises(IsADirectoryError):
            await scheme.read(parse(text)).__aenter__()


async def test_a_pipe_is_no_file_and_does_not_block(scheme, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with nothing_left("fds"), pytest.raises(TransferError, match="regular"):
        await scheme.read(parse(tmp_path / "pipe")).__aenter__()


async def test_entries(scheme, tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "a ?").write_bytes(b"")
    (tmp_path / ".h").write_bytes(b"")
    (tmp_path / "c").symlink_to("b")
    (tmp_path / "gone").symlink_to("nowhere")
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff")).write_bytes(b"")
    assert await scheme.entries(parse(tmp_path)) == [".h", "a ?", "b/", "c/", "\udcff"]
    with pytest.raises(NotADirectoryError):
        await scheme.entries(parse(tmp_path / "a ?"))
    with pytest.raises(FileNotFoundError):
        await scheme.entries(parse(tmp_path / "zzz"))


async def test_a_reader_that_stops_early_leaves_nothing_open(scheme, tmp_path):
    (tmp_path / "x").write_bytes(content(3 * MIB))
    with nothing_left("fds"):
        async with scheme.read(parse(tmp_path / "x")) as fetched:
            await anext(fetched.pieces)

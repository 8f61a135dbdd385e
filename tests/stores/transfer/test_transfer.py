"""From every kind of place to every kind of place, and the verbs that look; errors are the same whatever the scheme."""

from __future__ import annotations

import asyncio
import io
import logging
import os
from pathlib import Path

import pytest

from tests.kit.pieces import MIB, breaking, content, digest, pieces_of
from tests.kit.places import SOURCES, TARGETS, places
from towline.stores.jobstore.errors import InvalidImportExportUrlException, UnimplementedURLException
from towline.stores.objects.retry import Policy, Retry
from towline.stores.transfer import base, ftp_, http_, transfer
from towline.stores.transfer.base import TransferError
from towline.stores.transfer.gs_ import ForeignGcs, GsScheme
from towline.stores.transfer.s3_ import ForeignS3, S3Scheme
from towline.stores.transfer.transfer import Transfer

PART = 256 << 10
SIZES = [0, 1, PART - 1, PART, PART + 1, MIB]
NAME = "ä b%20.x"


@pytest.fixture
async def world(tmp_path, moto, gcs, monkeypatch):
    async with places(tmp_path, moto, gcs, monkeypatch) as made:
        yield made


@pytest.fixture
async def moving():
    async with Transfer() as made:
        yield made


def small_parts(monkeypatch):
    def s3(self, bucket):
        objects = ForeignS3(bucket)
        objects.part_bytes = PART
        return objects

    def gs(self, bucket):
        objects = ForeignGcs(bucket)
        objects.part_bytes = PART
        return objects

    monkeypatch.setattr(S3Scheme, "_open", s3)
    monkeypatch.setattr(GsScheme, "_open", gs)


@pytest.mark.parametrize("source", SOURCES)
async def test_what_arrives_is_what_was_there(world, moving, monkeypatch, source):
    """The whole matrix: this source to every target, at the sizes where parts begin and end."""
    small_parts(monkeypatch)
    for size in SIZES:
        data = content(size)
        url = world.put(source, NAME, data)
        for target in TARGETS:
            told = []
            await moving.copy(url, world.url(target, f"{size}/{NAME}".replace("/", "-")), told.append)
            there = world.peek(target, f"{size}-{NAME}")
            assert there is not None, (source, target, size)
            assert digest(there) == digest(data), (source, target, size)
            assert told[-1:] in ([], [size])


@pytest.mark.parametrize("kind", ["s3", "gs"])
async def test_within_a_provider_the_server_copies(world, moving, kind, monkeypatch):
    async def read(self, key, *rest):
        raise AssertionError("a byte came by")
        yield b""

    monkeypatch.setattr(ForeignS3, "download", read)
    monkeypatch.setattr(ForeignGcs, "download", read)
    await moving.copy(world.put(kind, "a b", b"data"), world.url(kind, "c"))
    assert world.peek(kind, "c") == b"data"
    with pytest.raises(FileNotFoundError):
        await moving.copy(world.url(kind, "no"), world.url(kind, "d"))
    world.put(kind, "dir/x", b"")
    for text in ("dir", "dir/"):
        with pytest.raises(IsADirectoryError):
            await moving.copy(world.url(kind, text), world.url(kind, "d"))


@pytest.mark.parametrize("kind", SOURCES)
async def test_the_verbs_that_look(world, moving, kind):
    url = world.put(kind, NAME, b"abc")
    assert await moving.url_exists(url) is True
    assert await moving.get_size(url) == 3
    assert await moving.get_is_directory(url) is False
    gone = world.url(kind, "gone")
    assert await moving.url_exists(gone) is False
    assert await moving.get_is_directory(gone) is False
    with pytest.raises(FileNotFoundError):
        await moving.get_size(gone)
    with pytest.raises(FileNotFoundError):
        await moving.open_url(gone)


@pytest.mark.parametrize("kind", [kind for kind in SOURCES if not kind.startswith("http")])
async def test_directories(world, moving, kind):
    if kind in ("s3", "gs"):
        world.put(kind, "d/e/x", b"")
    else:
        (world._path(kind, "d") / "e").mkdir(parents=True)
    world.put(kind, f"d/{NAME}", b"abc")
    folder = world.url(kind, "d")
    for url in (folder, f"{folder}/"):
        assert await moving.url_exists(url) is True
        assert await moving.get_is_directory(url) is True
        names = await moving.list_url(url)
        assert names == ["e/", NAME if kind == "path" else "%C3%A4%20b%2520.x"]
        with pytest.raises(IsADirectoryError):
            await moving.get_size(url)
        with pytest.raises(IsADirectoryError):
            await moving.read_from_url(url, io.BytesIO())
        if url.endswith("/") or kind not in ("s3", "gs"):  # in a bucket a file may have a directory's name
            with pytest.raises(IsADirectoryError):
                await moving.store(url, pieces_of(b"x"))
    assert await moving.get_size(f"{folder}/{names[1]}") == 3
    assert await moving.get_is_directory(f"{folder}/{names[0]}")
    with pytest.raises(NotADirectoryError):
        await moving.list_url(f"{folder}/{names[1]}")
    with pytest.raises(FileNotFoundError):
        await moving.list_url(f"{folder}/gone")


async def test_http_has_no_directories(world, moving):
    assert await moving.get_is_directory(world.url("http", "d/")) is False
    assert world.webs["http"].log == []
    with pytest.raises(UnimplementedURLException, match=r"list.*http"):
        await moving.list_url(world.url("http", "d/"))


async def test_the_executable_bit_of_local_files(world, moving, tmp_path):
    url = world.put("file", "x", b"abc")
    path = world.folder / "x"
    assert await moving.read_from_url(url, io.BytesIO()) == (3, False)
    path.chmod(0o755)
    assert await moving.read_from_url(url, io.BytesIO()) == (3, True)
    await moving.copy(url, tmp_path / "y")
    assert os.access(tmp_path / "y", os.X_OK)


async def test_scheme_less_relative_paths(moving, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("a%20b").write_bytes(b"abc")
    await moving.copy("a%20b", "c:d".replace("c", "./c"))
    assert Path("c:d").read_bytes() == b"abc"


@pytest.mark.parametrize("uri", ["weird://me:hUnT3r@host/x", "hdfs:x", "ssh://host/x"])
async def test_an_unknown_scheme_is_refused_by_name_and_verb(moving, uri):
    scheme = uri.partition(":")[0]
    for verb, word in [
        (moving.url_exists(uri), "look for"),
        (moving.get_size(uri), "size"),
        (moving.get_is_directory(uri), "look at"),
        (moving.list_url(uri), "list"),
        (moving.open_url(uri), "read"),
        (moving.store(uri, pieces_of(b"")), "export"),
    ]:
        with pytest.raises(UnimplementedURLException, match=word) as caught:
            await verb
        assert scheme in str(caught.value)
        assert "hUnT3r" not in str(caught.value)


async def test_text_that_is_no_url(moving):
    with pytest.raises(InvalidImportExportUrlException):
        await moving.url_exists("s3://")


class Raw:
    """An unbuffered file: takes less than it is given."""

    def __init__(self):
        self.data = b""

    def write(self, data):
        self.data += bytes(data[:1000])
        return min(1000, len(data))


class Awaited:
    def __init__(self):
        self.data = b""

    async def write(self, data):
        self.data += data


@pytest.mark.parametrize("kind", [Raw, Awaited])
async def test_streams_of_every_kind_are_written_whole(moving, tmp_path, kind):
    (tmp_path / "x").write_bytes(content(MIB + 1))
    stream, told = kind(), []
    assert await moving.read_from_url(tmp_path / "x", stream, told.append) == (MIB + 1, False)
    assert digest(stream.data) == digest(content(MIB + 1))
    assert told == sorted(told)
    assert told[-1] == MIB + 1


@pytest.mark.parametrize("said", [3, 5])
async def test_what_comes_must_be_what_was_announced(moving, tmp_path, said):
    with pytest.raises(TransferError, match="announced"):
        await moving.store(tmp_path / "x", pieces_of(b"abcd", 2), size=said)
    assert os.listdir(tmp_path) == []


async def test_a_file_that_shrinks_while_it_is_read(moving, tmp_path):
    (tmp_path / "x").write_bytes(content(3 * MIB))
    with pytest.raises(TransferError, match="announced"):
        async with moving.reading(tmp_path / "x") as fetched:
            await anext(fetched.pieces)
            (tmp_path / "x").write_bytes(b"")
            _ = [piece async for piece in fetched.pieces]


@pytest.mark.parametrize("target", TARGETS)
async def test_a_source_that_breaks_off_leaves_nothing(world, moving, target):
    for error in (ZeroDivisionError(), asyncio.CancelledError()):
        with pytest.raises(type(error)):
            await moving.store(world.url(target, "x"), breaking(content(MIB), error))
        assert world.peek(target, "x") is None
    if target in ("path", "file"):
        assert os.listdir(world.folder) == []
    elif target == "ftp":
        assert os.listdir(world.ftps["ftp"].folder) == []


async def test_a_source_that_falls_silent_is_given_up(moving, tmp_path, monkeypatch):
    monkeypatch.setattr(transfer, "STALL_S", 0.01)
    monkeypatch.setattr(base, "STALL_S", 0.01)

    async def silent():
        yield b"x"
        await asyncio.Event().wait()

    with pytest.raises(TransferError, match="moved"):
        await moving.store(tmp_path / "x", silent())
    assert os.listdir(tmp_path) == []


async def test_a_server_that_never_answers_is_given_up(moving, monkeypatch):
    monkeypatch.setattr(transfer, "ASK_S", 0.01)

    class Deaf:
        async def look(self, url):
            await asyncio.Event().wait()

        async def close(self):
            pass

    moving._schemes["http"] = Deaf()
    with pytest.raises(TransferError, match="no answer"):
        await moving.get_size("http://h/x")


async def test_no_secret_comes_into_messages_or_logs(moving, tmp_path, caplog, monkeypatch):
    for module in (http_, ftp_):
        monkeypatch.setattr(module, "ASKING", Retry(Policy(attempts=2, first_s=0.001)))
    caplog.set_level(logging.DEBUG)
    said = []
    for url in ("ftp://me:hUnT3r@127.0.0.1:9/x", "http://me:hUnT3r@127.0.0.1:9/x?token=hUnT3r"):
        for verb in (moving.get_size(url), moving.open_url(url), moving.store(url, pieces_of(b"x"))):
            with pytest.raises(TransferError) as caught:
                await verb
            error = caught.value
            while error is not None:
                said.append(repr(error))
                error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    assert len(said) >= 6
    assert "hUnT3r" not in "".join(said) + caplog.text


async def test_the_functions_for_one_call(world):
    url = world.put("http", "x", b"a\nbc")
    assert await transfer.url_exists(url)
    assert await transfer.get_size(url) == 4
    assert not await transfer.get_is_directory(url)
    stream = io.BytesIO()
    assert await transfer.read_from_url(url, stream) == (4, False)
    assert stream.getvalue() == b"a\nbc"
    async with await transfer.open_url(url) as opened:
        assert [line async for line in opened] == [b"a\n", b"bc"]
    async with await transfer.fetch(url) as fetched:
        assert (fetched.size, fetched.executable, [p async for p in fetched.pieces()]) == (4, False, [b"a\nbc"])
    await transfer.store(world.url("s3", "y"), pieces_of(b"abc"))
    assert world.peek("s3", "y") == b"abc"
    assert await transfer.list_url(f"s3://{world.clouds['s3'].bucket}") == ["y"]

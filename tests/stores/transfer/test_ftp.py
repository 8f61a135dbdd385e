"""ftp and ftps against a real server."""

from __future__ import annotations

import asyncio
import os
import threading
from urllib.parse import quote

import pytest

from tests.kit import ftp
from tests.kit.leaks import nothing_left
from tests.kit.pieces import MIB, breaking, content, digest, pieces_of
from tests.kit.web import Authority
from towline.stores.objects.retry import Policy, Retry
from towline.stores.transfer import ftp_
from towline.stores.transfer.base import Found, TransferError
from towline.stores.transfer.ftp_ import FtpScheme
from towline.stores.transfer.url import parse

LOGIN = f"{quote(ftp.USER, safe='')}:{quote(ftp.PASSWORD, safe='')}"


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(ftp_, "ASKING", Retry(Policy(attempts=2, first_s=0.001)))


@pytest.fixture
def scheme():
    return FtpScheme()


@pytest.fixture
def server(tmp_path):
    with ftp.serving(tmp_path) as started:
        yield started


@pytest.fixture
def old(tmp_path):
    """A server without anything that was added to FTP after 1985."""
    with ftp.serving(tmp_path, without=("SIZE", "MLSD", "MLST")) as started:
        yield started


async def read(scheme, text):
    async with scheme.read(parse(text)) as fetched:
        return b"".join([piece async for piece in fetched.pieces]), fetched.size


@pytest.mark.parametrize("size", [0, 1, MIB, 2 * MIB + 1])
async def test_reading(scheme, server, tmp_path, size):
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "ä #;b").write_bytes(content(size))
    data, said = await read(scheme, f"{server.anonymous}/d/{quote('ä #;b')}")
    assert (digest(data), said) == (digest(content(size)), size)


async def test_looking(scheme, server, tmp_path):
    (tmp_path / "d").mkdir()
    (tmp_path / "x").write_bytes(b"abc")
    at = server.anonymous
    assert await scheme.look(parse(f"{at}/x")) == await scheme.look(parse(f"{at}/%2Fx")) == Found(3)
    for text in (at, f"{at}/", f"{at}/d", f"{at}/d/"):
        assert await scheme.look(parse(text)) == Found(None, directory=True)
    for text in (f"{at}/y", f"{at}/x/", f"{at}/no/x"):
        with pytest.raises(FileNotFoundError):
            await scheme.look(parse(text))


async def test_an_old_server(scheme, old, tmp_path):
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "below").write_bytes(b"")
    (tmp_path / "x").write_bytes(b"abc")
    at = old.anonymous
    assert await scheme.look(parse(f"{at}/x")) == Found(None)
    assert await scheme.look(parse(f"{at}/d")) == Found(None, directory=True)
    with pytest.raises(FileNotFoundError):
        await scheme.look(parse(f"{at}/y"))
    assert await scheme.entries(parse(at)) == ["d/", "x"]
    assert await scheme.entries(parse(f"{at}/d")) == ["below"]
    assert await read(scheme, f"{at}/x") == (b"abc", None)


async def test_what_cannot_be_read(scheme, server, tmp_path):
    (tmp_path / "d").mkdir()
    for text in ("d", "d/", ""):
        with pytest.raises(IsADirectoryError):
            await read(scheme, f"{server.anonymous}/{text}")
    for text in ("x", "d/x", "no/"):
        with pytest.raises(FileNotFoundError):
            await read(scheme, f"{server.anonymous}/{text}")


async def test_entries(scheme, server, tmp_path):
    (tmp_path / "d").mkdir()
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to("d")
    for name in ("a b", "ü"):
        (tmp_path / "d" / name).write_bytes(b"")
    assert await scheme.entries(parse(server.anonymous)) == ["d/", "empty/", "link/"]
    assert await scheme.entries(parse(f"{server.anonymous}/d/")) == ["a b", "ü"]
    assert await scheme.entries(parse(f"{server.anonymous}/empty")) == []
    with pytest.raises(NotADirectoryError):
        await scheme.entries(parse(f"{server.anonymous}/d/a%20b"))
    with pytest.raises(FileNotFoundError):
        await scheme.entries(parse(f"{server.anonymous}/zzz"))


async def test_user_and_password(scheme, server, tmp_path):
    (tmp_path / "x").write_bytes(b"abc")
    address = f"127.0.0.1:{server.port}/x"
    assert await read(scheme, f"ftp://{LOGIN}@{address}") == (b"abc", 3)
    with pytest.raises(PermissionError) as caught:
        await read(scheme, f"ftp://{quote(ftp.USER)}:hUnT3r@{address}")
    assert "hUnT3r" not in str(caught.value)


@pytest.mark.parametrize("size", [0, 1, MIB + 1])
async def test_writing(scheme, server, tmp_path, size):
    (tmp_path / "x").write_bytes(b"old")
    await scheme.write(parse(f"ftp://{LOGIN}@127.0.0.1:{server.port}/x"), pieces_of(content(size)), size, True)
    assert digest((tmp_path / "x").read_bytes()) == digest(content(size))
    assert os.listdir(tmp_path) == ["x"]


async def test_a_write_that_fails_leaves_nothing(scheme, server, tmp_path):
    url = parse(f"ftp://{LOGIN}@127.0.0.1:{server.port}/x")
    with pytest.raises(ZeroDivisionError):
        await scheme.write(url, breaking(content(MIB), ZeroDivisionError()), None, False)
    assert os.listdir(tmp_path) == []


async def test_what_cannot_be_written(scheme, server, tmp_path):
    (tmp_path / "d").mkdir()
    login = f"ftp://{LOGIN}@127.0.0.1:{server.port}"
    for text in ("d", "d/", ""):
        with pytest.raises(IsADirectoryError):
            await scheme.write(parse(f"{login}/{text}"), pieces_of(b"x"), None, False)
    for text in (f"{login}/no/x", f"{server.anonymous}/x"):
        with pytest.raises(PermissionError):
            await scheme.write(parse(text), pieces_of(b"x"), None, False)
    assert os.listdir(tmp_path) == ["d"]


async def test_a_download_that_is_cut_is_an_error(scheme, tmp_path):
    (tmp_path / "x").write_bytes(content(MIB))
    with ftp.serving(tmp_path, cut_at=100_000) as server, pytest.raises(TransferError, match="426"):
        await read(scheme, f"{server.anonymous}/x")


async def test_nobody_there(scheme):
    with pytest.raises(TransferError, match=r"127\.0\.0\.1:9"):
        await scheme.look(parse("ftp://127.0.0.1:9/x"))


async def test_a_cancelled_call_lets_its_thread_go(server):
    """It waits for a server that has nothing to say."""
    waits = threading.Event()

    async def asking():
        async with ftp_._line(parse(server.anonymous)) as line:

            def wait():
                waits.set()
                return line._ftp.sock.recv(1)

            await line.run(wait)

    with nothing_left("fds"):
        task = asyncio.ensure_future(asking())
        await asyncio.to_thread(waits.wait)
        task.cancel()
        done, _ = await asyncio.wait([task], timeout=20)
        assert done
        assert task.cancelled()


async def test_a_reader_that_stops_early_leaves_nothing_behind(scheme, server, tmp_path):
    (tmp_path / "x").write_bytes(content(5 * MIB))
    with nothing_left("fds"):
        async with scheme.read(parse(f"{server.anonymous}/x")) as fetched:
            await anext(fetched.pieces)


@pytest.mark.parametrize("implicit", [False, True])
async def test_ftps(scheme, tmp_path, monkeypatch, implicit):
    served = tmp_path / "served"
    served.mkdir()
    authority = Authority(tmp_path)
    with ftp.serving(served, pair=authority.pair, implicit=implicit) as server:
        if implicit:
            monkeypatch.setattr(ftp_, "IMPLICIT_PORT", server.port)
        url = f"ftps://{LOGIN}@localhost:{server.port}/x"
        with pytest.raises(TransferError, match="certificate"):
            await read(scheme, url)
        assert not [line for line in server.log if line.startswith("PASS")]
        monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
        await scheme.write(parse(url), pieces_of(content(MIB + 1)), None, False)
        assert digest((await read(scheme, url))[0]) == digest(content(MIB + 1))
        assert "PROT P" in server.log

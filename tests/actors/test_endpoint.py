"""Where a leader listens: a private folder for the socket, a hint beside the store, and nothing left by those who died."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from towline.actors import endpoint
from towline.actors.endpoint import SOCKET, SOCKET_DIR, Endpoint, drop_socket_dir, make_socket_dir, secure_token, sweep
from towline.actors.identity import host_id, start_time


@pytest.fixture(autouse=True)
def own_temp(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="tl-") as short:
        monkeypatch.setattr(tempfile, "tempdir", short)
        yield Path(short)


def made(pid: int | None = None, started: float | None = None, **changes: str) -> Endpoint:
    here = host_id()._asdict() | changes
    pid = os.getpid() if pid is None else pid
    return Endpoint("/s", "t", 1, pid, start_time(pid) if started is None else started, **here)


def test_it_survives_its_bytes_and_other_bytes_are_none() -> None:
    word = made()
    data = endpoint.encode(word)
    assert endpoint.decode(data) == word
    for foreign in (b"", b"{}", b"[1]", data[:-5], b"\xff\xfe", b"null", data.replace(b'"epoch":1', b'"epoch":"x"')):
        assert endpoint.decode(foreign) is None


def test_a_death_is_proven_only_on_its_own_host() -> None:
    assert not made().provably_dead()
    assert made(started=1.0).provably_dead()
    assert made(pid=2**22 + 1, started=1.0).provably_dead()
    assert not made(started=1.0, boot_id="another").provably_dead()
    assert not made(started=1.0, pid_namespace="pid:[1]").provably_dead()


def test_a_leader_without_its_driver_is_an_orphan() -> None:
    def driven(pid: int, started: float, **changes: str) -> Endpoint:
        return msgspec.structs.replace(made(**changes), driver_pid=pid, driver_started=started)

    me = os.getpid(), start_time(os.getpid())
    assert not made().orphaned(), "it has none"
    assert not driven(*me).orphaned()
    assert driven(me[0], me[1] + 1.0).orphaned()
    assert not driven(me[0], me[1] + 1.0, boot_id="another").orphaned()


def test_secrets_differ() -> None:
    tokens = {secure_token() for _ in range(50)}
    assert len(tokens) == 50
    assert {len(token) for token in tokens} == {64}


def test_the_folder_is_private_and_named_for_its_process() -> None:
    path = make_socket_dir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert path.name.startswith(f"{SOCKET_DIR}{os.getpid()}-{start_time(os.getpid()):.0f}-")
    assert len(str(path / SOCKET)) < 108
    (path / SOCKET).touch()
    drop_socket_dir(path)
    drop_socket_dir(path)
    assert not path.exists()


def test_a_long_temp_folder_is_passed_over(own_temp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = own_temp / ("x" * 60)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    path = make_socket_dir()
    assert long not in path.parents
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path / SOCKET))  # whose path the kernel takes
    assert (path / SOCKET).is_socket()
    drop_socket_dir(path)
    assert not path.exists()


def test_what_dead_leaders_left_goes(own_temp: Path) -> None:
    code = "from towline.actors.endpoint import *; print(make_socket_dir())"
    env = os.environ | {"TMPDIR": str(own_temp)}
    left = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env).stdout.split()[0]
    (Path(left) / SOCKET).touch()
    mine = make_socket_dir()
    assert not Path(left).exists()
    sweep()
    assert mine.exists()


def test_but_nothing_that_may_be_somebodys(own_temp: Path) -> None:
    foreign = [f"{SOCKET_DIR}notes", f"{SOCKET_DIR}1-x-y", f"{SOCKET_DIR}-5-z", "towline-else"]
    for name in foreign:
        (own_temp / name).mkdir()
    target = own_temp / "target"
    target.mkdir()
    (target / "kept").touch()
    link = own_temp / f"{SOCKET_DIR}{2**22 + 1}-7-link"
    link.symlink_to(target)
    answering = own_temp / f"{SOCKET_DIR}{2**22 + 1}-7-other"  # of another pid namespace that shares this folder
    answering.mkdir()
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(answering / SOCKET))
        other.listen()
        sweep()
        assert answering.exists()
    assert all((own_temp / name).exists() for name in foreign)
    assert (target / "kept").exists()
    sweep()
    assert not answering.exists()  # nobody answers there any more

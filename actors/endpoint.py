"""Where a leader listens: a unix socket only its user can reach, and a token on top, written beside the store.

`leader.json` is a hint, never the truth: who leads is what the journal says. It names socket, token and process, mode 0600.
"""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from pathlib import Path

import msgspec

from towline.actors.identity import host_id, is_alive, start_time

SOCKET_DIR = "towline-leader-"
"""How the name of a socket's folder begins; process and start time follow."""
SOCKET = "leader.sock"
MAX_BASE = 50
"""Bytes; the kernel takes 107 for a socket's whole path."""


class Endpoint(msgspec.Struct, frozen=True):
    """How to reach a leader from the same machine."""

    socket: str
    token: str
    """32 random bytes in hex; the first thing that a client sends."""
    epoch: int
    pid: int
    started: float
    host: str
    boot_id: str
    pid_namespace: str
    name: str = ""
    """Of the Ray actor, if it is one."""
    address: str = ""
    """Of the Ray cluster, if it is on one."""
    driver_pid: int = 0
    """Of the process on the same kernel that it ends with; 0 if there is none."""
    driver_started: float = 0.0

    def provably_dead(self) -> bool:
        """Is the leader's process gone, seen from its own kernel?"""
        return self._is_here() and not is_alive(self.pid, self.started)

    def orphaned(self) -> bool:
        """Is the driver gone that this leader ends with?"""
        return self._is_here() and self.driver_pid > 0 and not is_alive(self.driver_pid, self.driver_started)

    def _is_here(self) -> bool:
        here = host_id()
        return (here.boot_id, here.pid_namespace) == (self.boot_id, self.pid_namespace)


def make_socket_dir() -> Path:
    """A new private folder for a socket (paths of unix sockets are short, a store's may not be).

    Its name says whose it is; what leaders that were killed left behind goes now (P8).
    """
    sweep()
    pid = os.getpid()
    return Path(tempfile.mkdtemp(prefix=f"{SOCKET_DIR}{pid}-{start_time(pid):.0f}-", dir=_base()))


def _base() -> Path:
    """The temp folder, unless its path is too long for a socket's, as some batch systems make it."""
    temp = Path(tempfile.gettempdir())
    return temp if len(os.fsencode(temp)) <= MAX_BASE else Path("/tmp")  # noqa: S108 - mkdtemp makes a private folder there


def sweep() -> None:
    """Remove socket folders of this user whose process is gone. Nobody may answer there either: /tmp may be shared with
    processes that are counted by another kernel."""
    for path in _base().glob(SOCKET_DIR + "*"):
        pid, _, rest = path.name.removeprefix(SOCKET_DIR).partition("-")
        started = rest.partition("-")[0]
        if not (pid.isdigit() and started.isdigit()) or is_alive(int(pid), float(started)):
            continue
        try:
            if path.lstat().st_uid == os.getuid() and not _answers(path / SOCKET):
                drop_socket_dir(path)  # a link is left alone
        except FileNotFoundError:
            continue  # somebody else swept it


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as caller:
        caller.settimeout(1.0)
        try:
            caller.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        except OSError:
            return True  # it is there, and slow
    return True


def drop_socket_dir(path: Path) -> None:
    """Remove what `make_socket_dir` made."""
    shutil.rmtree(path, ignore_errors=True)


def decode(data: bytes) -> Endpoint | None:
    """The endpoint in these bytes, or None if they are not one (a hint may be torn or foreign)."""
    try:
        return msgspec.json.decode(data, type=Endpoint)
    except msgspec.DecodeError:
        return None


def encode(endpoint: Endpoint) -> bytes:
    """The bytes of `leader.json`."""
    return msgspec.json.encode(endpoint)


def secure_token() -> str:
    """A new secret."""
    return os.urandom(32).hex()

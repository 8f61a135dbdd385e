"""A process's death is proven or not known, and never mistaken for another's."""

from __future__ import annotations

import errno
import os
import platform
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kit.leaks import eventually, held
from towline.actors import identity
from towline.actors.identity import host_id, is_alive, kill, open_pidfd, start_time


@pytest.fixture
def sleeper():
    process = subprocess.Popen([sys.executable, "-c", "print(flush=True); import time; time.sleep(600)"], stdout=subprocess.PIPE)
    process.stdout.readline()
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_this_process_and_its_host() -> None:
    mine = start_time(os.getpid())
    assert mine > 0
    assert is_alive(os.getpid(), mine)
    assert host_id() == host_id()
    assert all(host_id())


def test_another_with_the_same_number_is_not_it() -> None:
    mine = start_time(os.getpid())
    assert not is_alive(os.getpid(), mine + 1)
    assert open_pidfd(os.getpid(), mine + 1) is None
    assert not kill(os.getpid(), mine + 1)


@pytest.mark.parametrize("pid", [0, -1, 2**22 + 1])
def test_no_process(pid: int) -> None:
    assert start_time(pid) == 0.0
    assert not is_alive(pid, 0.0)  # what was dead when it was looked at is not alive because its time is unknown
    assert open_pidfd(pid, 0.0) is None
    assert not kill(pid, 0.0)


def test_a_zombie_is_dead(sleeper) -> None:
    started = start_time(sleeper.pid)
    fd = open_pidfd(sleeper.pid, started)
    assert fd is not None
    assert not select.select([fd], [], [], 0)[0]
    assert kill(sleeper.pid, started)
    assert select.select([fd], [], [], 30)[0] == [fd]
    os.close(fd)
    assert Path(f"/proc/{sleeper.pid}").exists()  # nobody has waited for it yet
    assert start_time(sleeper.pid) == 0.0
    assert not is_alive(sleeper.pid, started)
    before = held()["fds"]
    assert open_pidfd(sleeper.pid, started) is None
    assert not kill(sleeper.pid, started)
    assert held()["fds"] == before


def test_kill_is_sigkill_and_leaves_no_descriptor(sleeper) -> None:
    before = held()["fds"]
    assert kill(sleeper.pid, start_time(sleeper.pid))
    assert sleeper.wait() == -signal.SIGKILL
    assert held()["fds"] == before


def test_a_lack_of_descriptors_is_no_proof_of_death(sleeper, monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(pid: int) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(identity.os, "pidfd_open", none_left)
    with pytest.raises(OSError, match="Too many open files"):
        open_pidfd(sleeper.pid, start_time(sleeper.pid))


def test_a_process_may_bear_any_name(sleeper) -> None:
    code = "import ctypes,time; ctypes.CDLL(None).prctl(15, b'\\xff) R 1 2 (\\xfe', 0, 0, 0); print(flush=True); time.sleep(600)"
    odd = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    try:
        odd.stdout.readline()
        assert b"\xff) R 1 2 (\xfe" in Path(f"/proc/{odd.pid}/stat").read_bytes()
        assert start_time(odd.pid) >= start_time(sleeper.pid)
    finally:
        odd.kill()
        odd.wait()
        odd.stdout.close()


def test_a_pid_that_changes_hands_while_it_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([7.0, 8.0])
    monkeypatch.setattr(identity, "start_time", lambda pid: next(times))
    before = held()["fds"]
    assert open_pidfd(os.getpid(), 7.0) is None
    assert held()["fds"] == before


def test_a_process_lives_as_long_as_any_of_its_threads() -> None:
    code = (
        "import ctypes,sys,threading; threading.Thread(target=sys.stdin.read).start(); print(flush=True);"
        f"ctypes.CDLL(None).syscall({60 if platform.machine() == 'x86_64' else 93}, 0)"  # ends this thread alone
    )
    half = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        half.stdout.readline()
        stat = Path(f"/proc/{half.pid}/stat")
        assert eventually(lambda: stat.read_text().rpartition(") ")[2].startswith("Z"))
        assert start_time(half.pid) > 0
    finally:
        half.kill()
        half.wait()
        half.stdin.close()
        half.stdout.close()

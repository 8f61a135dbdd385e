"""The process beside a worker: it renews the lease while a leader answers, and kills the worker's tree when it ends.

Workers here are plain sleeping programs; the leader is a socket that the test answers on.
"""

from __future__ import annotations

import os
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest

from tests.kit.leaks import eventually, nothing_left
from towline.actors import supervisor
from towline.actors.clock import boottime
from towline.actors.identity import start_time
from towline.actors.leasefile import LeaseFile
from towline.actors.supervisor import MARK, Orders, kill_marked
from towline.engine import model

TOKEN = "ab" * 32

WORKER = """
import os, subprocess, sys, time
from towline.actors.leasefile import LeaseFile
os.environ["TOWLINE_WORKER"] = sys.argv[1]
lease = LeaseFile(worker=sys.argv[1])
children = []
if "children" in sys.argv:
    # a command, one in a session of its own, a grandchild, and a fork that never executes anything
    children.append(subprocess.Popen(["sleep", "600"]).pid)
    children.append(subprocess.Popen(["sleep", "600"], start_new_session=True).pid)
    shell = subprocess.Popen(["sh", "-c", "sleep 600 & echo $!; exec sleep 600"], stdout=subprocess.PIPE, text=True)
    children += [shell.pid, int(shell.stdout.readline())]
    pid = os.fork()
    if not pid:
        os.setsid()
        time.sleep(600)
    children.append(pid)
print(lease.fd, *children, flush=True)
time.sleep(600)
"""


class Leader:
    """A socket that answers touches as it is told."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self.path)
        self._listener.listen()
        self._listener.settimeout(30)
        self.line: socket.socket | None = None

    def accept(self) -> None:
        self.line, _ = self._listener.accept()
        self.line.settimeout(30)
        assert self._read(64) == TOKEN.encode()

    def _read(self, count: int) -> bytes:
        data = b""
        assert self.line is not None
        while len(data) < count:
            more = self.line.recv(count - len(data))
            assert more, "the supervisor hung up"
            data += more
        return data

    def touch(self) -> model.Touch:
        """The next one."""
        (length,) = struct.unpack("<I", self._read(4))
        frame = model.decode_to_leader(self._read(length))
        assert isinstance(frame, model.Touch)
        return frame

    def answer(self, frame: model.ToWorker) -> None:
        data = model.encode(frame)
        assert self.line is not None
        self.line.sendall(struct.pack("<I", len(data)) + data)

    def close(self) -> None:
        if self.line is not None:
            self.line.close()
        self._listener.close()


class Lease:
    """A worker's lease file, read and written without a map: who maps it is killed with the worker."""

    def __init__(self, pid: int, fd: int) -> None:
        self.fd = os.open(f"/proc/{pid}/fd/{fd}", os.O_RDWR)

    @property
    def deadline(self) -> float:
        return max(struct.unpack("dd", os.pread(self.fd, 16, 0)))

    def extend(self, deadline: float) -> None:
        """As the worker does."""
        os.pwrite(self.fd, struct.pack("d", deadline), 0)

    def obey(self, epoch: int) -> None:
        os.pwrite(self.fd, struct.pack("Q", epoch), 16)

    def close(self) -> None:
        os.close(self.fd)


class Pair:
    """A worker, its lease file and its supervisor."""

    def __init__(self, name: str, *options: str) -> None:
        self.name = name
        command = [sys.executable, "-c", WORKER, name, *options]
        self.worker = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.worker.stdout is not None
        fd, *self.children = map(int, self.worker.stdout.readline().split())
        self.lease = Lease(self.worker.pid, fd)
        self.lease.obey(1)
        fd = self.lease.fd
        self.started = start_time(self.worker.pid)
        self.supervisor = subprocess.Popen(
            [sys.executable, "-m", "towline.actors.supervisor"], stdin=subprocess.PIPE, pass_fds=[fd]
        )

    def tell(self, leader: Leader | None = None, touch_s: float = 0.1, **changes: object) -> None:
        orders = Orders(
            self.name, self.worker.pid, self.started, self.lease.fd, leader.path if leader else "", TOKEN, touch_s=touch_s
        )
        self.write(msgspec.json.encode(msgspec.structs.replace(orders, **changes)) + b"\n")

    def write(self, data: bytes) -> None:
        assert self.supervisor.stdin is not None
        self.supervisor.stdin.write(data)
        self.supervisor.stdin.flush()

    def ended(self) -> int:
        """The worker's exit code, once its supervisor has ended too."""
        assert self.supervisor.wait(60) == 0
        return self.worker.wait(60)

    def drop(self) -> None:
        for process in (self.worker, self.supervisor):
            process.kill()
            process.wait()
        for pid in self.children:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        assert self.worker.stdout is not None
        assert self.supervisor.stdin is not None
        self.worker.stdout.close()
        with suppress(BrokenPipeError):
            self.supervisor.stdin.close()
        self.lease.close()


Make = Callable[..., Pair]


@pytest.fixture
def make() -> Iterator[Make]:
    pairs: list[Pair] = []
    numbers = iter(range(100))

    def one(*options: str) -> Pair:
        pairs.append(Pair(f"test-{os.getpid()}-{next(numbers)}", *options))
        return pairs[-1]

    with nothing_left("fds", "children", "files"):
        yield one
        for pair in pairs:
            pair.drop()


@pytest.fixture
def leader(tmp_path: Path) -> Iterator[Leader]:
    made = Leader(tmp_path / "leader")
    yield made
    made.close()


def all_gone(pids: list[int]) -> bool:
    return eventually(lambda: not any(start_time(pid) for pid in pids))


def test_it_renews_from_the_time_of_sending(make: Make, leader: Leader) -> None:
    pair = make()
    before = boottime()
    pair.tell(leader)
    leader.accept()
    touch = leader.touch()
    assert touch.worker == pair.name
    assert before <= touch.sent <= boottime()
    leader.answer(model.Touched(1, touch.sent, 60.0))
    assert eventually(lambda: pair.lease.deadline == touch.sent + 60.0)
    later = leader.touch()  # the next one, on the same stream
    leader.answer(model.Touched(1, later.sent, 10.0))
    assert leader.touch().sent >= later.sent + 0.1
    assert pair.lease.deadline == touch.sent + 60.0  # never backwards
    assert pair.worker.poll() is None


def test_a_worker_that_dies_takes_all_that_it_started_with_it(make: Make, leader: Leader) -> None:
    pair, other = make("children"), make("children")
    pair.tell(leader)
    leader.accept()
    leader.touch()
    pair.worker.kill()
    assert pair.ended() == -signal.SIGKILL
    assert len(pair.children) == 5
    assert all_gone(pair.children)
    assert all(start_time(pid) for pid in [*other.children, other.worker.pid])  # a neighbour's are not touched
    assert kill_marked(other.name) == len(other.children) + 1
    assert all_gone(other.children)


def test_the_deadline_kills_whatever_the_leader_does(make: Make, leader: Leader) -> None:
    pair = make("children")
    pair.tell(leader, touch_s=3000.0)  # it would wait long for an answer, and none comes
    leader.accept()
    leader.touch()
    pair.lease.extend(boottime() + 0.1)
    pair.tell(leader, touch_s=3000.0)
    assert pair.ended() == -signal.SIGKILL
    assert boottime() >= pair.lease.deadline
    assert all_gone(pair.children)


def test_a_stopped_worker_is_killed_too(make: Make) -> None:
    pair = make()
    pair.worker.send_signal(signal.SIGSTOP)
    pair.lease.extend(boottime() + 0.1)
    pair.tell()
    assert pair.ended() == -signal.SIGKILL


def test_a_deadline_that_has_passed_before_it_began(make: Make) -> None:
    pair = make()
    pair.lease.extend(boottime() - 1.0)
    pair.tell()
    assert pair.ended() == -signal.SIGKILL


def test_a_worker_that_died_before_it_began(make: Make) -> None:
    pair = make("children")
    pair.worker.kill()
    pair.worker.wait()
    pair.tell()
    assert pair.ended() == -signal.SIGKILL
    assert all_gone(pair.children)


def test_another_process_with_the_workers_number_is_left_alone(make: Make) -> None:
    pair = make()
    pair.lease.extend(boottime() + 0.05)
    pair.tell(started=pair.started + 1, worker="somebody else")
    assert pair.supervisor.wait(60) == 0
    assert pair.worker.poll() is None


def test_no_leader_yet_no_deadline_no_kill(make: Make, leader: Leader, tmp_path: Path) -> None:
    pair = make()
    pair.tell()  # nobody to touch
    pair.write(b"")
    pair.tell(leader, socket=str(tmp_path / "nobody there"))
    pair.tell(leader)
    leader.accept()
    leader.touch()
    assert pair.worker.poll() is None


def test_it_asks_again_when_nobody_answers(make: Make, leader: Leader) -> None:
    pair = make()
    pair.tell(leader)
    leader.accept()
    touches = [leader.touch() for _ in range(4)]
    assert len({touch.sent for touch in touches}) == 4
    for touch in touches:  # late answers count from their own sending
        leader.answer(model.Touched(1, touch.sent, 50.0))
    assert eventually(lambda: pair.lease.deadline == touches[-1].sent + 50.0)


def test_it_connects_again_after_a_broken_stream(make: Make, leader: Leader) -> None:
    pair = make()
    pair.tell(leader)
    for _ in range(3):
        leader.accept()
        leader.touch()
        assert leader.line is not None
        leader.line.close()
    leader.accept()
    leader.answer(model.Touched(1, leader.touch().sent, 50.0))
    assert eventually(lambda: pair.lease.deadline > 0)


def test_a_frozen_leader_does_not_freeze_it(make: Make, leader: Leader) -> None:
    pair = make()
    for _ in range(3):  # a leader that accepts, and one that does not even do that
        pair.tell(leader)
    leader.accept()
    pair.lease.extend(boottime() + 0.2)
    assert pair.ended() == -signal.SIGKILL


def test_it_waits_for_no_leader_longer_than_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[float, float]] = []

    def stream(path: str, token: str, timeout_s: float, send_s: float) -> None:
        asked.append((timeout_s, send_s))
        raise supervisor.StreamClosed("nobody")

    monkeypatch.setattr(supervisor, "Stream", stream)
    lease = LeaseFile(worker="unit")
    guard = supervisor.Supervisor(Orders("unit", lease_fd=os.dup(lease.fd), socket="/s", token=TOKEN, touch_s=15.0))
    guard._touch()
    assert asked == [(5.0, supervisor.SEND_S)]  # a third of the time between touches
    lease.extend(boottime() + 2.0)
    guard._touch()
    assert 0 < asked[1][0] < 2.0  # what is left of the lease
    assert supervisor.SEND_S <= 0.05
    guard._lease.close()
    lease.close()


@pytest.mark.parametrize("epoch", [1, 3])
def test_only_the_leader_that_the_worker_obeys_is_believed(make: Make, leader: Leader, epoch: int) -> None:
    pair = make()
    pair.lease.obey(2)
    pair.tell(leader)
    leader.accept()
    leader.answer(model.Touched(epoch, leader.touch().sent, 60.0))
    right = leader.touch()  # soon again: that was no answer
    leader.answer(model.Touched(2, right.sent, 40.0))
    assert eventually(lambda: pair.lease.deadline > 0)
    assert pair.lease.deadline == right.sent + 40.0


def test_the_leader_moves(make: Make, leader: Leader, tmp_path: Path) -> None:
    pair = make()
    pair.tell(leader)
    leader.accept()
    leader.touch()
    other = Leader(tmp_path / "other")
    try:
        pair.tell(other)
        other.accept()
        touch = other.touch()
        other.answer(model.Touched(1, touch.sent, 30.0))
        assert eventually(lambda: pair.lease.deadline == touch.sent + 30.0)
        assert leader.line is not None
        while leader.line.recv(1 << 16):
            pass  # the old stream is closed
    finally:
        other.close()


def test_orders_in_pieces_and_several_at_once(make: Make, leader: Leader) -> None:
    pair = make()
    pair.tell()
    orders = msgspec.json.encode(Orders(socket=leader.path, token=TOKEN, touch_s=0.1)) + b"\n"
    pair.write(orders + orders[:20])
    leader.accept()
    first = leader.touch()
    pair.write(orders[20:])
    leader.accept()  # orders make it call again
    later = leader.touch()
    assert (first.worker, later.worker) == (pair.name, pair.name)
    assert later.sent > first.sent
    assert pair.supervisor.poll() is None


def test_stdin_may_end_before_the_worker_does(make: Make, leader: Leader) -> None:
    pair = make()
    pair.tell(leader)
    assert pair.supervisor.stdin is not None
    pair.supervisor.stdin.close()
    leader.accept()
    for _ in range(3):
        leader.answer(model.Touched(1, leader.touch().sent, 60.0))
    pair.worker.kill()
    assert pair.ended() == -signal.SIGKILL


def test_stdin_that_ends_at_once_ends_it(make: Make) -> None:
    pair = make()
    assert pair.supervisor.stdin is not None
    pair.supervisor.stdin.close()
    assert pair.supervisor.wait(60) == 0


def test_ctrl_c_is_not_for_it(make: Make, leader: Leader) -> None:
    pair = make()
    pair.tell(leader)
    leader.accept()
    leader.touch()
    pair.supervisor.send_signal(signal.SIGINT)
    leader.touch()
    leader.answer(model.Touched(1, leader.touch().sent, 60.0))
    assert eventually(lambda: pair.lease.deadline > 0), "it goes on, and so does the lease"
    assert pair.supervisor.poll() is None


def test_a_worker_that_was_given_up_is_killed(make: Make, leader: Leader) -> None:
    pair = make("children")
    pair.tell(leader)
    leader.accept()
    leader.touch()
    leader.answer(model.Refused("given up"))
    assert pair.ended() == -signal.SIGKILL
    assert all_gone(pair.children)


def test_garbage_from_the_leader_is_a_broken_stream(make: Make, leader: Leader) -> None:
    pair = make()
    pair.tell(leader)
    leader.accept()
    leader.touch()
    assert leader.line is not None
    leader.line.sendall(struct.pack("<I", 3) + b"\xc1\xc1\xc1")
    leader.accept()
    leader.answer(model.Touched(1, leader.touch().sent, 60.0))
    assert eventually(lambda: pair.lease.deadline > 0)


def test_kill_marked_spares_itself_and_whom_it_is_told_to() -> None:
    name = f"test-{os.getpid()}-spared"
    sleepers = [subprocess.Popen(["sleep", "600"], env=os.environ | {MARK: name}) for _ in range(3)]
    decoy = subprocess.Popen(["sleep", "600"], env=os.environ | {MARK: name + "x", "X": f"{MARK}={name}"})
    try:
        assert eventually(lambda: all(MARK.encode() in Path(f"/proc/{p.pid}/environ").read_bytes() for p in [*sleepers, decoy]))
        assert kill_marked(name, frozenset({sleepers[2].pid})) == 2
        assert [p.wait(60) for p in sleepers[:2]] == [-signal.SIGKILL] * 2
        assert sleepers[2].poll() is None
        assert decoy.poll() is None
        assert kill_marked("nobody") == 0
    finally:
        for process in [*sleepers, decoy]:
            process.kill()
            process.wait()

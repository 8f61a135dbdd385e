"""A small process beside each worker: renews its lease, and kills it and all it started when the lease ends (P2).

It shares no interpreter with the jobs, so C code that holds the GIL for an hour keeps its lease, and a frozen network does not.
Run as `python -m towline.actors.supervisor`; orders come as JSON lines on stdin (see Orders). Everything a worker starts
carries the worker's name in its environment (MARK), and everything it forks shares the map of its lease file: that is how stray
grandchildren are found. It waits for nothing but its poll: whatever the leader does, the kill comes in time.
"""

from __future__ import annotations

import os
import select
import signal
import sys
from contextlib import suppress
from pathlib import Path

import msgspec

from towline.actors.clock import boottime
from towline.actors.identity import open_pidfd
from towline.actors.leasefile import LeaseFile, mark
from towline.actors.stream import Stream, StreamClosed
from towline.engine import model

MARK = "TOWLINE_WORKER"


class Orders(msgspec.Struct, frozen=True):
    """A line on stdin. The first names the process to guard; later ones a new leader's address."""

    worker: str = ""
    pid: int = 0
    started: float = 0.0
    lease_fd: int = -1
    """An inherited descriptor (`actors.leasefile`)."""
    socket: str = ""
    token: str = ""
    touch_s: float = 15.0


SEND_S = 0.01
"""A touch is a few bytes: a leader whose stream does not take them is frozen."""


def kill_marked(worker: str, spare: frozenset[int] = frozenset()) -> int:
    """SIGKILL every process of this user that carries the worker's mark, apart from this one; returns how many.

    Repeats until no other is found, because a process may fork while the list is read.
    """
    killed: set[int] = set()
    spared = spare | {os.getpid()}
    while True:
        pids = {int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()}
        found = {pid for pid in pids - killed - spared if _kill_if_marked(pid, worker)}
        if not found:
            return len(killed)
        killed |= found


def _kill_if_marked(pid: int, worker: str) -> bool:
    try:
        fd = os.pidfd_open(pid)
    except OSError:
        return False  # it has ended
    try:
        if not _is_marked(Path(f"/proc/{pid}"), worker):
            return False
        signal.pidfd_send_signal(fd, signal.SIGKILL)
        return True
    except OSError:
        return False  # it has ended, or is not ours
    finally:
        os.close(fd)


def _is_marked(process: Path, worker: str) -> bool:
    if f"{MARK}={worker}".encode() in (process / "environ").read_bytes().split(b"\0"):
        return True
    return f"/memfd:{mark(worker)} ".encode() in (process / "maps").read_bytes()


class Supervisor:
    """Guards one process."""

    def __init__(self, orders: Orders) -> None:
        self._orders = orders
        self._lease = LeaseFile(orders.lease_fd)
        self._lease.hide()
        self._poll = select.poll()
        self._stream: Stream | None = None
        self._next_touch = 0.0
        self._pending = b""

    def run(self) -> None:
        """Until the worker is gone."""
        fd = open_pidfd(self._orders.pid, self._orders.started)
        if fd is not None:
            self._poll.register(fd, select.POLLIN)
            self._poll.register(0, select.POLLIN)
            self._guard(fd)
        kill_marked(self._orders.worker)

    def _guard(self, fd: int) -> None:
        while True:
            now, deadline = boottime(), self._lease.deadline
            if deadline and now >= deadline:
                self._kill(fd)
                return
            wake = min(self._next_touch, deadline or self._next_touch)
            ready = dict(self._poll.poll(max(0.0, wake - now) * 1000 + 1))
            if fd in ready:
                return
            if 0 in ready:
                self._read_orders()
            if self._stream is not None and self._stream.fileno() in ready and not self._listen(self._stream):
                self._kill(fd)
            if boottime() >= self._next_touch:
                self._touch()

    @staticmethod
    def _kill(fd: int) -> None:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(fd, signal.SIGKILL)

    def _read_orders(self) -> None:
        data = os.read(0, 1 << 16)
        if not data:
            self._poll.unregister(0)  # the worker is ending; its pidfd will say so
        *lines, self._pending = (self._pending + data).split(b"\n")
        for line in lines:
            orders = msgspec.json.decode(line, type=Orders)
            self._orders = msgspec.structs.replace(self._orders, socket=orders.socket, token=orders.token, touch_s=orders.touch_s)
            self._hang_up()
            self._next_touch = 0.0

    def _hang_up(self) -> None:
        if self._stream is not None:
            self._poll.unregister(self._stream.fileno())
            self._stream.close()
            self._stream = None

    def _touch(self) -> None:
        """Ask for more time; a leader that does not answer soon is asked again."""
        now = boottime()
        patience = max(0.05, self._orders.touch_s / 3)
        self._next_touch = now + patience
        if not self._orders.socket:
            return
        left = self._lease.deadline - now if self._lease.deadline else patience
        try:
            if self._stream is None:
                self._stream = Stream(self._orders.socket, self._orders.token, max(0.001, min(patience, left)), SEND_S)
                self._poll.register(self._stream.fileno(), select.POLLIN)
            self._stream.send(model.encode(model.Touch(self._orders.worker, now)))
        except StreamClosed:
            self._hang_up()

    def _listen(self, stream: Stream) -> bool:
        """What the leader answers. False: the worker has been given up."""
        try:
            while (data := stream.receive(0.0)) is not None:
                frame = model.decode_to_worker(data)
                if isinstance(frame, model.Refused):
                    return False
                if isinstance(frame, model.Touched) and frame.epoch == self._lease.epoch:
                    self._lease.extend(frame.sent + frame.valid_s)
                    self._next_touch = frame.sent + self._orders.touch_s
        except (StreamClosed, msgspec.DecodeError):
            self._hang_up()
        return True


def main() -> None:
    """Read the first orders, then guard."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    line = b""
    while not line.endswith(b"\n"):
        more = os.read(0, 1)  # a byte at a time: later lines stay in the pipe
        if not more:
            sys.exit(0)
        line += more
    Supervisor(msgspec.json.decode(line, type=Orders)).run()


if __name__ == "__main__":
    main()

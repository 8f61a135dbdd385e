"""A small process beside each worker: renews its lease, and kills it and all it started when the lease ends (P2).

It shares no interpreter with the jobs, so C code that holds the GIL for an hour keeps its lease, and a frozen network does not.
Run as `python -m towline.actors.supervisor`; orders come as JSON lines on stdin (see Orders). Everything a worker starts
carries the worker's name in its environment (MARK), which is how stray grandchildren are found.
"""

from __future__ import annotations

import os
import select
import signal
import sys
from pathlib import Path

import msgspec

from towline.actors.clock import boottime
from towline.actors.identity import open_pidfd
from towline.actors.leasefile import LeaseFile
from towline.actors.stream import Stream, StreamClosed
from towline.engine import model

MARK = "TOWLINE_WORKER"


class Orders(msgspec.Struct, frozen=True):
    """A line on stdin. The first names the process to guard; later ones a new leader's address."""

    worker: str = ""
    pid: int = 0
    started: float = 0.0
    lease_file: str = ""
    socket: str = ""
    token: str = ""
    touch_s: float = 15.0


def kill_marked(worker: str, spare: frozenset[int] = frozenset()) -> int:
    """SIGKILL every process of this user whose environment carries the worker's mark; returns how many.

    Repeats until none is found, because a process may fork while the list is read.
    """
    mark = f"{MARK}={worker}".encode()
    killed = 0
    for _ in range(20):
        found = 0
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit() or int(entry.name) in spare or int(entry.name) == os.getpid():
                continue
            try:
                if mark in (entry / "environ").read_bytes().split(b"\0"):
                    os.kill(int(entry.name), signal.SIGKILL)
                    found += 1
            except OSError:
                continue  # it has ended, or is not ours
        killed += found
        if not found:
            break
    return killed


class Supervisor:
    """Guards one process."""

    def __init__(self, orders: Orders) -> None:
        self._orders = orders
        self._lease = LeaseFile(orders.lease_file)
        self._stream: Stream | None = None
        self._next_touch = 0.0

    def run(self) -> None:
        """Until the worker is gone."""
        fd = open_pidfd(self._orders.pid, self._orders.started)
        if fd is not None:
            poll = select.poll()
            poll.register(fd, select.POLLIN)
            poll.register(0, select.POLLIN)
            self._guard(poll, fd)
        kill_marked(self._orders.worker)
        self._lease.unlink()

    def _guard(self, poll: select.poll, fd: int) -> None:
        pending = b""
        while True:
            now = boottime()
            deadline = self._lease.deadline
            if deadline and now >= deadline:
                os.kill(self._orders.pid, signal.SIGKILL)
                return
            wake = min(self._next_touch, deadline or self._next_touch)
            ready = dict(poll.poll(max(0.0, wake - now) * 1000 + 1))
            if fd in ready:
                return
            if 0 in ready:
                data = os.read(0, 1 << 16)
                if not data:
                    poll.unregister(0)  # the worker is ending; its pidfd will say so
                *lines, pending = (pending + data).split(b"\n")
                for line in lines:
                    self._moved(msgspec.json.decode(line, type=Orders))
            if boottime() >= self._next_touch:
                self._touch()

    def _moved(self, orders: Orders) -> None:
        self._orders = msgspec.structs.replace(
            self._orders, socket=orders.socket, token=orders.token, touch_s=orders.touch_s
        )
        if self._stream is not None:
            self._stream.close()
            self._stream = None
        self._next_touch = 0.0

    def _touch(self) -> None:
        """One renewal; a leader that does not answer in time is asked again soon."""
        patience = max(0.05, self._orders.touch_s / 3)
        self._next_touch = boottime() + patience
        try:
            if self._stream is None:
                self._stream = Stream(self._orders.socket, self._orders.token, patience)
            sent = boottime()
            self._stream.send(model.encode(model.Touch(self._orders.worker, sent)))
            data = self._stream.receive(patience)
        except StreamClosed:
            self._stream = None
            return
        if data is None:
            return
        frame = model.decode_to_worker(data)
        if isinstance(frame, model.Touched) and frame.epoch == self._lease.epoch:
            self._lease.extend(frame.sent + frame.valid_s)
            self._next_touch = sent + self._orders.touch_s
        elif isinstance(frame, model.Refused):
            os.kill(self._orders.pid, signal.SIGKILL)


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

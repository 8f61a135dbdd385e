"""Who a process is, well enough to prove on the same host that it is dead: boot id, pid namespace, pid and start time."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path
from typing import NamedTuple


class HostId(NamedTuple):
    """The kernel that pids are counted by."""

    host: str
    boot_id: str
    pid_namespace: str


def host_id() -> HostId:
    """This process's host; pids compare only where boot id and namespace are equal."""
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return HostId(socket.gethostname(), boot_id, str(Path("/proc/self/ns/pid").readlink()))


def start_time(pid: int) -> float:
    """When a process began, in clock ticks since boot; 0.0 if there is none or it is a zombie (it runs nothing)."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()  # a process may bear any bytes as its name
    except OSError:
        return 0.0
    fields = stat[stat.rindex(b")") + 2 :].split()
    # a process whose first thread has ended looks like a zombie while its other threads go on
    over = fields[0] in b"ZX" and int(fields[17]) <= 1
    return 0.0 if over else float(fields[19])


def is_alive(pid: int, started: float) -> bool:
    """Is this very process still there? Only to be asked about pids of this host and namespace."""
    return pid > 0 and started > 0.0 and start_time(pid) == started


def open_pidfd(pid: int, started: float) -> int | None:
    """A file descriptor that becomes readable when this very process ends, or None if it has ended.

    Raises OSError where that cannot be found out (no descriptor is left): that is no proof of a death.
    """
    if not is_alive(pid, started):
        return None
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return None
    if is_alive(pid, started):
        return fd
    os.close(fd)
    return None


def kill(pid: int, started: float) -> bool:
    """SIGKILL this very process, never one that has its number now. Was it there?"""
    fd = open_pidfd(pid, started)
    if fd is None:
        return False
    try:
        signal.pidfd_send_signal(fd, signal.SIGKILL)
    except ProcessLookupError:
        return False
    finally:
        os.close(fd)
    return True

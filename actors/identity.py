"""Who a process is, well enough to prove on the same host that it is dead: boot id, pid namespace, pid and start time."""

from __future__ import annotations

import os
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
    return HostId(socket.gethostname(), boot_id, os.readlink("/proc/self/ns/pid"))


def start_time(pid: int) -> float:
    """When a process began, in clock ticks since boot; 0.0 if there is none or it is a zombie (it runs nothing)."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0.0
    fields = stat[stat.rindex(")") + 2 :].split()
    return 0.0 if fields[0] in "ZX" else float(fields[19])


def is_alive(pid: int, started: float) -> bool:
    """Is this very process still there? Only to be asked about pids of this host and namespace."""
    return pid > 0 and start_time(pid) == started


def open_pidfd(pid: int, started: float) -> int | None:
    """A file descriptor that becomes readable when this very process ends, or None if it has ended."""
    try:
        fd = os.pidfd_open(pid)
    except (ProcessLookupError, OSError):
        return None
    if is_alive(pid, started):
        return fd
    os.close(fd)
    return None

"""What a number was measured on: processor, memory, file system and its fsync, versions. Nothing that names the host."""

from __future__ import annotations

import os
import platform
import statistics
import tempfile
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import msgspec

PACKAGES = ("towline", "ray", "msgspec", "pyarrow", "numpy", "uvloop")

IN_MEMORY = frozenset({"tmpfs", "ramfs"})
"""File systems on which fsync makes nothing durable."""

FSYNCS = 50
"""Appends of 4 KiB that fsync is timed with."""


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """Where and when."""

    measured: str
    """UTC, ISO 8601."""
    cpu: str
    cores: int
    """That this process may use."""
    memory_bytes: int
    system: str
    python: str
    versions: dict[str, str]
    filesystem: str
    """Of the stores."""
    fsync_s: float
    """Median of FSYNCS appends of 4 KiB, each with its fsync, where the stores are."""
    load_1min: float
    """Before the first measurement: what else the machine was doing."""
    niceness: int
    """Of the measuring process; not 0 means that it was favoured over, or put behind, what else was running."""

    @property
    def durability(self) -> str:
        """See `durability_on`."""
        return durability_on(self.filesystem)


def durability_on(filesystem: str) -> str:
    """What towline's "told" means for a store on this type of file system."""
    if filesystem in IN_MEMORY:
        return f"none: fsync before told, but on {filesystem}"
    return "fsync before told, local disk"


def describe(root: Path) -> Machine:
    """The machine, with the file system that `root` is on."""
    return Machine(
        measured=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        cpu=cpu_name(),
        cores=len(os.sched_getaffinity(0)),
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        system=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        versions={name: found for name in PACKAGES if (found := version_of(name))},
        filesystem=filesystem_of(root),
        fsync_s=fsync_time(root),
        load_1min=round(os.getloadavg()[0], 2),
        niceness=os.getpriority(os.PRIO_PROCESS, 0),
    )


def cpu_name() -> str:
    """The processor as the kernel calls it, or the architecture."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def version_of(package: str) -> str:
    """The installed version; empty if there is none."""
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def filesystem_of(root: Path) -> str:
    """The type of the mount that holds this path; `unknown` where the kernel does not tell."""
    path = root.resolve()
    mounts = Path("/proc/self/mounts")
    if not mounts.exists():
        return "unknown"
    best, kind = "", "unknown"
    for line in mounts.read_text().splitlines():
        _device, where, this, *_rest = line.split(" ")
        if path.is_relative_to(where) and len(where) >= len(best):
            best, kind = where, this
    return kind


def fsync_time(root: Path) -> float:
    """Seconds that one small append and its fsync take here, the median of FSYNCS."""
    taken = []
    with tempfile.TemporaryFile(dir=root, buffering=0) as file:
        for _ in range(FSYNCS):
            began = time.perf_counter()
            file.write(bytes(4096))
            os.fsync(file.fileno())
            taken.append(time.perf_counter() - began)
    return statistics.median(taken)

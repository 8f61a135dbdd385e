"""A disk that is full, and one that fails: the run stops with a sentence, loses nothing told, and goes on when there is room."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SCRIPT = """
import os, sys
from towline import Flow, job, run, resume
from towline.engine.errors import TowlineError

SIZE, JOBS = 60_000, 100

@job
def fill(n):
    with open(sys.argv[2], "a") as log:
        log.write(f"{n}\\n")
    return os.urandom(SIZE)

try:
    if sys.argv[3] == "run":
        made = run(Flow([fill(n) for n in range(JOBS)], name="fill"), store=sys.argv[1], local=True, progress=False)
    else:
        made = resume(sys.argv[1], local=True, progress=False)
    print(made.state, made.counts())
except TowlineError as error:
    sys.exit(f"{type(error).__name__}: {error}")
"""


def lead(store: Path, log: Path, verb: str, *before: str) -> subprocess.CompletedProcess[str]:
    """One process that runs or resumes."""
    command = [*before, sys.executable, "-c", SCRIPT, str(store), str(log), verb]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, env={**os.environ, "PYTHONWARNINGS": "ignore"})


def bodies(log: Path) -> int:
    return len(log.read_text().splitlines())


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 3 MB of its own."""
    place = tmp_path / "disk"
    place.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(place)], capture_output=True)
    if done.returncode:
        pytest.skip("file systems may not be mounted here")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_full_disk(small_disk: Path, tmp_path: Path) -> None:
    store, log = small_disk / "store", tmp_path / "log"
    full = lead(store, log, "run")
    assert full.returncode != 0
    assert "the disk is full; free some space and resume" in full.stderr, full.stderr
    assert "Traceback" not in full.stderr
    kept = bodies(log)
    assert kept > 0
    again = lead(store, log, "resume")
    assert again.returncode != 0
    assert "the disk is full" in again.stderr, again.stderr
    subprocess.run(["mount", "-o", "remount,size=40m", str(small_disk)], check=True)
    done = lead(store, log, "resume")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "completed {'completed': 100}"


@pytest.mark.skipif(not shutil.which("strace"), reason="strace is not installed")
@pytest.mark.parametrize("first", [1, 2, 4, 15])
def test_a_disk_that_fails(tmp_path: Path, first: int) -> None:
    """Of each thread, the fsyncs from this one on fail: of the leader's, and of the one that writes outputs."""
    store, log = tmp_path / "store", tmp_path / "log"
    failing = [
        "strace",
        "-f",
        "-qq",
        "-o",
        "/dev/null",
        "-e",
        "trace=fdatasync",
        "-e",
        f"inject=fdatasync:error=EIO:when={first}+",
    ]
    failed = lead(store, log, "run", *failing)
    if "ptrace" in failed.stderr:
        pytest.skip("strace may not trace here")
    assert failed.returncode != 0, failed.stdout
    assert "input/output error; check it before going on" in failed.stderr, failed.stderr
    assert "Traceback" not in failed.stderr, failed.stderr
    done = lead(store, log, "resume")
    if not log.exists():  # it did not come to any job; what was not told need not be there
        assert done.stdout.strip() in ("", "completed {}", "completed {'completed': 100}")
        return
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "completed {'completed': 100}"

"""Whatever carries the mark is killed, orphans in their own session too; nothing else is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import uuid

import pytest

from tests.kit.leaks import eventually
from towline.actors.identity import start_time
from towline.benchmarks import killing

ORPHAN = """
import subprocess, sys
# it waits for nothing that ends with its parent
waits = [sys.executable, "-c", "import signal; signal.pause()"]
child = subprocess.Popen(waits, stdout=subprocess.DEVNULL, start_new_session=True)
print(child.pid, flush=True)
input()
"""


def start(mark: str) -> subprocess.Popen[str]:
    """A process, and one that it starts in another session, both up."""
    environment = {**os.environ, killing.MARK: mark}
    return subprocess.Popen(
        [sys.executable, "-c", ORPHAN], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    )


def test_children_in_other_sessions_go_too_and_others_stay() -> None:
    mark = uuid.uuid4().hex
    ours, other = start(mark), start("another")
    assert ours.stdout is not None
    assert other.stdout is not None
    orphan, spared = int(ours.stdout.readline()), int(other.stdout.readline())
    try:
        ours.kill()
        ours.wait()
        assert [p.pid for p in killing.marked(mark)] == [orphan]
        assert killing.kill_marked(mark) == 1
        assert eventually(lambda: not start_time(orphan))
        assert start_time(spared)
        assert killing.marked(mark) == []
    finally:
        for process in (ours, other):
            process.kill()
            process.communicate()
        os.kill(spared, signal.SIGKILL)


def test_it_never_kills_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    code = "import sys; from towline.benchmarks import killing; print(killing.kill_marked(sys.argv[1]))"
    mark = uuid.uuid4().hex
    said = subprocess.run(
        [sys.executable, "-c", code, mark], env={**os.environ, killing.MARK: mark}, capture_output=True, text=True
    )
    assert said.stdout == "0\n", said.stderr

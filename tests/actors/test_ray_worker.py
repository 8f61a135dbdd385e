"""A worker as a Ray actor: its supervisor stands beside it, what it writes is kept, and its death costs nobody an attempt."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest

import towline
from tests.kit.leaks import eventually
from towline import Flow, job
from towline.actors.identity import start_time
from towline.actors.supervisor import Orders

# The guard lives in a process of its own here: whoever holds its lease is killed when that ends.
GUARDED = """
import os, subprocess, sys, time
from towline.actors.ray_worker import SupervisorGuard
from towline.actors.supervisor import MARK
os.environ[MARK] = sys.argv[1]
guard = SupervisorGuard(sys.argv[1], 0.1)
assert guard.is_up() and guard.started > 0
assert guard.pid not in [int(p) for p in open(f"/proc/self/task/{os.getpid()}/children").read().split()]
child = subprocess.Popen(["sleep", "600"])
print(guard.pid, child.pid, flush=True)
def die(why): print(why, flush=True); os._exit(70)
for line in sys.stdin:
    exec(line)
"""


@pytest.fixture
def guarded() -> Iterator[tuple[subprocess.Popen[str], int, int]]:
    """A process with a guard; its supervisor; its child."""
    name = f"test-guarded-{os.getpid()}"
    process = subprocess.Popen(
        [sys.executable, "-c", GUARDED, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    )
    assert process.stdout is not None
    assert process.stdin is not None
    supervisor, child = map(int, process.stdout.readline().split())
    yield process, supervisor, child
    process.kill()
    process.wait()
    process.stdout.close()
    with suppress(BrokenPipeError):
        process.stdin.close()
    assert eventually(lambda: not start_time(supervisor) and not start_time(child)), "it left something behind"


def tell(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdin is not None
    process.stdin.write(line + "\n")
    process.stdin.flush()


def test_a_worker_that_is_killed_before_it_has_found_a_leader(guarded: tuple[subprocess.Popen[str], int, int]) -> None:
    process, supervisor, child = guarded
    process.kill()
    process.wait()
    assert eventually(lambda: not start_time(supervisor) and not start_time(child))


def test_the_supervisor_ends_a_worker_whose_lease_has_ended(guarded: tuple[subprocess.Popen[str], int, int]) -> None:
    process, _supervisor, child = guarded
    tell(process, "from towline.actors.clock import boottime; guard.extend(boottime() + 0.05); time.sleep(600)")
    assert process.wait(60) == -signal.SIGKILL
    assert eventually(lambda: not start_time(child))


def test_the_worker_does_not_outlive_its_supervisor(guarded: tuple[subprocess.Popen[str], int, int]) -> None:
    process, supervisor, child = guarded
    tell(process, "guard.watch(die); time.sleep(600)")
    os.kill(supervisor, signal.SIGKILL)
    assert process.wait(60) == 70
    assert process.stdout is not None
    assert process.stdout.readline() == "its supervisor is gone\n"
    os.kill(child, signal.SIGKILL)  # the actor itself does this, before it ends


def test_nor_its_lease_where_the_supervisor_is_frozen(guarded: tuple[subprocess.Popen[str], int, int]) -> None:
    process, supervisor, _child = guarded
    os.kill(supervisor, signal.SIGSTOP)
    tell(process, "from towline.actors.clock import boottime; guard.extend(boottime() + 0.05); guard.watch(die); time.sleep(600)")
    assert process.wait(60) == 70
    os.kill(supervisor, signal.SIGCONT)


def test_it_can_be_pointed_at_a_leader_when_nobody_is_there_to_hear(guarded: tuple[subprocess.Popen[str], int, int]) -> None:
    process, supervisor, child = guarded
    os.kill(supervisor, signal.SIGKILL)
    tell(process, "time.sleep(0.1); from towline.actors.endpoint import Endpoint")
    tell(process, "for n in range(9): guard.point_at(Endpoint('/s', 't', 1, 1, 1.0, 'h', 'b', 'n'))")
    tell(process, "print(guard.is_up(), flush=True)")
    assert process.stdout is not None
    assert process.stdout.readline() == "False\n"
    os.kill(child, signal.SIGKILL)


def test_the_supervisor_learns_how_often_the_leader_wants_to_hear(
    guarded: tuple[subprocess.Popen[str], int, int], tmp_path: Path
) -> None:
    process, _supervisor, _child = guarded
    orders = tmp_path / "orders"
    tell(process, f"pipe, guard._shell.stdin = guard._shell.stdin, open({str(orders)!r}, 'wb')")
    tell(process, "guard.obey(3, 0.1); guard.obey(4, 0.7); guard.obey(4, 0.7)")
    tell(process, "guard._shell.stdin.close(); guard._shell.stdin = pipe; print(guard._lease.epoch, flush=True)")
    assert process.stdout is not None
    assert process.stdout.readline() == "4\n"
    [said] = [msgspec.json.decode(line, type=Orders) for line in orders.read_bytes().splitlines()]
    assert (said.touch_s, said.pid) == (0.7, process.pid), "told once, when it has changed"


# ------------------------------------------------------------------------------------------------------------- runs


@job
def once(folder: str, number: int) -> int:
    """The first execution of number 0 waits to be killed, the second one for the word `go`."""
    import time

    with Path(folder, "ran").open("a") as log:
        log.write(f"{number} {os.getpid()}\n")
    if number == 0 and len([line for line in Path(folder, "ran").read_text().splitlines() if line.startswith("0 ")]) == 1:
        Path(folder, "child").write_text(str(subprocess.Popen(["sleep", "600"], start_new_session=True).pid))
        time.sleep(600)
    while number == 0 and not Path(folder, "go").exists():
        time.sleep(0.01)
    return number


@pytest.mark.ray
def test_killed_with_jobs_in_its_hands_they_run_again_uncharged(tmp_path: Path, local_ray: None) -> None:
    made = [once(str(tmp_path), number) for number in range(20)]  # retries=0: one that was charged would have failed
    with towline.submit(Flow(made), store=tmp_path / "store", workers=2) as run:
        ran = tmp_path / "ran"
        assert eventually(lambda: ran.exists() and (tmp_path / "child").exists(), 60)
        victim = next(int(line.split()[1]) for line in ran.read_text().splitlines() if line.startswith("0 "))
        assert eventually(lambda: (tmp_path / "child").read_text() != "")
        child = int((tmp_path / "child").read_text())
        assert start_time(child)
        os.kill(victim, signal.SIGKILL)
        assert eventually(lambda: [line[:2] for line in ran.read_text().splitlines()].count("0 ") == 2, 60)
        assert not start_time(child)  # it was killed before its job was given to another
        # a new worker takes the place of the one that died
        assert eventually(lambda: run.status()["workers"] == 2, 60)
        (tmp_path / "go").touch()
        assert run.wait() == "completed"
        assert [run.output(one) for one in made] == list(range(20))
        lines = [line.split() for line in ran.read_text().splitlines()]
        assert [pid for number, pid in lines if number == "0"][-1] != str(victim)
        assert {info.attempts for info in run.jobs()} <= {0, 1}


@pytest.mark.ray
def test_what_bodies_write_is_kept_and_functions_travel_by_value(tmp_path: Path, local_ray: None) -> None:
    secret = os.urandom(4).hex()

    @job
    def closure(number: int) -> Any:
        import ctypes

        print("python", number)
        ctypes.CDLL(None).write(1, b"c\n", 2)
        subprocess.run(["sh", "-c", "echo child; echo wrong >&2"], check=True)
        return secret, os.getpid()

    main = sys.modules["__main__"].__dict__
    exec("def of_main(x):\n    return helper_of_main(x) * 2\ndef helper_of_main(x):\n    return x + 1\n", main)
    main["of_main"].__module__ = main["helper_of_main"].__module__ = "__main__"
    try:
        one, two, three = closure(5), job(main["of_main"])(20), job(lambda x: x.upper())("a")
        with towline.submit([one, two, three], store=tmp_path / "store", workers=1) as run:
            assert run.wait() == "completed"
            word, pid = run.output(one)
            assert word == secret
            assert pid != os.getpid()
            assert (run.output(two), run.output(three)) == (42, "A")
            logs = run.logs(one)
            assert (logs.stdout, logs.stderr) == ("python 5\nc\nchild\n", "wrong\n")
    finally:
        del main["of_main"], main["helper_of_main"]

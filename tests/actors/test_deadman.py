"""A kernel timer kills the process at the deadline, whatever it does, and does nothing once it is disarmed."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

HEAD = """
import time
from towline.actors.clock import boottime
from towline.actors.deadman import DeadMan
def go_on(): return time.sleep(0.3), print("alive", flush=True)
"""


def ran(code: str) -> tuple[int, str]:
    """Exit code and output of a program of its own."""
    said = subprocess.run([sys.executable, "-c", HEAD + code], stdout=subprocess.PIPE, text=True, timeout=120)
    return said.returncode, said.stdout


def test_it_kills_whatever_holds_the_interpreter() -> None:
    # one call into C that never lets go of the GIL; signals that Python would handle are ignored
    code = "import signal, re; signal.signal(signal.SIGALRM, signal.SIG_IGN); d = DeadMan(); d.set(boottime() + 0.1)\n"
    code += "print('armed', flush=True); re.match('(a*)*b', 'a' * 40)"
    assert ran(code) == (-signal.SIGKILL, "armed\n")


def test_a_deadline_that_has_passed_kills_at_once() -> None:
    assert ran("d = DeadMan(); d.set(boottime() - 5); time.sleep(60); print('alive')") == (-signal.SIGKILL, "")


@pytest.mark.parametrize(
    "act",
    [
        pytest.param("d.set(boottime() + 0.1); d.close()", id="closed"),
        pytest.param("d.set(boottime() + 0.1); d.close(); d.close()", id="closed twice"),
        pytest.param("d.set(boottime() + 0.1); d.set(0)", id="disarmed"),
        pytest.param("d.set(boottime() + 0.1); d.set(boottime() + 1000)", id="moved on"),
        pytest.param("d.close(); d.set(boottime() + 0.1)", id="set after close"),
        pytest.param("e = DeadMan(); d.set(boottime() + 0.1); e.set(boottime() + 0.1); e.close(); d.close()", id="two"),
        pytest.param("d.close(); e = DeadMan(); d.set(boottime() + 0.1)", id="the number used again"),
    ],
)
def test_it_leaves_alone(act: str) -> None:
    assert ran(f"d = DeadMan()\n{act}\ngo_on()") == (0, "alive\n")


def test_it_can_be_used_again_and_again() -> None:
    code = "for _ in range(300):\n d = DeadMan(); d.set(boottime() + 1000); d.close()\n"
    code += "print([line for line in open('/proc/self/timers')])"
    assert ran(code) == (0, "[]\n")


def test_a_child_process_does_not_inherit_it() -> None:
    code = "import os\nd = DeadMan(); d.set(boottime() + 0.2)\npid = os.fork()\nif not pid: time.sleep(0.4); os._exit(5)\n"
    code += "d.close(); print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))"
    assert ran(code) == (0, "5\n")

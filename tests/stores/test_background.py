"""Blocking threads share one loop; nobody blocks a loop; a forked child has a loop of its own."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading

import pytest

from towline.stores import background


async def where():
    return asyncio.get_running_loop(), threading.current_thread()


def test_all_calls_run_in_one_loop_elsewhere():
    found = {background.run(where()) for _ in range(3)}
    threads = [threading.Thread(target=lambda: found.add(background.run(where()))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {(background.loop(), next(iter(found))[1])}
    assert next(iter(found))[1] is not threading.current_thread()


def test_errors_come_back():
    async def fail():
        raise ValueError("why")

    with pytest.raises(ValueError, match="why"):
        background.run(fail())


async def test_a_loop_is_not_blocked():
    with pytest.raises(RuntimeError, match="await the async method"):
        background.run(where())


def test_who_is_interrupted_takes_his_call_back(monkeypatch):
    begun, ended = threading.Event(), threading.Event()

    async def wait():
        try:
            begun.set()
            await asyncio.Event().wait()
        finally:
            ended.set()

    class Interrupted:
        def __init__(self, future):
            self.cancel = future.cancel

        def result(self):
            begun.wait()
            raise KeyboardInterrupt

    submit = asyncio.run_coroutine_threadsafe
    monkeypatch.setattr(asyncio, "run_coroutine_threadsafe", lambda *args: Interrupted(submit(*args)))
    with pytest.raises(KeyboardInterrupt):
        background.run(wait())
    assert ended.wait(60)


def test_a_forked_child_has_a_loop_of_its_own():
    background.run(where())
    pid = os.fork()
    if not pid:
        try:
            background.run(where())
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


ENDING = """
from towline.stores import background

async def client():
    try:
        yield
    finally:
        print("closed")

async def work():
    global held
    held = client()
    await anext(held)

background.run(work())
print("ending")
"""


def test_the_end_of_the_process_closes_what_is_open():
    ended = subprocess.run([sys.executable, "-c", ENDING], capture_output=True, text=True, timeout=60)
    assert (ended.stdout, ended.stderr) == ("ending\nclosed\n", "")

"""Whole runs in this process: what they do, what ends them, and that nothing of them stays behind."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.kit.leaks import eventually, nothing_left
from towline import Flow, job
from towline.actors import inprocess, service
from towline.actors.config import LeaderConfig
from towline.actors.inprocess import LocalLeader
from towline.engine import codec
from towline.engine.errors import FencedError, TowlineError, UsageError
from towline.engine.flows import compile_flow
from towline.stores.errors import StoreLocked, StoreMissing

bodies: dict[str, Callable[[], Any]] = {}
"""What the job `call` does, by name."""


@job
def add(a: int, b: int) -> int:
    return a + b


@job(retries=2, backoff_s=0.01)
def call(name: str, _after: Any = None) -> Any:
    return bodies[name]()


@job
async def nap(value: int) -> int:
    import asyncio

    await asyncio.sleep(0)
    return value


@pytest.fixture(autouse=True)
def tidy() -> Iterator[None]:
    add(1, 1)  # what is loaded at first use is not left behind
    with nothing_left():
        yield
    bodies.clear()


@contextmanager
def leading(store: Path, flow: Any = None, **options: Any) -> Iterator[LocalLeader]:
    leader = inprocess.start(str(store), create=flow is not None, config=LeaderConfig(**options))
    try:
        for chunk in compile_flow(flow) if flow is not None else []:
            leader.client.ask("submit", chunk)
        yield leader
    finally:
        leader.close()


def output(leader: LocalLeader, made: Any) -> Any:
    return codec.decode(leader.client.ask("output", {"uuid": made.uuid}))


def counts(leader: LocalLeader) -> dict[str, int]:
    found: dict[str, int] = leader.client.ask("status")["counts"]
    return found


def test_a_run_and_its_end(store_dir: Path) -> None:
    one = add(1, 2)
    two = add(one.output, 3)
    with leading(store_dir, Flow([one, two])) as leader:
        leader.run_jobs_until_idle()
        assert (output(leader, two), counts(leader)) == (6, {"completed": 2})
        leader.run_jobs_until_idle()  # nothing is left
        client = leader.client
    leader.close()
    with pytest.raises(ConnectionError):
        client.ask("status")
    leader.run_jobs_until_idle()
    with leading(store_dir) as again:
        assert again.client.ask("status")["epoch"] == 2
        assert output(again, two) == 6


def test_nothing_to_run(store_dir: Path) -> None:
    with leading(store_dir, Flow([])) as leader:
        leader.run_jobs_until_idle()
        status = leader.client.ask("status")
        assert (status["state"], status["total"], len(status["flows"])) == ("completed", 0, 1)


def test_bodies_that_are_async_leave_nothing(store_dir: Path) -> None:
    made = [nap(n) for n in range(5)]
    with leading(store_dir, Flow(made)) as leader:
        leader.run_jobs_until_idle()
        assert [output(leader, one) for one in made] == list(range(5))


def test_it_is_tried_again_after_a_pause_and_then_not(store_dir: Path) -> None:
    tries: list[str] = []

    def third_time() -> str:
        tries.append("third")
        if tries.count("third") < 3:
            raise ValueError("not yet")
        return "at last"

    def never() -> None:
        tries.append("never")
        raise ValueError("no")

    bodies.update(third=third_time, never=never)
    good, bad, other = call("third"), call("never"), add(1, 1)
    child = call("third", bad.output)
    with leading(store_dir, Flow([good, bad, other, child])) as leader:
        leader.run_jobs_until_idle()
        assert output(leader, good) == "at last"
        assert counts(leader) == {"completed": 2, "failed": 1, "waiting": 1}
        [failed] = leader.client.ask("jobs", {"states": ["failed"], "limit": 10})
        assert (failed["attempts"], failed["kind"], failed["message"]) == (3, "error", "ValueError: no")
        assert leader.client.ask("jobs", {"states": ["completed"], "limit": 10})[0]["attempts"] in (0, 1, 2, 3)
    assert (tries.count("third"), tries.count("never")) == (3, 3)


def test_what_a_body_writes_is_kept_and_shown(store_dir: Path, capfd: pytest.CaptureFixture[str]) -> None:
    bodies["speak"] = lambda: print("out") or print("err", file=sys.stderr)
    made = call("speak")
    with leading(store_dir, Flow([made])) as leader:
        leader.run_jobs_until_idle()
        assert leader.client.ask("logs", {"uuid": made.uuid}) == {"stdout": b"out\n", "stderr": b"err\n"}
    assert capfd.readouterr() == ("out\n", "err\n")


def test_around_and_raise_immediately(store_dir: Path) -> None:
    seen: list[Any] = []

    @contextmanager
    def around(name: str, uuid: str, index: int) -> Iterator[None]:
        seen.append((name, uuid, index))
        yield

    def fail() -> None:
        raise LookupError("let out")

    bodies["fail"] = fail
    good, bad = add(1, 1), call("fail")
    flow = Flow([good, bad], order="linear")
    with leading(store_dir, flow) as leader, pytest.raises(LookupError, match="let out"):
        leader.run_jobs_until_idle(around=around, raise_immediately=True)
    assert seen == [("add", good.uuid, 1), ("call", bad.uuid, 1)]
    with leading(store_dir) as leader:
        assert counts(leader)["completed"] == 1


def test_ctrl_c_in_a_body_is_no_fault_of_the_job(store_dir: Path) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    bodies["once"] = interrupt
    made = call("once")
    with leading(store_dir, Flow([made])) as leader, pytest.raises(KeyboardInterrupt):
        leader.run_jobs_until_idle()
    bodies["once"] = lambda: "done"
    with leading(store_dir) as leader:
        assert leader.client.ask("status")["leader"]["closed"] is False
        leader.run_jobs_until_idle()
        assert output(leader, made) == "done"


def test_a_store_that_cannot_be_led_leaves_nothing(store_dir: Path) -> None:
    with pytest.raises(StoreMissing):
        inprocess.start(str(store_dir))
    with leading(store_dir, Flow([add(1, 1)])):
        with pytest.raises(StoreLocked, match=f"process {os.getpid()}"):
            inprocess.start(str(store_dir))
        with pytest.raises(StoreLocked):
            inprocess.start(str(store_dir), create=True)


class Background:
    """Runs jobs in a thread beside the test."""

    def __init__(self, leader: LocalLeader) -> None:
        self.result: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()
        self.thread = threading.Thread(target=self._run, args=(leader,))
        self.thread.start()

    def _run(self, leader: LocalLeader) -> None:
        try:
            leader.run_jobs_until_idle()
        except BaseException as error:
            self.result.put(error)
        else:
            self.result.put(None)

    def ended(self) -> BaseException | None:
        error = self.result.get(timeout=60)
        self.thread.join(60)
        return error


@pytest.fixture
def held() -> tuple[threading.Event, threading.Event]:
    """`call("held")` sets the first and waits for the second."""
    began, gate = threading.Event(), threading.Event()

    def body() -> str:
        began.set()
        assert gate.wait(60)
        return "let go"

    bodies["held"] = body
    return began, gate


def test_close_waits_for_the_body_that_runs_and_keeps_what_it_came_to(
    store_dir: Path, held: tuple[threading.Event, threading.Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "CLOSE_S", 0.01)  # not even then is it left alone
    began, gate = held
    made = call("held")
    with leading(store_dir, Flow([made, add(1, 1)], order="linear")) as leader:
        running = Background(leader)
        assert began.wait(60)
        closing = threading.Thread(target=leader.close)
        closing.start()
        closing.join(0.1)
        assert closing.is_alive()
        gate.set()
        closing.join(60)
        assert not closing.is_alive()
        assert running.ended() is None
    with leading(store_dir) as again:
        assert output(again, made) == "let go"
        assert counts(again)["completed"] == 1
        assert again.client.ask("status")["state"] == "running"


def test_cancel_while_a_body_runs(store_dir: Path, held: tuple[threading.Event, threading.Event]) -> None:
    began, gate = held
    made = call("held")
    with leading(store_dir, Flow([made, add(1, 1)], order="linear")) as leader:
        running = Background(leader)
        assert began.wait(60)
        told = leader.client.begin("cancel")
        assert eventually(lambda: leader._worker is not None and bool(leader._worker.core.refused))
        assert not told.done()
        gate.set()
        assert told.result(60)["stopped"] >= 1
        assert running.ended() is None
        assert leader.client.ask("status")["state"] == "stopped"


def test_a_leader_that_loses_its_store_ends_the_run(
    store_dir: Path, held: tuple[threading.Event, threading.Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "CHECK_S", 0.01)
    monkeypatch.setattr(service, "CLOSE_S", 0.01)  # the second one need not wait for the first one's worker
    began, gate = held
    with leading(store_dir, Flow([call("held"), add(1, 1)])) as leader:
        running = Background(leader)
        assert began.wait(60)
        waiting = leader.client.begin("wait", {"timeout_s": 3600.0})
        other = inprocess.start(str(store_dir), takeover=True)
        try:
            with pytest.raises(FencedError):
                waiting.result(60)
            gate.set()
            assert isinstance(running.ended(), FencedError)
            assert "completed" not in counts(other) or counts(other)["completed"] == 1
        finally:
            other.close()
        leader.close()
        assert leader._guard is not None
        assert not leader._guard._timer._there


def test_even_before_its_worker_has_joined(store_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with leading(store_dir, Flow([add(1, 1)])) as leader:
        leader._loop.call_soon_threadsafe(leader._service.performer.over, TowlineError("the disk is gone"))
        with pytest.raises(TowlineError, match="the disk is gone"):
            leader.run_jobs_until_idle()


def test_whoever_asks_when_it_closes_is_told(store_dir: Path, held: tuple[threading.Event, threading.Event]) -> None:
    with leading(store_dir, Flow([call("held")])) as leader:
        client = leader.client
        answers: queue.SimpleQueue[Any] = queue.SimpleQueue()

        def ask() -> None:
            try:
                answers.put(client.ask("wait", {"timeout_s": 3600.0}))
            except (ConnectionError, UsageError) as error:
                answers.put(error)

        with pytest.raises(TimeoutError):
            client.ask("wait", {"timeout_s": 3600.0}, timeout_s=0.01)
        asking = threading.Thread(target=ask)
        asking.start()
        asking.join(0.05)
    asking.join(60)
    assert isinstance(answers.get(timeout=60), ConnectionError | UsageError | dict)


SCRIPT = """
import os, sys, time, towline
from towline import Flow, job
@job
def step(number, before):
    with open(sys.argv[2], "a") as log:
        log.write(f"{number}\\n")
    if number == 30 and sys.argv[1] == "run":
        time.sleep(600)
    return number + (before or 0)
def flow():
    steps = []
    for n in range(60):
        steps.append(step(n, steps[-1].output if steps else None))
    return Flow(steps)
if __name__ == "__main__":
    if sys.argv[1] == "run":
        towline.run(flow(), store=sys.argv[3], local=True, progress=False)
    else:
        run = towline.resume(sys.argv[3], local=True, progress=False)
        print(run.state, run.counts(), run.output(run.jobs(["completed"])[-1]))
"""


def test_kill_9_in_the_middle_and_resume(tmp_path: Path, store_dir: Path) -> None:
    script, log = tmp_path / "script.py", tmp_path / "log"
    script.write_text(SCRIPT)
    command = [sys.executable, str(script), "run", str(log), str(store_dir)]
    process = subprocess.Popen(command, cwd=tmp_path)
    assert eventually(lambda: log.exists() and "30\n" in log.read_text(), 60)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    command[2] = "resume"
    said = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert said.stdout == f"completed {{'completed': 60}} {sum(range(60))}\n", said.stderr
    ran = [int(line) for line in log.read_text().split()]
    assert sorted(set(ran)) == list(range(60))
    # what was executed twice was under way, or not yet durable, when it died: a piece at the end of the first part
    first, second = ran[: ran.index(30) + 1], ran[ran.index(30) + 1 :]
    assert first == list(range(31))
    assert second == list(range(second[0], 60))
    assert second[0] <= 30


LEASE = """
import sys, time
from towline import Flow, job
from towline.actors import inprocess
from towline.actors.config import LeaderConfig
from towline.engine.flows import compile_flow
@job
def body():
    {body}
leader = inprocess.start(sys.argv[1], create=True, config=LeaderConfig(lease_s=0.6, touch_s=0.1))
time.sleep({idle})
for chunk in compile_flow(Flow([body()])):
    leader.client.ask("submit", chunk)
leader.run_jobs_until_idle()
print(leader.client.ask("status")["counts"], flush=True)
leader.close()
time.sleep({after})
print("alive", flush=True)
"""


@pytest.mark.parametrize(
    ("body", "idle", "after"), [("time.sleep(1.2)", 0, 0), ("pass", 1.2, 0), ("pass", 0, 1.2)], ids=["busy", "idle", "closed"]
)
def test_a_lease_is_kept_while_it_is_needed_and_kills_nobody_after(store_dir: Path, body: str, idle: float, after: float) -> None:
    code = LEASE.format(body=body, idle=idle, after=after)
    said = subprocess.run([sys.executable, "-c", code, str(store_dir)], capture_output=True, text=True, timeout=120)
    assert said.stdout == "{'completed': 1}\nalive\n", said.stderr


def test_a_body_that_keeps_the_interpreter_to_itself_is_killed_with_its_lease(store_dir: Path) -> None:
    code = LEASE.format(body="import re; re.match('(a*)*b', 'a' * 40)", idle=0, after=0)
    said = subprocess.run([sys.executable, "-c", code, str(store_dir)], capture_output=True, text=True, timeout=120)
    assert (said.returncode, said.stdout) == (-signal.SIGKILL, "")
    with leading(store_dir) as leader:
        assert counts(leader) in ({"ready": 1}, {"leased": 1})

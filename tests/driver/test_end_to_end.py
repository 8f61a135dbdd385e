"""Real runs in this process, from the call to the answer: nothing is faked here, and no Ray is started."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

import towline
from towline import Flow, Response, RunFailed, UsageError, job, offline
from towline.control import Run

gates: dict[str, threading.Event] = {}
"""Events that jobs of this process wait for, by name."""


@job
def add(a: int, b: int) -> int:
    print("adding", a, b)
    return a + b


@job
def fail(word: str) -> None:
    raise ValueError(word)


@job
def big(count: int) -> list[str]:
    return [f"line {n}" for n in range(count)]


@job
def grow(count: int) -> Any:
    return Response(replace=Flow([add(n, n) for n in range(count)]))


begun = threading.Event()


@job
def hold(name: str) -> str:
    begun.set()
    gates[name].wait(60)
    return name


@job(release="committed")
def after(name: str) -> str:
    return name


@pytest.fixture(autouse=True)
def quiet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TOWLINE_PROGRESS", "0")
    monkeypatch.setenv("TOWLINE_LOCAL", "1")


def test_a_run_and_what_it_tells() -> None:
    one = add(1, 2)
    two = add(one.output, 3)
    run = towline.run(Flow([one, two]), store="runs/first")
    assert (run.state, run.counts()) == ("completed", {"completed": 2})
    assert (run.output(two), run.output(one.uuid), run.output(two.output)) == (6, 3, 6)
    assert run.logs(two).stdout == "adding 3 3\n"
    assert run.failures() == []
    assert towline.connect("runs/first").output(two) == 6
    assert towline.resume("runs/first").counts() == {"completed": 2}
    assert run.status()["store"] == str(Path("runs/first").absolute())


def test_the_same_flow_again_is_told_to_resume() -> None:
    flow = Flow([add(1, 2)], name="twice")
    towline.run(flow)
    with pytest.raises(UsageError, match=r"the store .towline/twice already holds this flow.*resume"):
        towline.run(flow)
    other = towline.run(Flow([add(1, 2)], name="twice"))
    assert other.store.startswith(".towline/twice-")


def test_a_failure_has_its_traceback_and_its_children_wait() -> None:
    bad, good = fail("no such luck"), add(1, 2)
    child = add(bad.output, 1)
    with pytest.raises(RunFailed) as caught:
        towline.run([bad, child, good], store="runs/x")
    assert "1 of 3 jobs failed in runs/x, and 1 wait" in str(caught.value)
    assert "ValueError: no such luck" in str(caught.value)
    run = towline.connect("runs/x")
    assert (run.state, run.counts()) == ("failed", {"waiting": 1, "completed": 1, "failed": 1})
    [info] = run.failures()
    assert (info.uuid, info.index, info.name, info.kind, info.attempts) == (bad.uuid, 1, "fail", "error", 1)
    assert info.message == "ValueError: no such luck"
    assert "raise ValueError(word)" in info.traceback
    with pytest.raises(UsageError, match="has no output"):
        run.output(child)


def test_a_large_output_comes_back_from_its_file() -> None:
    made = big(50_000)
    run = towline.run(made, store="runs/x")
    assert run.output(made) == [f"line {n}" for n in range(50_000)]
    assert run.output(made.output[7]) == "line 7"


def test_a_flow_that_grows() -> None:
    parent = grow(3)
    run = towline.run(parent, store="runs/x")
    assert run.counts() == {"completed": 4}
    assert {info.name for info in run.jobs()} == {"grow", "add"}


def test_a_run_out_of_time_goes_on_with_resume(monkeypatch: pytest.MonkeyPatch) -> None:
    from towline.actors.inprocess import LocalClient

    gates["late"] = threading.Event()
    begin = LocalClient.begin

    def beginning(self: LocalClient, verb: str, payload: Any = None) -> Any:
        if verb == "close":
            gates["late"].set()
        return begin(self, verb, payload)

    # the job is held until the deadline has passed and the run is about to be closed
    monkeypatch.setattr(LocalClient, "begin", beginning)
    held, after = hold("late"), add(1, 2)
    with pytest.raises(TimeoutError, match=r"towline\.resume"):
        towline.run(Flow([held, after], order="linear"), store="runs/x", timeout_s=0.2)
    assert gates["late"].is_set()
    run = towline.resume("runs/x")
    assert (run.state, run.output(after), run.output(held)) == ("completed", 3, "late")


def test_submit_goes_on_beside_us_and_another_process_can_attach() -> None:
    gates["beside"] = threading.Event()
    held = hold("beside")
    run = towline.submit(held, store="runs/x")
    try:
        assert run.wait(timeout_s=0.0) == "running"
        said = subprocess.run([sys.executable, "-m", "towline", "status", "runs/x", "--json"], capture_output=True, text=True)
        assert json.loads(said.stdout)["state"] == "running", said.stderr
        said = subprocess.run([sys.executable, "-m", "towline", "resume", "runs/x"], capture_output=True, text=True)
        assert said.returncode == 2
        assert "is being led by process" in said.stderr
    finally:
        gates["beside"].set()
    assert run.wait() == "completed"
    assert run.output(held) == "beside"


def test_cancel_from_another_process_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    from towline.actors.service import LeaderService

    gates["cancelled"] = threading.Event()
    ask = LeaderService.ask

    async def asking(self: LeaderService, verb: str, payload: Any = None) -> Any:
        answer = asyncio.ensure_future(ask(self, verb, payload))
        if verb == "cancel":
            # a body in this process cannot be killed: it ends, its outcome counts, and then the rest is stopped and that is told
            await asyncio.sleep(0)
            gates["cancelled"].set()
        return await answer

    monkeypatch.setattr(LeaderService, "ask", asking)
    held = hold("cancelled")
    begun.clear()
    run = towline.submit([held, after(held.output)], store="runs/x")
    assert begun.wait(60)
    code = "import towline; print(towline.connect('runs/x').cancel())"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert said.stdout == "1\n", said.stderr
    assert run.wait() == "stopped"
    assert run.counts() == {"completed": 1, "stopped": 1}
    assert towline.resume("runs/x").state == "stopped"


SCRIPT = """
import sys, time, towline
@towline.job
def nap(n):
    print("begun", flush=True)
    time.sleep(60 if n == 1 else 0)
towline.run([nap(0), nap(1)], store="runs/x", local=True)
"""


def test_ctrl_c_in_a_script_leaves_a_run_that_resumes_at_once() -> None:
    Path("nap.py").write_text(SCRIPT)
    process = subprocess.Popen(
        [sys.executable, "-m", "towline", "run", "nap.py"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        # a shell that runs the tests in the background has Ctrl-C ignored, and its children inherit that
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    assert process.stdout.readline() == "begun\n"
    process.send_signal(signal.SIGINT)
    _out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "towline resume runs/x" in err
    status = towline.connect("runs/x").status()
    assert (status["state"], status["leader"]["closed"]) == ("interrupted", True)
    assert status["counts"]["completed"] == 1
    # Ctrl-C is no fault of the job's
    assert "failed" not in status["counts"]


async def test_inside_an_event_loop() -> None:
    one = add(1, 2)
    run = towline.run(one, store="runs/x")
    assert run.output(one) == 3
    assert run.logs(one).stdout == "adding 1 2\n"
    ran = await asyncio.gather(towline.arun(add(3, 4), store="runs/y"))
    assert ran[0].state == "completed"
    big_one = big(50_000)
    assert len(towline.run(big_one, store="runs/z").output(big_one)) == 50_000


def test_run_locally_answers_like_jobflow(tmp_path: Path) -> None:
    @job
    def where() -> str:
        return os.getcwd()

    one, here = add(1, 2), where()
    bad = fail("no")
    answer = towline.run_locally([one, add(one.output, 3), here, bad], log=False, create_folders=True, root_dir="work")
    assert answer[one.uuid][1].output == 3
    assert bad.uuid not in answer
    assert Path(answer[here.uuid][1].output).parent == tmp_path / "work"
    assert len(list((tmp_path / "work").iterdir())) == 4
    with pytest.raises(ValueError, match="let out"):
        towline.run_locally(fail("let out"), log=False, raise_immediately=True)


def test_a_cold_start_loads_nothing_that_it_does_not_need() -> None:
    code = (
        "import sys, towline\n@towline.job\ndef add(a, b): return a + b\n"
        "one = add(1, 2)\nrun = towline.run(one, local=True)\nassert run.output(one) == 3\n"
        "print(sorted({'ray', 'numpy', 'pyarrow', 'pandas', 'rich', 'typer', 'pydantic', 'networkx'} & {*sys.modules}))"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TOWLINE_")}
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert said.stdout == "[]\n", said.stderr


@pytest.mark.parametrize("verb", [towline.resume, towline.connect])
def test_what_cannot_be_resumed_says_so_in_one_sentence(verb: Any, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no store at"):
        verb("nothing")
    Path("letters").mkdir()
    Path("letters/to a friend").touch()
    with pytest.raises(UsageError, match="is not a towline store"):
        verb("letters")
    towline.run(add(1, 2), store="runs/x")
    mark = Path("runs/x/towline.json")
    mark.write_text(json.dumps(json.loads(mark.read_text()) | {"format": 99}))
    offline.forget("runs/x")
    with pytest.raises(UsageError, match="upgrade towline"):
        verb("runs/x")


def test_what_cannot_be_handed_in_leaves_no_store() -> None:
    class Unspeakable:
        def __reduce__(self) -> Any:
            raise TypeError("cannot be pickled")

    with pytest.raises(UsageError, match="a"):
        towline.run(add(Unspeakable(), 1), store="runs/x")  # type: ignore[arg-type]  # that is the test
    assert not Path("runs").exists()


def test_a_run_is_one_flow_of_its_store() -> None:
    bad = fail("no")
    with pytest.raises(RunFailed, match="1 of 1 jobs failed") as caught:
        towline.run(bad, store="runs/x")
    assert isinstance(caught.value.run, Run)
    one = add(1, 2)
    run = towline.run(one, store="runs/x")
    assert (run.state, run.counts(), run.failures()) == ("completed", {"completed": 1}, [])
    assert [info.uuid for info in run.jobs()] == [one.uuid]
    assert (caught.value.run.state, len(caught.value.run.failures())) == ("failed", 1)
    whole = towline.connect("runs/x")
    assert (whole.state, whole.counts()) == ("failed", {"completed": 1, "failed": 1})
    assert (run.output(one), whole.output(one)) == (3, 3)


@pytest.mark.ray
def test_on_ray_a_submitted_run_is_followed_from_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TOWLINE_LOCAL")
    one = add(1, 2)
    two = add(one.output, 3)
    with towline.submit([one, two], store="runs/x", workers=1) as run:
        code = (
            "import towline\nrun = towline.connect('runs/x')\nrun.wait()\n"
            f"print(run.state, run.output({two.uuid!r}), run.logs({two.uuid!r}).stdout, run.status()['leader']['closed'])"
        )
        said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert said.stdout == "completed 6 adding 3 3\n False\n", said.stderr
        assert run.wait() == "completed"
    assert towline.connect("runs/x").status()["leader"]["closed"]
    assert run.output(two) == 6

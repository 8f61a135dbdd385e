"""Scripts under `towline run`: they are `__main__`, their runs take the options, their errors are theirs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from tests.kit.fake_leader import FakeLeader
from towline import client, session
from towline.cli.main import build
from towline.orders import Order

FLOW = """
from towline import Flow, job
@job
def add(a, b):
    return a + b
flow = {flow}
"""


@pytest.fixture(autouse=True)
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Order]:
    """Runs that are asked for; nothing is run."""
    orders: list[Order] = []

    def start(order: Order) -> FakeLeader:
        orders.append(order)
        return FakeLeader()

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(session, "start", start)
    monkeypatch.setattr(session, "chunks_of", lambda flow, *_: iter([b"x" * len(list(flow.jobs))]))
    monkeypatch.setattr(client, "find", lambda _url: None)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "argv", list(sys.argv))
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])
    return orders


def towline(*args: str) -> Result:
    return CliRunner().invoke(build(), [*args])


def script(text: str) -> str:
    Path("script.py").write_text(text)
    return "script.py"


@pytest.mark.parametrize("flow", ["Flow([add(1, 2)])", "add(1, 2)", "[add(1, 2)]"])
def test_a_flow_that_is_left_is_run(stage: list[Order], flow: str) -> None:
    result = towline("run", script(FLOW.format(flow=flow)), "--store", "runs/x", "--workers", "3")
    assert result.exit_code == 0, result.output
    [order] = stage
    assert (order.store, order.workers, order.local) == ("runs/x", 3, False)


def test_a_script_that_runs_itself_is_not_run_twice(stage: list[Order]) -> None:
    text = FLOW.format(flow="add(1, 2)") + "import towline\ntowline.run(flow, name='mine')\n"
    result = towline("run", script(text), "--local", "--takeover")
    assert result.exit_code == 0, result.output
    [order] = stage
    assert (order.store, order.local, order.takeover) == (".towline/mine", True, True)


def test_the_options_end_with_the_command(stage: list[Order]) -> None:
    towline("run", script(FLOW.format(flow="add(1, 2)")), "--store", "runs/x")
    assert session.settings.current().store is None


def test_a_script_sees_itself_as_main(stage: list[Order]) -> None:
    Path("beside.py").write_text("word = 'hello'\n")
    text = (
        "import sys, beside\n"
        "assert __name__ == '__main__' and __file__ == 'script.py'\n"
        "assert sys.modules['__main__'].__dict__ is globals()\n"
        "print(beside.word, sys.argv)\n"
        "from towline import *\n@job\ndef f(): pass\nassert f.original.__module__ == '__main__'\nflow = f()\n"
    )
    result = towline("run", script(text), "--store", "runs/x", "--", "a", "--store", "b")
    assert result.exit_code == 0, result.output
    assert "hello ['script.py', 'a', '--store', 'b']\n" in result.output
    assert stage[0].store == "runs/x"


@pytest.mark.parametrize("text", ["x = 1\n", "flow = []\n", "from towline import flow\n", "flow = 'text'\n"])
def test_a_script_without_a_run_is_told_so(text: str) -> None:
    result = towline("run", script(text))
    assert result.exit_code == 2
    assert "script.py neither started a run nor left a Flow" in result.stderr


def test_a_script_that_is_missing(tmp_path: Path) -> None:
    result = towline("run", "nothing.py")
    assert (result.exit_code, result.stderr) == (2, "towline: there is no script nothing.py\n")


def test_an_error_of_the_script_is_shown_from_the_script_on() -> None:
    result = towline("run", script("def f():\n    return 1 / 0\n\n\nf()\n"))
    assert result.exit_code == 1
    lines = result.stderr.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[1].endswith('script.py", line 5, in <module>')
    assert lines[-1] == "ZeroDivisionError: division by zero"


def test_a_script_may_choose_its_exit_code() -> None:
    assert towline("run", script("import sys\nsys.exit(7)\n")).exit_code == 7


def test_resume_takes_the_store_from_argument_option_or_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []

    def resume(store: str) -> Any:
        seen.append((store, session.settings.current().workers))
        return type("R", (), {"state": "completed", "status": lambda self: {"total": 3}})()

    monkeypatch.setattr(session, "resume", resume)
    assert towline("resume", "runs/a", "--workers", "2").output == "runs/a: completed, 3 jobs\n"
    towline("resume", "--store", "runs/b")
    monkeypatch.setenv("TOWLINE_STORE", "runs/c")
    towline("resume")
    assert seen == [("runs/a", 2), ("runs/b", None), ("runs/c", None)]

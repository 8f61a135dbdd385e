"""The command line as a whole: exit codes, sentences, help."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest
from typer.testing import CliRunner

from towline import CorruptionError, RunFailed, UsageError, session
from towline.cli.main import build


def towline(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "towline", *args], capture_output=True, text=True, env={**os.environ, "NO_COLOR": "1"}
    )


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (UsageError("no store there"), 2, "towline: no store there\n"),
        (RunFailed("1 of 2 jobs failed"), 1, "towline: 1 of 2 jobs failed\n"),
        (CorruptionError("journal/1.seg at 7"), 1, "towline: journal/1.seg at 7\n"),
        (TimeoutError("not ended after 5 s"), 1, "towline: not ended after 5 s\n"),
        (ConnectionError("hung up"), 1, "towline: the leader went away: hung up\n"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_errors_are_a_sentence_and_a_code(monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, said: str) -> None:
    def resume(*_args: Any, **_options: Any) -> None:
        raise error

    monkeypatch.setattr(session, "resume", resume)
    result = CliRunner().invoke(build(), ["resume", "runs/x"])
    assert result.exit_code == code
    assert result.stderr == said
    assert result.stdout == ""


def test_an_error_of_our_own_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def resume(*_args: Any, **_options: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(session, "resume", resume)
    assert isinstance(CliRunner().invoke(build(), ["resume", "runs/x"]).exception, ZeroDivisionError)


def test_help_tells_the_exit_codes_and_loads_no_ray() -> None:
    said = towline("resume", "--help")
    assert said.returncode == 0
    assert "130 Ctrl-C" in said.stdout
    code = "import sys; from towline.cli.main import build; build(); print({'ray', 'pyarrow', 'numpy'} & {*sys.modules})"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"


def test_an_unknown_command_is_a_usage_error() -> None:
    assert towline("fly").returncode == 2


def test_a_missing_store_is_a_usage_error() -> None:
    said = towline("resume")
    assert (said.returncode, said.stdout) == (2, "")
    assert said.stderr == "towline: no store was named: give its path, --store, or set TOWLINE_STORE\n"

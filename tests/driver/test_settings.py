"""Where defaults come from, and in which order."""

from __future__ import annotations

import subprocess
import sys

import pytest

from towline import settings
from towline.engine.errors import UsageError


def test_nothing_given_is_the_defaults() -> None:
    assert settings.current() == settings.Settings()


def test_the_environment_is_read_and_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOWLINE_STORE", "runs/env")
    monkeypatch.setenv("TOWLINE_WORKERS", "3")
    monkeypatch.setenv("TOWLINE_PROGRESS", "0")
    monkeypatch.setenv("TOWLINE_ADDRESS", "")
    given = settings.current()
    assert (given.store, given.workers, given.progress, given.address) == ("runs/env", 3, False, None)
    monkeypatch.setenv("TOWLINE_WORKERS", "many")
    with pytest.raises(UsageError, match="TOWLINE_WORKERS='many'"):
        settings.current()


def test_the_command_line_is_stronger_than_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOWLINE_STORE", "runs/env")
    monkeypatch.setenv("TOWLINE_WORKERS", "3")
    with settings.override(store="runs/option", workers=None, local=False):
        assert settings.current().store == "runs/option"
        assert settings.current().workers == 3
        with settings.override(store="runs/inner"):
            assert settings.current().store == "runs/inner"
        assert settings.current().store == "runs/option"
    assert settings.current().store == "runs/env"


def test_times_of_leases_reach_the_leader(monkeypatch: pytest.MonkeyPatch) -> None:
    from towline.actors.config import LeaderConfig

    assert settings.leader_config() == LeaderConfig()
    monkeypatch.setenv("TOWLINE_LEASE_S", "8")
    assert settings.leader_config() == LeaderConfig(lease_s=8.0, touch_s=2.0)
    monkeypatch.setenv("TOWLINE_TOUCH_S", "1")
    assert settings.leader_config() == LeaderConfig(lease_s=8.0, touch_s=1.0)
    monkeypatch.setenv("TOWLINE_TOUCH_S", "8")
    with pytest.raises(UsageError, match=r"a lease of 8\.0 s cannot be kept by touches every 8\.0 s"):
        settings.leader_config()


def test_how_long_a_commit_may_be_put_off_reaches_the_leader(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOWLINE_COMMIT_DELAY_MS", "0")
    assert settings.leader_config().commit_delay_ms == 0.0
    monkeypatch.setenv("TOWLINE_COMMIT_DELAY_MS", "-1")
    with pytest.raises(UsageError, match="commit_delay_ms must be 0 or more"):
        settings.leader_config()


def test_without_variables_nothing_heavy_is_loaded() -> None:
    code = "import sys; from towline import settings; settings.current(); print('pydantic' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout == "False\n"

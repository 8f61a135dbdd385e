"""The product under the simulator: nothing is found in 500 seeds, every planted bug is, and a seed decides everything."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation import run
from tests.simulation.planted import PLANTED
from tests.simulation.scenario import simulate

ROOT = Path(__file__).resolve().parents[2]
SEEDS = range(500)
PROCESSES = min(2, os.cpu_count() or 1)
RULES = [f"R{number}" for number in range(1, 12)]


def told(seed: int) -> str:
    """A digest of everything that happened in a seed."""
    result = simulate(seed, trace=True)
    return hashlib.sha256("\n".join([*result.story, repr(sorted(result.counts.items()))]).encode()).hexdigest()


def test_500_seeds_find_nothing_and_meet_every_fault_and_rule(capsys: pytest.CaptureFixture[str]) -> None:
    found, counts = run.prove(SEEDS, PROCESSES)
    assert not found, capsys.readouterr().out
    assert [name for name in run.COVERED if not counts[name]] == []


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_bug_is_found(name: str) -> None:
    found = run.hunt(name, SEEDS, PROCESSES)
    assert found is not None, f"no seed of {len(SEEDS)} finds {name}"
    assert found.violation
    assert found.story, "a violation is told with its story"


def test_every_rule_has_a_planted_bug() -> None:
    assert {name.split("-")[0] for name in PLANTED} >= set(RULES)


@pytest.mark.parametrize("seed", [3, 17, 41])
def test_a_seed_is_told_alike_twice(seed: int) -> None:
    assert told(seed) == told(seed)


def test_a_seed_is_told_alike_by_another_process_with_other_hashes() -> None:
    """Sets of strings are walked in another order there; the trace must not show it."""
    script = "from tests.simulation.test_simulation import told; print([told(seed) for seed in range(12)])"
    traces = {
        subprocess.run(
            [sys.executable, "-c", script],
            cwd=ROOT,
            env=os.environ | {"PYTHONHASHSEED": hashes},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hashes in ("1", "2")
    }
    assert len(traces) == 1


def test_a_violation_prints_its_seed_and_the_command_that_replays_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = run.hunt("R7-revoke", SEEDS, 1)
    assert found is not None
    words = run.replay(found.seed, "R7-revoke").split()
    assert words[:3] == ["python", "-m", "tests.simulation.run"]
    monkeypatch.setattr(sys, "argv", words[2:])
    assert run.main() == 1
    assert found.violation in capsys.readouterr().out
    assert f"--seed {found.seed} " in run.told(found, "R7-revoke", 20)


def test_a_bug_that_is_not_found_fails_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["run", "--planted", "R11-file", "--seeds", "0", "--jobs", "1"])
    assert run.main() == 1

"""The harness with peers that cost nothing, on a clock that the test turns; and once for real, at toy size, on Ray."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from towline.benchmarks import harness, report, shapes
from towline.benchmarks.peers.base import WrongOutcome
from towline.benchmarks.shapes import Shape


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Pretender:
    """Takes as long as it is told, for each verb, and says what it was asked."""

    durability = "none"

    def __init__(self, name: str, clock: Clock, said: list[str], *, run_s: float = 1.0, wrong: bool = False) -> None:
        self.name, self._clock, self._said, self._run_s, self._wrong = name, clock, said, run_s, wrong

    def _take(self, what: str, seconds: float) -> None:
        self._said.append(f"{self.name} {what}")
        self._clock.now += seconds

    def settle(self) -> None:
        self._take("settle", 100)

    def build(self, shape: Shape) -> str:
        self._take("build", 0.25)
        return "built"

    def run(self, shape: Shape, built: Any) -> str:
        assert built == "built"
        self._take(f"run {shape.name}", self._run_s)
        return "ran"

    def check(self, shape: Shape, built: Any, ran: Any) -> int:
        assert ran == "ran"
        self._take("check", 100)
        if self._wrong:
            raise WrongOutcome("a job is missing")
        return shape.jobs


def test_only_the_run_is_on_the_run_s_clock() -> None:
    clock = Clock()
    [found] = harness.measure([shapes.flat(10)], [Pretender("a", clock, [])], 2, clock=clock)
    assert found.build_s == [0.25, 0.25]
    assert found.run_s == [1.0, 1.0]
    assert found.outcomes_compared == 20


def test_peers_take_turns_and_the_order_turns_round() -> None:
    clock, said = Clock(), list[str]()
    peers = [Pretender("a", clock, said), Pretender("b", clock, said, run_s=2.0)]
    found = harness.measure([shapes.flat(10), shapes.chain(10)], peers, 2, clock=clock)
    assert [words for words in said if "run" in words] == [
        "a run flat", "b run flat", "a run chain", "b run chain", "b run flat", "a run flat", "b run chain", "a run chain"
    ]  # fmt: skip
    assert [(m.shape, m.peer, m.run_s) for m in found] == [
        ("flat", "a", [1.0, 1.0]), ("flat", "b", [2.0, 2.0]), ("chain", "a", [1.0, 1.0]), ("chain", "b", [2.0, 2.0])
    ]  # fmt: skip
    assert said[:4] == ["a settle", "a build", "a run flat", "a check"]


def test_a_wrong_outcome_ends_the_session() -> None:
    clock = Clock()
    with pytest.raises(WrongOutcome, match="a job is missing"):
        harness.measure([shapes.flat(10)], [Pretender("a", clock, [], wrong=True)], 2, clock=clock)


@pytest.mark.ray
def test_for_real_at_toy_size(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All shapes, towline beside bare Ray tasks, from the command line to the saved report."""
    out = tmp_path / "bench.json"
    sizes = ["--jobs", "40", "--chain", "20", "--repeats", "1"]
    code = harness.main([*sizes, "--shapes", "flat", "chain", "--out", str(out), "--stores", str(tmp_path / "stores")])
    assert code == 0, "a missed bar fails only where --gate asks for it"
    found = report.load(out)
    assert [(m.shape, m.jobs, m.peer) for m in found.results] == [
        ("flat", 40, "towline"), ("flat", 40, "Ray tasks"), ("chain", 20, "towline"), ("chain", 20, "Ray tasks")
    ]  # fmt: skip
    assert [m.outcomes_compared for m in found.results] == [25, 40, 20, 1]
    assert all(seconds > 0 for m in found.results for seconds in m.run_s)
    assert list((tmp_path / "stores").iterdir()) == [], "stores are removed"
    assert "x Ray" in capsys.readouterr().out

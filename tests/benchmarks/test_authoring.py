"""The authoring benchmark with peers on a clock that the test turns; and once for real, at toy size."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.benchmarks.test_harness import Clock, Pretender
from towline.benchmarks import authoring, report, shapes
from towline.benchmarks.authoring import Work

SIZES = ["--wide", "4", "--chain", "3", "--build", "6", "--resolve", "5", "--compared", "2", "--repeats", "1"]


def test_each_work_has_its_own_peers_and_their_order_turns_round() -> None:
    clock, said = Clock(), list[str]()
    one, other = Pretender("a", clock, said), Pretender("b", clock, said, run_s=2.0)
    works = [Work(shapes.flat(10), (one, other)), Work(shapes.chain(5), (one,))]
    found = authoring.measure(works, 2, clock=clock)
    assert [words for words in said if "run" in words] == [
        "a run flat", "b run flat", "a run chain", "b run flat", "a run flat", "a run chain"
    ]  # fmt: skip
    assert [(m.shape, m.jobs, m.peer, m.run_s) for m in found] == [
        ("flat", 10, "a", [1.0, 1.0]), ("flat", 10, "b", [2.0, 2.0]), ("chain", 5, "a", [1.0, 1.0])
    ]  # fmt: skip


def test_for_real_at_toy_size(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every work by every peer, from the command line to the saved report."""
    out = tmp_path / "authoring.json"
    assert authoring.main([*SIZES, "--out", str(out), "--stores", str(tmp_path / "stores")]) == 0
    found = report.load(out).authoring
    assert found is not None
    three = ("towline", report.LOCAL, report.QUICK)
    assert [(m.shape, m.jobs, m.peer) for m in found.results] == [
        *(("run wide", 4, peer) for peer in three),
        *(("run chain", 3, peer) for peer in three),
        *((name, 6, peer) for name in ("build", "build chain") for peer in three[:2]),
        *(("resolve", 2, peer) for peer in three),
        *(("resolve", 5, peer) for peer in (three[0], three[2])),
        *(("import", 1, peer) for peer in ("towline", "towline, API", "jobflow", "jobflow, API", "-c pass")),
    ]
    assert [m.outcomes_compared for m in found.results] == [4, 4, 4, 3, 3, 3, 6, 6, 6, 6, 2, 2, 2, 5, 5, 1, 1, 1, 1, 1]
    assert all(seconds > 0 for m in found.results for seconds in m.run_s)
    assert all(m.durability for m in found.results if m.shape.startswith(("run", "resolve")))
    assert list((tmp_path / "stores").iterdir()) == [], "stores are removed"
    assert "x jobflow" in capsys.readouterr().out

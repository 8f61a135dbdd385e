"""towline as a peer, without Ray: what it checks of its own runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from towline.benchmarks import shapes
from towline.benchmarks.peers.base import WrongOutcome
from towline.benchmarks.peers.durable import Towline


def test_it_runs_and_compares_and_clears_up(tmp_path: Path) -> None:
    settled: list[bool] = []
    peer = Towline(tmp_path, lambda: settled.append(True), "fsync", local=True)
    peer.settle()
    shape = shapes.stencil_1d(5, 8)
    built = peer.build(shape)
    ran = peer.run(shape, built)
    assert len(list(tmp_path.iterdir())) == 1
    assert peer.check(shape, built, ran) == 25
    assert list(tmp_path.iterdir()) == []
    assert settled == [True]


def test_missing_and_wrong_outcomes_are_found(tmp_path: Path) -> None:
    peer = Towline(tmp_path, lambda: None, "fsync", local=True)
    built = peer.build(shapes.chain(4))
    ran = peer.run(shapes.chain(4), built)
    with pytest.raises(WrongOutcome, match="5 jobs should have completed"):
        peer.check(shapes.chain(5), built, ran)
    with pytest.raises(WrongOutcome, match="job 1 put out 2, not 1"):
        peer.check(shapes.flat(4), built, ran)

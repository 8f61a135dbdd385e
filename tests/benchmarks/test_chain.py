"""A chain is killed half way and comes back: in one process, and on Ray. What comes out is checked, no time is."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kit.measured import MACHINE
from towline.benchmarks import chain
from towline.benchmarks.peers.base import WrongOutcome


def check(found: chain.ChainMeasured, root: Path) -> None:
    """What holds on any machine."""
    assert found.killed_at == found.jobs // 2
    # the gate holds the chain: what was acknowledged is kept, and nothing behind the gate can have run
    assert 0 <= found.kept <= found.killed_at
    assert found.leader_bytes > found.leader_empty_bytes
    assert found.store_bytes > found.jobs
    assert {path.name for path in root.iterdir()} == {"driver.err", "gate"}, "stores are removed"


def test_twenty_thousand_in_one_process(tmp_path: Path) -> None:
    check(chain.measure(20_000, tmp_path, MACHINE, local=True, small_jobs=200, small_repeats=1), tmp_path)


@pytest.mark.ray
def test_twenty_thousand_on_ray_and_on_from_there_without(tmp_path: Path) -> None:
    """That another Ray goes on is for the torture to show: each start of a Ray takes seconds."""
    check(chain.measure(20_000, tmp_path, MACHINE, restore_local=True, small_repeats=0), tmp_path)


def test_a_driver_that_fails_is_heard(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    driver = chain.Driver("none", tmp_path / "err", "--store", str(tmp_path / "file"), "--jobs", "3", "--local")
    driver.hears("built")
    with pytest.raises(WrongOutcome, match=r"expected 'leading'(.|\n)*is not a"):
        driver.hears("leading")
    with pytest.raises(WrongOutcome, match="the driver ended with 1"):
        driver.wait()
    driver.reap()

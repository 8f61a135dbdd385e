"""The peers of the authoring benchmark: what each of them checks of its own work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from towline.benchmarks import shapes
from towline.benchmarks.peers.base import WrongOutcome
from towline.benchmarks.peers.locally import (
    Api,
    Building,
    Importing,
    Resolving,
    ResolvingFromMemory,
    Running,
    of_jobflow,
    of_towline,
)

STENCIL = shapes.stencil_1d(3, 3)


@pytest.fixture(params=["towline", "jobflow", "quick"])
def api(request: pytest.FixtureRequest, tmp_path: Path) -> Api:
    return of_towline(tmp_path) if request.param == "towline" else of_jobflow(request.param == "quick")


def test_it_runs_and_compares_every_output(api: Api, tmp_path: Path) -> None:
    peer = Running("one", api, "")
    built = peer.build(STENCIL)
    ran = peer.run(STENCIL, built)
    with pytest.raises(WrongOutcome, match="9 responses came back"):
        peer.check(shapes.flat(10), built, ran)
    assert peer.check(STENCIL, built, ran) == 9
    assert list(tmp_path.iterdir()) == [], "its store is gone"


def test_a_wrong_output_is_found(api: Api) -> None:
    peer = Running("one", api, "")
    built = peer.build(shapes.chain(4))
    with pytest.raises(WrongOutcome, match="put out 2, not 1"):
        peer.check(shapes.flat(4), built, peer.run(shapes.chain(4), built))


def test_what_was_built_is_counted(api: Api) -> None:
    peer = Building("one", api, "")
    ran = peer.run(STENCIL, None)
    assert peer.check(STENCIL, None, ran) == 9
    with pytest.raises(WrongOutcome, match="10 jobs should have been built, but the flow has 9"):
        peer.check(shapes.flat(10), None, ran)


def test_outputs_of_another_flow_are_resolved(api: Api, tmp_path: Path) -> None:
    peer = Resolving("one", api, "")
    shape = shapes.flat(5)
    built = peer.build(shape)
    assert peer.run(shape, built) == 10
    with pytest.raises(WrongOutcome, match="put out 11, not 10"):
        peer.check(shape, built, 11)
    assert list(tmp_path.iterdir()) == []


def test_a_memory_store_is_filled_with_what_a_quick_one_has() -> None:
    peer = ResolvingFromMemory("one", of_jobflow(False), "")
    shape = shapes.flat(5)
    built: Any = peer.build(shape)
    assert built[0].count() == 5
    assert peer.check(shape, built, peer.run(shape, built)) == 5


def test_an_import_that_fails_has_no_time() -> None:
    shape = shapes.single()
    right, wrong = Importing("right", "import towline"), Importing("wrong", "raise SystemExit(3)")
    assert right.check(shape, None, right.run(shape, None)) == 1
    with pytest.raises(WrongOutcome, match="ended with 3"):
        wrong.check(shape, None, wrong.run(shape, None))

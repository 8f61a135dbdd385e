"""The baseline does the same work: every shape, on a Ray of its own."""

from __future__ import annotations

import pytest

from towline.benchmarks.peers.base import WrongOutcome
from towline.benchmarks.peers.ray_tasks import RayTasks, local_ray
from towline.benchmarks.shapes import SHAPES, chain, flat


@pytest.mark.ray
def test_all_shapes_come_out_right_and_wrong_ones_do_not() -> None:
    with local_ray(1):
        peer = RayTasks()
        peer.settle()
        for make in SHAPES.values():
            shape = make(20)
            built = peer.build(shape)
            assert peer.check(shape, built, peer.run(shape, built)) == len(shape.sinks())
        built = peer.build(chain(3))
        with pytest.raises(WrongOutcome, match="job 2 put out 3, not 1"):
            peer.check(flat(3), built, peer.run(chain(3), built))

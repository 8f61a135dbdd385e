"""Shapes are what they say, whoever runs them: the order of jobs, the levels, and towline's flow for each."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

import towline
from towline.benchmarks import shapes
from towline.benchmarks.shapes import SHAPES, Shape


@given(name=st.sampled_from(sorted(SHAPES)), size=st.integers(1, 200))
def test_inputs_come_before_and_are_as_many_as_the_jobs(name: str, size: int) -> None:
    shape = SHAPES[name](size)
    inputs = list(shape.inputs())
    assert len(inputs) == shape.jobs
    assert list(shape.inputs()) == inputs, "each call gives them anew"
    assert all(0 <= above < number for number, all_above in enumerate(inputs) for above in all_above)
    used = {number for above in inputs for number in above}
    assert shape.sinks() == sorted(set(range(shape.jobs)) - used)


@pytest.mark.parametrize(
    ("shape", "inputs", "levels"),
    [
        (shapes.single(), [()], [1]),
        (shapes.flat(3), [(), (), ()], [1, 1, 1]),
        (shapes.chain(3), [(), (0,), (1,)], [1, 2, 3]),
        (shapes.stencil_1d(3, 2), [(), (), (), (0, 1), (0, 1, 2), (1, 2)], [1, 1, 1, 2, 2, 2]),
        (shapes.fan(2), [(), (0,), (0,), (1, 2)], [1, 2, 2, 3]),
        (shapes.tree(5), [(), (), (), (), (), (0, 1), (2, 3), (4,), (5, 6), (7,), (8, 9)], [1] * 5 + [2] * 3 + [3] * 2 + [4]),
        (shapes.tree(1), [()], [1]),
    ],
    ids=lambda value: value.name if isinstance(value, Shape) else "",
)
def test_what_each_shape_is(shape: Shape, inputs: list[shapes.Inputs], levels: list[int]) -> None:
    assert list(shape.inputs()) == inputs
    assert shape.levels() == levels


@pytest.mark.parametrize("name", sorted(SHAPES))
def test_the_flow_of_a_shape_puts_out_its_levels(name: str, store_dir: object) -> None:
    shape = SHAPES[name](30)
    flow, jobs = shapes.flow_of(shape)
    run = towline.run(flow, store=str(store_dir), local=True, progress=False)
    assert run.counts() == {"completed": shape.jobs}
    assert [run.output(job) for job in jobs] == shape.levels()


def test_a_long_chain_is_described_without_recursion() -> None:
    assert shapes.chain(100_000).levels()[-1] == 100_000

"""What a function's jobs are taken to cost."""

from __future__ import annotations

from array import array

import pytest

from tests.kit.builders import FUNCTION, chunk, spec
from towline.engine import model
from towline.engine.ledger import Ledger
from towline.engine.prices import SAMPLE, Prices
from towline.engine.ropes import FLOOR_S, UNKNOWN_S


@pytest.fixture
def ledger() -> Ledger:
    """Rows 0..99 of function `key`, row 100 of the same by another spec, row 101 of function `other`."""
    made = Ledger()
    specs = [spec("a"), spec("b", release="committed"), spec("c", "other")]
    functions = [FUNCTION, model.Function("other", "m:g")]
    one = chunk(102, specs=specs, functions=functions, spec_of=[0] * 100 + [1, 2])
    made.apply(0, b"", model.Added(0, 0.0, one))
    return made


def seconds(values: list[float]) -> bytes:
    return array("f", values).tobytes()


def test_specs_of_one_function_share_a_price(ledger: Ledger) -> None:
    prices = Prices()
    prices.refresh(ledger)
    assert [prices.of(number) for number in range(3)] == [UNKNOWN_S] * 3
    assert prices.function_of == [0, 0, 1]
    assert prices.tows == [True, False, True]
    prices.learn(ledger, [0], seconds([2.0]))
    assert [prices.of(number) for number in range(3)] == [2.0, 2.0, UNKNOWN_S]


def test_the_first_frame_counts_fully_and_each_later_one_by_half(ledger: Ledger) -> None:
    prices = Prices()
    prices.learn(ledger, [0, 1], seconds([1.0, 3.0]))
    assert prices.of(0) == 2.0
    prices.learn(ledger, [2], seconds([4.0]))
    assert prices.of(0) == 3.0


def test_a_large_frame_is_sampled_evenly(ledger: Ledger) -> None:
    prices = Prices()
    step = 1 + 100 // SAMPLE
    prices.learn(ledger, list(range(100)), seconds([1.0 if i % step == 0 else 99.0 for i in range(100)]))
    assert prices.of(0) == 1.0


def test_nothing_is_taken_to_cost_nothing(ledger: Ledger) -> None:
    prices = Prices()
    prices.learn(ledger, [0], seconds([0.0]))
    assert prices.of(0) == FLOOR_S


def test_a_body_that_runs_on_raises_the_price_at_once(ledger: Ledger) -> None:
    prices = Prices()
    prices.at_least(ledger, 2, 7.0)
    assert [prices.of(0), prices.of(2)] == [UNKNOWN_S, 7.0]
    prices.at_least(ledger, 2, 1.0)
    assert prices.of(2) == 7.0

"""The cache of outputs: bounded, and never without one that is in no journal yet."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from towline.engine.outputs import OutputCache


def test_the_oldest_committed_goes_first() -> None:
    cache = OutputCache(limit_bytes=10)
    for row in range(4):
        cache.keep(row, b"1234", append=row + 1, committed=9)
    assert [cache.get(row) for row in range(4)] == [None, None, b"1234", b"1234"]


def test_what_is_not_durable_is_never_dropped() -> None:
    cache = OutputCache(limit_bytes=3)
    for row in range(5):
        cache.keep(row, b"1234", append=row + 1, committed=0)
    assert all(cache.get(row) for row in range(5))
    cache.keep(5, b"1234", append=6, committed=3)
    assert [row for row in range(6) if cache.get(row)] == [3, 4, 5]


@given(st.lists(st.tuples(st.binary(max_size=6), st.integers(0, 3)), max_size=40))
def test_it_never_lies_nor_forgets_what_is_not_durable(keeps: list[tuple[bytes, int]]) -> None:
    """Each row is kept once, as it completes once."""
    cache, last, committed = OutputCache(limit_bytes=8), dict[int, tuple[int, bytes]](), 0
    for append, (output, more) in enumerate(keeps, 1):
        row = 100 - append
        committed = min(append - 1, committed + more)
        cache.keep(row, output, append, committed)
        last[row] = append, output
        for at, (made, wanted) in last.items():
            found = cache.get(at)
            assert found in ((wanted,) if made > committed else (wanted, None))

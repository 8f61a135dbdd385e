"""The payload cache: bounded in bytes, the least recently used goes first."""

from __future__ import annotations

from towline.stores.journal.cache import PayloadCache


def test_the_least_recently_used_goes_first():
    cache = PayloadCache(100)
    for seq in range(4):
        cache.put(seq, bytes(25))
    assert cache.get(0) == bytes(25)
    cache.put(4, bytes(25))
    assert [cache.get(seq) is not None for seq in range(5)] == [True, False, True, True, True]


def test_large_payloads_never_enter():
    cache = PayloadCache(100)
    assert cache.admits(25)
    assert not cache.admits(26)
    cache.put(0, bytes(26))
    assert cache.get(0) is None


def test_the_same_payload_counts_once():
    cache = PayloadCache(100)
    for _ in range(9):
        cache.put(0, bytes(25))
    for seq in (1, 2, 3):
        cache.put(seq, bytes(25))
    assert cache.get(0) is not None

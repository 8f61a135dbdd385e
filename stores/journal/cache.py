"""Payloads that were read and found right, newest kept, bounded in bytes: many locations lie in one record."""

from __future__ import annotations

from collections import OrderedDict


class PayloadCache:
    """Least recently used payloads go first once `limit_bytes` is passed; larger ones than a quarter of it never
    enter."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._held: OrderedDict[int, bytes] = OrderedDict()
        self._bytes = 0

    def admits(self, length: int) -> bool:
        """Would a payload of so many bytes be kept?"""
        return length <= self._limit // 4

    def get(self, seq: int) -> bytes | None:
        """The payload of record `seq`, if it is here."""
        payload = self._held.get(seq)
        if payload is not None:
            self._held.move_to_end(seq)
        return payload

    def put(self, seq: int, payload: bytes) -> None:
        """Keep it, if it may be kept."""
        if not self.admits(len(payload)) or seq in self._held:
            return
        self._held[seq] = payload
        self._bytes += len(payload)
        while self._bytes > self._limit:
            _, gone = self._held.popitem(last=False)
            self._bytes -= len(gone)

"""A bounded memory of outputs that children will want soon, so that a chain does not read back what it has just written."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from towline.engine.graph import NIL, Graph, column
from towline.engine.model import Plain

CACHE_BYTES = 64 << 20
"""Beyond this, outputs that are committed are dropped, oldest first: children read those from the journal."""


class OutputCache:
    """Outputs by row. One that is not committed yet is in no journal and is never dropped."""

    def __init__(self, limit_bytes: int = CACHE_BYTES) -> None:
        self._limit = limit_bytes
        self._outputs: dict[int, bytes] = {}
        self._order: deque[tuple[int, int]] = deque()
        """(appends that make it durable, row)."""
        self._bytes = 0

    def get(self, row: int) -> bytes | None:
        """The output of a row, if it is remembered."""
        return self._outputs.get(row)

    def keep(self, row: int, output: bytes, append: int, committed: int) -> None:
        """Remember an output that append number `append` makes durable, with `committed` appends durable by now."""
        self._bytes += len(output) - len(self._outputs.get(row, b""))
        self._outputs[row] = output
        self._order.append((append, row))
        while self._bytes > self._limit and self._order[0][0] <= committed:
            _, old = self._order.popleft()
            self._bytes -= len(self._outputs.pop(old, b""))

    def keep_all(self, graph: Graph, rows: Iterable[int], plain: Plain, append: int, committed: int) -> None:
        """Remember those of a frame that have children."""
        start = 0
        for row, end in zip(rows, column("I", plain.ends), strict=True):
            if graph.first_child[row] != NIL:
                self.keep(row, plain.outputs[start:end], append, committed)
            start = end

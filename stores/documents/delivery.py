"""Documents of runs on their way to a JobStore whose documents lie elsewhere (a maggma Store, another towline store).

Only committed outcomes travel (R5), whole; what a job saves in additional stores is taken out on arrival. A document that is
there already with the same time of completion is left alone, so a delivery that was broken off is made whole by the next one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from towline.engine import codec
from towline.stores import blocking
from towline.stores.documents.criteria import Document
from towline.stores.documents.outcomes import Outcomes
from towline.stores.store import Store

TOGETHER = 256
"""Documents of one write."""

Saves = Mapping[str, Any]


class Delivery:
    """What one JobStore is given of the runs of one place. May be asked again and again; knows what it has brought."""

    def __init__(self, home: Any, url: str, compat: str = "") -> None:
        self._home = home
        self._url = url
        self._compat = compat
        self._brought: set[int] = set()

    def deliver(self) -> int:
        """Bring what is missing; returns how many documents that were. Blocking."""
        return sum(self._bring(batch) for batch in self._batches())

    def _batches(self) -> Any:
        store, outcomes = blocking.run(self._opened())
        try:
            rows = [row for row in outcomes.rows(None, []) if row not in self._brought]
            for begin in range(0, len(rows), TOGETHER):
                part = rows[begin : begin + TOGETHER]
                documents = blocking.run(outcomes.documents(part))
                yield list(zip(part, documents, map(outcomes.saves_of, part), strict=True))
        finally:
            blocking.run(store.close())

    async def _opened(self) -> tuple[Store, Outcomes]:
        store = await Store.open(self._url)
        outcomes = Outcomes(store, compat=self._compat)
        try:
            await outcomes.refresh()
        except BaseException:
            await store.close()
            raise
        return store, outcomes

    def _bring(self, batch: Sequence[tuple[int, Document, Saves]]) -> int:
        uuids = list({document["uuid"] for _, document, _ in batch})
        known = self._home.query({"uuid": {"$in": uuids}}, ["uuid", "index", "completed_at"], load=False)
        there = {(one["uuid"], one["index"]): one.get("completed_at") for one in known}
        by_saves: dict[bytes, tuple[Saves, list[Document]]] = {}
        for _, document, saves in batch:
            if there.get((document["uuid"], document["index"])) != document["completed_at"]:
                by_saves.setdefault(codec.encode(dict(saves)), (saves, []))[1].append(document)
        for saves, documents in by_saves.values():
            self._home.update(documents, save=dict(saves))
        self._brought.update(row for row, _, _ in batch)
        return sum(len(documents) for _, documents in by_saves.values())

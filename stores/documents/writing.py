"""What `update` and `remove_docs` change in a place: MongoDB's replace-or-insert by any fields, as one commit.

By uuid and index (jobflow's way, and the only one that hurries) a row is known by its id, and the commit itself decides what
it replaces. By other fields the documents are looked through once for all that are written together; if somebody else changes
what was found before the commit, it is looked for again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import uuid4

from towline.stores.documents import criteria as language
from towline.stores.documents.criteria import Criteria, Document
from towline.stores.documents.reading import LARGEST_BATCH, RUN_KEY, Item, Place, Query
from towline.stores.documents.written import Entry, Id, id_of
from towline.stores.jobstore.errors import ConcurrentFileModificationException, NoSuchJobException

_TRIES = 8
QUICK = frozenset({"uuid", "index"})


async def update(place: Place, documents: Sequence[Document], fields: Sequence[str]) -> None:
    """Write each document in the place of the one that has the same values in `fields`, or as a new one. KeyError."""
    for document in documents:
        for field in fields:
            document[field]
    for attempt in range(_TRIES):
        await place.refresh()
        plan = await _planned(place, documents, fields)
        try:
            await place.written.commit(plan.entries, list(plan.removed), plan.expected)
        except (ConcurrentFileModificationException, NoSuchJobException):
            if attempt == _TRIES - 1:
                raise
        else:
            return


async def remove(place: Place, criteria: Criteria | None) -> None:
    """Remove what is meant: written rows go, outcomes are hidden."""
    await place.refresh()
    entries: list[Entry] = []
    removed: list[str] = []
    for item, _ in await place.items(criteria):
        hidden = _hidden(place, item)
        if hidden is not None:
            entries.append(hidden)
        else:
            removed.append(str(item))
    if entries or removed:
        await place.written.commit(entries, removed)


def _hidden(place: Place, item: Item) -> Entry | None:
    """The row that hides an item; None if its own row need only go."""
    if isinstance(item, int):
        assert place.outcomes is not None
        return Entry(place.id_of_row(item), None, place.outcomes.attempt(item))
    row, said = place.written.row(item), Id.parse(item)
    behind = place.over(said.text, int(said.number)) if said.field == RUN_KEY and said.number else None
    return None if row is None or behind is None else Entry(item, None, behind)


class _Plan:
    def __init__(self, place: Place) -> None:
        self._place = place
        self.entries: list[Entry] = []
        self.removed: dict[str, None] = {}
        self.expected: dict[str, int] = {}
        self.made: set[str] = set()

    def put(self, document: Document, old: Item | None) -> str:
        """Write a document in the place of `old`; its id."""
        new = id_of(document, self._place.key)
        over = self._place.over(document.get("uuid"), document.get("index")) if new.field == RUN_KEY else None
        if isinstance(old, str) and Id.parse(old)._replace(salt="") == new._replace(salt=""):
            new = Id.parse(old)
        elif isinstance(old, str):
            self._drop(old)
            new = self._free(new)
        elif old is not None and str(new) != self._place.id_of_row(old):
            hidden = _hidden(self._place, old)
            assert hidden is not None
            self.entries.append(hidden)
            new = self._free(new)
        elif old is None:
            new = self._free(new)
        id = str(new)
        self.entries.append(Entry(id, document, over))
        self.made.add(id)
        self.removed.pop(id, None)
        return id

    def _drop(self, old: str) -> None:
        hidden = _hidden(self._place, old)
        self.entries = [entry for entry in self.entries if entry.id != old] if old in self.made else self.entries
        if hidden is not None:
            self.entries.append(hidden)
        elif self._place.written.row(old) is not None:
            self.removed[old] = None

    def _free(self, id: Id) -> Id:
        """An id that no other document has: one that merely hides an outcome may be taken."""
        held = self._place.written.row(str(id))
        taken = str(id) in self.made or (held is not None and not held.hides)
        return id._replace(salt=uuid4().hex) if taken else id


async def _planned(place: Place, documents: Sequence[Document], fields: Sequence[str]) -> _Plan:
    plan = _Plan(place)
    if set(fields) == QUICK and place.key == RUN_KEY:
        for document in documents:
            if type(document["uuid"]) is not str or type(document["index"]) is not int:
                break
            id = id_of(document, RUN_KEY)
            plan.entries.append(Entry(str(id), document, place.over(id.text, document["index"])))
        else:
            return plan
        plan = _Plan(place)
    known = await _standing(place, documents, fields)
    for document in documents:
        values = _values(document, fields)
        old = known.get(values)
        if isinstance(old, str) and old not in plan.made:
            plan.expected[old] = place.written.version(old)
        known[values] = plan.put(document, old)
    entries = {entry.id for entry in plan.entries}
    plan.expected = {id: version for id, version in plan.expected.items() if id in entries}
    return plan


def _values(document: Document, fields: Sequence[str]) -> str:
    """The values of these fields, as something to compare by."""
    return repr([document.get(field) for field in fields])


async def _standing(place: Place, documents: Sequence[Document], fields: Sequence[str]) -> dict[str, Item]:
    """The first document there is for each combination of values that is asked for."""
    wanted = {_values(document, fields) for document in documents}
    criteria: dict[str, Any] | None = None
    if place.key in fields:
        texts = [document[place.key] for document in documents]
        criteria = {place.key: {"$in": texts}}
    found: dict[str, Item] = {}
    for item, document in await _seen(place, criteria, fields):
        values = _values(document, fields)
        if values in wanted:
            found.setdefault(values, item)
    return found


async def _seen(place: Place, criteria: Criteria | None, fields: Sequence[str]) -> list[tuple[Item, Document]]:
    query = Query(criteria, language.projection(list(fields)))
    return [pair async for batch in place.found(query, LARGEST_BATCH) for pair in batch]

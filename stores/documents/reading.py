"""One place as it is now: the documents of its runs with those that were written in front of them, found and read in batches.

A query is planned once, on what is committed then: which rows of the runs and which written rows may be meant. Without a sort the
documents come as they are found, so a limit ends the reading early; with one, only the fields that it compares are kept of each,
and the documents that are shown in the end are read again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any, NamedTuple

from towline.stores.documents import criteria as language
from towline.stores.documents.criteria import Criteria, Document, Projection
from towline.stores.documents.outcomes import HEADER, Outcomes
from towline.stores.documents.written import MAIN, Id, Row, Written, id_of
from towline.stores.store import Store

FIRST_BATCH = 32
LARGEST_BATCH = 1024
"""Documents that are read together: few at first, since many queries want one."""
RUN_KEY = "uuid"
"""The field by which the documents of runs are found."""

Item = int | str
"""A row of the runs, or the id of a written row."""


class Query(NamedTuple):
    """What is asked for."""

    criteria: Criteria | None = None
    properties: Projection | None = None
    sort: Sequence[tuple[str, bool]] = ()
    skip: int = 0
    limit: int = 0
    """0: no limit."""


class Place:
    """An open place. Lives in one event loop; `lock` must be held around everything but `close`."""

    def __init__(self, store: Store, collection: str, key: str, compat: str) -> None:
        self.store = store
        self.key = key
        self.written = Written(store.objects, collection)
        self.outcomes = Outcomes(store, compat=compat) if collection == MAIN else None
        self.lock = asyncio.Lock()

    async def refresh(self) -> None:
        """See all that was committed before this call."""
        if self.outcomes is not None:
            await self.outcomes.refresh()
        await self.written.refresh()

    async def close(self) -> None:
        """Let go."""
        async with self.lock:
            await self.written.close()
            await self.store.close()

    # -------------------------------------------------------------------------------------------------------- finding

    def candidates(self, criteria: Criteria | None) -> tuple[list[int], list[dict[str, Any]]]:
        """Rows of the runs that may be meant, and the clauses that their outputs must still satisfy."""
        if self.outcomes is None:
            return [], []
        split = language.split(criteria, RUN_KEY, HEADER)
        return [row for row in self.outcomes.rows(split.keys, split.header) if not self._covered(row)], split.rest

    def _covered(self, row: int) -> bool:
        """Does a written row stand in front of this outcome, or hide it?"""
        rows = self.written.rows
        if not rows:
            return False
        assert self.outcomes is not None
        held = self.written.row(self.id_of_row(row))
        return held is not None and held.over in (None, self.outcomes.attempt(row))

    def id_of_row(self, row: int) -> str:
        """The id of the written row that would stand in front of this outcome."""
        assert self.outcomes is not None
        graph = self.outcomes.graph
        return str(Id(str(graph.index[row]), "", RUN_KEY, graph.uuid(row)))

    def over(self, uuid: Any, index: Any) -> list[int] | None:
        """The attempt of the outcome with this uuid and index, if there is one."""
        if self.outcomes is None or type(uuid) is not str or type(index) is not int or index < 1:
            return None
        rows = self.outcomes.rows_of(uuid, index)
        return self.outcomes.attempt(rows[0]) if rows else None

    def written_candidates(self, criteria: Criteria | None) -> list[tuple[str, list[dict[str, Any]]]]:
        """Ids of the written rows that may be meant, each with the clauses that its document must still satisfy."""
        rows = self.written.rows
        if not rows:
            return []
        split = language.split(criteria, self.key, ())
        if split.keys is None:
            return [(id, split.rest) for id in rows if self._shows(id)]
        whole = language.clauses_of(criteria)
        found = [(id, split.rest) for text in split.keys for id in rows.having(self.key, text)]
        found += [(id, whole) for id in rows.silent_on(self.key)]
        return [(id, clauses) for id, clauses in found if self._shows(id)]

    def _shows(self, id: str) -> bool:
        """Has this row a document that no newer outcome has taken the place of?"""
        row = self.written.row(id)
        return row is not None and not row.hides and not self._outdated(id, row)

    def _outdated(self, id: str, row: Row) -> bool:
        if row.over is None or self.outcomes is None:
            return False
        said = Id.parse(id)
        now = self.over(said.text, int(said.number)) if said.number and said.field == RUN_KEY else None
        return now is not None and now != row.over

    async def found(self, query: Query, first: int = FIRST_BATCH) -> AsyncGenerator[list[tuple[Item, Document]], None]:
        """The items that are meant, in batches, each with as much of its document as criteria, sort and properties look at."""
        rows, rest = self.candidates(query.criteria)
        clauses = language.clauses_of(query.criteria)
        named = {field for clause in clauses for field in language.fields_of(clause)} | {path for path, _ in query.sort}
        shown = language.fields_read(query.properties)
        with_state = "state" in named or (shown is not None and "state" in shown)
        looked_at = None if shown is None else shown | {path.partition(".")[0] for path, _ in query.sort}
        output = bool(rest) or looked_at is None or not looked_at <= HEADER
        whole = language.joined(rest) if rest else None
        for begin, end in _batches(len(rows), first):
            part = rows[begin:end]
            assert self.outcomes is not None
            documents = await self.outcomes.documents(part, output=output, with_state=with_state)
            yield [pair for pair in zip(part, documents, strict=True) if language.matches(whole, pair[1])]
        ids = self.written_candidates(query.criteria)
        for begin, end in _batches(len(ids), first):
            wanted = dict(ids[begin:end])
            found = await self.written.documents(list(wanted))
            yield [
                (id, document)
                for id, document in found.items()
                if not wanted[id] or language.matches(language.joined(wanted[id]), document)
            ]

    async def items(self, criteria: Criteria | None) -> list[tuple[Item, Document]]:
        """All that is meant, with uuid and index of each."""
        query = Query(criteria, language.projection(["uuid", "index"]))
        async with aclosing(self.found(query, LARGEST_BATCH)) as batches:
            return [pair async for batch in batches for pair in batch]

    async def count(self, criteria: Criteria | None) -> int:
        """How many documents are meant. No output is read unless the criteria look at outputs."""
        rows, rest = self.candidates(criteria)
        if not rest and not self.written.rows:
            return len(rows)
        return len(await self.items(criteria))

    async def documents(self, items: Sequence[Item], *, with_state: bool = False, output: bool = True) -> list[Document]:
        """The documents of these items, in this order; those that went meanwhile are left out."""
        rows = [item for item in items if isinstance(item, int)]
        found: dict[Item, Document] = {}
        if rows and self.outcomes is not None:
            found |= zip(rows, await self.outcomes.documents(rows, output=output, with_state=with_state), strict=True)
        found.update(await self.written.documents([item for item in items if isinstance(item, str)]))
        return [found[item] for item in items if item in found]

    async def newest(self, uuids: Sequence[str]) -> dict[str, Document]:
        """The documents with the highest index of each uuid; the outputs of all of them are read in one pass."""
        best: dict[str, tuple[int, Item]] = {}
        for uuid in dict.fromkeys(uuids):
            for row in self.outcomes.rows_of(uuid) if self.outcomes is not None else ():
                if not self._covered(row):
                    assert self.outcomes is not None
                    best[uuid] = max(best.get(uuid, (0, row)), (self.outcomes.graph.index[row], row), key=lambda pair: pair[0])
            for id in self.written.rows.having(RUN_KEY, uuid):
                index = Id.parse(id).number
                if index and self._shows(id) and (uuid not in best or best[uuid][0] <= int(index)):
                    best[uuid] = int(index), id
        documents = await self.documents([item for _, item in best.values()])
        return {document["uuid"]: document for document in documents}


def _batches(size: int, first: int) -> list[tuple[int, int]]:
    """Slices of growing length."""
    found, begin, length = [], 0, max(1, first)
    while begin < size:
        found.append((begin, min(size, begin + length)))
        begin, length = begin + length, min(LARGEST_BATCH, 2 * length)
    return found


class Cursor:
    """The answer to one query, batch by batch."""

    def __init__(self, place: Place, query: Query) -> None:
        self._place = place
        self._query = query
        self._batches: AsyncGenerator[list[tuple[Item, Document]], None] | None = None
        self._sorted: list[Item] | None = None
        self._at = 0
        self._skip = query.skip
        self._left = abs(query.limit) if query.limit else None
        self._length = FIRST_BATCH

    async def more(self) -> list[Document]:
        """The next documents; empty at the end."""
        async with self._place.lock:
            if self._left == 0:
                await self.close()
                return []
            documents = await (self._more_sorted() if self._query.sort else self._more_found())
        return [language.project(document, self._query.properties) for document in documents]

    async def close(self) -> None:
        """Let go."""
        if self._batches is not None:
            await self._batches.aclose()

    async def _more_found(self) -> list[Document]:
        if self._batches is None:
            await self._place.refresh()
            wanted = FIRST_BATCH if self._left is None else min(LARGEST_BATCH, self._skip + self._left)
            self._batches = self._place.found(self._query, wanted)
        async for batch in self._batches:
            documents = [document for _, document in batch]
            skipped, documents = documents[: self._skip], documents[self._skip :]
            self._skip -= len(skipped)
            if self._left is not None:
                documents = documents[: self._left]
                self._left -= len(documents)
            if documents:
                return documents
        return []

    async def _more_sorted(self) -> list[Document]:
        if self._sorted is None:
            await self._place.refresh()
            self._sorted = await self._in_order()
        items = self._sorted[self._at : self._at + self._length]
        self._at += len(items)
        self._length = min(LARGEST_BATCH, 2 * self._length)
        shown = language.fields_read(self._query.properties)
        named = {field for clause in language.clauses_of(self._query.criteria) for field in language.fields_of(clause)}
        with_state = "state" in named or "state" in (shown or ())
        output = shown is None or not shown <= HEADER
        documents = await self._place.documents(items, with_state=with_state, output=output)
        return documents if documents or not items else await self._more_sorted()

    async def _in_order(self) -> list[Item]:
        """The items that will be shown. Of each document no more is kept than what is compared."""
        compared = language.projection([path.partition(".")[0] for path, _ in self._query.sort])
        gathered: list[tuple[Item, Document]] = []
        query = self._query._replace(properties=compared)
        async with aclosing(self._place.found(query, LARGEST_BATCH)) as batches:
            async for batch in batches:
                gathered += [(item, language.project(document, compared)) for item, document in batch]
        ordered = language.sorted_by(self._query.sort, gathered, lambda pair: pair[1])
        chosen = [item for item, _ in ordered[self._skip :]]
        return chosen if self._left is None else chosen[: self._left]


__all__ = ["Cursor", "Item", "Place", "Query", "id_of"]

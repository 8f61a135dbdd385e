"""`DocumentStore`: the documents of one place behind maggma's interface, blocking, for any thread.

A place is a towline store: documents of its runs and what was written in front of them, or (another `collection`) only what was
written. Where nothing lies yet there are no documents, and the first write makes it a store. All work runs in the process's one
background loop; a forked child opens the place anew.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from towline.engine.codec import mson
from towline.engine.errors import UsageError
from towline.stores import blocking
from towline.stores.documents import criteria as language
from towline.stores.documents import writing
from towline.stores.documents.criteria import Document
from towline.stores.documents.reading import Cursor, Place, Query
from towline.stores.documents.verbs import ISO_FORMAT, Properties, StoreVerbs
from towline.stores.documents.written import MAIN, check_collection
from towline.stores.errors import StoreMissing
from towline.stores.locate import parse
from towline.stores.store import Store

T = TypeVar("T")

logger = logging.getLogger("towline")


def check_compat(said: str) -> str:
    """The compatibility of documents that is asked for. UsageError for one that there is not."""
    if said not in ("", "jobflow"):
        raise UsageError(f"compat must be 'jobflow' or nothing, not {said!r}")
    return said


class DocumentStore(StoreVerbs):
    """Documents in a towline store: `DocumentStore("runs/first")`. Takes the place of a maggma Store wherever one is used."""

    def __init__(
        self,
        place: str | os.PathLike[str],
        collection: str = MAIN,
        *,
        key: str = "uuid",
        last_updated_field: str = "completed_at",
        last_updated_type: Any = ISO_FORMAT,
        compat: str = "",
    ) -> None:
        """`place` is a locator: a path, s3://, gs://, memory:. Nothing is opened yet.

        collection  whatever is not "main" has nothing to do with the place's runs
        key         the field by which documents are found at once
        compat      "jobflow": the documents of runs as jobflow writes them, module names included
        """
        self.url = parse(place).url
        self.collection = check_collection(collection)
        self.key = key
        self.last_updated_field = last_updated_field
        self.last_updated_type = last_updated_type
        self.compat = check_compat(compat)
        self._held: tuple[int, Place | None] = (os.getpid(), None)
        self._warned = False

    @property
    def name(self) -> str:
        """Where the documents are."""
        return f"towline://{self.url}" + ("" if self.collection == MAIN else f"#{self.collection}")

    def __repr__(self) -> str:
        return f"DocumentStore({self.url!r}, {self.collection!r})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, DocumentStore):
            return NotImplemented
        return (self.url, self.collection, self.key) == (other.url, other.collection, other.key)

    def __hash__(self) -> int:
        return hash((self.url, self.collection))

    # ------------------------------------------------------------------------------------------------- begin and end

    def connect(self, force_reset: bool = False) -> None:
        """Nothing need be done: the place is opened when it is first used. `force_reset`: let go of what is open."""
        if force_reset:
            self.close()

    def close(self) -> None:
        """Let go of what is open. Idempotent; whatever is asked next opens it again."""
        pid, place = self._held
        self._held = os.getpid(), None
        if place is not None and pid == os.getpid():
            blocking.run(place.close())

    async def _place(self, *, create: bool = False) -> Place | None:
        pid, place = self._held
        if pid != os.getpid():
            place = None
        if place is None:
            try:
                store = await Store.open(self.url, create=create)
            except StoreMissing:
                if not self._warned:
                    self._warned = True
                    logger.warning("there is no store at %s yet: it has no documents, and the first write makes it", self.url)
                return None
            pid, held = self._held
            if held is not None and pid == os.getpid():  # somebody else was quicker
                await store.close()
                return held
            place = Place(store, self.collection, self.key, self.compat)
            self._held = os.getpid(), place
        place.key = self.key
        return place

    def _ask(self, question: Callable[[Place], Coroutine[Any, Any, T]], nothing: T) -> T:
        """The answer on what is committed now; `nothing` where there is no store yet."""

        async def ask() -> T:
            place = await self._place()
            if place is None:
                return nothing
            async with place.lock:
                await place.refresh()
                return await question(place)

        return blocking.run(ask())

    # ------------------------------------------------------------------------------------------------------- reading

    def query(
        self,
        criteria: Mapping[str, Any] | None = None,
        properties: Properties = None,
        sort: Mapping[str, Any] | None = None,
        skip: int = 0,
        limit: int = 0,
        **options: Any,
    ) -> Iterator[Document]:
        """The documents that are meant, as they are now: what is committed when the first one is asked for.

        Beside the documents' own fields criteria and properties may name `state`: then jobs without an outcome are meant, too,
        and documents say in which state their jobs are.
        """
        query = Query(criteria, language.projection(properties), language.sort_keys(sort), skip, limit)
        return self._read(query)

    def _read(self, query: Query) -> Iterator[Document]:
        async def begin() -> Cursor | None:
            place = await self._place()
            return None if place is None else Cursor(place, query)

        cursor = blocking.run(begin())
        if cursor is None:
            return
        try:
            while documents := blocking.run(cursor.more()):
                yield from documents
        finally:
            blocking.run(cursor.close())

    def count(self, criteria: Mapping[str, Any] | None = None, **options: Any) -> int:
        """How many documents are meant."""
        return self._ask(lambda place: place.count(criteria), 0)

    def newest(self, uuids: Sequence[str]) -> dict[str, Document]:
        """The documents with the highest index of each of these uuids, read in one pass; uuids without one are left out."""
        return self._ask(lambda place: place.newest(uuids), {})

    # ------------------------------------------------------------------------------------------------------- writing

    def update(self, docs: Any, key: Sequence[str] | str | None = None) -> None:
        """Write documents, all of them or none, durably: each in the place of the one that agrees with it in `key`.

        A document of a run that is replaced so stays replaced until its job has another outcome. KeyError if a document lacks
        the key; AttributeError if it holds what documents cannot hold.
        """
        given = docs if isinstance(docs, list) else [docs]
        documents = [mson.sanitize(document) for document in given]
        fields = [key] if isinstance(key, str) else list(key or [self.key])
        if documents:
            self._write(lambda place: writing.update(place, documents, fields))

    def remove_docs(self, criteria: Mapping[str, Any], **options: Any) -> None:
        """Remove the documents that are meant. A run's journal is not touched: its documents are hidden."""
        self._write(lambda place: writing.remove(place, criteria), create=False)

    def _write(self, work: Callable[[Place], Coroutine[Any, Any, None]], create: bool = True) -> None:
        async def write() -> None:
            place = await self._place(create=create)
            if place is not None:
                async with place.lock:
                    await work(place)

        blocking.run(write())

    def ensure_index(self, key: str, unique: bool = False) -> bool:
        """True: documents are found by `key` at once and the job table's fields are columns; others are looked through."""
        return True

    # ------------------------------------------------------------------------------------------------- as plain data

    def as_dict(self) -> dict[str, Any]:
        """Plain data, in the shape that monty reads."""
        return {**mson.named(type(self)), **self._told()}

    @classmethod
    def from_dict(cls, d: dict[str, Any]) -> DocumentStore:
        """What `as_dict` wrote."""
        told = {name: value for name, value in d.items() if not name.startswith("@")}
        return cls(told.pop("place"), told.pop("collection", MAIN), **told)

    def _told(self) -> dict[str, Any]:
        kind = getattr(self.last_updated_type, "value", self.last_updated_type)
        return {
            "place": self.url,
            "collection": self.collection,
            "key": self.key,
            "last_updated_field": self.last_updated_field,
            "last_updated_type": kind,
            "compat": self.compat,
        }

    def __reduce__(self) -> Any:
        return DocumentStore.from_dict, (self._told(),)

"""The quickest store that jobflow can have: two dicts, so that what is measured is jobflow itself.

jobflow's own default, maggma's MemoryStore, looks at every document for every question, so its time a job grows with the run.
This one answers what jobflow's manager and its references ask (by uuid, with or without an index) in constant time, keeps
nothing on disk and hands out what it holds without a copy: a floor under whatever store a user may have.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

ASKED = frozenset({"uuid", "index"})
"""What a document may be asked for by."""

Document = dict[str, Any]


class QuickStore:
    """maggma's Store as far as a JobStore of jobflow needs it during a run."""

    key = "uuid"
    last_updated_field = "last_updated"
    last_updated_type = "datetime"
    name = "quick"

    def __init__(self) -> None:
        self._documents: dict[str, dict[int, Document]] = {}
        """By uuid and index."""

    def connect(self, force_reset: bool = False) -> None:
        """There is nothing to connect to."""

    def close(self) -> None:
        """There is nothing to close."""

    def query(
        self,
        criteria: Document | None = None,
        properties: list[str] | None = None,
        sort: dict[str, int] | None = None,
        skip: int = 0,
        limit: int = 0,
    ) -> Iterator[Document]:
        """The documents of one uuid, or all; sorted by index. NotImplementedError for other questions."""
        wanted = criteria or {}
        if not wanted.keys() <= ASKED or not (sort or {}).keys() <= {"index"} or skip:
            raise NotImplementedError(f"QuickStore is asked by uuid and index only, not {criteria}, {sort=}, {skip=}")
        groups = [self._documents.get(wanted["uuid"], {})] if "uuid" in wanted else list(self._documents.values())
        found = [doc for group in groups for index, doc in group.items() if wanted.get("index", index) == index]
        if sort:
            found.sort(key=lambda doc: int(doc["index"]), reverse=sort["index"] < 0)
        return iter(found[:limit] if limit else found)

    def update(self, docs: list[Document], key: list[str] | str | None = None) -> None:
        """Take documents in, each in the place of the one with its uuid and index."""
        for doc in docs:
            self._documents.setdefault(doc["uuid"], {})[doc["index"]] = doc

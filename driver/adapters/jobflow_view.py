"""The JobStore that a job of jobflow sees while towline runs it: reads come from the run, and its document is caught.

What a job asks for by uuid is answered from the outputs that its lease brought, from documents that were handed over with it
(of jobs outside the run), and from the run itself, in this order. Whatever else it asks for, and documents other than its
own that it writes, concern the user's JobStore, which is reached only where there is one at hand: in the process that
drives a local run, or by jobflow's settings (`HOME_BY_SETTINGS`).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from enum import Enum
from functools import cache
from typing import Any

Document = dict[str, Any]

MARK = "towline.jobflow"
"""The key that tells an output of this adapter from others; its value is the version of what stands beside it."""
VERSION = 1

HOME_BY_SETTINGS = "settings"
"""Where the user's JobStore is: the one that jobflow's settings name, in whichever process asks."""

HOME: ContextVar[Any] = ContextVar("towline_jobflow_home", default=None)
"""The user's JobStore itself, around the bodies of a local run."""


def wrapped(document: Document, save: dict[str, Any]) -> dict[str, Any]:
    """What the journal keeps of a job: its document whole, and which parts of it belong into which additional store."""
    return {MARK: VERSION, "document": document, "save": save}


def document_in(output: Any) -> Document | None:
    """The document in an output of this adapter; None for any other output."""
    if isinstance(output, dict) and MARK in output:
        document: Document = output["document"]
        return document
    return None


class Documents:
    """The documents of a run, as one job sees them."""

    def __init__(
        self,
        inputs: Mapping[str, Any],
        given: Mapping[str, list[Document]],
        fetch: Callable[[str, int], Any],
    ) -> None:
        """`fetch(uuid, index)` gives an output of the run (0: the newest), None if there is none."""
        self._inputs = inputs
        self._given = given
        self._fetch = fetch
        self._newest: dict[str, Document | None] = {}

    def newest(self, uuid: str) -> list[Document]:
        """The document of the highest index, if there is one."""
        if uuid in self._given:
            return self._given[uuid][-1:]
        if uuid not in self._newest:
            found = document_in(self._inputs.get(uuid))
            self._newest[uuid] = found if found is not None else document_in(self._fetch(uuid, 0))
        document = self._newest[uuid]
        return [] if document is None else [document]

    def all(self, uuid: str) -> list[Document]:
        """The documents of all indices."""
        if uuid in self._given:
            return self._given[uuid]
        newest = self.newest(uuid)
        earlier = range(1, newest[0]["index"]) if newest else ()
        found = [document_in(self._fetch(uuid, index)) for index in earlier]
        return [document for document in found if document is not None] + newest


def view_of(documents: Documents, home: str = "", stores: list[str] | None = None) -> Any:
    """A jobflow JobStore over `documents`. `stores`: names of the additional stores there are; None: any name will do."""
    return _view_class()(documents, home, stores)


@cache
def _view_class() -> type:
    from jobflow import JobStore
    from jobflow.utils.find import find_key
    from maggma.stores import MemoryStore
    from monty.json import jsanitize

    class RunStore(JobStore):  # type: ignore[misc]  # jobflow has no types
        """See the module."""

        def __init__(self, documents: Documents, home: str, stores: list[str] | None) -> None:
            self.documents = documents
            self.caught: tuple[Document, dict[str, Any]] | None = None
            self._home_name, self._stores, self._home_found = home, stores, False
            super().__init__(MemoryStore())

        def connect(self, force_reset: bool = False) -> None:
            """There is nothing to connect to."""

        def close(self) -> None:
            """Nor to close."""

        def query(
            self,
            criteria: dict[str, Any] | None = None,
            properties: Any = None,
            sort: dict[str, Any] | None = None,
            skip: int = 0,
            limit: int = 0,
            load: Any = None,
        ) -> Iterator[Document]:
            """As a JobStore's; what lies in additional stores is always loaded."""
            own = list(self._own(criteria or {}, sort, limit))
            if not own:
                if self._home() is not None:
                    yield from self._home().query(criteria, properties, sort, skip, limit, load)
                return
            for name, direction in reversed((sort or {}).items()):
                own.sort(key=lambda document: _part(document, name), reverse=int(getattr(direction, "value", direction)) < 0)
            for document in own[skip : skip + limit if limit else None]:
                yield copy.deepcopy(_projected(document, properties))

        def _own(self, criteria: dict[str, Any], sort: dict[str, Any] | None, limit: int) -> Iterator[Document]:
            """Documents of the run; they are only looked up by uuid."""
            newest = limit == 1 and criteria.keys() == {"uuid"} and sort == {"index": -1}
            rest = {name: wanted for name, wanted in criteria.items() if name != "uuid"}
            for uuid in _uuids_in(criteria):
                found = self.documents.newest(uuid) if newest else self.documents.all(uuid)
                yield from (document for document in found if _is_meant(rest, document))

        def count(self, criteria: dict[str, Any] | None = None) -> int:
            """The number of documents that `query` gives."""
            return sum(1 for _ in self.query(criteria, ["uuid"]))

        def update(self, docs: Any, key: Any = None, save: Any = None) -> None:
            """Catch the job's own document; others go to the user's JobStore."""
            if self.caught is not None or isinstance(docs, list):
                home = self._home()
                if home is None:
                    raise RuntimeError(
                        "a job can write documents other than its own only where the JobStore of the run can be reached: in a "
                        "local run, or if jobflow's settings name it (JOBFLOW_CONFIG_FILE)"
                    )
                home.update(docs, key=key, save=save)
                return
            document = jsanitize(docs, strict=True, allow_bson=True)
            for name, parts in (save or {}).items():
                parts = parts if isinstance(parts, list | tuple) else [parts]
                known = self._stores is None or name in self._stores
                if not known and any(find_key(document, _key(part)) for part in parts if not isinstance(part, list | tuple)):
                    raise ValueError(f"Unrecognised additional store name: {name}")
            self.caught = (document, dict(save or {}))

        def _home(self) -> Any:
            if not self._home_found:
                self._home_found = True
                home = HOME.get()
                self._known_home = home if home is not None else _by_settings() if self._home_name == HOME_BY_SETTINGS else None
            return self._known_home

    return RunStore


@cache
def _by_settings() -> Any:
    """The JobStore of jobflow's settings, connected; one for the life of a worker."""
    from jobflow import SETTINGS

    SETTINGS.JOB_STORE.connect()
    return SETTINGS.JOB_STORE


def _uuids_in(criteria: dict[str, Any]) -> list[str]:
    wanted = criteria.get("uuid")
    if isinstance(wanted, dict) and wanted.keys() == {"$in"}:
        return list(wanted["$in"])
    return [wanted] if isinstance(wanted, str) else []


def _is_meant(criteria: dict[str, Any], document: Document) -> bool:
    if not criteria:
        return True
    if criteria.keys() == {"index"} and isinstance(criteria["index"], int):
        return bool(document["index"] == criteria["index"])
    from towline.stores.documents.criteria import matches

    return matches(criteria, document)


def _projected(document: Document, properties: Any) -> Document:
    if not properties:
        return document
    from pydash import get, has, set_

    chosen: Document = {}
    for name in (*properties, "uuid", "index"):
        if has(document, name):
            set_(chosen, name, get(document, name))
    return chosen


def _part(document: Document, name: str) -> Any:
    from pydash import get

    return get(document, name)


def _key(part: Any) -> Any:
    return part.value if isinstance(part, Enum) else part

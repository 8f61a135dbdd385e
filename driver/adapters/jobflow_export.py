"""Documents on their way from a run to the user's JobStore, by whoever drives the run: from committed outcomes only (rule R5).

Each document is an upsert by uuid and index, and what the JobStore holds already (the same `completed_at`) is left alone; so an
export that was broken off is made whole by the next one, and nothing is there twice. Parts that lie in additional stores have
random ids: before a document is written again, what an earlier try has left there of that job goes.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

from towline.adapters.jobflow_view import MARK, Document
from towline.client import LeaderClient
from towline.control import JobInfo, Run
from towline.engine.errors import TowlineError
from towline.stores.documents.saving import BLOB, stubs

logger = logging.getLogger("towline")

TOGETHER = 200
"""Documents of one write."""
EVERY_S = 2.0
"""How often a run that goes on is looked at, at most."""
SHARE = 20
"""An export of some seconds is not repeated before so many times as many have gone by."""


class ExportError(TowlineError):
    """Jobs are done, but their documents are not all in the JobStore."""


class Exporter:
    """What one JobStore is given of one run."""

    def __init__(self, jobstore: Any, store: str, clock: Callable[[], float] = time.monotonic) -> None:
        """`jobstore` is connected when the first document comes; `store` is named when something goes wrong."""
        self.jobstore = jobstore
        self._store = store
        self._clock = clock
        self._rows: set[int] = set()
        """Jobs that nothing has to be done for any more."""
        self._next = clock() + EVERY_S
        self._connected = False

    def beside(self, run: Run, ended: bool) -> None:
        """To be called often while a run goes on, and when it has `ended`. ExportError, but only then."""
        if not ended and self._clock() < self._next:
            return
        begun = self._clock()
        try:
            self.export(run)
        except Exception as error:
            if isinstance(error, ConnectionError | TimeoutError) and not ended:
                return  # the leader is busy, or ends: who waits for it will say so
            why = f"the documents of {self._store} could not be written to {self.jobstore.name} ({type(error).__name__}: {error})"
            if ended:
                again = f"towline.adapters.jobflow.export({self._store!r}, jobstore=...)"
                raise ExportError(f"{why}; what is done is kept: write them by {again}") from error
            logger.warning("%s; this is tried again", why)
        self._next = self._clock() + max(EVERY_S, SHARE * (self._clock() - begun))

    def export(self, run: Run) -> int:
        """Write the documents of all jobs that have completed and that are not there yet. Returns how many were written."""
        completed = run.jobs(["completed"], limit=run.status()["total"])
        return sum(self._export(run, batch) for batch in _batches(info for info in completed if info.row not in self._rows))

    def _export(self, run: Run, infos: list[JobInfo]) -> int:
        outputs = [output for output in Run.outputs(run, infos) if isinstance(output, dict) and MARK in output]
        written = self._write(outputs) if outputs else 0
        self._rows.update(info.row for info in infos)
        return written

    def _write(self, outputs: list[dict[str, Any]]) -> int:
        if not self._connected:
            self.jobstore.connect()
            self._connected = True
        uuids = list({output["document"]["uuid"] for output in outputs})
        there = {(doc["uuid"], doc["index"]): doc for doc in self.jobstore.query({"uuid": {"$in": uuids}}, load=False)}
        missing = self._missing(list(there.values()))
        plain: list[Document] = []
        by_save: dict[str, tuple[dict[str, Any], list[Document]]] = {}
        for output in outputs:
            document, save = output["document"], output["save"]
            key = document["uuid"], document["index"]
            same = key in there and there[key]["completed_at"] == document["completed_at"]
            if save and not (same and key not in missing):
                by_save.setdefault(repr(save), (save, []))[1].append(document)
            elif not save and not same:
                plain.append(document)
        self._forget_parts([document for _, documents in by_save.values() for document in documents])
        for save, documents in (*by_save.values(), ({}, plain)):
            if documents:
                self.jobstore.update(documents, key=["uuid", "index"], save=save)
        return len(plain) + sum(len(documents) for _, documents in by_save.values())

    def _missing(self, documents: list[Document]) -> set[tuple[str, int]]:
        """Those of these documents of which a part, written after them, is not in its additional store. One query a store."""
        parts: dict[str, dict[str, tuple[str, int]]] = {}
        for document in documents:
            for stub in stubs(document.get("output")):
                parts.setdefault(stub.store, {})[stub.blob] = document["uuid"], document["index"]
        missing: set[tuple[str, int]] = set()
        for name, owners in parts.items():
            asked = self.jobstore.additional_stores[name].query({BLOB: {"$in": list(owners)}}, [BLOB])
            there = {part[BLOB] for part in asked}
            missing |= {owner for blob, owner in owners.items() if blob not in there}
        return missing

    def _forget_parts(self, documents: list[Document]) -> None:
        by_index: dict[int, list[str]] = {}
        for document in documents:
            by_index.setdefault(document["index"], []).append(document["uuid"])
        for index, uuids in by_index.items():
            for store in self.jobstore.additional_stores.values():
                store.remove_docs({"job_index": index, "job_uuid": {"$in": uuids}})


def _batches(infos: Iterable[JobInfo]) -> Iterator[list[JobInfo]]:
    rest = iter(infos)
    while batch := list(islice(rest, TOGETHER)):
        yield batch


def of_leader(exporter: Exporter, store: str, flow: str = "") -> Callable[[LeaderClient, bool], None]:
    """`Exporter.beside` for a leader; `flow` limits it to one submission."""
    return lambda client, ended: exporter.beside(Run(store, client=client, flow=flow), ended)

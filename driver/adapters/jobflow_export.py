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
        plain: list[Document] = []
        written = 0
        for output in outputs:
            document, save = output["document"], output["save"]
            known = there.get((document["uuid"], document["index"]))
            same = known is not None and known["completed_at"] == document["completed_at"]
            if not save:
                plain += [] if same else [document]
            elif known is None or not same or not self._is_whole(known):
                self._forget_parts(document)
                self.jobstore.update(document, key=["uuid", "index"], save=save)
                written += 1
        if plain:
            self.jobstore.update(plain, key=["uuid", "index"], save={})
        return written + len(plain)

    def _is_whole(self, document: Document) -> bool:
        """Are all parts of this document, which were written after it, in the additional stores?"""
        from jobflow.utils.find import find_key
        from pydash import get

        for place in find_key(document, "blob_uuid"):
            stub = get(document, list(place))
            if not self.jobstore.additional_stores[stub["store"]].count({"blob_uuid": stub["blob_uuid"]}):
                return False
        return True

    def _forget_parts(self, document: Document) -> None:
        for store in self.jobstore.additional_stores.values():
            store.remove_docs({"job_uuid": document["uuid"], "job_index": document["index"]})


def _batches(infos: Iterable[JobInfo]) -> Iterator[list[JobInfo]]:
    rest = iter(infos)
    while batch := list(islice(rest, TOGETHER)):
        yield batch


def of_leader(exporter: Exporter, store: str, flow: str = "") -> Callable[[LeaderClient, bool], None]:
    """`Exporter.beside` for a leader; `flow` limits it to one submission."""
    return lambda client, ended: exporter.beside(Run(store, client=client, flow=flow), ended)

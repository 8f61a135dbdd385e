"""The two engines of the parity suite: how each runs a flow, and how its documents and references are read afterwards."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from tests.parity.two import JOBFLOW, TOWLINE, Engine

FIELDS = ("uuid", "index", "output", "metadata", "hosts", "name")
"""What is compared of a document; `completed_at` differs, and must be there."""

Ran = tuple[Any, list[dict[str, Any]], Callable[[Any], Any]]


def shown(documents: Iterable[dict[str, Any]], reference: type) -> list[dict[str, Any]]:
    """Documents in a fixed order, with references as such where jobflow has left some."""

    def with_references(value: Any) -> Any:
        if isinstance(value, dict):
            if value.get("@class") == "OutputReference":
                return reference.from_dict(value)  # type: ignore[attr-defined]  # both engines' have it
            return {key: with_references(item) for key, item in value.items()}
        return [with_references(item) for item in value] if isinstance(value, list) else value

    told = [{name: with_references(document[name]) for name in FIELDS} for document in documents if document["completed_at"]]
    return sorted(told, key=lambda document: (document["uuid"], document["index"]))


def jobflow_engine() -> Engine:
    """jobflow itself, over a store in memory."""

    def run(flow: Any, **options: Any) -> Ran:
        from jobflow import JobStore, OnMissing, OutputReference, run_locally
        from maggma.stores import MemoryStore

        store = JobStore(MemoryStore())
        responses = run_locally(flow, store=store, log=False, **options)
        documents = shown(store.query({}), OutputReference)

        def value_of(ref: Any) -> Any:
            try:
                found = ref.resolve(store, on_missing=OnMissing.PASS)
            except Exception:
                return ref
            return ref if found == ref else found

        return responses, documents, value_of

    return Engine(JOBFLOW, run)


def towline_engine(place: Path, compat: str | None = None) -> Engine:
    """towline's run_locally, durable: each run has a store of its own under `place`."""
    number = itertools.count()

    def run(flow: Any, **options: Any) -> Ran:
        from towline import JobStore, OutputReference, run_locally

        url = place / f"run{next(number)}"
        responses = run_locally(flow, store=url, log=False, compat=compat, **options)
        documents = JobStore(url)
        stored = shown(documents.query({}), OutputReference)
        documents.close()

        def value_of(ref: Any) -> Any:
            indices = responses.get(ref.uuid)
            if not indices:
                return ref
            from towline.engine.authoring.reference import follow

            return follow(indices[max(indices)].output, ref.attributes)

        return responses, stored, value_of

    return Engine(TOWLINE, run)


def durable_engine(place: Path) -> Engine:
    """`run(local=True)` and the outputs that its Run tells of, by uuid and index."""
    number = itertools.count()

    def run_it(flow: Any, **options: Any) -> Ran:
        from towline import Response, run

        ran = run(flow, store=place / f"run{next(number)}", local=True, progress=False, raise_on_failure=False, **options)
        responses: dict[str, dict[int, Any]] = {}
        infos = ran.jobs(["completed"])
        for info, output in zip(infos, ran.outputs(infos), strict=True):
            responses.setdefault(info.uuid, {})[info.index] = Response(output=output)
        return responses, [], lambda ref: ref

    return Engine(TOWLINE, run_it)

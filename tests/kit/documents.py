"""Builders for tests of documents: a store with a run, jobs that lay parts aside, two JobStores side by side."""

from __future__ import annotations

from typing import Any

from towline import Flow, job, run


@job
def double(x: int) -> dict[str, Any]:
    return {"value": 2 * x, "pair": (x, x)}


@job(data="big")
def with_big(x: int) -> dict[str, Any]:
    return {"small": (x,), "big": [x] * 3}


@job(data=True)
def total(values: dict[str, Any]) -> int:
    return sum(values["big"])


@job
def count(values: dict[str, Any]) -> int:
    return len(values["big"]) + sum(values["small"])


@job
def fail() -> None:
    raise RuntimeError("no")


def ran(place: Any, jobs: list[Any], **options: Any) -> Any:
    """The Run of these jobs, in this process."""
    return run(Flow(jobs), store=place, local=True, progress=False, raise_on_failure=False, **options)


def plain(documents: Any) -> list[dict[str, Any]]:
    """Documents without what only a database adds, in an order of their own."""
    bare = [{key: value for key, value in document.items() if key != "_id"} for document in documents]
    return sorted(bare, key=repr)

"""The quick store answers as maggma's own does, to the questions that jobflow asks; others it refuses."""

from __future__ import annotations

from typing import Any

import pytest
from jobflow import Flow, JobStore, Response, job, run_locally
from maggma.stores import MemoryStore

from towline.benchmarks.peers.quickstore import QuickStore


def again(number: int) -> Any:
    return Response(replace=job(again)(number - 1)) if number else "done"


@pytest.mark.parametrize("which", ["first", "last", "all", 2])
def test_as_a_memory_store(which: str | int) -> None:
    found = []
    for docs in (QuickStore(), MemoryStore()):
        one = job(again)(2)
        other = job(again)(0)
        store = JobStore(docs)
        run_locally(Flow([one, other]), log=False, store=store)
        found.append((store.get_output(one.uuid, which=which), len(list(store.query({"uuid": other.uuid})))))
    assert found[0] == found[1]


def test_a_document_takes_the_place_of_an_older_one() -> None:
    store = QuickStore()
    store.update([{"uuid": "a", "index": 1, "output": 1}, {"uuid": "a", "index": 2, "output": 2}])
    store.update([{"uuid": "a", "index": 1, "output": 3}])
    assert [doc["output"] for doc in store.query({"uuid": "a"}, sort={"index": 1})] == [3, 2]
    assert [doc["output"] for doc in store.query({"uuid": "a"}, sort={"index": -1}, limit=1)] == [2]
    assert list(store.query({"uuid": "b"})) == []


def test_other_questions_are_refused() -> None:
    store = QuickStore()
    for question in ({"criteria": {"name": "x"}}, {"sort": {"name": 1}}, {"skip": 1}):
        with pytest.raises(NotImplementedError, match="by uuid and index only"):
            store.query(**question)

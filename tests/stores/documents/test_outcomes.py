"""20,000 documents of a run: what each shape of query looks at, counted in operations."""

from __future__ import annotations

import collections

import pytest

from towline import Flow, job, run
from towline.stores.documents import criteria as language
from towline.stores.documents import outcomes
from towline.stores.documents.place import DocumentStore

SIZE = 20_000


@job
def number(n):
    return {"n": n}


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    place = tmp_path_factory.mktemp("large") / "store"
    jobs = [number(n) for n in range(SIZE)]
    for place_in_flow in range(0, SIZE, 2):
        jobs[place_in_flow].name = "even"
    jobs[7].update_metadata({"lucky": True})
    run(Flow(jobs), store=place, local=True, progress=False)
    return DocumentStore(place), [one.uuid for one in jobs]


@pytest.fixture
def counted(monkeypatch):
    """How often documents are matched, headers made, outputs read."""
    counts = collections.Counter()

    def counting(owner, name):
        real = getattr(owner, name)

        def wrapper(*args, **kwargs):
            counts[name] += 1
            return real(*args, **kwargs)

        monkeypatch.setattr(owner, name, wrapper)

    counting(language, "matches")
    counting(outcomes.Outcomes, "header")
    counting(outcomes.Outcomes, "outputs")
    return counts


def test_by_uuid_one_document_is_looked_at(large, counted):
    store, uuids = large
    for uuid in uuids[:3]:
        assert store.query_one({"uuid": uuid})["uuid"] == uuid
    assert counted["header"] == 3
    assert counted["outputs"] == 3


@pytest.mark.parametrize(
    ("criteria", "expected"),
    [
        ({"name": "even"}, SIZE // 2),
        ({"metadata.lucky": True}, 1),
        ({"state": "completed", "name": {"$ne": "even"}}, SIZE // 2),
        ({"$or": [{"name": "even"}, {"metadata.lucky": True}]}, SIZE // 2 + 1),
        ({"index": 1}, SIZE),
        ({"state": {"$in": ["failed", "waiting"]}}, 0),
        (None, SIZE),
    ],
)
def test_the_job_tables_fields_are_answered_for_all_rows_at_once(large, counted, criteria, expected):
    assert large[0].count(criteria) == expected
    assert counted["header"] == counted["outputs"] == 0
    assert counted["matches"] < 50, "once for each distinct spec, state or index"


def test_a_limit_ends_the_reading(large, counted):
    store, _ = large
    assert len(list(store.query(limit=5))) == 5
    assert counted["header"] <= 32
    first = next(store.query({"output.n": {"$gte": 0}}))
    assert first["output"] == {"n": 0}
    assert counted["header"] <= 2 * 32


def test_outputs_are_read_once_each_however_they_are_asked_for(large, counted):
    store, uuids = large
    assert store.count({"output.n": {"$lt": 10}}) == 10
    assert counted["header"] == SIZE
    counted.clear()
    top = list(store.query(sort={"output.n": -1}, limit=3, properties=["output.n"]))
    assert [one["output"]["n"] for one in top] == [SIZE - 1, SIZE - 2, SIZE - 3]
    assert counted["header"] == SIZE + 3
    counted.clear()
    found = store.newest(uuids[:8000])
    assert [found[uuid]["output"]["n"] for uuid in uuids[:8000]] == list(range(8000))
    assert counted["outputs"] == 1
    assert counted["header"] == 8000


def test_a_sort_by_columns_reads_no_output_that_is_not_shown(large, counted):
    store, uuids = large
    assert [one["uuid"] for one in store.query(sort={"uuid": 1}, limit=2, properties=["uuid"])] == sorted(uuids)[:2]
    assert counted["outputs"] == 0


def test_many_written_documents_are_found_at_once(large, counted):
    store = DocumentStore(large[0].url, "written")
    store.update([{"uuid": str(n), "index": 1, "n": n} for n in range(SIZE)], key=["uuid", "index"])
    store.update([{"uuid": str(n), "index": 1, "n": -n} for n in range(100)], key=["uuid", "index"])
    counted.clear()
    assert store.query_one({"uuid": "50"})["n"] == -50
    assert [one["n"] for one in store.query({"uuid": {"$in": ["7", "8000"]}})] == [-7, 8000]
    assert counted["matches"] <= 3
    store.update([{"n": n, "seen": True} for n in range(1000, 3000)], key="n")
    assert counted["matches"] <= SIZE + 10, "looked through once, not once for each document"
    assert store.count({"seen": True}) == 2000

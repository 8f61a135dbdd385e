"""Batches, skips and limits over both kinds of documents; what is committed counts, and nothing else."""

from __future__ import annotations

import pytest

from tests.kit.documents import double, ran
from towline.stores.documents import reading
from towline.stores.documents.place import DocumentStore


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """70 outcomes, of which 10 are replaced and 5 hidden, and 40 other documents."""
    place = tmp_path_factory.mktemp("mixed") / "store"
    jobs = [double(number) for number in range(70)]
    ran(place, jobs)
    store = DocumentStore(place)
    store.update([{"uuid": job.uuid, "index": 1, "output": {"value": -1}} for job in jobs[:10]], key=["uuid", "index"])
    store.remove_docs({"uuid": {"$in": [job.uuid for job in jobs[10:15]]}})
    store.update([{"uuid": f"x{number}", "index": 1, "output": {"value": 1000 + number}} for number in range(40)])
    return store


EXPECTED = sorted([2 * number for number in range(15, 70)] + [-1] * 10 + [1000 + number for number in range(40)])


def values(documents):
    return [document["output"]["value"] for document in documents]


def test_every_document_comes_once(mixed):
    assert sorted(values(mixed.query())) == EXPECTED
    assert mixed.count() == len(EXPECTED)


@pytest.mark.parametrize("skip", [0, 1, 31, 32, 33, 60, 104, 105, 200])
@pytest.mark.parametrize("limit", [0, 1, 32, 50, 200])
def test_skip_and_limit_cut_what_comes(mixed, skip, limit):
    everything = values(mixed.query())
    assert values(mixed.query(skip=skip, limit=limit)) == (everything[skip:][:limit] if limit else everything[skip:])
    ordered = values(mixed.query(sort={"output.value": -1}, skip=skip, limit=limit))
    assert ordered == (EXPECTED[::-1][skip:][:limit] if limit else EXPECTED[::-1][skip:])


def test_batches_grow():
    assert reading._batches(0, 4) == []
    assert reading._batches(30, 4) == [(0, 4), (4, 12), (12, 28), (28, 30)]
    assert max(end - begin for begin, end in reading._batches(10**5, 1)) == reading.LARGEST_BATCH


def test_a_cursor_that_is_left_alone_is_closed(mixed):
    found = mixed.query()
    next(found)
    found.close()
    assert mixed.count() == len(EXPECTED)


def test_the_newest_are_found_in_front_of_outcomes(mixed):
    document = mixed.query_one({"output.value": -1})
    found = mixed.newest([document["uuid"], "x3", "nobody"])
    assert found[document["uuid"]]["output"] == {"value": -1}
    assert found["x3"]["output"] == {"value": 1003}
    assert set(found) == {document["uuid"], "x3"}

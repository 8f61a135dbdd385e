"""Random lives of a collection end as those of maggma's MemoryStore do."""

from __future__ import annotations

import copy
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from maggma.stores import MemoryStore

from tests.kit.documents import double, plain, ran
from towline.stores.documents import writing
from towline.stores.documents.place import DocumentStore
from towline.stores.jobstore.errors import ConcurrentFileModificationException

small = st.sampled_from(["u", "v", "w"])
documents = st.fixed_dictionaries({"uuid": small, "index": st.integers(1, 2), "n": st.integers(0, 3)})
updates = st.tuples(
    st.just("update"),
    st.lists(documents, min_size=1, max_size=3),
    st.sampled_from([["uuid", "index"], ["index", "uuid"], "uuid", "n", ["n", "uuid"]]),
)
removals = st.tuples(
    st.just("remove"), st.sampled_from([{"uuid": "u"}, {"n": {"$gt": 1}}, {"uuid": {"$in": ["v", "w"]}, "index": 1}]), st.none()
)


@settings(max_examples=60, deadline=None)
@given(st.lists(updates | removals, max_size=8))
def test_the_same_life_leaves_the_same_documents(life):
    mine, theirs = DocumentStore(f"memory:{os.urandom(8).hex()}"), MemoryStore(key="uuid")
    theirs.connect()
    for verb, what, key in life:
        for store in (mine, theirs):
            if verb == "update":
                store.update(copy.deepcopy(what), key=key)
            else:
                store.remove_docs(what)
        expected = plain(theirs.query())
        # which of several documents that agree in a key is replaced is nobody's promise, but how many there are is
        if plain(mine.query()) != expected:
            agreeing = [one for one in expected if sum(all(one[k] == other[k] for k in _keys(key)) for other in expected) > 1]
            assert len(plain(mine.query())) == len(expected)
            assert agreeing or verb == "remove" or len(_keys(key)) == 1
            return
    assert mine.count() == theirs.count()


def _keys(key):
    return [key] if isinstance(key, str) else key or []


def test_an_outcome_is_replaced_by_any_of_its_fields(store_dir):
    jobs = [double(1), double(2)]
    ran(store_dir, jobs)
    store = DocumentStore(store_dir)
    store.update({"uuid": jobs[0].uuid, "note": "mine"})
    assert store.query_one({"uuid": jobs[0].uuid}) == {"uuid": jobs[0].uuid, "note": "mine"}
    store.update({"output": {"value": 4, "pair": [2, 2]}, "uuid": "other", "index": 1}, key="output")
    assert store.count({"uuid": jobs[1].uuid}) == 0, "its document has another uuid now"
    assert store.count() == 2
    store.remove_docs({"uuid": {"$in": ["other", jobs[0].uuid]}})
    assert store.count() == 0, "what was replaced does not come back"


def test_a_change_that_comes_between_is_seen(monkeypatch):
    place = f"memory:{os.urandom(8).hex()}"
    store, other = DocumentStore(place), DocumentStore(place)
    store.update({"uuid": "u", "n": 1}, key="n")
    real = writing._planned
    turns = []

    async def planned(held, found, fields):
        plan = await real(held, found, fields)
        if not turns:
            turns.append(1)
            await other_place.written.refresh()
            await writing.update(other_place, [{"uuid": "u", "n": 1, "other": True}], ["uuid"])
        return plan

    other.count()
    other_place = other._held[1]
    monkeypatch.setattr(writing, "_planned", planned)
    store.update({"uuid": "u", "n": 1, "mine": True}, key="n")
    assert list(store.query()) == [{"uuid": "u", "n": 1, "mine": True}]


def test_who_never_gets_through_is_told(monkeypatch):
    store = DocumentStore(f"memory:{os.urandom(8).hex()}")
    store.update({"uuid": "u"})

    async def never(*args, **kwargs):
        raise ConcurrentFileModificationException("u")

    monkeypatch.setattr(store._held[1].written, "commit", never)
    with pytest.raises(ConcurrentFileModificationException):
        store.update({"uuid": "u", "x": 1})

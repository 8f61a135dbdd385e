"""What follows from `query`, on documents of any shape."""

from __future__ import annotations

import datetime as dt
import os

import pytest

from towline.stores.documents.place import DocumentStore
from towline.stores.documents.verbs import StoreError


@pytest.fixture
def store():
    return DocumentStore(f"memory:{os.urandom(8).hex()}", key="task", last_updated_field="at", last_updated_type="datetime")


DAY = dt.datetime(2024, 5, 1)


def test_last_updated(store):
    assert store.last_updated == dt.datetime.min
    store.update([{"task": "a", "at": DAY}, {"task": "b", "at": DAY + dt.timedelta(1)}])
    assert store.last_updated == DAY + dt.timedelta(1)
    assert store.lu_filter([store]) == {"at": {"$gt": DAY + dt.timedelta(1)}}
    store.remove_docs({})
    store.update({"task": "c"})
    with pytest.raises(StoreError, match="No field 'at' in store document"):
        _ = store.last_updated


def test_newer_in(store):
    other = DocumentStore(f"memory:{os.urandom(8).hex()}", key="task", last_updated_field="at", last_updated_type="datetime")
    store.update([{"task": "a", "at": DAY}, {"task": "b", "at": DAY}])
    other.update(
        [{"task": "a", "at": DAY}, {"task": "b", "at": DAY + dt.timedelta(1)}, {"task": "c", "at": DAY - dt.timedelta(1)}]
    )
    assert store.newer_in(other) == store.updated_keys(other) == ["b"]
    assert sorted(store.newer_in(other, exhaustive=True)) == ["b", "c"]
    assert store.newer_in(other, criteria={"task": "a"}, exhaustive=True) == []


def test_times_as_text_count_by_the_millisecond():
    store = DocumentStore(f"memory:{os.urandom(8).hex()}")
    store.update({"uuid": "u", "completed_at": DAY.isoformat()})
    assert store.last_updated == DAY
    assert store.lu_filter(store) == {"completed_at": {"$gt": "2024-05-01T00:00:00.001"}}


def test_groups_of_values_that_python_cannot_order(store):
    store.update([{"task": "a", "n": 1}, {"task": "b", "n": "x"}, {"task": "c", "n": 1}, {"task": "d"}])
    groups = [(said, [one["task"] for one in found]) for said, found in store.groupby("n")]
    assert groups == [({"n": 1}, ["a", "c"]), ({"n": "x"}, ["b"])]
    assert store.distinct("n") == [1, "x"]
    assert next(set(one) for _, found in store.groupby("task", properties=["n"]) for one in found) == {"task", "n"}

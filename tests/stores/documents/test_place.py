"""`DocumentStore`: the documents of runs and what was written in front of them, as one collection."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import os
import pickle
import shutil
import threading
from pathlib import Path

import msgspec
import pytest

from tests.kit.documents import double, fail, plain, ran
from towline import Flow, Response, job, orders, run, session
from towline.engine.errors import UsageError
from towline.stores.documents.place import DocumentStore


@pytest.fixture
def store():
    """An empty place in memory of its own."""
    return DocumentStore(f"memory:{os.urandom(8).hex()}")


def test_the_documents_of_a_run(store_dir):
    jobs = [double(number) for number in range(5)]
    jobs[1].update_metadata({"tag": {"n": 1}})
    jobs[2].name = "two"
    flow = Flow([*jobs, fail()], name="f")
    run(flow, store=store_dir, local=True, progress=False, raise_on_failure=False)
    store = DocumentStore(store_dir)
    assert store.count() == 5, "a job that failed has no document"
    document = store.query_one({"uuid": jobs[1].uuid})
    assert list(document) == ["uuid", "index", "output", "completed_at", "metadata", "hosts", "name"]
    assert document["output"] == {"value": 2, "pair": [1, 1]}
    assert document["metadata"] == {"tag": {"n": 1}}
    assert document["hosts"] == [flow.uuid]
    assert dt.datetime.fromisoformat(document["completed_at"]).tzinfo is None
    assert [one["uuid"] for one in store.query({"name": "two"})] == [jobs[2].uuid]
    assert store.count({"metadata.tag.n": 1}) == 1
    assert [one["output"]["value"] for one in store.query(sort={"output.value": -1}, skip=1, limit=2)] == [6, 4]
    assert store.distinct("name") == ["double", "two"]
    assert store.last_updated.isoformat() == max(one["completed_at"] for one in store.query())
    assert store.name == f"towline://{store_dir}"


def test_states_are_asked_for_by_name(store_dir):
    ran(store_dir, [double(1), fail(), fail()])
    store = DocumentStore(store_dir)
    failed = list(store.query({"state": "failed"}))
    assert [(one["name"], one["output"], one["state"]) for one in failed] == [("fail", None, "failed")] * 2
    assert store.count({"state": {"$in": ["completed", "failed"]}}) == 3
    assert store.count({"state": "completed", "name": "fail"}) == 0
    assert {one["state"] for one in store.query(properties=["state"])} == {"completed"}
    assert "state" not in store.query_one()


@job
def again(x):
    return Response(output="first", replace=double(x))


def test_a_replaced_job_has_a_document_for_each_index(store_dir):
    replaced = again(4)
    ran(store_dir, [replaced, double(1)])
    store = DocumentStore(store_dir)
    found = list(store.query({"uuid": replaced.uuid}, sort={"index": -1}))
    assert [one["index"] for one in found] == [2, 1]
    assert [one["output"] for one in found] == [{"value": 8, "pair": [4, 4]}, "first"]
    assert store.count({"index": {"$gte": 2}}) == 1
    assert store.newest([replaced.uuid, "nobody"])[replaced.uuid]["index"] == 2


def test_large_outputs_are_read_from_their_files(store_dir):
    @job
    def large(n):
        return {"text": "x" * n, "n": n}

    jobs = [large(40_000 + number) for number in range(5)]
    ran(store_dir, jobs)
    store = DocumentStore(store_dir)
    assert store.query_one({"output.n": 40_003})["output"]["text"] == "x" * 40_003
    assert sorted(len(one["output"]["text"]) for one in store.query()) == [40_000 + number for number in range(5)]


def test_what_documents_cannot_hold_stays_what_it_is(store_dir):
    class Odd:
        pass

    @job
    def odd():
        return Odd()

    ran(store_dir, [odd()])
    assert type(DocumentStore(store_dir).query_one()["output"]).__name__ == "Odd"


def test_a_query_sees_what_was_committed_before_it(store_dir):
    """Also of a run that goes on, by the same store object."""
    store = DocumentStore(store_dir)
    seen = []
    first = double(1)

    @job
    def look(value):
        return value

    ran(store_dir, [first, look(first.output["value"])])
    seen.append(store.count())
    ran(store_dir, [double(2), double(3)])
    seen.append(store.count())
    assert seen == [2, 4]


def test_a_job_may_look_while_its_run_goes_on(store_dir):
    store = DocumentStore(store_dir)
    counts = []

    def watching(name, uuid, index):
        counts.append(store.count())
        return contextlib.nullcontext()

    order = orders.order_of(Flow([double(1)]), {"store": store_dir, "local": True, "progress": False})
    session.drive(msgspec.structs.replace(order, local_options={"around": watching}))
    assert counts == [0]
    assert store.count() == 1


def test_written_documents_stand_in_front_of_outcomes(store_dir):
    jobs = [double(number) for number in range(3)]
    ran(store_dir, jobs)
    store = DocumentStore(store_dir)
    mine = {"uuid": jobs[0].uuid, "index": 1, "output": "mine"}
    store.update(mine, key=["uuid", "index"])
    assert store.count() == 3
    assert store.query_one({"uuid": jobs[0].uuid}) == mine
    assert store.count({"output.value": {"$exists": True}}) == 2
    assert store.newest([jobs[0].uuid])[jobs[0].uuid]["output"] == "mine"
    store.remove_docs({"uuid": {"$in": [jobs[0].uuid, jobs[1].uuid]}})
    assert [one["uuid"] for one in store.query()] == [jobs[2].uuid]
    assert DocumentStore(store_dir).count() == 1, "another process sees the same"
    store.update({"uuid": jobs[1].uuid, "index": 1, "output": "back"}, key=["uuid", "index"])
    assert store.count() == 2


def test_update_replaces_by_any_fields(store):
    store.update([{"a": 1, "b": 1, "uuid": "u"}, {"a": 1, "b": 2, "uuid": "v"}], key=["a", "b"])
    store.update({"a": 1, "b": 2, "uuid": "w", "new": True}, key=["a", "b"])
    store.update({"b": 2, "uuid": "x"}, key="b")
    assert plain(store.query()) == plain([{"a": 1, "b": 1, "uuid": "u"}, {"b": 2, "uuid": "x"}])
    store.update([{"uuid": "u", "n": 1}, {"uuid": "u", "n": 2}])
    assert store.query_one({"uuid": "u"}) == {"uuid": "u", "n": 2}
    with pytest.raises(KeyError):
        store.update([{"uuid": "fine"}, {"nothing": 1}])
    assert store.count({"uuid": "fine"}) == 0, "all or nothing"


def test_documents_with_one_uuid_and_index_may_differ_in_their_key(store):
    store.update([{"task": 1, "uuid": "u", "index": 1}, {"task": 2, "uuid": "u", "index": 1}], key="task")
    assert store.count({"uuid": "u"}) == 2
    store.update({"task": 2, "uuid": "u", "index": 1, "x": 1}, key="task")
    assert sorted(one["task"] for one in store.query({"uuid": "u"})) == [1, 2]


def test_a_document_whose_uuid_is_no_text_is_found_as_mongo_finds_it(store):
    store.update([{"uuid": ["u", "v"], "n": 1}, {"uuid": "u", "n": 2}, {"n": 3}], key="n")
    assert sorted(one["n"] for one in store.query({"uuid": "u"})) == [1, 2]
    assert [one["n"] for one in store.query({"uuid": None})] == [3]


def test_large_documents_lie_beside_the_chain_and_go_with_it(store_dir):
    store = DocumentStore(store_dir)
    store.update({"uuid": "u", "index": 1, "output": "x" * 100_000}, key=["uuid", "index"])
    blobs = list(store_dir.glob("documents/main/blobs/*/*"))
    assert len(blobs) == 1
    assert len(DocumentStore(store_dir).query_one({"uuid": "u"})["output"]) == 100_000
    store.update({"uuid": "u", "index": 1, "output": "small"}, key=["uuid", "index"])
    assert store.query_one({"uuid": "u"})["output"] == "small"
    assert list(store_dir.glob("documents/main/blobs/*/*")) == []


def test_where_nothing_lies_there_are_no_documents(store_dir, caplog):
    store = DocumentStore(store_dir)
    store.connect()
    assert store.count() == 0
    assert list(store.query()) == []
    assert store.newest(["u"]) == {}
    store.remove_docs({})
    assert not store_dir.exists(), "looking makes nothing"
    assert caplog.text.count("there is no store at") == 1
    store.update({"uuid": "u"})
    assert store.query_one() == {"uuid": "u"}
    store.close()
    store.close()
    assert store.count() == 1


def test_collections_of_a_place_are_apart(store_dir):
    ran(store_dir, [double(1)])
    other = DocumentStore(store_dir, "data", key="blob_uuid")
    assert other.count() == 0
    other.update({"blob_uuid": "b", "data": [1]})
    assert other.query_one({"blob_uuid": "b"}) == {"blob_uuid": "b", "data": [1]}
    assert DocumentStore(store_dir).count() == 1
    with pytest.raises(UsageError, match="cannot name a collection"):
        DocumentStore(store_dir, "../x")


def test_it_is_used_from_any_thread_and_inside_a_loop(store):
    store.update([{"uuid": str(number), "index": 1} for number in range(50)], key=["uuid", "index"])
    threads = [
        threading.Thread(target=lambda n=n: store.update({"uuid": f"t{n}", "index": 1}, key=["uuid", "index"])) for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    async def inside():
        return store.count()

    assert asyncio.run(inside()) == 58


def test_it_travels_by_its_name(store):
    store.update({"uuid": "u"})
    twin = pickle.loads(pickle.dumps(store))
    assert twin == store
    assert hash(twin) == hash(store)
    assert twin.count() == 1
    assert DocumentStore.from_dict(store.as_dict()) == store


def test_compat_writes_documents_as_jobflow_does(store_dir):
    ran(store_dir, [double(1)])
    document = DocumentStore(store_dir, compat="jobflow").query_one()
    assert (document["@module"], document["@class"]) == ("jobflow.core.schemas", "JobStoreDocument")
    with pytest.raises(UsageError, match="compat must be"):
        DocumentStore(store_dir, compat="other")


@pytest.mark.parametrize("kind", ["appended", "linked"])
def test_a_golden_run_has_its_documents(tmp_path, kind):
    """Stores of released formats are document stores, too."""
    shutil.copytree(Path(__file__).parents[2] / "golden" / "stores" / "format1" / kind, tmp_path / "store")
    store = DocumentStore(tmp_path / "store")
    assert store.count() == store.count({"state": "completed"}) > 0
    for document in store.query(limit=20):
        assert store.query_one({"uuid": document["uuid"], "index": document["index"]}) == document

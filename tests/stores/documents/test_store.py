"""`JobStore` answers as jobflow's does over maggma's MemoryStore, operation by operation; and what it does beyond that."""

from __future__ import annotations

import copy
import os
import re
import subprocess
import sys
from enum import Enum

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jobflow import JobStore as Theirs
from maggma.stores import MemoryStore
from monty.json import MSONable

from tests.kit.documents import double, plain, ran, with_big
from towline import JobStore, JobStoreDocument, OnMissing, OutputReference
from towline.engine.errors import UsageError
from towline.stores.documents import saving
from towline.stores.documents.place import DocumentStore


class Key(Enum):
    B = "b"


class Part(MSONable):
    def __init__(self, n):
        self.n = n


def theirs(**options):
    store = Theirs(MemoryStore(), {"data": MemoryStore("data"), "other": MemoryStore("other")}, **options)
    store.connect()
    return store


def over_maggma(**options):
    store = JobStore(MemoryStore(), {"data": MemoryStore("data"), "other": MemoryStore("other")}, **options)
    store.connect()
    return store


def over_towline(**options):
    place = f"memory:{os.urandom(8).hex()}"
    return JobStore(place, {"data": place, "other": place}, **options)


OURS = [over_maggma, over_towline]


def comparable(value):
    """Without what only a database adds; ids of parts by the order in which they are met."""
    numbers = {}

    def walk(at):
        if isinstance(at, dict):
            return {
                key: numbers.setdefault(item, f"part {len(numbers)}") if key == "blob_uuid" else walk(item)
                for key, item in sorted(at.items(), key=lambda pair: str(pair[0]))
                if key != "_id"
            }
        return [walk(item) for item in at] if isinstance(at, list | tuple) else at

    return walk(value if value is None or isinstance(value, dict) else list(value))


def document(uuid, index=1, **said):
    return {
        "uuid": uuid,
        "index": index,
        "output": {"uuid": uuid, "n": index},
        "metadata": {},
        "name": "job",
        "hosts": [],
        **said,
    }


REF = {"@module": "jobflow.core.reference", "@class": "OutputReference", "uuid": "b", "attributes": [["i", "n"]]}
FILLED = [
    document("a", 1),
    document("a", 2, name="two", metadata={"tags": ["x", "y"]}),
    document("b", 1, output={"a": 1, "b": {"b": [1]}, "c": [{"b": 2}, 3]}),
    document("b", 2, output={"n": 7, "r": None}),
    document("c", 1, output={"r": REF, "list": [REF]}),
    document("d", 3, output={"part": Part(1).as_dict(), "again": [Part(2).as_dict()]}, extra=5.5),
]

OPERATIONS = {
    "all": lambda store: comparable(store.query(sort={"uuid": 1, "index": 1})),
    "one": lambda store: comparable(store.query_one({"uuid": "a", "index": 2})),
    "nobody": lambda store: store.query_one({"uuid": "z"}),
    "in": lambda store: comparable(store.query({"uuid": {"$in": ["a", "z", "c"]}}, sort={"uuid": 1, "index": 1})),
    "nested": lambda store: comparable(store.query({"output.n": {"$gt": 1}}, sort={"output.n": -1})),
    "array": lambda store: comparable(store.query({"metadata.tags": "x"})),
    "or": lambda store: comparable(store.query({"$or": [{"name": "two"}, {"extra": {"$exists": True}}]}, sort={"uuid": 1})),
    "regex": lambda store: comparable(store.query({"uuid": {"$regex": "^[ab]$"}, "index": 2}, sort={"uuid": 1})),
    "compiled": lambda store: comparable(store.query({"name": re.compile("TW", re.IGNORECASE)})),
    "properties": lambda store: comparable(store.query({"uuid": "a"}, ["output.n"], sort={"index": 1})),
    "projection": lambda store: comparable(store.query({"uuid": "a"}, {"output": 1}, sort={"index": -1})),
    "page": lambda store: comparable(store.query(sort={"uuid": 1, "index": -1}, skip=1, limit=2)),
    "past the end": lambda store: comparable(store.query(sort={"uuid": 1}, skip=9)),
    "count": lambda store: (store.count(), store.count({"uuid": "a"}), store.count({"output.n": 7})),
    "groups": lambda store: [
        (key, sorted(one["uuid"] for one in group)) for key, group in store.groupby("index", properties=["uuid"])
    ],
    "groups of two": lambda store: [(key, len(group)) for key, group in store.groupby(["name", "output.n"])],
    "groups with criteria": lambda store: [(key, len(group)) for key, group in store.groupby("uuid", {"index": 1})],
    "distinct": lambda store: (store.distinct("uuid"), store.distinct("output.n"), store.distinct("name", {"index": 2})),
    "output": lambda store: (store.get_output("a"), store.get_output("a", which="first"), store.get_output("a", which=1)),
    "outputs": lambda store: store.get_output("a", which="all"),
    "output with references": lambda store: store.get_output("c"),
    "cache": lambda store: store.get_output("c", cache={"b": {2: {"n": "from the cache"}}}),
    "no output": lambda store: store.get_output("z"),
    "no such index": lambda store: store.get_output("a", which=5),
    "index": lambda store: store.ensure_index("uuid"),
    "update": lambda store: (store.update(document("a", 1, output="new")), store.get_output("a", which=1))[1],
    "update by uuid": lambda store: (
        store.update({"uuid": "d", "index": 3, "x": 1}, key="uuid"),
        comparable(store.query({"uuid": "d"})),
    )[1],
    "update a model": lambda store: (
        store.update(JobStoreDocument(uuid="m", index=1, output=(1, 2))), store.query_one({"uuid": "m"})["output"]
    )[1],
    "save key": lambda store: saved(store, {"data": "b"}),
    "save Enum": lambda store: saved(store, {"data": Key.B}),
    "save class": lambda store: saved(store, {"data": Part}),
    "save list": lambda store: saved(store, {"data": ["n", Part]}),
    "save path": lambda store: saved(store, {"data": [["output", "b"]]}),
    "save output": lambda store: saved(store, {"data": "output"}),
    "save nothing": lambda store: saved(store, False),
    "save elsewhere": lambda store: saved(store, {"nowhere": "b"}),
    "load all": lambda store: loaded(store, True),
    "load by store": lambda store: loaded(store, {"data": True}),
    "load not": lambda store: loaded(store, {"data": False}),
    "load key": lambda store: loaded(store, {"data": "b"}),
    "load another key": lambda store: loaded(store, {"data": ["x", Key.B]}),
    "load class": lambda store: loaded(store, {"data": Part}),
    "remove": lambda store: (
        store.remove_docs({"uuid": "a"}),
        store.count(),
        comparable(store.query(sort={"uuid": 1, "index": 1})),
    )[1:],
    "remove with parts": lambda store: (saved(store, {"data": "b"}), store.remove_docs({"uuid": "b"}), parts(store, "data"))[2],
    "remove nobody": lambda store: (store.remove_docs({"uuid": "z"}), store.count())[1],
    "key": lambda store: store.key,
}  # fmt: skip


def parts(store, name):
    return plain({key: one[key] for key in ("data", "job_uuid", "job_index")} for one in store.additional_stores[name].query())


def saved(store, save):
    store.update([copy.deepcopy(one) for one in FILLED[2:]], save=save)
    return comparable(store.query(sort={"uuid": 1, "index": 1}, load=False)), parts(store, "data")


def loaded(store, load):
    saved(store, {"data": ["b", Part]})
    return comparable(store.query({"uuid": {"$in": ["b", "d"]}}, sort={"uuid": 1, "index": 1}, load=load))


def outcome(operation, store):
    store.update(copy.deepcopy(FILLED))
    try:
        return operation(store)
    except Exception as error:
        return type(error), str(error)


@pytest.mark.parametrize("make", OURS)
@pytest.mark.parametrize("name", OPERATIONS)
def test_it_answers_as_jobflow_does(make, name):
    expected = outcome(OPERATIONS[name], theirs())
    assert outcome(OPERATIONS[name], make()) == expected


values = st.recursive(
    st.integers(0, 3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["b", "c", "d"]), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=40, deadline=None)
@given(values, st.lists(st.sampled_from(["b", "c"]), min_size=1, max_size=2, unique=True))
def test_parts_are_taken_out_and_put_back_as_jobflow_does(output, keys):
    """Of matches inside one another the outermost is kept; and with everything loaded the document is what it was."""
    expected, mine = theirs(), over_maggma()
    for store in (expected, mine):
        store.update({"uuid": "u", "index": 1, "output": copy.deepcopy(output)}, save={"data": keys})
    assert comparable(mine.query_one(load=False)) == comparable(expected.query_one(load=False))
    assert parts(mine, "data") == parts(expected, "data")
    assert mine.query_one(load=True)["output"] == output


def test_stores_of_their_own_save_and_load():
    store = over_towline(save={"data": "b"}, load=True)
    store.update({"uuid": "u", "index": 1, "output": {"b": [1]}})
    assert store.query_one()["output"] == {"b": [1]}
    assert saving.is_stub(store.query_one(load=False)["output"]["b"])


def test_two_stores_do_not_take_from_each_other():
    """Deliberate: jobflow would lay the first store's stubs into the second, and load all stores for one."""
    store = over_towline()
    store.update({"uuid": "u", "index": 1, "output": {"b": {"c": 1}, "c": 2}}, save={"data": "b", "other": "c"})
    output = store.query_one(load=False)["output"]
    assert (output["b"]["store"], output["c"]["store"]) == ("data", "other")
    half = store.query_one(load={"data": True})["output"]
    assert half["b"] == {"c": 1}
    assert saving.is_stub(half["c"])


def test_an_unknown_store_leaves_nothing_behind():
    store = over_towline()
    with pytest.raises(ValueError, match="Unrecognised additional store name: nowhere"):
        store.update({"uuid": "u", "index": 1, "output": {"b": 1, "c": 2}}, save={"data": "b", "nowhere": "c"})
    assert store.count() == store.additional_stores["data"].count() == 0
    store.update({"uuid": "u", "index": 1, "output": {"b": {"blob_uuid": "x", "store": "nowhere"}}})
    with pytest.raises(ValueError, match="Unrecognised additional store name: nowhere"):
        store.query_one(load=True)


def test_a_part_that_is_gone_is_an_error():
    store = over_towline()
    store.update({"uuid": "u", "index": 1, "output": {"b": 1}}, save={"data": "b"})
    store.additional_stores["data"].remove_docs({})
    with pytest.raises(KeyError, match="does not hold the part"):
        store.query_one(load=True)


@pytest.mark.parametrize("make", [*OURS, theirs])
def test_a_reference_to_itself_is_an_error(make):
    store = make()
    store.update({"uuid": "b", "index": 1, "output": REF})
    with pytest.raises(RuntimeError, match=r"Reference cycle detected - aborting\."):
        store.get_output("b")


@pytest.mark.parametrize("make", OURS)
def test_missing_references(make):
    store = make()
    store.update({"uuid": "c", "index": 1, "output": [REF]})
    with pytest.raises(ValueError, match="Could not resolve reference - b not in store"):
        store.get_output("c")
    assert store.get_output("c", on_missing=OnMissing.NONE) == [None]


class Counting(MemoryStore):
    """Counts how often it is asked."""

    asked = 0

    def query(self, *args, **kwargs):
        self.asked += 1
        return super().query(*args, **kwargs)

    def remove_docs(self, *args, **kwargs):
        self.asked += 1
        super().remove_docs(*args, **kwargs)


def test_many_references_cost_one_question():
    from towline.engine.authoring.reference import resolve_references

    store = JobStore(Counting())
    store.connect()
    store.update([document(str(number)) for number in range(300)])
    references = [OutputReference(str(number), (("i", "n"),)) for number in range(300)]
    assert set(resolve_references(references, store).values()) == {1}
    assert store.docs_store.asked == 1


def test_many_outputs_of_a_run_are_one_pass(store_dir):
    jobs = [double(number) for number in range(400)]
    ran(store_dir, jobs)
    store = JobStore(store_dir)
    found = store.get_outputs([job.uuid for job in jobs] + ["nobody"])
    assert [found[job.uuid][1]["value"] for job in jobs] == [2 * number for number in range(400)]
    assert store.docs_store._held[1].outcomes.passes == 1


def test_parts_are_loaded_with_few_questions():
    store = JobStore(f"memory:{os.urandom(8).hex()}", {"data": Counting("data")})
    store.connect()
    store.update([document(str(number), output={"b": number}) for number in range(150)], save={"data": "b"})
    before = store.additional_stores["data"].asked
    assert sorted(one["output"]["b"] for one in store.query(load=True)) == list(range(150))
    assert store.additional_stores["data"].asked - before < 6


def test_parts_are_removed_with_few_questions():
    store = JobStore(f"memory:{os.urandom(8).hex()}", {"data": Counting("data")})
    store.connect()
    store.update([document(str(n), n % 2 + 1, output={"b": n}) for n in range(100)], save={"data": "b"})
    parts = store.additional_stores["data"]
    before = parts.asked
    store.remove_docs({"uuid": {"$ne": "7"}})
    assert parts.asked - before == 2, "once for each index"
    assert [part["job_uuid"] for part in parts.query()] == [one["uuid"] for one in store.query()] == ["7"]


def test_it_says_what_it_is_made_of():
    store = over_towline()
    twin = JobStore.from_dict(store.as_dict())
    assert twin.docs_store == store.docs_store
    assert twin.additional_stores == store.additional_stores
    assert store.name.startswith("JobStore-towline://memory:")
    assert store.run_store == store.docs_store.url
    assert over_maggma().run_store is None
    with pytest.raises(UsageError, match="docs_store must be a locator or a document store"):
        JobStore(5)
    with store as entered:
        assert entered is store


def test_any_maggma_store_goes_around_it_and_inside():
    inner = theirs()
    store = JobStore(inner)
    store.update(document("u"))
    assert inner.query_one({"uuid": "u"})["name"] == "job"
    around = Theirs(DocumentStore(f"memory:{os.urandom(8).hex()}"))
    around.update(document("u"))
    assert around.get_output("u") == {"uuid": "u", "n": 1}


def test_newer_documents_are_found_across_stores(store_dir):
    ran(store_dir, [double(1)])
    source, mine = JobStore(store_dir), over_towline()
    assert mine.newer_in(source) == mine.newer_in(source, exhaustive=True) == [source.query_one()["uuid"]]
    mine.copy_from(store_dir)
    assert mine.newer_in(source) == mine.newer_in(source, exhaustive=True) == []


def test_no_name_of_towline_loads_what_is_jobflows():
    code = (
        "import sys, towline\nfor name in towline.__all__: getattr(towline, name)\ntowline.JobStore('memory:x')\n"
        "print(sorted({'jobflow', 'maggma', 'mongomock_ng', 'monty', 'pymongo'} & {*sys.modules}))"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert said.stdout == "[]\n", said.stderr


def test_keep_parts_leaves_types_where_nothing_is_saved():
    store = over_towline()
    assert store.keep_parts({"a": (1,)}, {"data": "b"}, "u", 1) == {"a": (1,)}
    assert store.keep_parts(7, {}, "u", 1) == 7
    kept = store.keep_parts({"a": (1,), "b": Part(3)}, {"data": "b"}, "u", 1, (1, 1))
    assert kept["a"] == [1]
    assert store.whole(kept)["b"].n == 3
    assert store.keep_parts([1], {"data": True}, "u", 1, (1, 2), again=True)["store"] == "data"
    assert store.additional_stores["data"].count() == 1, "what the first attempt left is gone"


def test_parts_of_a_run_lie_in_the_additional_stores(store_dir):
    jobs = [with_big(number) for number in range(3)]
    store = JobStore(store_dir, {"data": store_dir})
    ran(store, jobs)
    assert {saving.is_stub(one["output"]["big"]) for one in store.query()} == {True}
    assert [store.get_output(job.uuid, load=True)["big"] for job in jobs] == [[number] * 3 for number in range(3)]
    assert store.additional_stores["data"].count() == 3

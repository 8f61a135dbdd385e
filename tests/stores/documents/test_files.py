"""A JobStore from a file or a dictionary, as jobflow's settings name one."""

from __future__ import annotations

import json

import jobflow
import pytest
from maggma.stores import MemoryStore
from monty.serialization import dumpfn

from towline import JobStore
from towline.engine.errors import UsageError
from towline.stores.documents.place import DocumentStore

SPEC = {
    "docs_store": {"type": "MemoryStore", "collection_name": "outputs"},
    "additional_stores": {"data": {"type": "MemoryStore", "collection_name": "blobs"}},
}


def test_from_a_dictionary():
    store = JobStore.from_dict_spec(SPEC, save={"data": "big"})
    assert isinstance(store.docs_store, MemoryStore)
    assert store.additional_stores["data"].collection_name == "blobs"
    assert store.save == {"data": "big"}
    assert SPEC["docs_store"]["type"] == "MemoryStore", "the description is not changed"


def test_stores_of_towline_are_kinds_of_store():
    store = JobStore.from_dict_spec(
        {"docs_store": {"type": "DocumentStore", "place": "memory:x"}, "additional_stores": {"d": "memory:y"}}
    )
    assert store.docs_store == DocumentStore("memory:x")
    assert store.additional_stores["d"].collection == "d"


def test_stores_inside_stores():
    spec = {"docs_store": {"type": "AliasingStore", "store": {"type": "MemoryStore"}, "aliases": {"a": "b"}}}
    assert isinstance(JobStore.from_dict_spec(spec).docs_store.store, MemoryStore)


@pytest.mark.parametrize("name", ["store.json", "store.yaml"])
def test_from_a_file(tmp_path, name):
    import yaml

    path = tmp_path / name
    path.write_text(json.dumps(SPEC) if name.endswith("json") else yaml.safe_dump(SPEC))
    assert JobStore.from_file(path).docs_store.collection_name == "outputs"


@pytest.mark.parametrize("name", ["store.json", "store.yaml"])
def test_from_what_monty_wrote(tmp_path, name):
    for made in (jobflow.JobStore(MemoryStore("m"), save={"d": "x"}), JobStore(MemoryStore("m"), save={"d": "x"})):
        dumpfn(made, tmp_path / name)
        store = JobStore.from_file(tmp_path / name)
        assert isinstance(store, JobStore)
        assert (store.docs_store.collection_name, store.save) == ("m", {"d": "x"})


def test_what_describes_no_store(tmp_path):
    with pytest.raises(ValueError, match=r"Unrecognised database file format\."):
        JobStore.from_dict_spec({})
    with pytest.raises(ValueError, match="'NoStore' is no kind of store"):
        JobStore.from_dict_spec({"docs_store": {"type": "NoStore"}})
    with pytest.raises(ValueError, match="has no type"):
        JobStore.from_dict_spec({"docs_store": {}})
    path = tmp_path / "x.json"
    path.write_text("[]")
    with pytest.raises(ValueError, match=r"Unrecognised database file format\."):
        JobStore.from_file(path)
    dumpfn(MemoryStore(), path)
    with pytest.raises(ValueError, match="It holds a MemoryStore"):
        JobStore.from_file(path)


def test_without_maggma_one_sentence_says_what_to_install(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "maggma.core", None)
    with pytest.raises(UsageError, match=r"pip install 'towline\[maggma\]'"):
        JobStore.from_dict_spec(SPEC)

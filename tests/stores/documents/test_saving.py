"""Which parts lie elsewhere, and where they come back."""

from __future__ import annotations

from enum import Enum

import pytest

from towline.stores.documents import saving


class Key(Enum):
    A = "a"


class Thing:
    pass


NAMED = {"@module": Thing.__module__, "@class": "Thing", "a": {"a": 1}}


def test_what_is_meant_by_save_and_load():
    assert saving.save_keys({"s": "a", "t": [Key.A, ["output", Key.A]], "u": True, "v": False}) == {
        "s": ["a"],
        "t": ["a", ("output", "a")],
        "u": ["output"],
    }
    assert saving.save_keys(None) == saving.save_keys(True) == {}
    assert saving.load_keys(None) is False
    assert saving.load_keys({"s": Key.A, "t": Thing, "u": True}) == {"s": ["a"], "t": [(Thing.__module__, "Thing")], "u": True}


def test_keys_and_classes_are_found_outermost():
    data = {"x": [NAMED, {"y": NAMED}], "a": 1}
    assert list(saving.found(data, "a")) == [("a",)], "where the key is met, nothing is looked for beside it"
    assert sorted(saving.found({"x": data["x"]}, Thing), key=repr) == [("x", 0), ("x", 1, "y")]
    assert saving.outermost([("a", "b"), ("a",), ("a", "b", "c"), ("d", 0), ("a",)]) == [("a",), ("d", 0)]


def test_nothing_is_looked_for_inside_a_stub():
    stub = {"blob_uuid": "b", "store": "s", "@class": "", "@module": ""}
    assert list(saving.found({"x": stub}, "store")) == []
    assert [found.path for found in saving.stubs([1, {"x": stub}])] == [(1, "x")]
    assert not saving.is_stub({"blob_uuid": "b"})


def test_deep_values_need_no_recursion():
    deep: list = []
    for _ in range(5000):
        deep = [deep]
    assert saving.stubs(deep) == []
    assert list(saving.found(deep, "a")) == []


def test_taking_apart_and_putting_together():
    document = {"output": {"a": [1], "t": NAMED, "none": None}}
    names = iter("123")
    kept = saving.take_apart(
        document, {"s": ["a", "none", "missing"], "t": [("output", "t"), ("output", "nowhere")]}, "u", 2, lambda *_: next(names)
    )
    assert kept["s"] == [{"@class": "", "@module": "", "blob_uuid": "1", "data": [1], "job_uuid": "u", "job_index": 2}]
    assert kept["t"][0]["@class"] == "Thing"
    assert document["output"]["none"] is None

    class Held:
        def __init__(self, parts):
            self.parts = parts

        def query(self, criteria, properties):
            return [part for part in self.parts if part["blob_uuid"] in criteria["blob_uuid"]["$in"]]

    stores = {name: Held(parts) for name, parts in kept.items()}
    some = saving.put_together([document], {"t": [(Thing.__module__, "Thing")]}, stores)[0]
    assert some["output"]["t"] == NAMED
    assert saving.is_stub(some["output"]["a"])
    assert saving.put_together([some], True, stores)[0]["output"]["a"] == [1]
    assert saving.put_together([kept["s"][0] | {"store": "s"}], True, stores) == [[1]], "a value may be a stub itself"


def test_a_store_that_makes_others_is_asked_for_them():
    from collections import defaultdict

    assert saving.store_named(defaultdict(dict), "any") == {}
    with pytest.raises(ValueError, match="Unrecognised additional store name: any"):
        saving.store_named({}, "any")


def test_paths_that_lead_nowhere():
    assert saving.at({"a": [1]}, ("a", 5), "none") == "none"
    assert saving.at({"a": 1}, ("a", "b"), "none") == "none"
    assert saving.placed({"a": 1}, (), 2) == 2

"""References: values with a path, checked against schemas, resolved as jobflow does."""

from __future__ import annotations

import pickle
from copy import deepcopy
from typing import Any

import pytest

from tests.kit.samples import Box, Document, Inner
from towline.engine.authoring.reference import (
    OnMissing,
    OutputReference,
    ResolvedReference,
    find_and_get_references,
    find_and_resolve_references,
    follow,
    resolve_references,
    validate_schema_access,
)


class Shelf:
    """As much of a JobStore as resolving needs."""

    def __init__(self, **outputs: dict[int, Any]) -> None:
        self.outputs = outputs
        self.reads = 0

    def query_one(self, criteria: dict[str, Any], properties: list[str], sort: dict[str, int]) -> Any:
        known = self.outputs.get(criteria["uuid"])
        return None if known is None else {"index": max(known)}

    def get_output(self, uuid: str, which: str, load: bool, on_missing: OnMissing) -> Any:
        self.reads += 1
        return self.outputs[uuid][max(self.outputs[uuid])]


def test_access_makes_new_references() -> None:
    ref = OutputReference("1")
    deep = ref.a["k"][0].b
    assert deep.attributes == (("a", "a"), ("i", "k"), ("i", 0), ("a", "b"))
    assert repr(deep) == "OutputReference(1, .a, ['k'], [0], .b)"
    assert repr(ref) == "OutputReference(1)"
    assert ref.attributes == ()


def test_equality_is_uuid_and_path() -> None:
    assert OutputReference("1").a == OutputReference("1", (("a", "a"),))
    assert OutputReference("1").a != OutputReference("1")["a"]
    assert OutputReference("1") != OutputReference("2")
    assert OutputReference("1") != "1"
    assert len({OutputReference("1").a, OutputReference("1").a, OutputReference("1")}) == 2
    assert hash(OutputReference("1")[[1]])


@pytest.mark.parametrize("name", ["args", "kwargs", "schema", "__fspath__", "__array__"])
def test_names_that_serialisers_probe_for_are_withheld(name: str) -> None:
    with pytest.raises(AttributeError):
        getattr(OutputReference("1"), name)


def test_they_cannot_be_changed_or_walked() -> None:
    ref = OutputReference("1")
    with pytest.raises(TypeError, match="immutable"):
        ref.x = 1  # type: ignore[attr-defined]  # what is forbidden
    with pytest.raises(TypeError, match="immutable"):
        ref["x"] = 1
    with pytest.raises(TypeError, match="not iterable"):
        iter(ref)
    with pytest.raises(ValueError, match="Unrecognised attribute type 'x' for attribute 'y'"):
        OutputReference("1", (("x", "y"),))


def test_copies_and_pickles_are_equal() -> None:
    ref = OutputReference("1", (("i", (1, 2)),), Document)
    for again in (deepcopy(ref), pickle.loads(pickle.dumps(ref)), OutputReference.from_dict(ref.as_dict())):
        assert again == ref
        assert again.output_schema is Document


def test_a_uuid_can_be_set_in_place_or_not() -> None:
    ref = OutputReference("1").a
    assert ref.set_uuid("2", inplace=False) == OutputReference("2").a
    assert ref == OutputReference("1").a
    assert ref.set_uuid("3") is ref
    assert ref.uuid == "3"


def test_attributes_of_dicts_are_keys() -> None:
    assert follow({"a": [Box({"b": 5})]}, OutputReference("1").a[0].content.b.attributes) == 5
    assert follow({"a": 1}, (("i", "a"),)) == 1
    with pytest.raises(KeyError):
        follow({}, (("a", "x"),))
    with pytest.raises(AttributeError):
        follow(Box(1), (("a", "x"),))


def test_resolving_takes_the_highest_index() -> None:
    shelf = Shelf(u={1: "old", 2: {"k": "new"}})
    assert OutputReference("u").k.resolve(shelf) == "new"


def test_what_is_missing_is_as_the_caller_says() -> None:
    ref = OutputReference("u").a
    with pytest.raises(ValueError, match="Could not resolve reference - u not in store or index=None, cache="):
        ref.resolve(Shelf())
    assert ref.resolve(Shelf(), on_missing=OnMissing.NONE) is None
    assert ref.resolve(Shelf(), on_missing=OnMissing.PASS) is ref


def test_many_are_resolved_by_one_read() -> None:
    shelf = Shelf(u={1: {"a": 1, "b": 2}})
    a, b = OutputReference("u").a, OutputReference("u").b
    assert resolve_references([a, b], shelf) == {a: 1, b: 2}
    assert shelf.reads == 1


def test_they_are_found_and_resolved_without_loss_of_types() -> None:
    ref = OutputReference("u").a
    value = {1: (ref, {"x": Box(ref)}), "plain": {2, 3}}
    assert find_and_get_references(value) == (ref,)
    assert find_and_get_references(5) == ()
    resolved = find_and_resolve_references(value, Shelf(u={1: {"a": (7,)}}))
    assert resolved == {1: ((7,), {"x": Box((7,))}), "plain": {2, 3}}
    both = find_and_resolve_references([ref], Shelf(u={1: {"a": 7}}), wrap_resolved=True)
    assert both == [ResolvedReference("u", (("a", "a"),), 7)]
    assert both[0].reference == ref
    plain = [1]
    assert find_and_resolve_references(plain, Shelf()) is plain


def test_access_is_checked_against_the_schema() -> None:
    ref = OutputReference("u", (), Document)
    assert ref.inner.output_schema is Inner
    assert ref.inner.n.output_schema is None
    assert ref["energy"].attributes == (("i", "energy"),)
    assert ref.double.output_schema is None
    for access in (lambda: ref.nothing, lambda: ref["nothing"], lambda: ref.model_dump, lambda: ref[0]):
        with pytest.raises(AttributeError, match="Document does not have attribute '"):
            access()
    with pytest.raises(AttributeError, match=r"Inner does not have attribute 'm'."):
        ref.inner.m  # noqa: B018 - the access is the test
    assert validate_schema_access(Document, "inner") == (True, Inner)


def test_on_missing_is_its_text() -> None:
    assert OnMissing.ERROR == "error"
    assert OnMissing("pass") is OnMissing.PASS

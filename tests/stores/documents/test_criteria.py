"""Criteria, projections and sorts mean what they mean to maggma's MemoryStore; clauses are told apart by what they look at."""

from __future__ import annotations

import copy
import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from maggma.stores import MemoryStore

from towline.stores.documents import criteria as language

scalars = st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["", "a", "ab", "b"]) | st.sampled_from([0.5, -1.0])
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("xyz"), inner, max_size=3), max_leaves=6
)
documents = st.lists(st.dictionaries(st.sampled_from("abc"), values, max_size=3), min_size=1, max_size=6)
paths = st.sampled_from(["a", "b", "a.x", "b.y", "a.x.y", "c.0", "c.x"])
conditions = (
    scalars
    | st.builds(lambda op, value: {op: value}, st.sampled_from(["$eq", "$ne", "$lt", "$lte", "$gt", "$gte"]), scalars)
    | st.builds(lambda op, some: {op: some}, st.sampled_from(["$in", "$nin"]), st.lists(scalars, max_size=3))
    | st.builds(lambda there: {"$exists": there}, st.booleans())
    | st.just({"$regex": "^a"})
    | st.just({"$size": 1})
)
simple = st.builds(lambda path, condition: {path: condition}, paths, conditions)
asked = simple | st.builds(
    lambda op, parts: {op: parts}, st.sampled_from(["$and", "$or", "$nor"]), st.lists(simple, min_size=1, max_size=3)
)


memory = MemoryStore()
memory.connect()


def of_memory(found, **query):
    memory._collection.delete_many({})
    memory._collection.insert_many([{**copy.deepcopy(document), "_id": number} for number, document in enumerate(found)])
    return list(memory.query(**query))


def same_or_both_refused(mine, theirs):
    """What both give, or None where both refuse."""
    try:
        expected = theirs()
    except Exception:
        with pytest.raises(Exception):  # noqa: B017, PT011 - whatever it is: the criteria are none
            mine()
        return
    assert mine() == expected


@settings(max_examples=80, deadline=None)
@given(documents, asked)
def test_what_matches_is_what_a_memory_store_finds(found, criteria):
    numbered = [{**document, "_id": number} for number, document in enumerate(found)]
    same_or_both_refused(
        lambda: [document for document in numbered if language.matches(criteria, document)],
        lambda: of_memory(found, criteria=criteria),
    )


@settings(max_examples=80, deadline=None)
@given(documents, asked)
def test_clauses_together_are_the_criteria(found, criteria):
    """Splitting loses nothing: all clauses hold exactly where the criteria do."""
    clauses = language.clauses_of(criteria)
    whole = language.joined(clauses)
    for document in found:
        same_or_both_refused(
            lambda document=document: language.matches(whole, document),
            lambda document=document: language.matches(criteria, document),
        )


@settings(max_examples=60, deadline=None)
@given(documents, st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from([1, -1])), min_size=1, max_size=2))
def test_the_order_is_that_of_a_memory_store(found, sort):
    numbered = [{**document, "_id": number} for number, document in enumerate(found)]
    same_or_both_refused(
        lambda: language.sorted_by(language.sort_keys(sort), numbered), lambda: of_memory(found, sort=dict(sort)) if
        len(dict(sort)) == len(sort) else language.sorted_by(language.sort_keys(sort), numbered),
    )  # fmt: skip


shaped = st.lists(
    st.fixed_dictionaries({}, optional={name: st.dictionaries(st.sampled_from("xyz0"), scalars, max_size=3) for name in "abc"}),
    min_size=1,
    max_size=4,
)
"""Where a path may lead there are dictionaries: of others mongomock shows something else than MongoDB."""


@settings(max_examples=80, deadline=None)
@given(
    shaped,
    st.lists(st.sampled_from(["a", "b", "a.x", "b.y", "c.0", "c.x"]), min_size=1, max_size=3, unique=True),
    st.sampled_from([0, 1]),
    st.booleans(),
)
def test_a_projection_shows_what_a_memory_store_shows(found, shown, way, without_id):
    asked = dict.fromkeys(shown, way) | ({"_id": 0} if without_id else {})
    numbered = [{**document, "_id": number} for number, document in enumerate(found)]
    if any(one != other and (other + ".").startswith(one + ".") for one, other in itertools.permutations(shown, 2)):
        with pytest.raises(ValueError, match="properties name"):
            language.project(numbered[0], language.projection(asked))
        return
    same_or_both_refused(
        lambda: [language.project(document, language.projection(asked)) for document in numbered],
        lambda: of_memory(found, properties=asked),
    )


def test_what_has_no_fields_is_shown_as_mongodb_shows_it():
    document = {"a": 1, "b": [1, {"x": 1, "y": 2}, [{"x": 3}]]}
    assert language.project(document, language.projection(["a.x", "b.x"])) == {"b": [{"x": 1}, [{"x": 3}]]}
    assert language.project(document, language.projection({"a.x": 0, "b.x": 0})) == {"a": 1, "b": [1, {"y": 2}, [{}]]}


def test_operators_of_a_projection():
    document = {"a": [1, 2, 3, 4], "b": [{"x": 1}, {"x": 2, "y": 1}], "c": 5}

    def shown(properties):
        return language.project(dict(document), language.projection(properties))

    assert shown({"a": {"$slice": 2}})["a"] == [1, 2]
    assert shown({"a": {"$slice": -1}})["a"] == [4]
    assert shown({"a": {"$slice": [1, 2]}})["a"] == [2, 3]
    assert shown({"b": {"$elemMatch": {"x": 2}}})["b"] == [{"x": 2, "y": 1}]
    assert "b" not in shown({"b": {"$elemMatch": {"x": 9}}})
    assert "c" not in shown({"c": {"$elemMatch": {"x": 9}}})
    with pytest.raises(ValueError, match="unknown operator"):
        shown({"a": {"$meta": 1}})
    with pytest.raises(ValueError, match="both include and exclude"):
        language.projection({"a": 1, "b": 0})


def test_clauses_are_told_apart_by_what_they_look_at():
    asked = {
        "uuid": {"$in": ["u", "v"]},
        "name": "n",
        "$and": [{"uuid": "v"}, {"output.x": 1}],
        "$or": [{"name": "a"}, {"index": 2}],
    }
    split = language.split(asked, "uuid", {"uuid", "name", "index"})
    assert split.keys == ["v"]
    assert split.header == [{"name": "n"}, {"$or": [{"name": "a"}, {"index": 2}]}]
    assert split.rest == [{"output.x": 1}]
    odd = language.split({"uuid": {"$regex": "a"}, "$expr": {"$gt": ["$index", 1]}}, "uuid", {"uuid", "index"})
    assert odd.keys is None
    assert odd.header == [{"uuid": {"$regex": "a"}}]
    assert len(odd.rest) == 1


@pytest.mark.parametrize(
    "clause", [{"u": None}, {"u": 1}, {"u": ["a"]}, {"u": {"$in": ["a", None]}}, {"u": {"$ne": "a"}}, {"u": {"x": "a"}}]
)
def test_only_texts_narrow_a_search(clause):
    """None is equal to nothing being there, and a list to itself or an item."""
    assert language.one_of(clause) is None


def test_paths():
    document = {"a": {"b": [10, {"c": 20}]}}
    assert language.get(document, "a.b.1.c") == 20
    assert language.get(document, "a.b.7.c", "none") == "none"
    assert language.has(document, "a.b.0")
    assert not language.has(document, "a.b.x")
    language.put(document, "a.z.y", 1)
    assert document["a"]["z"] == {"y": 1}


def test_a_direction_is_up_or_down():
    from maggma.core.store import Sort

    assert language.sort_keys({"a": Sort.Descending, "b": 1}) == [("a", True), ("b", False)]
    with pytest.raises(ValueError, match=r"sort\['a'\] must be 1"):
        language.sort_keys({"a": "up"})


def test_what_a_projection_reads():
    assert language.fields_read(language.projection(["a.b", "c"])) == {"a", "c"}
    assert language.fields_read(language.projection({"a": 0})) is None
    assert language.fields_read(None) is None
    assert language.projection([]) is None
    assert language.projection("a", ["b"]) == {"a": 1, "b": 1}

"""The dict mod language, action by action."""

from __future__ import annotations

from typing import Any

import pytest

from towline.engine.authoring.dictmods import apply_mod


@pytest.mark.parametrize(
    ("before", "mod", "after"),
    [
        ({}, {"_set": {"a->b->c": 1}}, {"a": {"b": {"c": 1}}}),
        ({"a": {"b": 1, "c": 2}}, {"_unset": {"a->b": None}}, {"a": {"c": 2}}),
        ({"a": 1}, {"_unset": ["a"]}, {}),
        ({"a": [1]}, {"_push": {"a": 2, "b": 3}}, {"a": [1, 2], "b": [3]}),
        ({"a": [1]}, {"_push_all": {"a": [2, 3], "b": [4]}}, {"a": [1, 2, 3], "b": [4]}),
        ({"a": 1}, {"_inc": {"a": 2, "b": 3}}, {"a": 3, "b": 3}),
        ({"a": 1}, {"_rename": {"a": "b", "x": "y"}}, {"b": 1}),
        ({"a": [1]}, {"_add_to_set": {"a": 1, "b": [2]}}, {"a": [1], "b": [2]}),
        ({"a": [1]}, {"_add_to_set": {"a": 2}}, {"a": [1, 2]}),
        ({"a": [1, 2, 1]}, {"_pull": {"a": 1, "b": 1}}, {"a": [2]}),
        ({"a": [1, 2, 3]}, {"_pull_all": {"a": [1, 3]}}, {"a": [2]}),
        ({"a": [1, 2, 3], "b": [1, 2]}, {"_pop": {"a": 1, "b": -1}}, {"a": [1, 2], "b": [2]}),
        ({"a": [1, 2, 3]}, {"_pop": {"a": 2, "b": 1}}, {"a": [1, 2, 3]}),
    ],
)
def test_actions(before: dict[str, Any], mod: dict[str, Any], after: dict[str, Any]) -> None:
    apply_mod(mod, before)
    assert before == after


def test_what_cannot_be_done_is_refused() -> None:
    with pytest.raises(ValueError, match="_fly is not a supported action!"):
        apply_mod({"_fly": {"a": 1}}, {})
    for action in ("_pull", "_add_to_set", "_pop"):
        with pytest.raises(ValueError, match=r"Keyword a does not refer to an array."):
            apply_mod({action: {"a": 1}}, {"a": 5})
    with pytest.raises(ValueError, match="not a path"):
        apply_mod({"_set": {"->": 1}}, {})

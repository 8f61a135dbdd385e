"""Names: only what another process can import has one."""

from __future__ import annotations

import math
import os.path
import sys
import types
from typing import Any

import cloudpickle
import pytest

from tests.kit import samples
from towline.engine.codec.names import find, importable, name_of


@pytest.mark.parametrize("value", [len, math.sqrt, os.path.join, str.upper, samples.Box, samples.add, samples.Plain.make])
def test_a_name_leads_back(value: Any) -> None:
    name = name_of(value)
    assert name is not None
    assert find(name) == value


def test_what_lives_in_a_function_has_no_name() -> None:
    def inner() -> None: ...

    assert name_of(inner) is None
    assert name_of(lambda: 1) is None


def test_what_its_name_does_not_lead_to_has_none() -> None:
    twin = types.FunctionType(name_of.__code__, {}, "name_of")
    twin.__module__ = name_of.__module__
    assert name_of(twin) is None


def test_the_function_under_a_job_has_the_name_of_the_job() -> None:
    assert name_of(samples.add.original) is None  # type: ignore[attr-defined]  # a JobFunction
    assert name_of(samples.add.original, unwrap=True) == "tests.kit.samples:add"  # type: ignore[attr-defined]  # as above


def test_scripts_and_modules_made_by_hand_cannot_be_imported_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "made_by_hand", types.ModuleType("made_by_hand"))
    assert not importable("made_by_hand")
    assert not importable("__main__")
    assert not importable("not_loaded_at_all")
    assert importable("math")


def test_modules_that_the_user_sends_by_value_have_no_names() -> None:
    cloudpickle.register_pickle_by_value(samples)
    try:
        assert name_of(samples.Box) is None
    finally:
        cloudpickle.unregister_pickle_by_value(samples)
    assert name_of(samples.Box) is not None


def test_what_is_gone_is_named() -> None:
    with pytest.raises(AttributeError, match="math:nothing is gone"):
        find("math:nothing")
    with pytest.raises(ImportError):
        find("no_such_module_here:x")

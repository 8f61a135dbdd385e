"""Keywords of `@job`: what is reserved, what is refused, and that all else names a store."""

from __future__ import annotations

from typing import Any

import pytest

from towline.engine import codec
from towline.engine.authoring.config import DEFAULT_OPTIONS, JobConfig, cache_of, options_of
from towline.engine.authoring.reference import OnMissing
from towline.engine.errors import UsageError


def test_nothing_said_is_the_default() -> None:
    assert options_of({}) == (DEFAULT_OPTIONS, {})


def test_all_options_are_taken() -> None:
    said = {
        "retries": 3,
        "backoff_s": 0.5,
        "backoff_max_s": 60,
        "priority": 200,
        "release": "committed",
        "mode": "thread",
        "timeout_s": 0,
        "limits": [],
        "cache": False,
        "requirements": {"licence": 1},
        "cores": 2,
        "memory": "4 GiB",
    }
    options, stores = options_of(said)
    assert stores == {}
    assert (options.retries, options.backoff_s, options.priority, options.release) == (3, 0.5, 200, "committed")
    assert (options.mode, options.timeout_s, options.limits, options.cache) == ("thread", 0, [], "")
    assert options.requirements == {"licence": 1.0, "cores": 2.0, "memory": 4.0 * 2**30}


@pytest.mark.parametrize("said", [{"mode": "process"}, {"timeout_s": 9}, {"limits": ["gpu"]}])
def test_what_nothing_acts_on_yet_is_refused_and_not_ignored(said: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="does not act on"):
        options_of(said)


@pytest.mark.parametrize(
    ("said", "amount"), [("500MB", 5e8), ("1.5 kib", 1536.0), ("7", 7.0), ("2g", 2e9), (3, 3.0), ("12 B", 12.0)]
)
def test_bytes_have_units(said: Any, amount: float) -> None:
    assert options_of({"disk": said})[0].requirements == {"disk": amount}


@pytest.mark.parametrize(
    "said",
    [
        {"retries": -1},
        {"retries": True},
        {"retries": 1.5},
        {"priority": 256},
        {"backoff_s": -1},
        {"backoff_s": "1"},
        {"release": "late"},
        {"mode": "gpu"},
        {"limits": "gpu"},
        {"cache": 1.5},
        {"cores": "two"},
        {"memory": "4 parsecs"},
        {"memory": "GiB"},
        {"cores": "4 GiB"},
        {"requirements": {"x": -1}},
    ],
)
def test_impossible_values_are_refused_by_name(said: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=r"^@job\("):
        options_of(said)


def test_other_keywords_name_stores() -> None:
    options, stores = options_of({"data": ["a", "b"], "graphs": True, "stores": {"memory": "key"}, "retries": 1})
    assert stores == {"data": ["a", "b"], "graphs": True, "memory": "key"}
    assert {name: codec.decode(bytes(raw)) for name, raw in options.stores.items()} == stores
    assert options.requirements == {}
    with pytest.raises(ValueError, match="Cannot select True for multiple additional stores"):
        options_of({"a": True, "b": True})


def test_a_config_is_checked_and_comes_back() -> None:
    config = JobConfig(resolve_references="both", on_missing_references=OnMissing.NONE, manager_config={"a": 1})
    assert JobConfig.from_dict(config.as_dict()) == config
    for bad in ("yes", 1, None):
        with pytest.raises(ValueError, match=r"must be a bool or the string 'both', got"):
            JobConfig(resolve_references=bad)  # type: ignore[arg-type]  # what is refused


def test_a_cache_goes_by_code_or_by_a_version() -> None:
    given = [None, False, "", True, "v1", 2, 0, "code"]
    assert [cache_of(value) for value in given] == ["", "", "", "code", "=v1", "=2", "=0", "=code"]

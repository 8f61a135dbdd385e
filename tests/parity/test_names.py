"""Every public name of jobflow.core and of its local manager is a name of towline, with the same parameters and defaults.

The newest release is looked at itself; the names of the older one are listed here, as its documents give them.
"""

from __future__ import annotations

import importlib
import inspect
from enum import Enum
from types import FunctionType, ModuleType
from typing import Any

import pytest

import towline

pytest.importorskip("jobflow")

MODULES = ["core.flow", "core.job", "core.maker", "core.reference", "core.schemas", "core.state", "core.store", "managers.local"]

DOCUMENTED = {
    "Flow": "jobs output name order uuid hosts | add_hosts_uuids add_jobs all_uuids append_name draw_graph graph host iterflow "
    "job_uuids jobs output remove_jobs update_config update_kwargs update_maker_kwargs update_metadata",
    "Job": "function function_args function_kwargs output_schema uuid index name metadata config hosts metadata_updates "
    "config_updates | add_hosts_uuids append_name as_dict graph host input_references input_references_grouped input_uuids maker "
    "resolve_args run set_uuid update_config update_kwargs update_maker_kwargs update_metadata",
    "JobConfig": "resolve_references on_missing_references manager_config expose_store pass_manager_config "
    "response_manager_config | ",
    "Response": "output detour addition replace stored_data stop_children stop_jobflow | from_job_returns",
    "Maker": " | make name update_kwargs",
    "OutputReference": "uuid attributes output_schema | as_dict attributes_formatted resolve set_uuid",
    "JobStore": "docs_store additional_stores save load | close connect count ensure_index from_dict_spec from_file get_output "
    "groupby name query query_one remove_docs update",
    "JobOrder": " | AUTO LINEAR",
    "OnMissing": " | ERROR NONE PASS",
    "get_flow": "flow allow_external_references | ",
    "job": "method job_kwargs | ",
    "apply_schema": "output schema | ",
    "store_inputs": "inputs | ",
    "prepare_replace": "replace current_job | ",
    "pass_manager_config": "jobs manager_config | ",
    "recursive_call": "obj func name_filter class_filter nested | ",
    "resolve_references": "references store cache on_missing deserialize | ",
    "find_and_get_references": "arg | ",
    "find_and_resolve_references": "arg store cache on_missing deserialize | ",
    "validate_schema_access": "schema item | ",
    "CURRENT_JOB": " | job store",
    "run_locally": "flow log store create_folders root_dir ensure_success allow_external_references raise_immediately | ",
}
"""Parameters | attributes."""

MORE = {"run_locally": {"compat"}, "JobStore": {"compat"}}
"""Parameters that only towline has; all of them go by keyword."""


def public(module: ModuleType) -> dict[str, Any]:
    """What a module of jobflow defines under names without an underscore."""
    found = {}
    for name, value in vars(module).items():
        mine = getattr(value, "__module__", None) == module.__name__ or name == "CURRENT_JOB"
        if not name.startswith("_") and mine and name not in ("T", "State") and (callable(value) or name == "CURRENT_JOB"):
            found[name] = value
    return found


NAMES = {name: value for part in MODULES for name, value in public(importlib.import_module(f"jobflow.{part}")).items()}


def parameters(function: Any) -> dict[str, Any]:
    """Name to default, in order."""
    return {name: plain(p) for name, p in inspect.signature(function).parameters.items()}


def plain(parameter: inspect.Parameter) -> Any:
    """A parameter's default, alike for both engines."""
    if parameter.default is parameter.empty:
        return str(parameter.kind) if parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL) else "required"
    if isinstance(parameter.default, Enum):
        return str(parameter.default)
    return "made" if "factory" in repr(parameter.default) else repr(parameter.default)


def same_parameters(ours: Any, theirs: Any, name: str) -> None:
    mine, wanted = parameters(ours), parameters(theirs)
    # jobflow gives a class by its __init__ or leaves the defaults to a dataclass: names, order and defaults must agree
    for more in MORE.get(name.partition(".")[0], set()):
        mine.pop(more, None)
    assert list(mine)[: len(wanted)] == list(wanted), name
    assert {key: mine[key] for key in wanted} == wanted, name
    extra = list(mine)[len(wanted) :]
    assert all(mine[key] != "required" for key in extra), name


def test_there_are_names_to_compare() -> None:
    assert len(NAMES) > 20


@pytest.mark.parametrize("name", sorted(NAMES))
def test_every_public_name_is_there(name: str) -> None:
    assert name in towline.__all__
    ours, theirs = getattr(towline, name), NAMES[name]
    if isinstance(theirs, type) and issubclass(theirs, Enum):
        assert {member.name: member.value for member in ours} == {member.name: member.value for member in theirs}
    elif isinstance(theirs, type | FunctionType) and name not in ("JobStoreDocument", "State"):
        same_parameters(ours, theirs, name)


METHODS = [
    (name, attribute)
    for name, value in sorted(NAMES.items())
    if isinstance(value, type) and not issubclass(value, Enum)
    for attribute in sorted(vars(value))
    if not attribute.startswith("_") and attribute not in ("model_config", "model_fields", "model_computed_fields")
]


@pytest.mark.parametrize(("name", "attribute"), METHODS)
def test_every_public_attribute_of_a_class_is_there(name: str, attribute: str) -> None:
    theirs = inspect.getattr_static(NAMES[name], attribute)
    theirs = getattr(theirs, "__func__", theirs)
    cls = getattr(towline, name)
    if not isinstance(theirs, FunctionType):
        fields = getattr(cls, "model_fields", None) or getattr(cls, "__dataclass_fields__", {})
        assert hasattr(cls, attribute) or attribute in fields or attribute in getattr(cls, "__annotations__", {})
        return
    ours = inspect.getattr_static(cls, attribute)
    same_parameters(getattr(ours, "__func__", ours), theirs, f"{name}.{attribute}")


@pytest.mark.parametrize("name", DOCUMENTED)
def test_the_documented_names_of_the_older_release_are_there(name: str) -> None:
    wanted, attributes = (part.split() for part in DOCUMENTED[name].split("|"))
    ours = getattr(towline, name)
    if wanted:
        called = getattr(ours, "original", ours)
        said = [parameter for parameter in inspect.signature(called).parameters if parameter not in MORE.get(name, ())]
        assert said[: len(wanted)] == wanted
    for attribute in attributes:
        fields = getattr(ours, "__dataclass_fields__", {})
        assert hasattr(ours, attribute) or attribute in fields or attribute in getattr(ours, "__annotations__", {})

"""Where towline deliberately differs from jobflow: program, section of docs/COMPATIBILITY.md, and what towline does instead."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.parity.two import Seen

TYPES_ARE_KEPT = {
    f"values.{name}"
    for name in (
        "tuple_beside_a_reference",
        "int_keys_beside_a_reference",
        "keywords_are_apart_from_arguments",
        "array_beside_a_reference",
        "scalar_of_numpy_beside_a_reference",
        "enum_beside_a_reference",
        "path_beside_a_reference",
        "maker_method_beside_a_reference",
        "tuple_as_output",
        "int_keys_as_output",
        "array_as_output",
        "enum_as_output",
        "objects_deep_inside",
        "output_that_no_document_holds",
    )
}
"""Programs in which jobflow loses types. With compat="jobflow" so does towline."""


def refused(text: str) -> Callable[[Seen], bool]:
    """A ValueError that says this, before anything has run."""
    return lambda seen: seen.value["raised"] == "ValueError" and text in seen.value["text"] and not seen.documents["list"]


def documents_of(*names: str) -> Callable[[Seen], bool]:
    """Jobs of these names, and no others, have documents."""
    return lambda seen: sorted(_names(seen.documents)) == sorted(names)


def _names(documents: Any) -> list[str]:
    fields = [dict(document["dict"]) for document in documents["list"]]
    return [f"{document['name'].rpartition('.')[2]} {document['index']}" for document in fields]


DIFFERENCES: dict[str, tuple[str, Callable[[Seen], bool]]] = {
    "references.reference_as_dictionary_key": ("Dictionary keys", refused("a reference cannot be part of a dictionary key")),
    "references.on_missing_error": ("Missing references", refused("Could not resolve reference - ")),
    "running.failing_job_in_a_replacing_flow": ("Failures inside a replacement", documents_of("replaces 1", "add 1")),
    "running.failing_detour": ("A failed detour", documents_of("makes 1")),
    "running.detour_that_refers_to_an_earlier_job": ("References of new jobs", documents_of("add 1", "makes 1", "add 1")),
    "running.unknown_additional_store": ("Additional stores", documents_of("stores 1")),
    "flows.duplicate_uuid_in_nested_flow": ("Duplicate uuids", refused("multiple jobs/flows with the same uuid (u)")),
    "jobs.updates_kwargs_by_decorated_function": (
        "Function filters",
        lambda seen: bool(seen.value == {"dict": [["number", 9]]}),
    ),
    "jobs.current_job_after_a_failure": ("CURRENT_JOB", lambda seen: seen.value is True),
    "values.complex_numbers": ("Values without a JSON form", documents_of("kinds 1")),
}
"""Programs that come to something else, also with compat="jobflow"."""

"""What many jobs share, written once: their Specs; and the columns in which jobs are handed in.

A Spec is found by the identity of what it is made of where that is enough (a million calls of one function), by its bytes else.
"""

from __future__ import annotations

import re
import sys
from array import array
from collections.abc import Iterable
from types import MethodType
from typing import Any

from towline.engine import codec, model
from towline.engine.authoring.config import JobConfig
from towline.engine.authoring.decorator import store_inputs
from towline.engine.authoring.job import Job
from towline.engine.authoring.reference import OnMissing
from towline.engine.errors import EncodingError, SubmissionError
from towline.engine.functions import Functions, bound_object
from towline.engine.states import EdgeKind, Missing, edge_byte

_MISSING = {"error": Missing.ERROR, "none": Missing.NONE, "pass": Missing.PASS}
DATA = {name: bytes([edge_byte(EdgeKind.DATA, missing)]) for name, missing in _MISSING.items()}
"""The byte of an edge that takes an output, by the child's OnMissing."""
ORDER = {name: bytes([edge_byte(EdgeKind.ORDER, missing)]) for name, missing in _MISSING.items()}
"""The same of one that only waits."""
_UNUSUAL = frozenset({"config", "metadata", "metadata_updates", "config_updates", "name_updates", "output_schema"})
"""Attributes that make a Spec differ, if a Job has them."""
_CANONICAL = re.compile(r"(?:[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12},)*").fullmatch


class Specs:
    """Specs, each once, found by the identity of what they are made of; by their bytes where identities differ."""

    def __init__(self, functions: Functions, allow_pickle: bool, compat: str = "") -> None:
        self.specs: list[model.Spec] = []
        self._compat = compat
        self._functions = functions
        self._allow_pickle = allow_pickle
        self._by_parts: dict[Any, int] = {}
        self._by_bytes: dict[bytes, int] = {}
        self._records: dict[str, model.Function] = {}
        self._given: set[str] = set()

    def number_of(self, job: Job) -> int:
        """The number of a job's Spec. The job must live as long as this table does."""
        state = job.__dict__
        hosts = job._hosts
        function = job.function
        if type(hosts) is tuple and _UNUSUAL.isdisjoint(state):
            parts: Any = (id(function), job._name, id(job.options), id(hosts))
            if type(function) is MethodType:
                # each job has its own bound method, of an object of its own
                parts = (id(function.__func__), id(type(function.__self__)), *parts[1:])
            known = self._by_parts.get(parts)
            if known is None:
                known = self._by_parts[parts] = self._intern(job)
            return known
        return self._intern(job)

    def _intern(self, job: Job) -> int:
        try:
            spec = self._spec(job)
        except EncodingError as error:
            raise EncodingError(f"job {job.name!r} ({job.uuid}): {error}") from error.__cause__
        number = self._by_bytes.setdefault(model.encode(spec), len(self.specs))
        if number == len(self.specs):
            self.specs.append(spec)
        return number

    def _spec(self, job: Job) -> model.Spec:
        record = self._functions.describe(job.function)
        self._records[record.key] = record
        metadata, config = job.__dict__.get("metadata"), _config_of(job)
        if self._compat and job.function is not _STORE_INPUTS:
            # which hands references on in jobflow, so that nothing happens to what they refer to
            config["compat"] = self._compat
        return model.Spec(
            function=record.key,
            name=job.name,
            options=job.options,
            hosts=list(job._hosts),
            metadata=codec.encode(metadata, allow_pickle=self._allow_pickle, root="metadata") if metadata else b"",
            config=codec.encode(config, allow_pickle=self._allow_pickle, root="config") if config else b"",
        )

    def functions_for(self, specs: list[model.Spec]) -> list[model.Function]:
        """The functions that these specs name and that were not asked for before."""
        keys = dict.fromkeys(spec.function for spec in specs if spec.function not in self._given)
        self._given.update(keys)
        return [self._records[key] for key in keys]

    def functions_of(self, numbers: Iterable[int]) -> list[model.Function]:
        """The functions of the Specs with these numbers, each once."""
        return [self._records[key] for key in dict.fromkeys(self.specs[number].function for number in numbers)]


def _config_of(job: Job) -> dict[str, Any]:
    """What the worker must know beside options and metadata; only what is not the default."""
    state = job.__dict__
    config: JobConfig = state.get("config") or _DEFAULT
    told: dict[str, Any] = {
        "method": bound_object(job.function) is not None or None,
        "schema": job.output_schema,
        "resolve": config.resolve_references if config.resolve_references is not True else None,
        "on_missing": str(config.on_missing_references) if config.on_missing_references != OnMissing.ERROR else None,
        "manager": config.manager_config or None,
        "expose_store": config.expose_store or None,
        "pass_manager": None if config.pass_manager_config else False,
        "response_manager": config.response_manager_config or None,
        "metadata_updates": state.get("metadata_updates") or None,
        "config_updates": state.get("config_updates") or None,
        "name_updates": state.get("name_updates") or None,
    }
    return {name: value for name, value in told.items() if value is not None}


_DEFAULT = JobConfig()
_STORE_INPUTS = getattr(store_inputs, "original", None)


def missing_of(job: Job) -> str:
    """What the job does about references without a value: the value of its OnMissing."""
    config = job.__dict__.get("config")
    return "error" if config is None else str(OnMissing(config.on_missing_references))


def arguments_of(job: Job) -> tuple[Any, ...]:
    """Positional arguments; the object that a method is bound to comes first."""
    owner = bound_object(job.function)
    return job.function_args if owner is None else (owner, *job.function_args)


def packed_uuids(uuids: list[str]) -> bytes | list[str]:
    """16 bytes each, or the texts themselves if one of them is not in canonical form."""
    joined = ",".join(uuids) + ","
    if len(joined) == 37 * len(uuids) and _CANONICAL(joined):
        return bytes.fromhex(joined.replace("-", "").replace(",", ""))
    return uuids


def u32(numbers: list[int]) -> bytes:
    """A column of unsigned 32-bit numbers, little endian."""
    return little(array("I", numbers))


def little(column: array[int]) -> bytes:
    """The column's bytes, little endian. Changes it on other machines."""
    if sys.byteorder == "big":
        column.byteswap()
    return column.tobytes()


def indices_of(indices: list[int]) -> bytes:
    """The column of jobs' indices; empty if all are 1. SubmissionError for one that cannot be."""
    if all(index == 1 for index in indices):
        return b""
    if not all(0 < index < 2**16 for index in indices):
        raise SubmissionError("a job's index must lie between 1 and 65535; it was replaced too often, or set by hand")
    return little(array("H", indices))

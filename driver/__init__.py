"""towline: durable, distributed workflows on Ray. A directory or a bucket is the whole state.

The public names are here, and each is loaded when it is first used: `import towline` costs nothing of Ray, numpy or
pyarrow. No module of this package bears the name of an export, so that a submodule never hides one.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from towline.control import JobInfo, Logs, Run
    from towline.engine.authoring.config import JobConfig
    from towline.engine.authoring.current import CURRENT_JOB, State
    from towline.engine.authoring.decorator import job, store_inputs
    from towline.engine.authoring.flow import DecoratedFlow, Flow, JobOrder, flow, flow_build_context, get_flow
    from towline.engine.authoring.job import Job
    from towline.engine.authoring.maker import Maker, recursive_call
    from towline.engine.authoring.reference import (
        OnMissing,
        OutputReference,
        ResolvedReference,
        find_and_get_references,
        find_and_resolve_references,
        has_property_like,
        resolve_references,
        validate_schema_access,
    )
    from towline.engine.authoring.replacing import pass_manager_config, prepare_replace
    from towline.engine.authoring.response import Response, apply_schema
    from towline.engine.errors import (
        CorruptionError,
        EncodingError,
        FencedError,
        RunFailed,
        SubmissionError,
        TowlineError,
        UsageError,
    )
    from towline.executor import Executor
    from towline.locally import run_locally
    from towline.session import arun, connect, resume, run, submit
    from towline.stores.documents.schema import JobStoreDocument
    from towline.stores.documents.store import JobStore
    from towline.stores.jobstore.abstract import open_store

__version__ = "0.1.0"

__all__ = [
    "CURRENT_JOB",
    "CorruptionError",
    "DecoratedFlow",
    "EncodingError",
    "Executor",
    "FencedError",
    "Flow",
    "Job",
    "JobConfig",
    "JobInfo",
    "JobOrder",
    "JobStore",
    "JobStoreDocument",
    "Logs",
    "Maker",
    "OnMissing",
    "OutputReference",
    "ResolvedReference",
    "Response",
    "Run",
    "RunFailed",
    "State",
    "SubmissionError",
    "TowlineError",
    "UsageError",
    "__version__",
    "apply_schema",
    "arun",
    "connect",
    "find_and_get_references",
    "find_and_resolve_references",
    "flow",
    "flow_build_context",
    "get_flow",
    "has_property_like",
    "job",
    "open_store",
    "pass_manager_config",
    "prepare_replace",
    "recursive_call",
    "resolve_references",
    "resume",
    "run",
    "run_locally",
    "store_inputs",
    "submit",
    "validate_schema_access",
]

_HOMES = {
    "towline.control": ("JobInfo", "Logs", "Run"),
    "towline.engine.authoring.config": ("JobConfig",),
    "towline.engine.authoring.current": ("CURRENT_JOB", "State"),
    "towline.engine.authoring.flow": ("DecoratedFlow", "Flow", "JobOrder", "flow", "flow_build_context", "get_flow"),
    "towline.engine.authoring.decorator": ("job", "store_inputs"),
    "towline.engine.authoring.job": ("Job",),
    "towline.engine.authoring.maker": ("Maker", "recursive_call"),
    "towline.engine.authoring.reference": (
        "OnMissing",
        "OutputReference",
        "ResolvedReference",
        "find_and_get_references",
        "find_and_resolve_references",
        "has_property_like",
        "resolve_references",
        "validate_schema_access",
    ),
    "towline.engine.authoring.replacing": ("pass_manager_config", "prepare_replace"),
    "towline.engine.authoring.response": ("Response", "apply_schema"),
    "towline.engine.errors": (
        "CorruptionError",
        "EncodingError",
        "FencedError",
        "RunFailed",
        "SubmissionError",
        "TowlineError",
        "UsageError",
    ),
    "towline.executor": ("Executor",),
    "towline.locally": ("run_locally",),
    "towline.session": ("arun", "connect", "resume", "run", "submit"),
    "towline.stores.documents.schema": ("JobStoreDocument",),
    "towline.stores.documents.store": ("JobStore",),
    "towline.stores.jobstore.abstract": ("open_store",),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'towline' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_HOME[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

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
    from towline.engine.authoring.current import CURRENT_JOB
    from towline.engine.authoring.decorator import job
    from towline.engine.authoring.flow import Flow, JobOrder, flow, get_flow
    from towline.engine.authoring.job import Job
    from towline.engine.authoring.maker import Maker
    from towline.engine.authoring.reference import OnMissing, OutputReference, ResolvedReference
    from towline.engine.authoring.response import Response
    from towline.engine.errors import (
        CorruptionError,
        EncodingError,
        FencedError,
        RunFailed,
        SubmissionError,
        TowlineError,
        UsageError,
    )
    from towline.locally import run_locally
    from towline.session import arun, connect, resume, run, submit
    from towline.stores.jobstore.abstract import open_store

__version__ = "0.1.0"

__all__ = [
    "CURRENT_JOB",
    "CorruptionError",
    "EncodingError",
    "FencedError",
    "Flow",
    "Job",
    "JobConfig",
    "JobInfo",
    "JobOrder",
    "Logs",
    "Maker",
    "OnMissing",
    "OutputReference",
    "ResolvedReference",
    "Response",
    "Run",
    "RunFailed",
    "SubmissionError",
    "TowlineError",
    "UsageError",
    "__version__",
    "arun",
    "connect",
    "flow",
    "get_flow",
    "job",
    "open_store",
    "resume",
    "run",
    "run_locally",
    "submit",
]

_HOMES = {
    "towline.control": ("JobInfo", "Logs", "Run"),
    "towline.engine.authoring.config": ("JobConfig",),
    "towline.engine.authoring.current": ("CURRENT_JOB",),
    "towline.engine.authoring.flow": ("Flow", "JobOrder", "flow", "get_flow"),
    "towline.engine.authoring.decorator": ("job",),
    "towline.engine.authoring.job": ("Job",),
    "towline.engine.authoring.maker": ("Maker",),
    "towline.engine.authoring.reference": ("OnMissing", "OutputReference", "ResolvedReference"),
    "towline.engine.authoring.response": ("Response",),
    "towline.engine.errors": (
        "CorruptionError",
        "EncodingError",
        "FencedError",
        "RunFailed",
        "SubmissionError",
        "TowlineError",
        "UsageError",
    ),
    "towline.locally": ("run_locally",),
    "towline.stores.jobstore.abstract": ("open_store",),
    "towline.session": ("arun", "connect", "resume", "run", "submit"),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'towline' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_HOME[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

"""Flows of jobflow made into flows of towline: one job for each, with the same uuid, index, name, metadata and hosts.

A job travels as a pickle of the jobflow Job, since jobflow hands arguments over as they are (only what is resolved goes through
JSON). Functions go by their import path where they have one, also those under `@job`; what lives in `__main__` goes by value.
Beside the pickle go references to all jobs that it takes something from, so that towline knows the graph and brings the outputs.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Iterable, Sequence
from contextvars import ContextVar
from types import FunctionType, MethodType
from typing import Any

import msgspec

from towline.adapters.jobflow_view import Document
from towline.engine.authoring.config import RESERVED, JobConfig
from towline.engine.authoring.flow import Flow, JobOrder
from towline.engine.authoring.job import Job
from towline.engine.authoring.reference import OnMissing, OutputReference
from towline.engine.codec.names import find, name_of
from towline.engine.errors import EncodingError, UsageError

OPTIONS = "towline"
"""The key of a job's manager_config under which options of towline's `@job` stand (retries, cores, ...)."""


class Terms(msgspec.Struct, kw_only=True):
    """What holds for all jobs of a run, those that will be added included."""

    root: str = ""
    """Where jobs work; empty: where the worker happens to be."""
    folders: bool = False
    """Each job in a new folder there."""
    home: str = ""
    """How a job reaches the user's JobStore (`jobflow_view.HOME_BY_SETTINGS`)."""
    stores: list[str] | None = None
    """Names of its additional stores; None: not known."""
    given: dict[str, list[Document]] = {}
    """Documents of jobs outside the run."""

    def told(self) -> dict[str, Any]:
        """As plain data, without the documents."""
        return {name: value for name in ("root", "folders", "home", "stores") if (value := getattr(self, name))}


def translated(flow: Any, terms: Terms, inside: Sequence[str] = ()) -> Flow:
    """A jobflow Flow as a towline Flow.

    `inside`: uuids of the flows around the job that asks for this one, which towline will add to the hosts itself.
    EncodingError: a job cannot be pickled. UsageError: its options are none of towline's.
    """
    hosts = list(flow.hosts)
    outside = hosts[: -len(inside)] if inside and hosts[-len(inside) :] == list(inside) else hosts
    return _flow(flow, terms, outside)


def _flow(flow: Any, terms: Terms, hosts: list[str] | None = None) -> Flow:
    # the members' hosts are those that their nesting gives, as in jobflow
    members = [_flow(member, terms) if hasattr(member, "jobs") else _job(member, terms) for member in flow.jobs]
    return Flow(members, name=flow.name, order=JobOrder(flow.order.value), uuid=flow.uuid, hosts=hosts)


def _job(theirs: Any, terms: Terms) -> Job:
    waits = dict.fromkeys(theirs.input_uuids)
    given = with_their_own(waits, terms.given)
    config = JobConfig(
        resolve_references=bool(theirs.config.resolve_references),
        on_missing_references=OnMissing(theirs.config.on_missing_references.value),
    )
    return Job(
        _body(),
        (pickled(theirs),),
        {
            "inputs": {uuid: OutputReference(uuid) for uuid in waits if uuid not in given},
            "given": given,
            "terms": terms.told(),
        },
        uuid=theirs.uuid,
        index=theirs.index,
        name=theirs.name,
        metadata=dict(theirs.metadata),
        config=None if config == _DEFAULT else config,
        **_options(theirs),
    )


_DEFAULT = JobConfig()


def _body() -> Any:
    from towline.adapters.jobflow_bodies import execute

    return execute


def _options(theirs: Any) -> dict[str, Any]:
    options = theirs.config.manager_config.get(OPTIONS) or {}
    unknown = [name for name in options if name not in RESERVED]
    if unknown:
        raise UsageError(f"job {theirs.name!r} ({theirs.uuid}): manager_config[{OPTIONS!r}] has no option {unknown[0]!r}")
    return dict(options)


# ---------------------------------------------------------------------------------------------- documents from outside


def with_their_own(uuids: Iterable[str], given: dict[str, list[Document]]) -> dict[str, list[Document]]:
    """The documents of these jobs that there are, and those that their outputs refer to."""
    found: dict[str, list[Document]] = {}
    asked = [uuid for uuid in uuids if uuid in given]
    for uuid in asked:  # grows while it is walked
        if uuid not in found:
            found[uuid] = given[uuid]
            asked.extend(other for other in referred_to(given[uuid]) if other in given)
    return found


def referred_to(documents: list[Document]) -> list[str]:
    """uuids of the jobs that these documents' outputs refer to."""
    from jobflow.core.reference import find_and_get_references

    return [ref.uuid for ref in find_and_get_references([document["output"] for document in documents])]


# ------------------------------------------------------------------------------------------------------------- pickles


_CONTEXT = "jobflow.core.flow:_current_flow_context"


def pickled(theirs: Any) -> bytes:
    """A jobflow Job as bytes. EncodingError if it cannot be pickled."""
    import cloudpickle

    class Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # untyped base
        def reducer_override(self, obj: Any) -> Any:
            if type(obj) is FunctionType and name_of(obj) is None:
                name = name_of(obj, unwrap=True)
                if name is not None:
                    return _under_job, (name,)
            if type(obj) is MethodType and getattr(obj.__self__, obj.__name__, None) == obj:
                return getattr, (obj.__self__, obj.__name__)
            if type(obj) is ContextVar and obj is find(_CONTEXT):
                # what `@job` makes looks into it; a function in __main__ that calls such a one brings both
                return find, (_CONTEXT,)
            return super().reducer_override(obj)

    file = io.BytesIO()
    try:
        Pickler(file, protocol=5).dump(theirs)
    except Exception as error:
        raise EncodingError(
            f"job {theirs.name!r} ({theirs.uuid}) cannot be sent to a worker ({type(error).__name__}: {error}); "
            "let its arguments and its maker hold nothing that cannot be pickled"
        ) from error
    return file.getvalue()


def unpickled(data: bytes) -> Any:
    """The jobflow Job that `pickled` wrote."""
    return pickle.loads(data)  # noqa: S301 - the store's owner submitted it


def _under_job(name: str) -> Any:
    """The function under an importable `@job`."""
    found = find(name)
    return getattr(found, "original", found)

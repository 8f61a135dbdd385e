"""What a Response asks of the graph, as columns; and the running job as a Job again.

The rules are jobflow's and stand in `engine.authoring.replacing`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from towline.engine import model
from towline.engine.authoring.config import JobConfig
from towline.engine.authoring.job import Job
from towline.engine.authoring.replacing import prepare
from towline.engine.authoring.response import Response
from towline.engine.flows import Plan
from towline.engine.functions import Functions
from towline.engine.ids import NO_ROW, unpack_uuid

if TYPE_CHECKING:
    from towline.actors.execute.python import Call, Kind


def growth_of(response: Response[Any], call: Call, functions: Functions, allow_pickle: bool) -> model.Growth | None:
    """The growth of a response, or None if it asks nothing of the graph. ValueError for jobs that do not fit together."""
    if response.replace is None and response.detour is None and response.addition is None:
        if not (response.stop_children or response.stop_jobflow):
            return None
        return model.Growth(stop_children=response.stop_children, stop_jobflow=response.stop_jobflow)
    current = call.job
    assert current is not None
    prepare(response, current)
    compat = call.kind.config.get("compat", "")
    flows = {"replace": response.replace, "detour": response.detour, "addition": response.addition}
    # references may lead anywhere in the graph that is already there
    plans = {name: Plan(flow, True, functions, allow_pickle, compat=compat) for name, flow in flows.items() if flow is not None}
    heir = plans["replace"].number_of(current.uuid) if "replace" in plans else None
    return model.Growth(
        heir=NO_ROW if heir is None else heir,
        stop_children=response.stop_children,
        stop_jobflow=response.stop_jobflow,
        **{name: plan.whole() for name, plan in plans.items()},
    )


def job_of(kind: Kind, leased: model.LeasedJob, arguments: Any) -> Job:
    """The running job as a Job, of which the body may do what it likes."""
    spec, config = kind.spec, kind.fresh_config()
    args, kwargs = arguments if arguments is not None else ((), {})
    function = kind.function
    if config.get("method"):
        function, args = getattr(args[0], function.__name__), args[1:]
    job = Job.__new__(Job)
    job.function = function
    job.function_args, job.function_kwargs = tuple(args), kwargs
    job.uuid = unpack_uuid(leased.uuid)
    job.index = leased.index
    job._name = spec.name
    job._hosts = tuple(spec.hosts)
    job.options = spec.options
    job._kwargs = {name: _stored(raw) for name, raw in spec.options.stores.items()}
    job.metadata = kind.fresh_metadata()
    job.config = JobConfig(
        resolve_references=config.get("resolve", True),
        on_missing_references=config.get("on_missing", "error"),
        manager_config=config.get("manager", {}),
        expose_store=config.get("expose_store", False),
        pass_manager_config=config.get("pass_manager", True),
        response_manager_config=config.get("response_manager", {}),
    )
    if config.get("schema") is not None:
        job.output_schema = config["schema"]
    for name in ("metadata_updates", "config_updates", "name_updates"):
        if name in config:
            setattr(job, name, config[name])
    return job


def _stored(raw: Any) -> Any:
    from towline.engine import codec

    return codec.decode(bytes(raw))

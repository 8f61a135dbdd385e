"""What a Response asks of the graph, as columns (spec, Response 7-10).

A replacing Job takes over the uuid of the job it replaces, with the next index; a replacing Flow with an output gets one more
job that does so and puts that output out. New jobs learn where they lie (`hosts`) and the updates that the running job was
told to pass on.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import msgspec

from towline.engine import model
from towline.engine.authoring.config import JobConfig
from towline.engine.authoring.decorator import store_inputs
from towline.engine.authoring.flow import Flow
from towline.engine.authoring.job import Job
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
    flows = {
        "replace": None if response.replace is None else prepare_replace(response.replace, current),
        "detour": None if response.detour is None else _as_flow(response.detour),
        "addition": None if response.addition is None else _as_flow(response.addition),
    }
    plans: dict[str, Plan] = {}
    for name, flow in flows.items():
        if flow is not None:
            _pass_on(flow, current)
            # references may lead anywhere in the graph that is already there
            plans[name] = Plan(flow, True, functions, allow_pickle)
    heir = plans["replace"].number_of(current.uuid) if "replace" in plans else None
    return model.Growth(
        heir=NO_ROW if heir is None else heir,
        stop_children=response.stop_children,
        stop_jobflow=response.stop_jobflow,
        **{name: plan.whole() for name, plan in plans.items()},
    )


def prepare_replace(replace: Any, current: Job) -> Flow:
    """The flow that takes the place of `current` (jobflow's rules)."""
    if isinstance(replace, dict):
        replace = Flow(list(replace.values()), {key: member.output for key, member in replace.items()})
    elif isinstance(replace, list | tuple):
        replace = Flow(list(replace), type(replace)(member.output for member in replace))
    if isinstance(replace, Job):
        replace.set_uuid(current.uuid)
        replace.index = current.index + 1
        replace.metadata.update(current.metadata)
        if replace.output_schema is None and current.output_schema is not None:
            replace.output_schema = current.output_schema
        return Flow(replace, replace.output)
    if replace.output is not None:
        heir = store_inputs(replace.output)
        heir.set_uuid(current.uuid)
        heir.index = current.index + 1
        heir.metadata = current.metadata
        heir.output_schema = current.output_schema
        heir.options = msgspec.structs.replace(heir.options, stores=current.options.stores)
        heir._kwargs = current._kwargs
        replace.add_jobs(heir)
    return replace  # type: ignore[no-any-return]  # a Flow: everything else was handled above


def _as_flow(work: Any) -> Flow:
    return work if isinstance(work, Flow) else Flow(work)


def _pass_on(flow: Flow, current: Job) -> None:
    """Hosts, updates and manager config of the running job, for the jobs that it made."""
    flow.add_hosts_uuids(current.hosts)
    for update in current.metadata_updates:
        flow.update_metadata(**update, dynamic=True)
    for update in current.config_updates:
        flow.update_config(**update, dynamic=True)
    for update in current.name_updates:
        flow.append_name(**update, dynamic=True)
    config = current.config
    passed = config.response_manager_config or (config.manager_config if config.pass_manager_config else None)
    if passed:
        for member in flow.walk():
            if isinstance(member, Job):
                member.config.manager_config = copy.deepcopy(passed)


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

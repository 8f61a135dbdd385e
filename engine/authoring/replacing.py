"""What a running job's Response asks of the graph, as flows that are ready to be added (spec, Response 7-10).

A replacing Job takes over the uuid of the job it replaces, with the next index; a replacing Flow with an output gets one more
job that does so and puts that output out. New jobs learn where they lie (`hosts`), the updates that the running job was told
to pass on, and its manager config.
"""

from __future__ import annotations

import copy
from typing import Any

import msgspec

from towline.engine.authoring.decorator import store_inputs
from towline.engine.authoring.flow import Flow, get_flow
from towline.engine.authoring.job import Job
from towline.engine.authoring.response import Response


def prepare(response: Response[Any], current_job: Job) -> None:
    """Turn what `replace`, `addition` and `detour` ask into flows that know where they come from."""
    if response.replace is not None:
        response.replace = prepare_replace(response.replace, current_job)
    if response.addition is not None:
        response.addition = get_flow(response.addition, allow_external_references=True)
    if response.detour is not None:
        response.detour = get_flow(response.detour, allow_external_references=True)
    config = current_job.config
    passed = config.response_manager_config or (config.manager_config if config.pass_manager_config else None)
    for flow in (response.replace, response.addition, response.detour):
        if flow is not None:
            pass_on(flow, current_job)
            if passed:
                pass_manager_config(flow, passed)


def prepare_replace(replace: Any, current_job: Job) -> Flow:
    """The flow that takes the place of `current_job` (jobflow's rules)."""
    if isinstance(replace, dict):
        replace = Flow(list(replace.values()), {key: member.output for key, member in replace.items()})
    elif isinstance(replace, list | tuple):
        replace = Flow(list(replace), (tuple if isinstance(replace, tuple) else list)(member.output for member in replace))
    if isinstance(replace, Job):
        replace.set_uuid(current_job.uuid)
        replace.index = current_job.index + 1
        replace.metadata.update(current_job.metadata)
        if replace.output_schema is None and current_job.output_schema is not None:
            replace.output_schema = current_job.output_schema
        return Flow(replace, replace.output)
    if replace.output is not None:
        heir = store_inputs(replace.output)
        heir.set_uuid(current_job.uuid)
        heir.index = current_job.index + 1
        heir.metadata = current_job.metadata
        heir.output_schema = current_job.output_schema
        heir.options = msgspec.structs.replace(heir.options, stores=current_job.options.stores)
        heir._kwargs = current_job._kwargs
        replace.add_jobs(heir)
    return replace  # type: ignore[no-any-return]  # a Flow: everything else was handled above


def pass_on(flow: Flow, current_job: Job) -> None:
    """Hosts and updates of the running job, for the jobs that it made."""
    flow.add_hosts_uuids(current_job.hosts)
    for update in current_job.metadata_updates:
        flow.update_metadata(**update, dynamic=True)
    for update in current_job.config_updates:
        flow.update_config(**update, dynamic=True)
    for update in current_job.name_updates:
        flow.append_name(**update, dynamic=True)


def pass_manager_config(jobs: Any, manager_config: dict[str, Any]) -> None:
    """Give each job in a Job, a Flow or a nest of lists of them a copy of the manager config. ValueError for anything else."""
    open_work = [jobs]
    while open_work:
        work = open_work.pop()
        if isinstance(work, Job):
            work.config.manager_config = copy.deepcopy(manager_config)
        elif isinstance(work, list | tuple | Flow):
            open_work.extend(work)
        else:
            raise ValueError("Unrecognised jobs format")

"""`Job.run(store)`: one job, run here and now against a document store, as jobflow's managers do it.

Durable runs take another road (`actors.execute.python`), by the same rules: `Response.from_job_returns` and `replacing`.
"""

from __future__ import annotations

import datetime as dt
import logging
import types
from typing import TYPE_CHECKING, Any

from towline.engine.authoring.current import RUNNING, Running
from towline.engine.authoring.replacing import prepare
from towline.engine.authoring.response import Response
from towline.engine.codec import mson

if TYPE_CHECKING:
    from towline.engine.authoring.job import Job

logger = logging.getLogger("towline")


def run_job(job: Job, store: Any, job_dir: Any = None) -> Response[Any]:
    """Resolve the arguments, call the function, write the document to `store`, and return the Response.

    Raises whatever the function does; ValueError for a reference without a value; RuntimeError for an output that a document
    cannot hold.
    """
    shown = f"{job.name} ({job.uuid}{f', {job.index}' if job.index != 1 else ''})"
    logger.info("Starting job - %s", shown)
    token = RUNNING.set(Running(lambda: job, store if job.config.expose_store else None))
    try:
        if job.config.resolve_references:
            job.resolve_args(store, wrap_resolved=job.config.resolve_references == "both")
        returned = _bare(job.function)(*job.function_args, **job.function_kwargs)
        response = Response.from_job_returns(returned, job.output_schema, job_dir)
        prepare(response, job)
        save = {name: "output" if value is True else value for name, value in job._kwargs.items()}
        store.update(_document(job, sanitized(response.output)), key=["uuid", "index"], save=save)
    finally:
        RUNNING.reset(token)
    logger.info("Finished job - %s", shown)
    return response


def _bare(function: Any) -> Any:
    """The function under `@job`, bound to what it was bound to."""
    bound = getattr(function, "__self__", None)
    function = getattr(function, "original", function)
    if bound is not None and not isinstance(bound, types.ModuleType) and not hasattr(function, "__self__"):
        return types.MethodType(function, bound)
    return function


def sanitized(output: Any) -> Any:
    """An output as a document holds it. RuntimeError, in jobflow's words, for what has no `as_dict`."""
    try:
        return mson.sanitize(output)
    except AttributeError as error:
        raise RuntimeError(
            "Job output contained an object that is not MSONable and therefore could not be serialized."
        ) from error


def _document(job: Job, output: Any) -> dict[str, Any]:
    return {
        "uuid": job.uuid,
        "index": job.index,
        "output": output,
        "completed_at": dt.datetime.now().isoformat(),  # local, without a zone, as jobflow writes it
        "metadata": job.metadata,
        "hosts": job.hosts,
        "name": job.name,
    }

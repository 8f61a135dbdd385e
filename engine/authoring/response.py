"""What a job may return besides a plain value: jobflow's Response, and the rules by which a return value becomes one."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from pydantic import BaseModel

T = TypeVar("T")


class SchemaError(ValueError):
    """An output is not what the job's schema says."""


@dataclass
class Response(Generic[T]):
    """An output together with what it does to the flow."""

    output: T | None = None
    detour: Any = None
    """A Job, a Flow or a list of them, to run before this job's children."""
    addition: Any = None
    """A Job, a Flow or a list of them, to run beside everything else."""
    replace: Any = None
    """A Job, a Flow, or a list, tuple or dict of them, to take this job's place."""
    stored_data: dict[Hashable, Any] | None = None
    """Kept with the job."""
    stop_children: bool = False
    """Stop all descendants of this job."""
    stop_jobflow: bool = False
    """Stop all that has not begun."""
    job_dir: str | Path | None = None
    """Where the job ran."""

    @classmethod
    def from_job_returns(
        cls, job_returns: Any, output_schema: type[BaseModel] | None = None, job_dir: str | Path | None = None
    ) -> Response[Any]:
        """The Response that a return value means (spec, Response 7).

        ValueError for a Response inside a container; SchemaError where the output is not as the schema says, which is not
        asked of a job that is replaced.
        """
        response = job_returns if isinstance(job_returns, Response) else _meant(job_returns)
        if response.replace is None:
            response.output = apply_schema(response.output, output_schema)
        response.job_dir = job_dir
        return response


def _meant(returned: Any) -> Response[Any]:
    parts = _parts(returned)
    if parts and all(_is_work(part) for part in parts):
        return Response(replace=returned)
    if any(isinstance(part, Response) for part in parts):
        raise ValueError("Response cannot be returned in combination with other outputs.")
    return Response(output=returned)


def _parts(returned: Any) -> list[Any]:
    if isinstance(returned, list | tuple):
        return list(returned)
    return list(returned.values()) if isinstance(returned, dict) else [returned]


def _is_work(value: Any) -> bool:
    from towline.engine.authoring.flow import Flow
    from towline.engine.authoring.job import Job

    return isinstance(value, Job | Flow)


def apply_schema(output: Any, schema: type[BaseModel] | None) -> Any:
    """The output as an instance of the schema (a dict is made one); SchemaError, a ValueError, if it cannot be."""
    if schema is None or isinstance(output, schema):
        return output
    if output is None:
        raise SchemaError(f"Expected output of type {schema.__name__} but got no output")
    if not isinstance(output, dict):
        kind = type(output).__name__
        raise SchemaError(f"Expected output to be {schema.__name__} or dict but got output type of {kind}.")
    return schema(**output)

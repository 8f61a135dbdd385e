"""A job: a call that has not been made yet, with a name for its result.

Most of a Job's attributes are never touched, so they are made at the first look: a million jobs are built in seconds and
carry only what differs. Names and meanings are those of jobflow's Job.
"""

from __future__ import annotations

import copy
import types
import warnings
from collections.abc import Callable, Hashable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from towline.engine.authoring import updates
from towline.engine.authoring.collecting import COLLECTED, SCALARS, contains_flow_or_job
from towline.engine.authoring.config import DEFAULT_OPTIONS, JobConfig, options_of, told_options
from towline.engine.authoring.maker import Maker
from towline.engine.authoring.plaindata import PlainData
from towline.engine.authoring.reference import OutputReference, find_and_get_references
from towline.engine.authoring.uuids import new_uuid
from towline.engine.model import Options

if TYPE_CHECKING:
    from networkx import DiGraph
    from pydantic import BaseModel

    from towline.engine.authoring.response import Response

_QUIET = SCALARS | {OutputReference}
_LAZY: dict[str, Callable[[], Any]] = {
    "metadata": dict,
    "config": JobConfig,
    "metadata_updates": list,
    "config_updates": list,
    "name_updates": list,
}


class Job(updates.Updatable, PlainData):
    """A delayed call of `function`. Usually made by calling a function under `@job`.

    Keywords beyond those named are the options of DESIGN section 7 (`retries`, `priority`, ...); any other names an
    additional store and says what is kept there.
    """

    function: Callable[..., Any]
    function_args: tuple[Any, ...]
    function_kwargs: dict[str, Any]
    uuid: str
    output_schema: type[BaseModel] | None = None
    index: int = 1
    options: Options = DEFAULT_OPTIONS
    metadata: dict[str, Any]
    config: JobConfig
    metadata_updates: list[dict[str, Any]]
    config_updates: list[dict[str, Any]]
    name_updates: list[dict[str, Any]]
    _name: str
    _hosts: tuple[str, ...] | list[str] = ()
    _kwargs: dict[str, Any] = {}  # noqa: RUF012 - replaced as a whole, never changed in place

    def __init__(
        self,
        function: Callable[..., Any],
        function_args: Sequence[Any] | None = None,
        function_kwargs: dict[str, Any] | None = None,
        output_schema: type[BaseModel] | None = None,
        uuid: str | None = None,
        index: int = 1,
        name: str | None = None,
        metadata: dict[str, Any] | None = None,
        config: JobConfig | None = None,
        hosts: list[str] | None = None,
        metadata_updates: list[dict[str, Any]] | None = None,
        config_updates: list[dict[str, Any]] | None = None,
        name_updates: list[dict[str, Any]] | None = None,
        **kwargs: Any,
    ) -> None:
        self.function = own_copy(function)
        self.function_args = () if function_args is None else tuple(function_args)
        self.function_kwargs = {} if function_kwargs is None else function_kwargs
        self.uuid = new_uuid() if uuid is None else uuid
        if output_schema is not None:
            self.output_schema = output_schema
        self.index = index
        if kwargs:
            self.options, self._kwargs = options_of(kwargs)
        given = {
            "metadata": metadata,
            "config": config,
            "hosts": hosts,
            "metadata_updates": metadata_updates,
            "config_updates": config_updates,
            "name_updates": name_updates,
        }
        for attribute, value in given.items():
            if value:
                setattr(self, attribute, value)
        if name is not None:
            self.name = name
        else:
            self._name = self.maker.name if self.maker is not None else name_of_function(self.function)
        note(self)

    def __getattr__(self, name: str) -> Any:
        make = _LAZY.get(name)
        if make is None:
            raise AttributeError(f"'{type(self).__name__}' object has no attribute '{name}'")
        value = self.__dict__[name] = make()
        return value

    @property
    def name(self) -> str:
        """For display, and for filters; a maker's job shares it with its maker."""
        return self._name

    @name.setter
    def name(self, name: str) -> None:
        self._name = name
        if self.maker is not None:
            self.maker.name = name  # type: ignore[misc]  # a field in every subclass

    @property
    def output(self) -> OutputReference:
        """A reference to the value that this job will return."""
        known = self.__dict__.get("_output")
        if known is None:
            known = self.__dict__["_output"] = OutputReference(self.uuid, (), self.output_schema)
        return known

    @output.setter
    def output(self, reference: OutputReference) -> None:
        self.__dict__["_output"] = reference

    @property
    def hosts(self) -> list[str]:
        """uuids of the flows around this job, innermost first."""
        if type(self._hosts) is tuple:
            # shared with the job's neighbours until somebody looks
            self._hosts = list(self._hosts)
        return self._hosts  # type: ignore[return-value]  # a list since the line above

    @hosts.setter
    def hosts(self, hosts: Sequence[str]) -> None:
        self._hosts = tuple(hosts)

    @property
    def host(self) -> str | None:
        """uuid of the innermost flow around this job."""
        return self._hosts[0] if self._hosts else None

    @property
    def maker(self) -> Maker | None:
        """The maker whose method this job runs, if it does."""
        bound = getattr(self.function, "__self__", None)
        return bound if isinstance(bound, Maker) else None

    @property
    def input_references(self) -> tuple[OutputReference, ...]:
        """The references in the arguments, in order, each once."""
        return find_and_get_references([self.function_args, self.function_kwargs])

    @property
    def input_uuids(self) -> tuple[str, ...]:
        """uuids of the references in the arguments."""
        return tuple(ref.uuid for ref in self.input_references)

    @property
    def input_references_grouped(self) -> dict[str, tuple[OutputReference, ...]]:
        """The references in the arguments by their uuids."""
        groups: dict[str, list[OutputReference]] = {}
        for ref in self.input_references:
            groups.setdefault(ref.uuid, []).append(ref)
        return {uuid: tuple(refs) for uuid, refs in groups.items()}

    @property
    def graph(self) -> DiGraph:
        """The job and what it takes its arguments from, as a networkx graph."""
        from towline.engine.authoring.drawing import graph_of_job

        return graph_of_job(self)

    def set_uuid(self, uuid: str) -> None:
        """Give the job, and the reference to its output, another uuid."""
        self.uuid = uuid
        if "_output" in self.__dict__:
            self.output.set_uuid(uuid)

    def add_hosts_uuids(self, hosts_uuids: str | Sequence[str], prepend: bool = False) -> None:
        """Note that the job lies in these flows, innermost first: behind those known, or before them."""
        added = (hosts_uuids,) if isinstance(hosts_uuids, str) else hosts_uuids
        if not self._hosts and type(added) is tuple:
            self._hosts = added
        else:
            self._hosts = (*added, *self._hosts) if prepend else (*self._hosts, *added)

    def run(self, store: Any, job_dir: str | Path | None = None) -> Response[Any]:
        """Run this job alone, here and now: inputs from `store` (a JobStore), its document into it; see `running.run_job`."""
        from towline.engine.authoring.running import run_job

        return run_job(self, store, job_dir)

    def resolve_args(self, store: Any, inplace: bool = True, wrap_resolved: bool = False) -> Job:
        """Replace the references in the arguments by what `store` holds: here, or in a copy of the job."""
        from towline.engine.authoring.reference import find_and_resolve_references

        args, kwargs = find_and_resolve_references(
            [self.function_args, self.function_kwargs],
            store,
            on_missing=self.config.on_missing_references,
            wrap_resolved=wrap_resolved,
        )
        job = self if inplace else copy.copy(self)
        job.function_args, job.function_kwargs = tuple(args), kwargs
        return job

    def every_job(self) -> Iterator[Job]:
        """Itself: a job can be updated like a flow of one."""
        yield self

    def __getitem__(self, key: Any) -> OutputReference:
        return self.output[key]

    def __contains__(self, item: Hashable) -> bool:
        return item in self.input_uuids

    def __repr__(self) -> str:
        return f"Job(name={self.name!r}, uuid={self.uuid!r})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Job):
            return NotImplemented
        return self is other or (self.uuid == other.uuid and _identity(self) == _identity(other))

    def __hash__(self) -> int:
        return hash(self.uuid)

    def _told(self) -> dict[str, Any]:
        from towline.engine.codec.mson import callable_dict

        names = ("function_args", "function_kwargs", "uuid", "index", "name", "metadata", "config", "hosts")
        own = {name: getattr(self, name) for name in (*names, "metadata_updates", "config_updates", "name_updates")}
        schema = self.output_schema
        # named one by one: a function may be an object that has an as_dict of its own
        called = {"function": callable_dict(self.function), "output_schema": schema and callable_dict(schema)}
        return {**called, **own, **told_options(self.options), **self._kwargs}

    def as_dict(self) -> dict[str, Any]:
        """Plain data, in the shape that monty reads, down to its last value: Enums become their values, and arrays lists."""
        from towline.engine.codec.mson import sanitize

        plain: dict[str, Any] = sanitize(super().as_dict())
        return plain

    def __getstate__(self) -> dict[str, Any]:
        from towline.engine.codec.names import name_of

        state = {name: value for name, value in self.__dict__.items() if name != "_output"}
        # the function under an importable @job goes by name, like the @job itself
        name = name_of(self.function, unwrap=True) if isinstance(self.function, types.FunctionType) else None
        return {**state, "function": name} if name is not None else state

    def __setstate__(self, state: dict[str, Any]) -> None:
        from towline.engine.codec.names import find

        self.__dict__.update(state)
        if isinstance(state["function"], str):
            found = find(state["function"])
            self.function = getattr(found, "original", found)


def _identity(job: Job) -> list[Any]:
    return [
        job.index,
        job.name,
        # two bound methods are equal only if they are bound to the very same object
        updates.bare(job.function),
        getattr(job.function, "__self__", None),
        job.function_args,
        job.function_kwargs,
        job.output_schema,
        job.options,
        list(job._hosts),
        *(job.__dict__.get(name) or make() for name, make in _LAZY.items()),
    ]


def own_copy(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function; a method bound to an object is bound to a copy of it, so that jobs of one maker share no settings."""
    bound = getattr(function, "__self__", None)
    if bound is None or isinstance(bound, type | types.ModuleType):
        return function
    return copy.deepcopy(function)


def name_of_function(function: Callable[..., Any]) -> str:
    """What a job is called unless it is named."""
    name = getattr(function, "__qualname__", None) or getattr(function, "__name__", None)
    return str(name or getattr(getattr(function, "func", None), "__qualname__", type(function).__name__))


def note(job: Job) -> None:
    """Warn of a job among the arguments, and tell the `@flow` around us, if any, of the new job."""
    args, kwargs = job.function_args, job.function_kwargs
    quiet = _QUIET.issuperset(map(type, args)) and (not kwargs or _QUIET.issuperset(map(type, kwargs.values())))
    if not quiet and contains_flow_or_job((args, kwargs)):
        warnings.warn(
            f"Job '{job.name}' contains an Flow or Job as an input. Usually inputs should be the output of a Job or an Flow "
            "(e.g. job.output). If this message is unexpected then double check the inputs to your Job.",
            stacklevel=3,
        )
    collected = COLLECTED.get()
    if collected is not None:
        collected.append(job)

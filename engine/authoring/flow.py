"""Flows: jobs and other flows that belong together, with an output and an order.

Adding is linear in what is added. Questions about the whole (uuids, order, graph) are answered by loops, never by recursion
over the graph; only the depth of nesting is walked.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import deepcopy
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from towline.engine.authoring.collecting import COLLECTED, collecting, contains_flow_or_job, outputs_for_jobs
from towline.engine.authoring.job import Job
from towline.engine.authoring.maker import Maker
from towline.engine.authoring.plaindata import PlainData
from towline.engine.authoring.reference import find_and_get_references
from towline.engine.authoring.updates import Updatable
from towline.engine.authoring.uuids import new_uuid

if TYPE_CHECKING:
    from networkx import DiGraph


class JobOrder(StrEnum):
    """How the order of a flow's members is found."""

    AUTO = "auto"
    """From the references alone."""
    LINEAR = "linear"
    """As they stand: each waits for the one before it."""

    def as_dict(self) -> str:
        """The value, as jobflow writes it."""
        return self.value


class Flow(Updatable, PlainData):
    """Jobs and flows, in `order`, with an `output` made of references to outputs of theirs."""

    def __init__(
        self,
        jobs: Job | Flow | Sequence[Job | Flow],
        output: Any = None,
        name: str = "Flow",
        order: JobOrder = JobOrder.AUTO,
        uuid: str | None = None,
        hosts: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        metadata_updates: list[dict[str, Any]] | None = None,
    ) -> None:
        self.name = name
        self.order = JobOrder(order)
        self.uuid = new_uuid() if uuid is None else uuid
        self.hosts: list[str] = hosts or []
        self.metadata: dict[str, Any] = metadata or {}
        self.metadata_updates: list[dict[str, Any]] = metadata_updates or []
        self._members: list[Job | Flow] = []
        self._known: set[str] | None = set()
        self.add_jobs(jobs)
        self.output = output
        collected = COLLECTED.get()
        if collected is not None:
            collected.append(self)

    @property
    def jobs(self) -> tuple[Job | Flow, ...]:
        """The members, in order."""
        return tuple(self._members)

    @jobs.setter
    def jobs(self, jobs: Job | Flow | Sequence[Job | Flow]) -> None:
        self._members = [jobs] if isinstance(jobs, Job | Flow) else list(jobs)
        self._known = None

    @property
    def output(self) -> Any:
        """What the flow as a whole puts out: references, or a structure of them."""
        return self._output

    @output.setter
    def output(self, output: Any) -> None:
        if output is not None:
            if contains_flow_or_job(output):
                warnings.warn(
                    f"Flow '{self.name}' contains a Flow or Job as an output. Usually the Flow output should be the output "
                    "of a Job or another Flow (e.g. job.output). If this message is unexpected then double check the "
                    "outputs of your Flow.",
                    stacklevel=3,
                )
            wanted = {ref.uuid for ref in find_and_get_references(output)}
            if wanted and not wanted <= set(self.job_uuids):
                raise ValueError("jobs array does not contain all jobs needed for flow output")
        self._output = output

    @property
    def job_uuids(self) -> tuple[str, ...]:
        """uuids of all jobs, those of nested flows included, in order."""
        return tuple(job.uuid for job in self.every_job())

    @property
    def all_uuids(self) -> tuple[str, ...]:
        """uuids of all jobs and flows inside; a nested flow comes after its members."""
        uuids: list[str] = []
        open_flows = [(self, iter(self._members))]
        while open_flows:
            flow, rest = open_flows[-1]
            for member in rest:
                if isinstance(member, Flow):
                    open_flows.append((member, iter(member._members)))
                    break
                uuids.append(member.uuid)
            else:
                open_flows.pop()
                if open_flows:
                    uuids.append(flow.uuid)
        return tuple(uuids)

    @property
    def host(self) -> str | None:
        """uuid of the innermost flow around this one."""
        return self.hosts[0] if self.hosts else None

    @property
    def graph(self) -> DiGraph:
        """The jobs and how they are connected, as a networkx graph (LINEAR order included)."""
        from towline.engine.authoring.drawing import graph_of_flow

        return graph_of_flow(self)

    def draw_graph(self, **kwargs: Any) -> Any:
        """Draw the graph with matplotlib; gives matplotlib.pyplot."""
        from towline.engine.authoring.drawing import draw_graph

        return draw_graph(self.graph, **kwargs)

    def walk(self) -> Iterator[Job | Flow]:
        """Every job and flow inside, each flow before its members."""
        open_members = [iter(self._members)]
        while open_members:
            for member in open_members[-1]:
                yield member
                if isinstance(member, Flow):
                    open_members.append(iter(member._members))
                    break
            else:
                open_members.pop()

    def iterflow(self) -> Iterator[tuple[Job, list[str]]]:
        """Each job with the uuids of its parents in this flow, parents first; ValueError if there is a cycle."""
        from towline.engine.flows import Plan

        yield from Plan(self, allow_external_references=True).walk()

    def add_jobs(self, jobs: Job | Flow | Sequence[Job | Flow]) -> None:
        """Add members at the end; ValueError if one belongs elsewhere, is here already, or holds this flow."""
        if not isinstance(jobs, Job | Flow | Iterable):
            raise _no_member(jobs)
        added = [jobs] if isinstance(jobs, Job | Flow) else list(jobs)
        known, new = self._uuids(), set[str]()
        for member in added:
            self._check(member, known, new)
            new.add(member.uuid)
            if isinstance(member, Flow):
                new |= member._uuids()
        # all of them are fit to be added: one that is refused leaves everything as it was
        hosts = (self.uuid, *self.hosts)
        for member in added:
            if member.host != self.uuid:
                member.add_hosts_uuids(hosts)
        known.update(new)
        self._members += added

    def _check(self, member: Job | Flow, known: set[str], new: set[str]) -> None:
        if not isinstance(member, Job | Flow):
            raise _no_member(member)
        if member.host is not None and member.host != self.uuid:
            kind = type(member).__name__
            raise ValueError(f"{kind} {member.name} ({member.uuid}) already belongs to another flow: {member.host}.")
        if member.uuid in known or member.uuid in new:
            raise ValueError(
                f"jobs array contains multiple jobs/flows with the same uuid ({member.uuid}): "
                f"{type(member).__name__} {member.name!r}, and one that is in flow {self.name!r} already"
            )
        if isinstance(member, Flow) and (self.uuid == member.uuid or self.uuid in member._uuids()):
            raise ValueError(f"circular dependency: Flow ({member.uuid}) contains the current Flow ({self.uuid})")

    def _uuids(self) -> set[str]:
        """Those of all members at the time of their adding; kept, so that adding one by one stays linear."""
        if self._known is None:
            self._known = set(self.all_uuids)
        return self._known

    def remove_jobs(self, indices: int | Sequence[int]) -> None:
        """Remove members by their places; ValueError if a place does not exist or the output needs its job."""
        places = {indices} if isinstance(indices, int) else set(indices)
        if any(place < 0 or place >= len(self) for place in places):
            raise ValueError("Only indices between 0 and the number of the jobs are accepted")
        kept = [member for place, member in enumerate(self._members) if place not in places]
        left = {uuid for member in kept for uuid in ((member.uuid,) if isinstance(member, Job) else member.job_uuids)}
        if not {ref.uuid for ref in find_and_get_references(self.output)} <= left:
            raise ValueError("Removed Jobs/Flows are referenced in the output of the Flow.")
        self.jobs = kept

    def add_hosts_uuids(self, hosts_uuids: str | Sequence[str] | None = None, prepend: bool = False) -> None:
        """Note that this flow and all inside lie in these flows too; None: that all inside lie in this one."""
        if hosts_uuids is None:
            added: tuple[str, ...] = (self.uuid,)
        else:
            added = (hosts_uuids,) if isinstance(hosts_uuids, str) else tuple(hosts_uuids)
            self.hosts = [*added, *self.hosts] if prepend else [*self.hosts, *added]
        # jobs that shared their hosts go on sharing them
        lengthened: dict[tuple[str, ...], tuple[str, ...]] = {}
        for member in self.walk():
            if isinstance(member, Flow):
                member.hosts = [*added, *member.hosts] if prepend else [*member.hosts, *added]
                continue
            old = tuple(member._hosts)
            member._hosts = lengthened.setdefault(old, (*added, *old) if prepend else (*old, *added))

    def as_dict(self) -> dict[str, Any]:
        """Plain data, in the shape that monty reads. What `@flow` made is a Flow like any other."""
        return {**super().as_dict(), "@module": Flow.__module__, "@class": Flow.__name__}

    def _told(self) -> dict[str, Any]:
        names = ("output", "name", "order", "uuid", "hosts", "metadata", "metadata_updates")
        return {"jobs": self._members, **{name: getattr(self, name) for name in names}}

    def every_job(self) -> Iterator[Job]:
        """All jobs inside, those of nested flows included, in order."""
        return (member for member in self.walk() if isinstance(member, Job))

    def every_flow(self) -> Iterator[Flow]:
        """This flow and those inside it, each before its members."""
        yield self
        yield from (member for member in self.walk() if isinstance(member, Flow))

    def __len__(self) -> int:
        return len(self._members)

    def __getitem__(self, idx: Any) -> Any:
        return self.jobs[idx]

    def __setitem__(self, idx: int | slice, value: Any) -> None:
        values = value if isinstance(value, list | tuple) else [value]
        if not all(isinstance(item, Job | Flow) for item in values):
            raise TypeError(f"Flow can only contain Job or Flow objects, not {type(value).__name__}")
        members: list[Any] = list(self._members)
        members[idx] = value
        self.jobs = members

    def __iter__(self) -> Iterator[Job | Flow]:
        return iter(self.jobs)

    def __contains__(self, item: object) -> bool:
        return item in self._members

    def __add__(self, other: Any) -> Flow:
        if not isinstance(other, Job | Flow | list | tuple):
            return NotImplemented
        new = deepcopy(self)
        new.add_jobs(other)
        return new

    def __sub__(self, other: Job | Flow) -> Flow:
        if other not in self:
            raise ValueError(f"{other!r} not found in flow")
        new = deepcopy(self)
        new.jobs = tuple(member for member in new if member.uuid != other.uuid)
        return new

    def __repr__(self) -> str:
        lines = [f"Flow(name={self.name!r}, uuid={self.uuid!r})"]
        open_members = [("", iter(enumerate(self._members, 1)))]
        while open_members:
            prefix, members = open_members[-1]
            for number, member in members:
                place = f"{prefix}{number}."
                indent = "  " * (len(open_members) - 1)
                title = f"Flow(name={member.name!r}, uuid={member.uuid!r})" if isinstance(member, Flow) else repr(member)
                lines.append(f"{indent}{place} {title}")
                if isinstance(member, Flow):
                    open_members.append((place, iter(enumerate(member._members, 1))))
                    break
            else:
                open_members.pop()
        return "\n".join(lines)

    def __eq__(self, other: object) -> bool:
        return self.uuid == other.uuid if isinstance(other, Flow) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.uuid)


def get_flow(flow: Flow | Job | Sequence[Job | Flow], allow_external_references: bool = False) -> Flow:
    """A Flow of what is given, with its connections checked: ValueError for references that lead outside, unless allowed."""
    made = flow if isinstance(flow, Flow) else Flow(flow)
    if not allow_external_references:
        from towline.engine.flows import Plan

        Plan(made)
    return made


def _no_member(given: Any) -> TypeError:
    hint = f"; call it: {getattr(given, '__name__', 'it')}(...)" if callable(given) else ""
    hint = "; hand in the job itself" if type(given).__name__ == "OutputReference" else hint
    return TypeError(f"a flow is made of Jobs and Flows, and {type(given).__name__} is neither{hint}")


flow_build_context = collecting
"""jobflow's name for it."""


class DecoratedFlow(Flow):
    """The flow that a function under `@flow` makes: all jobs of the call that no other flow has taken."""

    def __init__(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        self.fn = fn
        self.args = args
        self.kwargs = kwargs
        made: list[Job | Flow] = []
        with collecting(made):
            output = fn(*args, **kwargs)
        name = str(getattr(fn, "__qualname__", None) or getattr(fn, "__name__", "Flow"))
        if args and name.rpartition(".")[2] == "make" and isinstance(args[0], Maker):
            name = args[0].name
        if isinstance(output, Job | Flow):
            warnings.warn(
                f"@flow decorated function '{name}' contains a Flow or Job as an output. Usually the output should be the "
                "output of a Job or another Flow (e.g. job.output). Replacing the output of the @flow with the output of "
                "the Flow/Job. If this message is unexpected then double check the outputs of your @flow decorated function.",
                stacklevel=3,
            )
        free = [member for member in made if member.host is None]
        super().__init__(free, outputs_for_jobs(output), name)


def flow(fn: Callable[..., Any]) -> Callable[..., DecoratedFlow]:
    """Make each call of a function a Flow of the jobs that the call makes; what it returns is the flow's output."""

    @functools.wraps(fn)
    def wrapper(*args: Any, **kwargs: Any) -> DecoratedFlow:
        return DecoratedFlow(fn, *args, **kwargs)

    return wrapper

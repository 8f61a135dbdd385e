"""What is to be run, and how: the arguments of `run` and its kin, sorted out, and put together with the settings.

Nothing is started here, and nothing made.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any, TypedDict

import msgspec

from towline import places, settings
from towline.client import LeaderClient
from towline.control import Run
from towline.engine.errors import UsageError

launches = 0
"""Runs that this process has started or tried to resume; `towline run` asks whether a script did."""


class RunOptions(TypedDict, total=False):
    """The keywords of `run`."""

    store: Any
    """A path, a URL, a JobStore, or None."""
    workers: int | None
    address: str | None
    name: str | None
    progress: bool
    raise_on_failure: bool
    timeout_s: float | None
    local: bool
    takeover: bool
    compat: str | None


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """A run to make: arguments and settings, sorted out."""

    store: str
    create: bool
    flow: Any = None
    """The Flow to hand in; None: go on with what the store holds."""
    workers: int | None = None
    address: str | None = None
    local: bool = False
    takeover: bool = False
    detached: bool = False
    progress: bool = True
    raise_on_failure: bool = True
    timeout_s: float | None = None
    compat: str = ""
    """"jobflow", or nothing."""
    documents: Any = None
    """The JobStore in whose additional stores jobs lay parts of their outputs."""
    external: bool = True
    """May jobs refer to jobs outside the flow? Then the store must hold them."""
    lost: frozenset[str] = frozenset()
    """Jobs outside the flow that are referred to, and that are not in the store either."""
    local_options: dict[str, Any] = {}
    """Passed on to `run_jobs_until_idle`."""
    beside: Callable[[LeaderClient, bool], None] | None = None
    """Called in the driving thread now and then while the run goes on, and once, with True, when it has ended."""
    at_end: Callable[[LeaderClient], None] | None = None
    """Called once, when the run has ended and while whoever knows of it still answers."""
    run_type: Callable[..., Run] = Run
    """What makes the Run, called as Run is."""

    @property
    def scope(self) -> dict[str, str]:
        """What limits a question to the flow that is handed in."""
        return {} if self.flow is None else {"flow": self.flow.uuid}


def order_of(flow: Any, options: RunOptions) -> Order:
    """Arguments, settings and the choice of a store, put together. UsageError if they do not fit."""
    global launches
    launches += 1
    from towline.engine.authoring.flow import get_flow

    whole = get_flow(members_of(flow), allow_external_references=True)
    _check(options)
    store, home = _home(options)
    choice = places.choose(store, options.get("name") or whole.name, whole.uuid)
    return _at_home(ordered(choice.url, choice.create, whole, options), home)


def order_to_resume(options: RunOptions) -> Order:
    """The same for a run that goes on. UsageError if no store is named."""
    global launches
    launches += 1
    store, home = _home(options)
    url = os.fspath(store) if store is not None else settings.current().store
    if url is None:
        raise UsageError("no store was named: give its path, or set TOWLINE_STORE")
    return _at_home(ordered(url, False, None, options), home)


def _home(options: RunOptions) -> tuple[str | os.PathLike[str] | None, Any]:
    """Where the run is kept, if that is said; and the JobStore that was named for it, if one was."""
    store = options.get("store")
    if store is None or isinstance(store, str | os.PathLike):
        return store, None
    from towline import documents

    return documents.home_of(store)


def _at_home(order: Order, home: Any) -> Order:
    if home is None:
        return order
    from towline import documents

    return documents.with_home(order, home)


def members_of(flow: Any) -> Any:
    """What is to be run, if it can be: a Flow, a Job, or a list of them. UsageError."""
    from towline.engine.authoring.flow import Flow
    from towline.engine.authoring.job import Job

    if isinstance(flow, Flow | Job):
        return flow
    listed = not isinstance(flow, str | bytes | dict) and isinstance(flow, Iterable)
    members = list(flow) if listed else [flow]
    for member in members:
        if not isinstance(member, Flow | Job):
            hint = ": call it, its call is the job" if callable(member) else ""
            raise UsageError(f"expected a Flow, a Job or a list of them, got {type(member).__name__}{hint}")
    return members


def ordered(url: str, create: bool, flow: Any, options: RunOptions) -> Order:
    """An order for a store that is chosen already; what the call does not say comes from the settings. UsageError."""
    _check(options)
    given = settings.current()
    # an address in the call is stronger than a TOWLINE_LOCAL around it, and a local=True than a TOWLINE_ADDRESS
    local = options.get("local", False) or (given.local and not options.get("address"))
    return Order(
        store=url,
        create=create,
        flow=flow,
        workers=options.get("workers") or given.workers,
        local=local,
        address=None if local else options.get("address") or given.address,
        takeover=options.get("takeover", False) or given.takeover,
        progress=options.get("progress", True) and given.progress,
        raise_on_failure=options.get("raise_on_failure", True),
        timeout_s=options.get("timeout_s"),
        compat=compat_of(options.get("compat") or given.compat),
    )


def compat_of(said: str | None) -> str:
    """The compatibility that is asked for. UsageError for one that there is not."""
    if said not in (None, "", "jobflow"):
        raise UsageError(f"compat must be 'jobflow' or left out, not {said!r}")
    return said or ""


def _check(options: RunOptions) -> None:
    workers, timeout_s = options.get("workers"), options.get("timeout_s")
    if workers is not None and workers < 1:
        raise UsageError(f"workers must be 1 or more, not {workers}")
    if timeout_s is not None and timeout_s <= 0:
        raise UsageError(f"timeout_s must be more than 0, not {timeout_s}")
    if options.get("local") and options.get("address"):
        raise UsageError("local=True runs without Ray: leave out the address, or local")

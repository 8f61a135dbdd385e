"""Flows made with jobflow's own classes, run by towline: durably, in parallel, and with their documents in the user's JobStore.

    import towline.adapters.jobflow as adapter

    run = adapter.run(flow)                       # instead of jobflow.run_locally(flow)
    run.output(flow)                              # or jobflow.SETTINGS.JOB_STORE.get_output(...), as ever

The store of towline (`store`) is what makes a run durable; the JobStore (`jobstore`) gets a document for each job that has
completed, as `run_locally` would write it, while the run goes on and at its end. A run that was broken off goes on by `resume`.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from towline import orders, session, settings
from towline.adapters import jobflow_view as views
from towline.adapters.jobflow_export import Exporter, ExportError, of_leader
from towline.adapters.jobflow_flows import Terms, referred_to, translated
from towline.control import RUNNING, WAIT_STEP_S, JobInfo, Run, uuid_of
from towline.engine.errors import UsageError

if TYPE_CHECKING:
    from towline.orders import Order, RunOptions

__all__ = ["ExportError", "JobflowRun", "export", "resume", "run", "submit"]

Store = str | os.PathLike[str] | None


def run(
    flow: Any,
    *,
    store: Store = None,
    jobstore: Any = None,
    workers: int | None = None,
    address: str | None = None,
    local: bool = False,
    name: str | None = None,
    create_folders: bool | None = None,
    root_dir: str | os.PathLike[str] | None = None,
    allow_external_references: bool = False,
    progress: bool = True,
    raise_on_failure: bool = True,
    timeout_s: float | None = None,
    takeover: bool = False,
) -> JobflowRun:
    """Run a jobflow Flow, a Job or a list of jobs to its end. What is not named here is as for `towline.run`.

    jobstore                   jobflow JobStore for the documents; None: the one of jobflow's settings.
    create_folders             run each job in a new folder; None: yes, unless the run is local. Empty ones are removed.
    root_dir                   where jobs run, or their folders are made; None: the working directory.
    allow_external_references  jobs may refer to documents that are in `jobstore`, or to jobs that are in `store`.

    Raises:
        RunFailed: jobs failed (and `raise_on_failure`). Documents of the others are written.
        ExportError: documents could not be written; `export` does it later.
        ValueError: jobflow's own refusals (cycles, missing references).
    """
    options = orders.RunOptions(
        store=store, workers=workers, address=address, name=name, progress=progress, raise_on_failure=raise_on_failure,
        timeout_s=timeout_s, local=local, takeover=takeover,
    )  # fmt: skip
    order = _order(flow, options, jobstore, create_folders, root_dir, allow_external_references)
    return session.blocking(lambda stop: session.drive(order, stop))  # type: ignore[return-value]  # of the order's run_type


def submit(
    flow: Any,
    *,
    store: Store = None,
    jobstore: Any = None,
    workers: int | None = None,
    address: str | None = None,
    local: bool = False,
    name: str | None = None,
    create_folders: bool | None = None,
    root_dir: str | os.PathLike[str] | None = None,
    allow_external_references: bool = False,
    takeover: bool = False,
) -> JobflowRun:
    """Hand a flow in and return at once; arguments as for `run`. Documents are written by `wait` or `export` of the run."""
    options = orders.RunOptions(store=store, workers=workers, address=address, name=name, local=local, takeover=takeover)
    order = _order(flow, options, jobstore, create_folders, root_dir, allow_external_references)
    return session.blocking(lambda _stop: session.launch(order))  # type: ignore[return-value]  # of the order's run_type


def resume(
    store: Store = None,
    *,
    jobstore: Any = None,
    workers: int | None = None,
    address: str | None = None,
    local: bool = False,
    progress: bool = True,
    raise_on_failure: bool = True,
    timeout_s: float | None = None,
    takeover: bool = False,
) -> JobflowRun:
    """Go on with what a store holds, to its end, and write all documents that are not in `jobstore` yet."""
    options = orders.RunOptions(
        store=store, workers=workers, address=address, progress=progress, raise_on_failure=raise_on_failure,
        timeout_s=timeout_s, local=local, takeover=takeover,
    )  # fmt: skip
    order = _with_export(orders.order_to_resume(options), _jobstore(jobstore))
    return session.blocking(lambda stop: session.go_on(order, stop))  # type: ignore[return-value]  # of the order's run_type


def export(store: str | os.PathLike[str], *, jobstore: Any = None) -> int:
    """Write the documents of all jobs that have completed, of a run that goes on or has ended. Returns how many were missing."""
    attached = session.connect(store)
    try:
        return Exporter(_jobstore(jobstore), attached.store).export(attached)
    finally:
        attached.close()


class JobflowRun(Run):
    """A Run whose jobs, outputs and documents are jobflow's."""

    def __init__(self, store: str, *, exporter: Exporter, **known: Any) -> None:
        super().__init__(store, **known)
        self._exporter = exporter

    @property
    def jobstore(self) -> Any:
        """The JobStore that documents are written to."""
        return self._exporter.jobstore

    def export(self) -> int:
        """Write the documents that are missing; returns how many."""
        return self._exporter.export(self)

    def wait(self, timeout_s: float | None = None) -> str:
        """As `Run.wait`, writing documents meanwhile. ExportError at the end if some could not be written."""
        until = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            left = WAIT_STEP_S if until is None else max(0.0, min(WAIT_STEP_S, until - time.monotonic()))
            state = super().wait(left)
            self._exporter.beside(self, state != RUNNING)
            if state != RUNNING or (until is not None and time.monotonic() >= until):
                return state

    def outputs(self, jobs: Sequence[Any], index: int | None = None) -> list[Any]:
        """The outputs of jobs, flows (theirs) or references of jobflow, as `JobStore.get_output` gives them, objects revived."""
        view = views.view_of(views.Documents({}, {}, self._fetch))
        return [self._output(view, job, index) for job in jobs]

    def responses(self) -> dict[str, dict[int, Any]]:
        """`{uuid: {index: jobflow.Response}}` of the jobs that have completed, with their outputs, as run_locally returns it."""
        from jobflow import Response

        infos = self.jobs(["completed"], limit=self.status()["total"])
        found: dict[str, dict[int, Any]] = {}
        for info, output in zip(infos, self.outputs(infos), strict=True):
            found.setdefault(info.uuid, {})[info.index] = Response(output=output)
        return found

    def _output(self, view: Any, job: Any, index: int | None) -> Any:
        from jobflow import Flow, OutputReference
        from jobflow.core.reference import find_and_resolve_references
        from monty.json import MontyDecoder

        if isinstance(job, Flow):
            if job.output is None:
                raise UsageError(f"the flow {job.name!r} was made without an output: ask for that of one of its jobs")
            return find_and_resolve_references(job.output, view)
        uuid = uuid_of(job)
        which = job.index if index is None and isinstance(job, JobInfo) else index
        if view.query_one({"uuid": uuid} if which is None else {"uuid": uuid, "index": which}, ["index"], {"index": -1}) is None:
            raise UsageError(f"job {uuid} has no output in {self.store}: it has not completed (the run is {self.state})")
        if which is None:
            return OutputReference(uuid, getattr(job, "attributes", ())).resolve(view)
        return MontyDecoder().process_decoded(view.get_output(uuid, which=which, load=True))

    def _fetch(self, uuid: str, index: int) -> Any:
        with contextlib.suppress(UsageError):
            return super().outputs([uuid], index)[0]
        return None


# ------------------------------------------------------------------------------------------------------------- orders


def _order(
    flow: Any,
    options: RunOptions,
    jobstore: Any,
    create_folders: bool | None,
    root_dir: str | os.PathLike[str] | None,
    allow_external_references: bool,
) -> Order:
    theirs = _flow_of(flow, allow_external_references)
    home = _jobstore(jobstore)
    local = options.get("local") or (settings.current().local and not options.get("address"))
    folders = not local if create_folders is None else create_folders
    named = getattr(home, "additional_stores", {})
    terms = Terms(
        root=str(Path(root_dir or ".").absolute()) if folders or root_dir else "",
        folders=folders,
        home=views.HOME_BY_SETTINGS if jobstore is None else "",
        # stores that are made when they are asked for have all names
        stores=list(named) if type(named) is dict else None,
        given=_given(theirs, home) if allow_external_references else {},
    )
    order = orders.order_of(translated(theirs, terms), options)
    return _with_export(order, home)


def _with_export(order: Order, jobstore: Any) -> Order:
    exporter = Exporter(jobstore, order.store)

    @contextlib.contextmanager
    def around(name: str, uuid: str, index: int) -> Any:
        token = views.HOME.set(jobstore)
        try:
            yield
        finally:
            views.HOME.reset(token)

    return msgspec.structs.replace(
        order,
        # what jobs hand each other are documents here, which jobflow's own code reads
        compat="",
        beside=of_leader(exporter, order.store, order.scope.get("flow", "")),
        run_type=partial(JobflowRun, exporter=exporter),
        local_options={"around": around},
    )


def _flow_of(flow: Any, allow_external_references: bool) -> Any:
    """The flow, checked as jobflow checks it."""
    try:
        from jobflow import Flow, Job
        from jobflow.core.flow import get_flow
    except ImportError as error:
        raise UsageError("flows of jobflow need jobflow: pip install 'towline[jobflow]'") from error
    for member in flow if isinstance(flow, list | tuple) else [flow]:
        if not isinstance(member, Flow | Job):
            raise UsageError(
                f"expected a Flow, a Job or a list of jobs made with jobflow, got {type(member).__name__}; flows made with "
                "towline's own classes are run by towline.run"
            )
    return get_flow(flow, allow_external_references=allow_external_references)


def _jobstore(jobstore: Any) -> Any:
    if jobstore is None:
        from jobflow import SETTINGS

        jobstore = SETTINGS.JOB_STORE
    if not hasattr(jobstore, "get_output"):
        raise UsageError(f"jobstore must be a jobflow JobStore, not {type(jobstore).__name__}; the run itself is kept in `store`")
    jobstore.connect()
    return jobstore


def _given(theirs: Any, jobstore: Any) -> dict[str, list[views.Document]]:
    """The documents that jobs of the flow refer to and that lie in the JobStore, with those that these refer to."""
    from jobflow.core.reference import find_and_get_references

    own = set(theirs.job_uuids)
    asked = [ref.uuid for ref in find_and_get_references(theirs.jobs) if ref.uuid not in own]
    given: dict[str, list[views.Document]] = {}
    for uuid in asked:  # grows while it is walked
        if uuid in given or uuid in own:
            continue
        documents = list(jobstore.query({"uuid": uuid}, sort={"index": 1}, load=True))
        if documents:
            given[uuid] = [{name: value for name, value in document.items() if name != "_id"} for document in documents]
            asked.extend(referred_to(documents))
    return given

"""What a worker runs in place of a job of jobflow: jobflow's own `Job.run`, over a view of the run instead of a database.

`execute` is named by every job that the adapter has ever handed in, and is called with what stood in their stores: its name and
its arguments are a format. The answer is the job's document (see `jobflow_view`) and, for a Response, the jobs that it
asks for, made into jobs of towline; replacing, hosts, updates and manager config were jobflow's own work by then.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from towline.adapters.jobflow_flows import Terms, translated, unpickled
from towline.adapters.jobflow_view import Document, Documents, view_of, wrapped
from towline.engine.authoring.current import RUNNING, Running
from towline.engine.authoring.response import Response
from towline.engine.errors import UsageError


def execute(job: bytes, inputs: dict[str, Any], given: dict[str, list[Document]], terms: dict[str, Any]) -> Response[Any]:
    """Run a pickled job of jobflow.

    inputs   outputs of its parents by uuid; what is no document (a missing parent's) counts as missing.
    given    documents of jobs outside the run that it refers to.
    terms    the `Terms` of the run, as plain data.
    """
    from jobflow import CURRENT_JOB

    running = RUNNING.get() or Running()
    if not running.allow_pickle:
        raise UsageError("jobs of jobflow travel as pickles, which are refused here (allow_pickle)")
    own = Terms(**terms, given=given)
    theirs = unpickled(job)
    view = view_of(Documents(inputs, given, running.output_of), own.home, own.stores)
    hosts = list(theirs.hosts)
    try:
        with _folder(own):
            said = theirs.run(store=view)
    finally:
        CURRENT_JOB.reset()
    grown: dict[str, Any] = {
        name: translated(flow, own, inside=hosts)
        for name in ("replace", "detour", "addition")
        if (flow := getattr(said, name)) is not None
    }
    return Response(
        output=None if view.caught is None else wrapped(*view.caught),
        stored_data=said.stored_data,
        stop_children=said.stop_children,
        stop_jobflow=said.stop_jobflow,
        **grown,
    )


@contextlib.contextmanager
def _folder(terms: Terms) -> Iterator[None]:
    """Work in the run's folder, or in a new one in it, named as jobflow names it; one that stays empty is taken away."""
    if not terms.root:
        yield
        return
    root = Path(terms.root)
    root.mkdir(parents=True, exist_ok=True)
    place = _new_folder(root) if terms.folders else root
    try:
        with contextlib.chdir(place):
            yield
    finally:
        if terms.folders:
            with contextlib.suppress(OSError):  # it is not empty
                place.rmdir()


def _new_folder(root: Path) -> Path:
    from datetime import UTC, datetime

    from jobflow import SETTINGS

    while True:
        stamp = datetime.now(tz=UTC).strftime(SETTINGS.DIRECTORY_FORMAT)
        place = root / f"job_{stamp}-{random.randint(10000, 99999)}"  # noqa: S311 - not a secret
        with contextlib.suppress(FileExistsError):
            # the exclusive mkdir is what keeps two jobs apart
            place.mkdir()
            return place

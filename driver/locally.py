"""`run_locally` with jobflow's arguments and its answer, over the same core and the same store as `run(local=True)`.

What differs from jobflow: the run is durable and can be resumed, its store may be a directory or a URL; an error inside a
replacement is reported at the job that failed.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import logging
import os
import random
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from towline import offline, orders, places, session, settings
from towline.control import Run

if TYPE_CHECKING:
    from towline.client import LeaderClient
    from towline.engine.authoring.flow import Flow
    from towline.engine.authoring.job import Job
    from towline.engine.authoring.response import Response
    from towline.stores.documents.store import JobStore

logger = logging.getLogger("towline")

LOG_FORMAT = "%(asctime)s %(levelname)s %(message)s"


def run_locally(
    flow: Flow | Job | list[Job],
    log: bool | str = True,
    store: str | os.PathLike[str] | JobStore | None = None,
    create_folders: bool = False,
    root_dir: str | Path | None = None,
    ensure_success: bool = False,
    allow_external_references: bool = False,
    raise_immediately: bool = False,
    *,
    compat: str | None = None,
) -> dict[str, dict[int, Response[Any]]]:
    """Run a flow in this process and return `{uuid: {index: Response}}`, without the jobs that failed or did not run.

    log                        log to the console; a text is the format of its lines.
    store                      as for `run`: path or URL; None: `.towline/<name>`. Or a JobStore: the run is kept in
                               its towline store, else in the default place, and documents are written when it has ended.
    create_folders             run each job in a new folder `job_<time>-<5 digits>`.
    root_dir                   where these folders are made; None: the working directory. Made if it is missing.
    ensure_success             RuntimeError if not all jobs completed.
    allow_external_references  else ValueError if a job refers to one outside the flow.
    raise_immediately          let the first exception of a job out, instead of logging it and going on.
    compat                     "jobflow": jobs are handed their arguments as jobflow hands them over, through JSON.
    """
    from towline.engine.authoring.flow import get_flow

    whole = get_flow(flow, allow_external_references=True)  # whether that is so is looked at when the flow is compiled
    told = Told(Path(root_dir or ".").absolute())
    options: dict[str, Any] = {"responded": told.responded}
    if raise_immediately:
        options["raise_immediately"] = True
    around = _around(log, told.root if create_folders or root_dir else None, create_folders, told.ran_in)
    if around is not None:
        options["around"] = around
    compat = orders.compat_of(compat or settings.current().compat)
    with _logging(log):
        lost = allow_external_references
        ran = session.blocking(lambda stop: _carry_out(whole, store, options, told, compat, lost, stop))
        if log:
            _tell_failures(ran)
    if ensure_success and ran.counts().keys() - {"completed"}:
        raise RuntimeError("Flow did not finish running successfully")
    return responses(ran, told)


class Told:
    """What the jobs of a run said besides their outputs, and where they ran."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.ran_in: dict[tuple[str, int], Path] = {}
        """Jobs that ran in a folder of their own."""
        self.said: dict[tuple[str, int], Response[Any]] = {}
        """Those that said more than a plain value."""
        self.completed: list[tuple[str, int, bytes]] = []
        """uuid, index and output of all jobs that completed, as the leader told it before it closed."""

    def responded(self, uuid: str, index: int, response: Response[Any]) -> None:
        """As the worker tells it."""
        self.said[uuid, index] = response

    def ended(self, leader: LeaderClient, flow: str) -> None:
        """The run has ended: ask for the outputs now, for the store would have to be opened and read again."""
        self.completed = [(uuid, index, output) for uuid, index, output in leader.ask("completed", {"flow": flow})]


def _carry_out(
    flow: Any,
    store: str | os.PathLike[str] | JobStore | None,
    options: dict[str, Any],
    told: Told,
    compat: str,
    external: bool,
    stop: threading.Event,
) -> Run:
    orders.launches += 1
    home = None
    if store is not None and not isinstance(store, str | os.PathLike):
        from towline import documents

        options["shown"] = store
        store, home = documents.home_of(store)
    choice = places.choose(store, flow.name, flow.uuid)
    logger.info("Started executing jobs locally (store %s)", choice.url)
    order = orders.Order(
        store=choice.url,
        create=choice.create,
        flow=flow,
        local=True,
        progress=False,
        raise_on_failure=False,
        compat=compat,
        external=external,
        lost=_lost(flow, choice) if external else frozenset(),
        local_options=options,
        at_end=lambda leader: told.ended(leader, flow.uuid),
    )
    if home is not None:
        order = documents.with_home(order, home)
    ran = session.drive(order, stop)
    logger.info("Finished executing jobs locally")
    return ran


def _lost(flow: Any, choice: places.Choice) -> frozenset[str]:
    """Jobs that the flow refers to and that are neither in it nor in the store."""
    own = set(flow.job_uuids)
    external = {uuid for job in flow.every_job() for uuid in job.input_uuids} - own
    if choice.create or not external:
        return frozenset(external)
    asked = sorted(external)
    with offline.OfflineClient(choice.url) as client:
        known = client.ask("states", {"uuids": asked})
    return frozenset(uuid for uuid, state in zip(asked, known, strict=True) if state is None)


def responses(ran: Run, told: Told) -> dict[str, dict[int, Response[Any]]]:
    """What the completed jobs of a run returned, by uuid and index: as this process heard it, else as the store holds it."""
    from towline.engine.authoring.response import Response

    found: dict[str, dict[int, Response[Any]]] = {}
    for uuid, index, output in told.completed:
        response = told.said.get((uuid, index)) or Response(output=ran.value_of(uuid, output))
        response.job_dir = told.ran_in.get((uuid, index), told.root)
        found.setdefault(uuid, {})[index] = response
    return found


def _tell_failures(ran: Run) -> None:
    if ran.counts().get("failed"):
        for info in ran.failures():
            logger.error("%s (%s) failed: %s\n%s", info.name, info.uuid, info.message, info.traceback)


# -------------------------------------------------------------------------------------------- around each job's body


Around = Callable[[str, str, int], contextlib.AbstractContextManager[None]]
"""Called with name, uuid and index of a job; the body runs inside its `with`."""


def _around(log: bool | str, root: Path | None, folders: bool, ran_in: dict[tuple[str, int], Path]) -> Around | None:
    if not log and root is None:
        return None

    @contextlib.contextmanager
    def around(name: str, uuid: str, index: int) -> Iterator[None]:
        logger.info("Starting job - %s (%s%s)", name, uuid, f", {index}" if index > 1 else "")
        with contextlib.nullcontext() if root is None else folder(root, folders) as place:
            if place is not None and folders:
                ran_in[uuid, index] = place
            yield
        logger.info("Finished job - %s (%s%s)", name, uuid, f", {index}" if index > 1 else "")

    return around


@contextlib.contextmanager
def folder(root: Path, new: bool) -> Iterator[Path]:
    """Work in `root`, or in a new folder inside it that no other job has."""
    place = root
    root.mkdir(parents=True, exist_ok=True)
    while new:
        # a name for people, as jobflow makes it; the exclusive mkdir is what keeps two jobs apart
        stamp = dt.datetime.now(dt.UTC).strftime("%Y-%m-%d-%H-%M-%S-%f")
        place = root / f"job_{stamp}-{random.randrange(100000):05d}"  # noqa: S311 - not a secret
        with contextlib.suppress(FileExistsError):
            place.mkdir()
            break
    with contextlib.chdir(place):
        yield place


@contextlib.contextmanager
def _logging(log: bool | str) -> Iterator[None]:
    """Lines of the logger `towline` on the console during a run, unless the program has set up logging itself."""
    if not log or logger.hasHandlers():
        yield
        return
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter(log if isinstance(log, str) else LOG_FORMAT))
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)

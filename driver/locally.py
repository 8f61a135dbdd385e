"""`run_locally` with jobflow's arguments and its answer, over the same core and the same store as `run(local=True)`.

What differs from jobflow: the run is durable, so a store is a directory (or URL) rather than a JobStore, and it can be
resumed; an error inside a replacement is reported at the job that failed.
"""

from __future__ import annotations

import contextlib
import logging
import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from towline import places, session
from towline.control import Run
from towline.engine.errors import UsageError

if TYPE_CHECKING:
    from towline.engine.authoring.flow import Flow
    from towline.engine.authoring.job import Job
    from towline.engine.authoring.response import Response

logger = logging.getLogger("towline")

LOG_FORMAT = "%(asctime)s %(levelname)s %(message)s"


def run_locally(
    flow: Flow | Job | list[Job],
    log: bool | str = True,
    store: str | os.PathLike[str] | None = None,
    create_folders: bool = False,
    root_dir: str | Path | None = None,
    ensure_success: bool = False,
    allow_external_references: bool = False,
    raise_immediately: bool = False,
) -> dict[str, dict[int, Response[Any]]]:
    """Run a flow in this process and return `{uuid: {index: Response}}`, without the jobs that failed or did not run.

    log                        log to the console; a text is the format of its lines.
    store                      as for `run`: path or URL; None: `.towline/<name>`.
    create_folders             run each job in a new folder `job_<time>-<5 digits>`.
    root_dir                   where these folders are made; None: the working directory. Made if it is missing.
    ensure_success             RuntimeError if not all jobs completed.
    allow_external_references  else ValueError if a job refers to one outside the flow.
    raise_immediately          let the first exception of a job out, instead of logging it and going on.
    """
    if store is not None and not isinstance(store, str | os.PathLike):
        raise UsageError(f"store must be a path or URL, not {type(store).__name__}: the run is kept there")
    from towline.engine.authoring.flow import get_flow

    whole = get_flow(flow, allow_external_references=allow_external_references)
    options: dict[str, Any] = {"raise_immediately": True} if raise_immediately else {}
    around = _around(log, Path(root_dir or ".").absolute() if create_folders or root_dir else None, create_folders)
    if around is not None:
        options["around"] = around
    with _logging(log):
        ran = session.blocking(lambda stop: _carry_out(whole, store, options, stop))
        if log:
            _tell_failures(ran)
    if ensure_success and ran.state != "completed":
        raise RuntimeError("Flow did not finish running successfully")
    return responses(ran)


def _carry_out(flow: Any, store: str | os.PathLike[str] | None, options: dict[str, Any], stop: threading.Event) -> Run:
    session.launches += 1
    choice = places.choose(store, flow.name, flow.uuid)
    logger.info("Started executing jobs locally (store %s)", choice.url)
    order = session.Order(
        store=choice.url,
        create=choice.create,
        flow=flow,
        local=True,
        progress=False,
        raise_on_failure=False,
        local_options=options,
    )
    ran = session.drive(order, stop)
    logger.info("Finished executing jobs locally")
    return ran


def responses(ran: Run) -> dict[str, dict[int, Response[Any]]]:
    """What the completed jobs of a run returned, by uuid and index."""
    from towline.engine.authoring.response import Response

    found: dict[str, dict[int, Response[Any]]] = {}
    infos = ran.jobs(["completed"], limit=ran.status()["total"])
    for info, output in zip(infos, ran.outputs(infos), strict=True):
        found.setdefault(info.uuid, {})[info.index] = Response(output=output)
    return found


def _tell_failures(ran: Run) -> None:
    if ran.counts().get("failed"):
        for info in ran.failures():
            logger.error("%s (%s) failed: %s\n%s", info.name, info.uuid, info.message, info.traceback)


# -------------------------------------------------------------------------------------------- around each job's body


Around = Callable[[str, str, int], contextlib.AbstractContextManager[None]]
"""Called with name, uuid and index of a job; the body runs inside its `with`."""


def _around(log: bool | str, root: Path | None, folders: bool) -> Around | None:
    if not log and root is None:
        return None

    @contextlib.contextmanager
    def around(name: str, uuid: str, index: int) -> Iterator[None]:
        logger.info("Starting job - %s (%s%s)", name, uuid, f", {index}" if index > 1 else "")
        with contextlib.nullcontext() if root is None else folder(root, folders):
            yield
        logger.info("Finished job - %s (%s%s)", name, uuid, f", {index}" if index > 1 else "")

    return around


@contextlib.contextmanager
def folder(root: Path, new: bool) -> Iterator[None]:
    """Work in `root`, or in a new folder inside it that no other job has."""
    place = root
    root.mkdir(parents=True, exist_ok=True)
    while new:
        # a name for people, as jobflow makes it; the exclusive mkdir is what keeps two jobs apart
        stamp = time.strftime("%Y-%m-%d-%H-%M-%S", time.gmtime())
        place = root / f"job_{stamp}-{random.randrange(100000):05d}"  # noqa: S311 - not a secret
        with contextlib.suppress(FileExistsError):
            place.mkdir()
            break
    with contextlib.chdir(place):
        yield


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

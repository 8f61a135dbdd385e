"""`towline logs [STORE] JOB`: what a job wrote, on the streams it wrote it to."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from towline.cli.common import StoreOption, named
from towline.control import JobInfo, Run
from towline.engine.errors import UsageError

LOOKED_AT = 1_000_000
"""Jobs among which a name or a shortened uuid is looked for."""


def logs(
    words: Annotated[
        list[str],
        typer.Argument(metavar="[STORE] JOB", help="JOB: uuid, beginning of one, or a name that one job has."),
    ],
    store: StoreOption = None,
    index: Annotated[int | None, typer.Option(min=1, help="Which of a replaced job's runs; left out: the newest.")] = None,
) -> None:
    """Show stdout and stderr of a job."""
    from towline import session

    if len(words) > 2:
        raise UsageError(f"expected [STORE] JOB, got {len(words)} words")
    found = session.connect(named(words[0] if len(words) == 2 else None, store))
    wrote = found.logs(find(found, words[-1]), index)
    sys.stdout.write(wrote.stdout)
    sys.stdout.flush()
    sys.stderr.write(wrote.stderr)


def find(run: Run, text: str) -> str:
    """The uuid of the one job that is meant. UsageError if there is none, or more than one."""
    jobs = run.jobs(limit=LOOKED_AT)
    for meant in (_called, _begins, _named):
        uuids = {info.uuid: info for info in jobs if meant(info, text)}
        if len(uuids) == 1:
            return next(iter(uuids))
        if uuids:
            some = ", ".join(f"{uuid} ({info.name})" for uuid, info in list(uuids.items())[:3])
            raise UsageError(f"{len(uuids)} jobs are meant by {text!r}, such as {some}: give a uuid")
    raise UsageError(f"there is no job {text!r} in {run.store}: `towline status` lists what failed")


def _called(info: JobInfo, text: str) -> bool:
    return info.uuid == text


def _begins(info: JobInfo, text: str) -> bool:
    return len(text) >= 4 and info.uuid.startswith(text)


def _named(info: JobInfo, text: str) -> bool:
    return info.name == text

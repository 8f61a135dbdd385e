"""`towline logs [STORE] JOB`: what a job wrote, on the streams it wrote it to."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from towline.cli.common import StoreOption, named
from towline.engine.errors import UsageError


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
    wrote = session.connect(named(words[0] if len(words) == 2 else None, store)).logs(words[-1], index)
    sys.stdout.write(wrote.stdout)
    sys.stdout.flush()
    sys.stderr.write(wrote.stderr)
    if not (wrote.stdout or wrote.stderr):
        print(f"towline: the job {words[-1]} wrote nothing", file=sys.stderr)

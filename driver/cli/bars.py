"""Progress of one long act, on a terminal: a count that grows, or files of so many. Nothing where nobody looks."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def counting(what: str, quiet: bool) -> Iterator[Callable[..., None]]:
    """Gives a function that is told how many there are so far; what else it is told is passed over."""
    if quiet or not sys.stderr.isatty():
        yield lambda *told: None
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.fields[count]} {task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as shown:
        task = shown.add_task(what, total=None, count=0)
        yield lambda count, *rest: shown.update(task, count=count)


@contextmanager
def moving(quiet: bool) -> Iterator[Callable[..., None]]:
    """Gives a function that is told (files done, files in all, bytes moved)."""
    if quiet or not sys.stderr.isatty():
        yield lambda *told: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from towline.cli.common import size

    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("files, {task.fields[moved]}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as shown:
        task = shown.add_task("", total=None, moved="0 B")
        yield lambda done, total, moved: shown.update(task, completed=done, total=total, moved=size(moved))

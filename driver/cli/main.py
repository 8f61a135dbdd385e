"""`towline`: the commands put together, and the one place where errors become a sentence and an exit code.

0    done
1    jobs failed, or something else went wrong
2    the command cannot be carried out as given; nothing was changed
130  Ctrl-C; what was done is kept
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Annotated, Any, NoReturn, ParamSpec, TypeVar

import typer

from towline.engine.errors import TowlineError, UsageError

P = ParamSpec("P")
R = TypeVar("R")

FAILED = 1
USAGE = 2
INTERRUPTED = 130

EXIT_CODES = (
    "Exit codes: 0 done; 1 jobs failed or an error; 2 the command cannot be carried out as given; 130 Ctrl-C. "
    "Where a STORE is left out, --store or TOWLINE_STORE names it."
)


def fail(code: int, text: object) -> NoReturn:
    """Leave with this code and this text on stderr."""
    print(f"towline: {text}", file=sys.stderr)
    raise typer.Exit(code)


def spoken(command: Callable[P, R]) -> Callable[P, R]:
    """A command whose errors are told as a sentence, without the frames of our own code."""

    @functools.wraps(command)
    def speaking(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except UsageError as error:
            fail(USAGE, error)
        except (TowlineError, TimeoutError) as error:
            fail(FAILED, error)
        except ConnectionError as error:
            fail(FAILED, f"the leader went away: {error}")
        except KeyboardInterrupt:
            raise typer.Exit(INTERRUPTED) from None

    return speaking


def _version(wanted: bool) -> None:
    if wanted:
        import towline

        print(f"towline {towline.__version__}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Durable workflows on Ray: a directory or a bucket is the whole state."""


def build() -> typer.Typer:
    """All commands. Their modules load what they need when they are called, so that `--help` is quick."""
    from towline.cli import content, housekeeping, logs, run, status, store, transfer

    app = typer.Typer(
        name="towline", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, epilog=EXIT_CODES
    )
    app.callback()(_root)
    options: dict[str, Any] = {"epilog": EXIT_CODES}
    app.command("run", **options)(spoken(run.run))
    app.command("resume", **options)(spoken(run.resume))
    app.command("status", **options)(spoken(status.status))
    app.command("logs", **options)(spoken(logs.logs))
    group = typer.Typer(no_args_is_help=True, help="Look at a store itself, move it, tidy it up, end it.")
    for command in (
        store.verify, store.info, content.du, content.ls, content.cat,
        housekeeping.migrate, housekeeping.gc, housekeeping.kill, housekeeping.destroy,
    ):  # fmt: skip
        group.command(command.__name__, **options)(spoken(command))
    group.command("import", **options)(spoken(transfer.import_))
    group.command("export", **options)(spoken(transfer.export))
    app.add_typer(group, name="store")
    return app


def main() -> None:
    """The console script."""
    build()()

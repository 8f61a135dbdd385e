"""What the commands share: how a store is named, and sizes for people."""

from __future__ import annotations

from typing import Annotated

import typer

from towline.engine.errors import UsageError

StoreArgument = Annotated[str | None, typer.Argument(metavar="STORE", help="Path or URL of the store.")]
StoreOption = Annotated[
    str | None,
    typer.Option("--store", envvar="TOWLINE_STORE", metavar="STORE", help="The store, if no argument names it."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object, for programs.")]


def named(argument: str | None, option: str | None) -> str:
    """The store of a command: the argument before the option, and that before TOWLINE_STORE (typer reads it)."""
    store = argument or option
    if not store:
        raise UsageError("no store was named: give its path, --store, or set TOWLINE_STORE")
    return store


def size(count: int) -> str:
    """Bytes for people: `512 B`, `1.5 MiB`."""
    amount = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{amount:.0f} B" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} TiB"

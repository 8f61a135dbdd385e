"""`towline status STORE`: how a run stands, from its leader if one lives, else from the store."""

from __future__ import annotations

import json

from towline.cli.common import JsonOption, StoreArgument, StoreOption, named

FAILURES = 10
"""Failed jobs that are listed."""


def status(store: StoreArgument = None, store_option: StoreOption = None, as_json: JsonOption = False) -> None:
    """Show state, counts and failures of the run in a store."""
    from towline import session

    found = session.connect(named(store, store_option))
    said = found.status()
    if as_json:
        print(json.dumps(said, default=str))
        return
    failures = found.failures(limit=FAILURES) if said["counts"].get("failed") else []
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    # a line stays a line when the output goes to a file or another program
    console = Console(soft_wrap=True)
    console.print(Text.assemble((said["state"], "bold"), f"  {said['total']} jobs, store {said['store']}"))
    if said["counts"]:
        table = Table(box=None, pad_edge=False, show_header=False)
        table.add_column("state")
        table.add_column("jobs", justify="right")
        for label, number in said["counts"].items():
            if number:
                table.add_row(label, str(number))
        console.print(table)
    for uuid, name, total, added in said["flows"]:
        missing = "" if added >= total else f", {added} of them handed in before the driver ended"
        console.print(Text(f"flow {name} ({uuid}): {total} jobs{missing}"))
    for info in failures:
        console.print(Text.assemble(("failed ", "red"), f"{info.name} ({info.uuid}, index {info.index}): {info.message}"))
    if said["state"] == "interrupted":
        console.print(Text(f"no leader works on it: go on by `towline resume {found.store}`"))

"""`towline store verify` and `towline store info`: a look at the store itself, beside whoever is writing to it."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from towline.cli.common import JsonOption, StoreArgument, StoreOption, named, size

if TYPE_CHECKING:
    from towline.stores.verify import Report

DAMAGED = 1


def verify(
    store: StoreArgument = None,
    store_option: StoreOption = None,
    deep: Annotated[bool, typer.Option("--deep", help="Read and prove the content of every file, too.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Prove a store: journal and job table from end to end, the snapshot, and that every file is there.

    Exit code 1 and the places if it is damaged.
    """
    from towline import offline

    url = named(store, store_option)
    report: Report = offline.settle(_verified(url, deep))
    if as_json:
        print(json.dumps({**dataclasses.asdict(report), "ok": report.ok}))
    else:
        print(
            f"{url}: {report.records} records in {report.segments} segments ({size(report.bytes)}), "
            f"{report.epochs} leaders, chain {report.chain[:16]}"
        )
        if report.files:
            print(f"{report.files} files ({size(report.file_bytes)}), {'every byte proved' if deep else 'all of the right size'}")
        for text in report.notes:
            print(f"note: {text}")
        for text in report.problems:
            print(f"damaged: {text}")
        print("sound" if report.ok else f"{len(report.problems)} places are damaged")
    if not report.ok:
        raise typer.Exit(DAMAGED)


def info(store: StoreArgument = None, store_option: StoreOption = None, as_json: JsonOption = False) -> None:
    """Show what a store is, what it holds and how large it is."""
    from towline import offline
    from towline.stores.info import info as describe

    told: dict[str, Any] = offline.settle(describe(named(store, store_option)))
    if as_json:
        print(json.dumps(told))
        return
    jobs = ", ".join(f"{number} {label}" for label, number in told["jobs"].items())
    print(f"store      {told['url']}")
    print(f"uuid       {told['uuid']}")
    print(f"format     {told['format']}, made by towline {told['towline']}")
    print(f"jobs       {told['total']} in {len(told['flows'])} flows" + (f": {jobs}" if jobs else ""))
    print(f"journal    {told['records']} records in {told['segments']} segments, {size(told['journal_bytes'])}")
    for kind in ("snapshots", "files"):
        print(f"{kind:<10} {told[kind]['count']}, {size(told[kind]['bytes'])}")
    led = told["leader"]
    if led is not None:
        left = "it has closed" if led["closed"] else "it has not closed: it may live"
        print(f"leader     epoch {led['epoch']}, process {led['pid']} on {led['host']}; {left}")


async def _verified(url: str, deep: bool) -> Report:
    from towline.stores.store import Store
    from towline.stores.verify import verify_store

    opened = await Store.open(url)
    try:
        return await verify_store(opened, deep=deep)
    finally:
        await opened.close()

"""`towline store verify` and `towline store info`: a look at the store itself, beside whoever is writing to it."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

import typer

from towline.cli.common import JsonOption, StoreArgument, StoreOption, named

if TYPE_CHECKING:
    from towline.stores.journal.verify import Report

DAMAGED = 1


def verify(store: StoreArgument = None, store_option: StoreOption = None, as_json: JsonOption = False) -> None:
    """Prove the journal from end to end: checksums, hashes, the chain. Exit code 1 and the places if it is damaged."""
    from towline import offline

    url = named(store, store_option)
    report: Report = offline.settle(_verified(url))
    if as_json:
        print(json.dumps({**dataclasses.asdict(report), "ok": report.ok}))
    else:
        print(
            f"{url}: {report.records} records in {report.segments} segments ({size(report.bytes)}), "
            f"{report.epochs} leaders, chain {report.chain[:16]}"
        )
        for text in report.notes:
            print(f"note: {text}")
        for text in report.problems:
            print(f"damaged: {text}")
        print("sound" if report.ok else f"{len(report.problems)} places are damaged")
    if not report.ok:
        raise typer.Exit(DAMAGED)


def info(store: StoreArgument = None, store_option: StoreOption = None, as_json: JsonOption = False) -> None:
    """Show what a store is, what it holds and how large it is."""
    from towline import offline, session

    url = named(store, store_option)
    told: dict[str, Any] = offline.settle(_described(url))
    told["run"] = session.connect(url).status()
    if as_json:
        print(json.dumps(told, default=str))
        return
    run = told["run"]
    print(f"store    {told['url']}")
    print(f"uuid     {told['store']}")
    print(f"format   {told['format']}, made by towline {told['towline']}")
    print(f"run      {run['state']}, {run['total']} jobs in {len(run['flows'])} flows, epoch {run['epoch']}")
    for kind, (number, length) in told["objects"].items():
        print(f"{kind:<8} {number} objects, {size(length)}")


async def _verified(url: str) -> Report:
    from towline.stores.journal.verify import verify as prove
    from towline.stores.store import Store

    opened = await Store.open(url)
    try:
        return await prove(opened.objects)
    finally:
        await opened.close()


async def _described(url: str) -> dict[str, Any]:
    """What the mark of the store says, and number and bytes of its objects by their first folder."""
    from towline.stores.store import Store

    opened = await Store.open(url)
    objects: dict[str, list[int]] = {}
    try:
        async for meta in opened.objects.list():
            folder, slash, _rest = meta.key.partition("/")
            entry = objects.setdefault(folder if slash else "other", [0, 0])
            entry[0] += 1
            entry[1] += meta.size
    finally:
        await opened.close()
    mark = opened.mark
    return {"url": opened.url, "store": mark.store, "format": mark.format, "towline": mark.towline, "objects": objects}


def size(count: int) -> str:
    """Bytes for people: `512 B`, `1.5 MiB`."""
    amount = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{amount:.0f} B" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} TiB"

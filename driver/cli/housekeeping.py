"""`towline store migrate|gc|destroy|kill`: acts upon a whole store. Each says what it would do before it loses anything."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from towline.cli.common import JsonOption, StoreArgument, StoreOption, named, size
from towline.engine.errors import UsageError

if TYPE_CHECKING:
    from towline.stores.migrate import Moved
    from towline.stores.store import Store

KILL_S = 60.0
"""A leader that has not left by then is given up, in seconds: its workers' leases end without it."""

YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def migrate(
    source: Annotated[str, typer.Argument(metavar="SRC", help="The store to be copied; it must be at rest.")],
    destination: Annotated[str, typer.Argument(metavar="DST", help="A place where nothing lies, of any kind.")],
    as_json: JsonOption = False,
) -> None:
    """Copy a store to another place, of any kind to any, and prove every object there by its digest.

    What was interrupted goes on when the same command is given again. The source stays as it is: destroy it when you have looked
    at the copy, and never go on with both.
    """
    from towline import offline

    moved: Moved = offline.settle(_migrated(source, destination, as_json))
    if as_json:
        print(json.dumps(moved._asdict()))
    else:
        print(f"{destination} holds {moved.objects} objects now, {moved.copied} of them copied ({size(moved.bytes)}), all proved")


async def _migrated(source: str, destination: str, quiet: bool) -> Moved:
    from towline.cli.bars import counting
    from towline.stores.locate import open_objects
    from towline.stores.migrate import migrate as move
    from towline.stores.store import Store

    store = await Store.open(source)
    target = open_objects(destination)
    try:
        await _at_rest(store)
        with counting("objects proved", quiet) as tell:
            return await move(store.objects, target, tell)
    finally:
        await store.close()
        await target.close()


async def _at_rest(store: Store) -> None:
    """StoreLocked if a leader works on the store, or may."""
    from towline.actors.clock import SystemClock
    from towline.actors.standing import at_rest
    from towline.stores import replay
    from towline.stores.journal.reader import JournalReader

    reader = await JournalReader.open(store.objects)
    core = await replay.restore(store, reader)
    await at_rest(store, reader, core.ledger, SystemClock())


def gc(
    store: StoreArgument = None,
    store_option: StoreOption = None,
    delete: Annotated[bool, typer.Option("--delete", help="Delete them; else they are only named.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Find what nobody will ever name: files of closed attempts and of deleted jobs, uploads that were given up.

    May run beside a leader: nothing that a living writer may still name is touched.
    """
    from towline import offline

    url = named(store, store_option)
    found = offline.settle(_collected(url, not delete))
    if as_json:
        print(json.dumps({"store": url, "deleted": delete, **found._asdict()}))
        return
    for name in found.orphans:
        print(name)
    for name in found.uploads:
        print(f"{name} (an upload that was left)")
    done = "deleted" if delete else "found; give --delete to delete them"
    print(f"{len(found.orphans)} orphans, {len(found.uploads)} uploads {done}")


class Found(NamedTuple):
    """What may go."""

    orphans: list[str]
    uploads: list[str]
    """Keys of unfinished uploads."""


async def _collected(url: str, dry_run: bool) -> Found:
    from towline.stores import collect
    from towline.stores.documents import written as documents
    from towline.stores.jobstore.abstract import open_store
    from towline.stores.jobstore.errors import NoSuchJobStoreException
    from towline.stores.store import Store

    orphans = await collect.gc(url, dry_run=dry_run)
    try:
        async with await open_store(url) as files:
            blobs = await files.gc(dry_run=dry_run)
            orphans += [*blobs.orphans, *blobs.doomed]
    except NoSuchJobStoreException:
        pass  # a run's store without a job table
    store = await Store.open(url)
    try:
        orphans += await documents.gc(store.objects, dry_run=dry_run)
        return Found(orphans, await collect.abandoned(store.objects, now=time.time(), dry_run=dry_run))
    finally:
        await store.close()


def destroy(store: StoreArgument = None, store_option: StoreOption = None, yes: YesOption = False) -> None:
    """Delete a store with all that lies in it. Cannot be undone; may be repeated if it was interrupted."""
    from towline import offline

    url = named(store, store_option)
    if not yes and not typer.confirm(f"Delete the store {url} with all its jobs, outputs and files?"):
        raise UsageError(f"nothing was deleted: {url} is as it was")
    count = offline.settle(_destroyed(url))
    offline.forget(url)
    print(f"{url} is gone: {count} objects were deleted")


async def _destroyed(url: str) -> int:
    from towline.cli.bars import counting
    from towline.stores.destroy import destroy as end
    from towline.stores.errors import StoreDestroyed, StoreMoving
    from towline.stores.locate import open_objects
    from towline.stores.store import Store

    try:
        store = await Store.open(url)
    except (StoreDestroyed, StoreMoving):
        objects = open_objects(url)
    else:
        objects = store.objects
        await _at_rest(store)
    try:
        with counting("objects deleted", quiet=False) as tell:
            return await end(objects, tell)
    finally:
        await objects.close()


def kill(store: StoreArgument = None, store_option: StoreOption = None) -> None:
    """End the leader that works on a store, and its workers: what has completed is kept, and `towline resume` goes on with it."""
    from towline import client, offline

    url = named(store, store_option)
    leader = client.find(url)
    if leader is None:
        raise UsageError(f"no leader that can be reached works on the store {url}: there is nothing to kill")
    with leader:
        leader.ask("close", timeout_s=KILL_S)
    offline.forget(url)
    print(f"the run on {url} was ended: go on with it by `towline resume {url}`")

"""`towline store du|ls|cat`: what lies in a store, object by object, to look at."""

from __future__ import annotations

import datetime
import json
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from towline.cli.common import JsonOption, StoreArgument, StoreOption, named, size
from towline.engine.errors import UsageError

if TYPE_CHECKING:
    from towline.stores.objects.base import Meta
    from towline.stores.usage import Share

PrefixArgument = Annotated[str, typer.Argument(metavar="[PREFIX]", help="Only objects whose keys begin so.")]


def du(
    store: StoreArgument = None,
    prefix: PrefixArgument = "",
    store_option: StoreOption = None,
    depth: Annotated[int, typer.Option(min=1, help="Sum up by so many segments of the key behind the prefix.")] = 1,
    as_json: JsonOption = False,
) -> None:
    """Show how much room a store takes, and what takes it; the largest first."""
    from towline import offline

    url = named(store, store_option)
    shares: list[Share] = offline.settle(_shares(url, prefix, depth))
    count, total = sum(share.objects for share in shares), sum(share.bytes for share in shares)
    if as_json:
        print(json.dumps({"store": url, "count": count, "bytes": total, "shares": [share._asdict() for share in shares]}))
        return
    for share in shares:
        print(f"{size(share.bytes):>10}  {share.objects:>9}  {share.name}")
    print(f"{size(total):>10}  {count:>9}  objects in all")


async def _shares(url: str, prefix: str, depth: int) -> list[Share]:
    from towline.stores.store import Store
    from towline.stores.usage import usage

    store = await Store.open(url)
    try:
        return await usage(store.objects, prefix, depth)
    finally:
        await store.close()


def ls(
    store: StoreArgument = None,
    prefix: PrefixArgument = "",
    store_option: StoreOption = None,
    long: Annotated[bool, typer.Option("--long", "-l", help="With size and time.")] = False,
    as_json: JsonOption = False,
) -> None:
    """List the objects of a store, one a line, in the order of their keys."""
    from towline import offline

    def show(meta: Meta) -> None:
        if as_json:
            print(json.dumps({"key": meta.key, "size": meta.size, "modified": meta.modified}))
        elif long:
            when = datetime.datetime.fromtimestamp(meta.modified).astimezone()
            print(f"{meta.size:>14}  {when:%Y-%m-%d %H:%M:%S}  {meta.key}")
        else:
            print(meta.key)

    async def all_of_them() -> None:
        from towline.stores.store import Store

        opened = await Store.open(url)
        try:
            async for meta in opened.objects.list(prefix):
                show(meta)
        finally:
            await opened.close()

    url = named(store, store_option)
    offline.settle(all_of_them())


def cat(
    store: Annotated[str, typer.Argument(metavar="STORE", help="Path or URL of the store.")],
    name: Annotated[str, typer.Argument(metavar="NAME", help="A key as `ls` shows it, a file id, or a shared file's name.")],
) -> None:
    """Write the content of an object to stdout; of a job's file, the file as it was written."""
    from towline import offline

    offline.settle(_written(store, name))


async def _written(url: str, name: str) -> None:
    from towline.stores.objects.base import NotFound
    from towline.stores.store import Store
    from towline.stores.usage import content

    store = await Store.open(url)
    try:
        try:
            await store.objects.head(name)
        except NotFound:
            await _written_file(url, name)
        else:
            async for piece in content(store.objects, name):
                sys.stdout.buffer.write(piece)
        sys.stdout.buffer.flush()
    finally:
        await store.close()


async def _written_file(url: str, name: str) -> None:
    """A file by its id, or a shared one by its name."""
    from towline.stores.jobstore.abstract import open_store
    from towline.stores.jobstore.errors import NoSuchFileException, NoSuchJobStoreException

    try:
        async with await open_store(url) as files:
            shared = not await files.file_exists(name)
            async with files.read_shared_file_stream(name) if shared else files.read_file_stream(name) as stream:
                while piece := await stream.read(1 << 20):
                    sys.stdout.buffer.write(piece)
    except (NoSuchFileException, NoSuchJobStoreException) as error:
        raise UsageError(f"{url} has no object, file or shared file {name!r}: see `towline store ls {url}`") from error

"""`towline store import|export`: files into a store and out of it, by URL (file, s3, gs, http, https, ftp, or a plain path)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from towline.cli.bars import moving
from towline.cli.common import JsonOption
from towline.engine.errors import UsageError

if TYPE_CHECKING:
    from towline.stores.jobstore.abstract import AbstractJobStore
    from towline.stores.transfer.bulk import Progress

Place = Annotated[str, typer.Argument(metavar="STORE", help="Path or URL of the store.")]
Parallel = Annotated[int, typer.Option(min=1, help="So many at once.")]


def import_(
    store: Place,
    urls: Annotated[list[str], typer.Argument(metavar="URL...", help="What to import; a path or a URL of a file each.")],
    name: Annotated[str, typer.Option(help="Import one URL as the shared file of this name.")] = "",
    create: Annotated[bool, typer.Option("--create", help="Make the store if there is none.")] = False,
    parallel: Parallel = 8,
    as_json: JsonOption = False,
) -> None:
    """Import files; prints the id of each, in the order of the URLs. All or none are imported."""
    from towline import offline

    if name and len(urls) != 1:
        raise UsageError(f"a shared name is for one file, not for {len(urls)}")
    ids: list[str] = offline.settle(_imported(store, urls, name, create, parallel, as_json))
    if as_json:
        print(json.dumps({"store": store, "files": dict(zip(urls, ids, strict=False)), "shared": name or None}))
        return
    for one in ids:
        print(one)


async def _imported(url: str, urls: list[str], name: str, create: bool, parallel: int, quiet: bool) -> list[str]:
    async with await _opened(url, create) as store:
        with _told(), moving(quiet) as tell:
            if name:
                await store.import_file(urls[0], shared_file_name=name)
                return []
            return [str(one) for one in await store.import_files(urls, parallel=parallel, progress=_telling(tell))]


def export(
    store: Place,
    files: Annotated[
        list[str], typer.Argument(metavar="FILE URL [FILE URL]...", help="A file's id, and where it goes; in pairs.")
    ],
    parallel: Parallel = 8,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")] = False,
) -> None:
    """Export files to paths or URLs; each appears there whole or not at all."""
    from towline import offline

    if len(files) % 2:
        raise UsageError(f"files are exported in pairs of FILE and URL: {files[-1]!r} has no URL")
    pairs = list(zip(files[::2], files[1::2], strict=True))
    offline.settle(_exported(store, pairs, parallel, quiet))


async def _exported(url: str, pairs: list[tuple[str, str]], parallel: int, quiet: bool) -> None:
    async with await _opened(url, create=False) as store:
        with _told(), moving(quiet) as tell:
            await store.export_files(pairs, parallel=parallel, progress=_telling(tell))


async def _opened(url: str, create: bool) -> AbstractJobStore:
    """The files of a store; a run's store, too, has some as soon as it is given one."""
    from towline.stores.jobstore.abstract import open_store
    from towline.stores.store import Store

    if not create:
        await (await Store.open(url)).close()  # StoreMissing where there is none
    return await open_store(url, create=True)


def _telling(tell: Callable[..., None]) -> Callable[[Progress], None]:
    return lambda told: tell(told.done, told.of, told.bytes)


@contextmanager
def _told() -> Iterator[None]:
    """Python's own errors of files, as the stores raise them, in one sentence."""
    from towline.stores.jobstore.errors import NoSuchFileException

    try:
        yield
    except (OSError, RuntimeError, ValueError, NoSuchFileException) as error:
        raise UsageError(str(error) or type(error).__name__) from error

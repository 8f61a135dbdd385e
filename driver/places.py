"""Which store a new run goes to: the one that was named, or `.towline/<name>`, or `.towline/<name>-<time>`.

A named store may hold other flows already: this one is added. A store that nobody named never mixes flows: when
`.towline/<name>` holds another one, the run goes to a new place beside it. A store that holds this very flow is refused
in both cases, since `resume` is what goes on with it.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from pathlib import Path
from typing import NamedTuple

from towline import client, offline, settings
from towline.engine.errors import UsageError

HOME = ".towline"
"""Where stores go that nobody named, below the working directory."""


class Choice(NamedTuple):
    """Where a run goes."""

    url: str
    create: bool
    """There is no store yet."""


def choose(store: str | os.PathLike[str] | None, name: str, flow_uuid: str) -> Choice:
    """The store for a flow of this name and uuid. UsageError if it holds the flow already, or cannot be used."""
    named = store if store is not None else settings.current().store
    if named is not None:
        return _named(os.fspath(named), flow_uuid)
    url = f"{HOME}/{safe(name)}"
    try:
        held = flows_in(url)
    except UsageError:
        return Choice(beside(url), True)
    if held is not None and flow_uuid in held:
        raise already(url)
    return Choice(beside(url), True) if held else Choice(url, held is None)


def _named(url: str, flow_uuid: str) -> Choice:
    held = flows_in(url)
    if held is not None and flow_uuid in held:
        raise already(url)
    return Choice(url, held is None)


def already(url: str) -> UsageError:
    """What to say of a store that holds the flow."""
    return UsageError(f"the store {url} already holds this flow: go on with it by towline.resume({url!r})")


def flows_in(url: str) -> set[str] | None:
    """uuids of the flows that a store holds; None if there is no store. UsageError if there is something else."""
    if is_vacant(url):
        return None
    from towline.stores.errors import StoreMissing

    try:
        live = client.find(url)
        if live is not None:
            with contextlib.suppress(ConnectionError), live:  # it may go away before it has answered
                return _uuids(live)
        with offline.OfflineClient(url) as at_rest:
            return _uuids(at_rest)
    except StoreMissing:
        return None


def _uuids(asked: client.LeaderClient) -> set[str]:
    return {flow[0] for flow in asked.ask("status")["flows"]}


def is_vacant(url: str) -> bool:
    """Is this a directory without anything in it, or none at all? Stores elsewhere than on local disk must be asked."""
    from towline.stores.locate import parse

    place = parse(url)
    if place.kind != "file" or place.path.is_file():
        return False
    return not place.path.exists() or next(place.path.iterdir(), None) is None


def beside(url: str) -> str:
    """A path that is still free: `<url>-<time>`, with a number behind it if two runs start in one second."""
    stamped = f"{url}-{time.strftime('%Y%m%d-%H%M%S')}"
    free, number = stamped, 1
    while Path(free).exists():
        number += 1
        free = f"{stamped}-{number}"
    return free


def safe(name: str) -> str:
    """The name as one path segment: letters, digits, `.`, `_` and `-`, never hidden, never empty, 100 at most."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name)[:100].strip("-.") or "flow"

"""What holds where an argument is not given: the command line before the environment (TOWLINE_*) before the defaults.

pydantic-settings reads and checks the environment, but only when there is something to read: it costs a third of a
second, and a small run in this process takes less than that from start to end.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import msgspec

from towline.engine.errors import UsageError

if TYPE_CHECKING:
    from towline.actors.config import LeaderConfig

PREFIX = "TOWLINE_"


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Defaults of `run`, `submit` and `resume`. Each has the environment variable TOWLINE_<NAME>."""

    store: str | None = None
    """Where runs are kept; None: `.towline/<name of the flow>`."""
    workers: int | None = None
    """Worker processes; None: one a core."""
    address: str | None = None
    """Ray cluster; None: an own local Ray."""
    local: bool = False
    """Run in this process, without Ray."""
    takeover: bool = False
    """Take a store from a leader that lives."""
    progress: bool = True
    """Show how the run goes."""
    compat: str = ""
    """"jobflow": jobs are handed their arguments as jobflow hands them over."""
    lease_s: float | None = None
    """How long a worker may be silent before its jobs are given to others, in seconds."""
    touch_s: float | None = None
    """How often workers say that they live, in seconds."""
    commit_delay_ms: float | None = None
    """How long a commit may be put off to gather more, in milliseconds, where commits are slow (a bucket) and nobody waits."""


_overrides: dict[str, Any] = {}


@contextmanager
def override(**values: Any) -> Iterator[None]:
    """Let these values stand before environment and defaults, inside the `with`. None and False mean: not given."""
    before = dict(_overrides)
    _overrides.update({name: value for name, value in values.items() if value not in (None, False)})
    try:
        yield
    finally:
        _overrides.clear()
        _overrides.update(before)


def current() -> Settings:
    """The settings now. UsageError names the variable whose value cannot be used."""
    return msgspec.structs.replace(_from_environment(), **_overrides)


def _from_environment() -> Settings:
    if not any(PREFIX + name.upper() in os.environ for name in Settings.__struct_fields__):
        return Settings()
    from pydantic import ValidationError, create_model
    from pydantic_settings import BaseSettings, SettingsConfigDict

    class Environment(BaseSettings):
        model_config = SettingsConfigDict(env_prefix=PREFIX, env_ignore_empty=True, extra="ignore")

    # one list of fields: the Struct's own annotations become the model's
    fields: dict[str, Any] = {field.name: (field.type, field.default) for field in msgspec.structs.fields(Settings)}
    try:
        read = create_model("Environment", __base__=Environment, **fields)()
    except ValidationError as error:
        first = error.errors()[0]
        name = PREFIX + str(first["loc"][0]).upper()
        raise UsageError(f"{name}={os.environ.get(name, '')!r} cannot be used: {first['msg']}") from None
    return Settings(**read.model_dump())


def leader_config() -> LeaderConfig:
    """The times of leases and commits, where the settings name them."""
    from towline.actors.config import LeaderConfig

    given, config = current(), LeaderConfig()
    lease_s = config.lease_s if given.lease_s is None else given.lease_s
    # who names only the lease means touches as often within it as by default
    touch_s = lease_s * config.touch_s / config.lease_s if given.touch_s is None else given.touch_s
    if not 0 < touch_s < lease_s:
        raise UsageError(f"a lease of {lease_s} s cannot be kept by touches every {touch_s} s: touch more often")
    delay_ms = config.commit_delay_ms if given.commit_delay_ms is None else given.commit_delay_ms
    if delay_ms < 0:
        raise UsageError(f"a commit cannot be put off by {delay_ms} ms: commit_delay_ms must be 0 or more")
    return LeaderConfig(lease_s=lease_s, touch_s=touch_s, commit_delay_ms=delay_ms)

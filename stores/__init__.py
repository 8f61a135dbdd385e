"""The stores floor: where state lives. It knows bytes and the words of the engine, and nothing of who runs what.

For users it is a job store with Toil's verbs, async; `towline.stores.blocking` has the same names for code without an event loop:

    from towline.stores import Config, JobDescription, open_store

Each name is loaded when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from towline.stores.jobstore.abstract import AbstractJobStore, JobStoreSupport, open_store
    from towline.stores.jobstore.config import Config
    from towline.stores.jobstore.description import JobDescription
    from towline.stores.jobstore.errors import (
        ConcurrentFileModificationException,
        InvalidImportExportUrlException,
        JobException,
        JobStoreExistsException,
        LocatorException,
        NoSuchFileException,
        NoSuchJobException,
        NoSuchJobStoreException,
        UnimplementedURLException,
    )
    from towline.stores.jobstore.hints import FileID
    from towline.stores.jobstore.kinds import CheckpointJobDescription, ServiceJobDescription

__all__ = [
    "AbstractJobStore",
    "CheckpointJobDescription",
    "ConcurrentFileModificationException",
    "Config",
    "FileID",
    "InvalidImportExportUrlException",
    "JobDescription",
    "JobException",
    "JobStoreExistsException",
    "JobStoreSupport",
    "LocatorException",
    "NoSuchFileException",
    "NoSuchJobException",
    "NoSuchJobStoreException",
    "ServiceJobDescription",
    "UnimplementedURLException",
    "open_store",
]

_HOMES = {
    "abstract": ("AbstractJobStore", "JobStoreSupport", "open_store"),
    "config": ("Config",),
    "description": ("JobDescription",),
    "hints": ("FileID",),
    "kinds": ("CheckpointJobDescription", "ServiceJobDescription"),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = import_module(f"towline.stores.jobstore.{_HOME.get(name, 'errors')}")
    value = globals()[name] = getattr(module, name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

"""The exceptions of Toil's job store, under its names and with its arguments, hung into towline's own tree.

TowlineError
├── JobException                        the job store has no such (root) job, or cannot use what it has
├── NoSuchJobException                  no job with this id
├── NoSuchFileException                 no file with this id or shared name
├── ConcurrentFileModificationException another writer was faster: load again, then decide
└── UsageError
    ├── LocatorException
    │   ├── JobStoreExistsException     (a StoreExists) initialize met a job store
    │   └── NoSuchJobStoreException     (a StoreMissing) resume met none
    ├── InvalidImportExportUrlException the URL is none
    └── UnimplementedURLException       (a RuntimeError) nothing here can do that with such a URL

ProxyConnectionError is a BaseException, as in Toil; nothing raises it.
"""

from __future__ import annotations

from urllib.parse import ParseResult

from towline.engine.errors import TowlineError, UsageError
from towline.stores.errors import StoreExists, StoreMissing


class ProxyConnectionError(BaseException):
    """A name for `except` clauses that mention it; nothing in towline raises it."""


class JobException(TowlineError):
    """A job cannot be had or used: no root is set, the root is gone, its return value is not there yet."""


class NoSuchJobException(TowlineError):
    """Indicates that the specified job does not exist."""

    def __init__(self, jobStoreID: str) -> None:
        super().__init__(f"The job {str(jobStoreID)!r} does not exist in this job store.")
        self.job_store_id = jobStoreID

    def __reduce__(self) -> tuple[type, tuple[str]]:
        return type(self), (self.job_store_id,)


class NoSuchFileException(TowlineError):
    """Indicates that the specified file does not exist."""

    def __init__(self, jobStoreFileID: str, customName: str | None = None, *extra: object) -> None:
        name = f"{str(jobStoreFileID)!r}" if customName is None else f"{customName!r} ({str(jobStoreFileID)!r})"
        more = f" Extra info: {', '.join(map(str, extra))}." if extra else ""
        super().__init__(f"The file {name} does not exist in this job store.{more}")
        self.job_store_file_id = jobStoreFileID
        self._args = (jobStoreFileID, customName, *extra)

    def __reduce__(self) -> tuple[type, tuple[object, ...]]:
        return type(self), self._args


class ConcurrentFileModificationException(TowlineError):
    """Another writer changed it since it was read; nothing was changed by this call."""

    def __init__(self, jobStoreFileID: str) -> None:
        super().__init__(f"{str(jobStoreFileID)!r} was changed by another writer meanwhile: load it again and decide anew.")
        self.job_store_file_id = jobStoreFileID

    def __reduce__(self) -> tuple[type, tuple[str]]:
        return type(self), (self.job_store_file_id,)


class LocatorException(UsageError):
    """Base of what is wrong with a job store's locator. `%s` in `error_msg` becomes the locator."""

    def __init__(self, error_msg: str, locator: str, prefix: str | None = None) -> None:
        full = f"{prefix}:{locator}" if prefix else locator
        super().__init__(error_msg % full if "%s" in error_msg else f"{error_msg} ({full})")
        self.locator = full
        self._args: tuple[object, ...] = (error_msg, locator, prefix)

    def __reduce__(self) -> tuple[type, tuple[object, ...]]:
        return type(self), self._args


class JobStoreExistsException(LocatorException, StoreExists):
    """There is a job store at this place already."""

    def __init__(self, prefix: str | None, locator: str) -> None:
        text = "The job store %s already exists: resume it to go on, or choose another place; destroy it to start from scratch."
        super().__init__(text, locator, prefix)
        self._args = (prefix, locator)


class NoSuchJobStoreException(LocatorException, StoreMissing):
    """There is no job store at this place."""

    def __init__(self, locator: str, prefix: str | None = None) -> None:
        text = "The job store %s does not exist, so there is nothing to resume: check the locator, or initialize one there."
        super().__init__(text, locator, prefix)
        self._args = (locator, prefix)


class InvalidImportExportUrlException(UsageError):
    """The text is no URL that could name a file."""

    def __init__(self, url: ParseResult, why: str = "") -> None:
        reason = f": {why}" if why else ""
        super().__init__(f"The URL {url.geturl()!r} names no file that could be imported or exported{reason}.")
        self.url = url
        self._why = why

    def __reduce__(self) -> tuple[type, tuple[ParseResult, str]]:
        return type(self), (self.url, self._why)


class UnimplementedURLException(UsageError, RuntimeError):
    """No part of towline can carry out this operation on a URL of this scheme."""

    def __init__(self, url: ParseResult, operation: str) -> None:
        super().__init__(f"Nothing here can {operation} the URL {url.geturl()!r}: its scheme {url.scheme!r} is not supported.")
        self.url = url
        self.operation = operation

    def __reduce__(self) -> tuple[type, tuple[ParseResult, str]]:
        return type(self), (self.url, self.operation)

"""The few verbs that a place for bytes must have. Memory, local disk, S3 and GCS keep this contract and no other.

Keys are `/`-separated segments of `[A-Za-z0-9._-]`; no segment is empty or begins with a dot (`check_key`), and no
key is a folder of another key. An object is immutable in its parts: it is replaced whole or not at all, and is never
visible before its write has succeeded; only an `Appender` lets one grow. What a write demands of the object it meets
is a value: OVERWRITE, ABSENT, or the Version that was read.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Sequence
from enum import Enum
from typing import NamedTuple, Protocol

from towline.engine.errors import TowlineError, UsageError


class ObjectsError(TowlineError):
    """The place for bytes did not do what was asked (it says why: full, gone, refused)."""


class NotFound(ObjectsError):
    """There is no object under this key."""


class PreconditionFailed(ObjectsError):
    """The object is not as the write demanded; nothing was changed."""


class Ambiguous(ObjectsError):
    """The answer was lost: the write may or may not have happened. Settle it by reading back (`journal.settle`)."""


_KEY = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}(?:/[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}){0,7}").fullmatch


def check_key(key: str) -> str:
    """The key itself, or UsageError: so no key can leave the store's place or meet a store's own hidden files."""
    if len(key) > 800 or not _KEY(key):
        raise UsageError(f"{key[:200]!r} is not an object key: use up to 8 segments of [A-Za-z0-9._-] not starting with a dot")
    return key


class When(Enum):
    """What a write demands of the key."""

    OVERWRITE = "overwrite"
    ABSENT = "absent"


OVERWRITE = When.OVERWRITE
ABSENT = When.ABSENT


class Version(NamedTuple):
    """What a conditional replace compares: an ETag, a generation, or a local file's identity.

    Versions of one key that are equal mean the same bytes, and no more: an ETag is a hash, so it comes back when the same
    content is written again. Who must tell two writes of the same content apart puts something of its own into it.
    """

    tag: str


class Meta(NamedTuple):
    """What is known of an object without reading it."""

    key: str
    size: int
    """Bytes."""
    version: Version
    modified: float
    """Wall clock of the store, seconds."""


class Unfinished(NamedTuple):
    """An upload that was begun and neither completed nor aborted: it costs room and is no object (P8)."""

    key: str
    id: str
    started: float
    """Wall clock of the store, seconds."""


class Appender(Protocol):
    """An object that grows at its end, on stores that can (local disk). Only its one writer holds it."""

    async def append(self, data: bytes, absent: str | None = None) -> int:
        """Write and make durable (fsync); return the object's size after it. After an error the appender is unusable.

        With `absent`, look AFTER the fsync whether an object of that key exists: PreconditionFailed if so; the data may
        then have been written, but nobody may be told (R2). One hop for all three, because commits wait for it.
        """
        ...

    async def close(self) -> None:
        """Let go of the file; idempotent."""
        ...


class Objects(Protocol):
    """A flat namespace of byte objects. All methods raise ObjectsError (NotFound, PreconditionFailed, Ambiguous)."""

    appendable: bool
    """May `appender` be used?"""

    @property
    def plain(self) -> Objects:
        """The same place without the encryption by a key of the store's own (SSE-C, KMS); itself where there is none."""
        ...

    @property
    def url(self) -> str:
        """How a user names this place."""
        ...

    async def put(self, key: str, data: bytes | Sequence[bytes | memoryview], when: When | Version = OVERWRITE) -> Version:
        """Write the whole object durably."""
        ...

    async def upload(self, key: str, pieces: AsyncIterable[bytes | memoryview], when: When | Version = OVERWRITE) -> Version:
        """As `put`, of any size in bounded memory: pieces of any length go out in parts, several at once.

        Nothing is visible before the last byte is durable; when `pieces` raises or the caller is cancelled, nothing ever is. A
        piece must stay as it is until the upload has ended.
        """
        ...

    async def get(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        """Bytes from `start` on, at most `length` of them (fewer at the end)."""
        ...

    def download(self, key: str, start: int = 0, length: int | None = None) -> AsyncGenerator[bytes, None]:
        """The same bytes in pieces and in order, read ahead in bounded memory; all of ONE version of the object.

        Raises NotFound before the first piece; ObjectsError if the version that was begun with is gone.
        """
        ...

    async def head(self, key: str) -> Meta: ...

    def list(self, prefix: str = "", start_after: str = "") -> AsyncIterator[Meta]:
        """In lexicographic order of the keys; every key that existed during the whole listing appears once."""
        ...

    async def delete_many(self, keys: Sequence[str]) -> None:
        """Delete; those that do not exist are no error."""
        ...

    async def copy(self, source: Objects, source_key: str, key: str, when: When | Version = OVERWRITE) -> Version:
        """Copy one object of any place to here; by the server itself where both lie at one provider and may be read with our
        credentials (no byte passes through this process), else streamed. NotFound if there is no source."""
        ...

    async def sign(self, key: str, *, expires_s: float = 3600.0) -> str:
        """A URL by which anyone may GET this object for so long (local: a `file:` URL). Does not look whether it exists."""
        ...

    def unfinished(self, prefix: str = "") -> AsyncIterator[Unfinished]:
        """Uploads under this prefix that were begun and are neither complete nor aborted."""
        ...

    async def abort(self, uploads: Sequence[Unfinished]) -> None:
        """Drop these; those that have ended meanwhile are no error."""
        ...

    async def appender(self, key: str, head: bytes) -> Appender:
        """Create the object with `head` as by put(ABSENT) and keep it open for appending."""
        ...

    async def sync(self, key: str) -> None:
        """Make durable what can be read of this object now (fsync of file and folder; nothing to do where puts are
        whole)."""
        ...

    async def close(self) -> None: ...

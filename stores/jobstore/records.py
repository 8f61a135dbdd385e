"""The words of the job table's chain: every change of jobs, files, shared files and logs is one of these records.

Frozen, tagged, array-like: persisted bytes. They only grow, at the end, with defaults (docs/FORMAT.md). A record's number in
the chain (*seq*) is also the version of what it puts, so versions never repeat, and the number of a log.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import msgspec

from towline.engine.errors import CorruptionError

ANY = -1
"""As `expected`: whatever is there may be replaced."""
ABSENT = 0
"""As `expected`: nothing may be there. (No version is 0: record 0 is `Began`.)"""


class FileEntry(msgspec.Struct, frozen=True, array_like=True):
    """One version of one file: where its bytes lie and what is known of them. Shared files are described by it too."""

    id: str
    """The file's id; of a shared file, its name."""
    blob: str
    """Object with the very bytes, `blobs/<2 hex>/<32 hex>.<16 hex>`; never written twice, never named by two records."""
    size: int
    """Bytes."""
    part: int = 0
    """Bytes under one checksum."""
    crcs: bytes = b""
    """Little-endian u32 a part: crc32c of the content's bytes `[n * part, (n + 1) * part)`."""
    executable: bool = False
    owner: str = ""
    """Id of the job that it was written for; empty: none. The job need not exist (yet)."""
    cleanup: bool = False
    """Goes when the owner is deleted."""
    encrypted: bool = False
    """Written with the store's own key; read it through the same objects, else through `objects.plain`."""
    hint: str = ""
    """What the file was called where it came from; the basename."""


class Began(msgspec.Struct, frozen=True, array_like=True, tag="began"):
    """Record 0: the job store was initialized."""

    workflow: str
    """Id of the workflow, minted then."""
    config: bytes
    """Codec bytes of the configuration's attributes, a dict."""
    towline: str = ""
    """Version that made it."""
    wall: float = 0.0


class ConfigWritten(msgspec.Struct, frozen=True, array_like=True, tag="config"):
    """`write_config`."""

    config: bytes


class RootSet(msgspec.Struct, frozen=True, array_like=True, tag="root"):
    """`set_root_job`. The job need not exist yet."""

    job: str


class JobPut(msgspec.Struct, frozen=True, array_like=True, tag="job"):
    """A job was created (`expected` ABSENT) or updated (`expected` is the version that the writer had)."""

    job: str
    expected: int
    body: bytes
    """msgpack of `description.Stored`."""


class JobDeleted(msgspec.Struct, frozen=True, array_like=True, tag="job-"):
    """The job is gone, and with it the files that it owns with `cleanup`."""

    job: str


class FilePut(msgspec.Struct, frozen=True, array_like=True, tag="file"):
    """A file appears (`expected` ABSENT), or a new version of it (a version, or ANY: it must exist)."""

    entry: FileEntry
    expected: int = ABSENT


class FileDeleted(msgspec.Struct, frozen=True, array_like=True, tag="file-"):
    """The file is gone; its blob is doomed (see `Swept`)."""

    file: str


class SharedPut(msgspec.Struct, frozen=True, array_like=True, tag="shared"):
    """A shared file was written. `entry.id` is its name. `expected`: ANY (there or not), ABSENT, or a version."""

    entry: FileEntry
    expected: int = ANY


class SharedDeleted(msgspec.Struct, frozen=True, array_like=True, tag="shared-"):
    """The shared file is gone."""

    name: str


class Condemned(msgspec.Struct, frozen=True, array_like=True, tag="condemned"):
    """Blobs that no record names and that nobody may name from now on: committed before the collector deletes them (R10)."""

    blobs: list[str]


class Swept(msgspec.Struct, frozen=True, array_like=True, tag="swept"):
    """These doomed blobs (once named, named no longer) were deleted from the store."""

    blobs: list[str]


class LogWritten(msgspec.Struct, frozen=True, array_like=True, tag="log"):
    """`write_logs`. Its number is its seq. Long messages lie in a blob."""

    text: bytes = b""
    """The message, UTF-8 (lone surrogates let through); empty if it is in `blob`."""
    blob: FileEntry | None = None


class LogsRead(msgspec.Struct, frozen=True, array_like=True, tag="logs-read"):
    """A reader takes these logs: all must be unread. With `undone`, it gives back what it could not deliver."""

    numbers: list[int]
    undone: bool = False


class LogsDropped(msgspec.Struct, frozen=True, array_like=True, tag="logs-"):
    """All logs with a number below `before` are forgotten; their blobs are doomed."""

    before: int


class Snapshotted(msgspec.Struct, frozen=True, array_like=True, tag="snapshotted"):
    """The snapshot object `key` with this digest holds all before record `seq`; segment `number` is its last."""

    seq: int
    number: int
    key: str
    digest: str
    """BLAKE2b-256 of all its bytes, hex."""
    size: int = 0
    """Bytes."""


class Destroyed(msgspec.Struct, frozen=True, array_like=True, tag="destroyed"):
    """The last record: the job store is being deleted, nothing can be committed any more."""

    wall: float = 0.0


Change: TypeAlias = (
    Began
    | ConfigWritten
    | RootSet
    | JobPut
    | JobDeleted
    | FilePut
    | FileDeleted
    | SharedPut
    | SharedDeleted
    | Condemned
    | Swept
    | LogWritten
    | LogsRead
    | LogsDropped
    | Snapshotted
    | Destroyed
)
"""Everything that a record can say."""

_decoder: msgspec.msgpack.Decoder[Change] = msgspec.msgpack.Decoder(Change)
encode = msgspec.msgpack.Encoder().encode


def decode(payload: bytes, name: str) -> Change:
    """The change in a record's payload; CorruptionError names the segment if it is none."""
    try:
        return _decoder.decode(payload)
    except msgspec.MsgspecError as error:
        raise CorruptionError(f"{name}: a record of the job table cannot be read ({error}), at offset 0 or later") from error


def decode_all(payloads: Sequence[bytes], name: str) -> list[Change]:
    """All of a segment's."""
    return [decode(payload, name) for payload in payloads]

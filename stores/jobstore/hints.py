"""Names of files in a job store: an id that nobody had before, and behind it a name that a person knows again.

    3f2a...(32 hex digits)-reads.fastq.gz

The digits alone name the file: they are drawn at random, so an id never comes back and two hints never collide. What stands
behind them is the cleaned basename, for people, and for tools that look at the extension; it is cut to keep an id below 200
characters. An id is safe as a file name, as part of a URL and on a command line. A blob's key has the digits and a version of
its own for each content the file ever had:

    blobs/3f/3f2a....0b52c1d7e6a89f34

two digits of it as the folder, so that a local store has 256 folders, not one for each file.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple
from uuid import uuid4

from towline.engine.errors import UsageError

ID_CHARS_MAX = 199
PREFIX = "blobs/"
NAMELESS = "file"
"""What a file without a usable name is called."""

_DIGITS = 32
_HINT_MAX = ID_CHARS_MAX - _DIGITS - 1
_unsafe = re.compile(r"[^A-Za-z0-9._-]+").sub
_id = re.compile(rf"([0-9a-f]{{32}})-[A-Za-z0-9_-][A-Za-z0-9._-]{{0,{_HINT_MAX - 1}}}").fullmatch
_key = re.compile(r"blobs/[0-9a-f]{2}/([0-9a-f]{32})\.([0-9a-f]{16})").fullmatch
_shared = re.compile(r"[a-zA-Z0-9._-]+").fullmatch
SHARED_CHARS_MAX = 1024


class FileID(str):
    """An id that knows what it names: a string like any other, with the size and the executable bit as they were then."""

    __slots__ = ("executable", "size")

    size: int
    """Bytes."""
    executable: bool

    def __new__(cls, fileStoreID: str, size: int = 0, executable: bool = False) -> FileID:
        """`fileStoreID` is the id itself."""
        self = super().__new__(cls, fileStoreID)
        self.size, self.executable = size, executable
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return FileID, (str(self), self.size, self.executable)

    def pack(self) -> str:
        """Everything in one string, which `unpack` takes apart: `size:executable:id`."""
        return f"{self.size}:{int(self.executable)}:{self}"

    @classmethod
    def unpack(cls, packed: str) -> FileID:
        """What `pack` made. UsageError for any other text."""
        size, _, rest = packed.partition(":")
        executable, _, name = rest.partition(":")
        if not size.isascii() or not size.isdigit() or executable not in ("0", "1") or not name:
            raise UsageError(f"{packed[:200]!r} is no packed file id: expected size:executable:id")
        return cls(name, int(size), executable == "1")


class BlobKey(NamedTuple):
    """What a blob's key says."""

    digits: str
    """Of the file's id."""
    version: str


def clean_hint(basename: str | None) -> str:
    """A name that is safe anywhere and like the given one: its last path component, odd characters as `_`, cut in front (the
    extension matters most). `file` where nothing is left of it."""
    name = _unsafe("_", (basename or "").rstrip("/").rpartition("/")[2])
    name = name[-_HINT_MAX:].lstrip(".")
    return name if name.strip("_-.") else NAMELESS


def new_id(basename: str | None = None) -> FileID:
    """An id that nobody has or ever had."""
    return FileID(f"{uuid4().hex}-{clean_hint(basename)}")


def digits_of(file_id: str) -> str | None:
    """What names the file; None if this is no id of ours (then there is no such file)."""
    found = _id(file_id)
    return found[1] if found else None


def hint_of(file_id: str) -> str:
    """The name behind the digits."""
    return file_id[_DIGITS + 1 :]


def new_blob(digits: str) -> str:
    """A key for one more content of this file: nobody has it."""
    return f"{PREFIX}{digits[:2]}/{digits}.{uuid4().hex[:16]}"


def parse_blob(key: str) -> BlobKey | None:
    """What a key says; None if it is no blob's."""
    found = _key(key)
    return BlobKey(found[1], found[2]) if found and key[6:8] == found[1][:2] else None


def check_shared_name(name: str) -> str:
    """The name itself, or UsageError (a ValueError): so no shared name is a path."""
    if len(name) > SHARED_CHARS_MAX or not _shared(name):
        raise UsageError(f"{name[:200]!r} cannot name a shared file: use letters, digits and the characters . _ -")
    return name

"""What a locator means: the text by which users name a store, and the objects behind it.

    runs/first  ./a:b  /data/x  ~/x   a path (anything without ":" or beginning with "/", "." or "~")
    file:PATH  file:///PATH           a path (percent-escapes count in the form with slashes only)
    s3://BUCKET[/PREFIX]              aws:REGION:BUCKET[:PREFIX]
    gs://BUCKET[/PREFIX]              google:PROJECT:BUCKET[/PREFIX]    gce:REGION:BUCKET[:PREFIX]
    memory:NAME                       inside this process only, for tests

`parse` is pure text work; `open_objects` is the one door through which a Place becomes objects. A path is made absolute
(another process has another working directory) but otherwise kept as given: a symlink stays a symlink, so that a store
may be moved behind it.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple
from urllib.parse import unquote

from towline.stores.errors import LocatorError

if TYPE_CHECKING:
    from towline.stores.objects.base import Objects
    from towline.stores.objects.memory import MemoryObjects
    from towline.stores.objects.s3_encryption import Encryption

Kind = Literal["file", "memory", "s3", "gs"]

FORMS = "a path, file:PATH, s3://BUCKET/PREFIX, aws:REGION:BUCKET:PREFIX, gs://BUCKET/PREFIX or google:PROJECT:BUCKET/PREFIX"

_bucket = re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]").fullmatch
_word = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*").fullmatch
_segment = re.compile(r"[A-Za-z0-9._-]+").fullmatch

_memories: dict[str, MemoryObjects] = {}
"""The stores called memory:NAME, as long as this process lives."""


class Place(NamedTuple):
    """Where a store lies. Only the fields of its kind are set."""

    kind: Kind
    path: Path = Path()
    """file: absolute."""
    name: str = ""
    """memory."""
    bucket: str = ""
    prefix: str = ""
    """Without slashes at either end; empty for the whole bucket."""
    region: str = ""
    project: str = ""

    @property
    def url(self) -> str:
        """The one spelling that names this place from anywhere, for messages and for other processes."""
        match self.kind:
            case "file":
                return str(self.path)
            case "memory":
                return f"memory:{self.name}"
            case "s3" if self.region:
                return f"aws:{self.region}:{self.bucket}" + (f":{self.prefix}" if self.prefix else "")
            case "gs" if self.project:
                return f"google:{self.project}:{self.bucket}" + (f"/{self.prefix}" if self.prefix else "")
            case _:  # the region of a GCS bucket is only for people
                return f"{self.kind}://{self.bucket}" + (f"/{self.prefix}" if self.prefix else "")


def parse(locator: str | os.PathLike[str]) -> Place:
    """The place that a locator names (a Path is always a path). LocatorError says what is wrong and which forms there are."""
    text = os.fspath(locator)
    if not text or "\0" in text:
        raise LocatorError(f"{text!r} does not name a store: use {FORMS}")
    if ":" not in text or text[0] in "/.~" or not isinstance(locator, str):
        return _path(text)
    scheme, _, rest = text.partition(":")
    match scheme:
        case "file":
            return _file(text, rest)
        case "memory" if _segment(rest):
            return Place("memory", name=rest)
        case "s3" | "gs" if rest.startswith("//"):
            bucket, _, prefix = rest[2:].partition("/")
            return _cloud(text, scheme, bucket, prefix)
        case "aws" | "gce":
            region, _, place = rest.partition(":")
            bucket, _, prefix = place.partition(":")
            return _cloud(text, "s3" if scheme == "aws" else "gs", bucket, prefix, region=_checked(text, region))
        case "google":
            project, _, place = rest.partition(":")
            bucket, _, prefix = place.partition("/")
            return _cloud(text, "gs", bucket, prefix, project=_checked(text, project))
    raise LocatorError(f"{text!r} does not name a store: use {FORMS} (a path with a colon in it as ./{text})")


def _path(text: str) -> Place:
    # absolute(), not resolve() or abspath(): those follow symlinks, or drop "link/.." without following them
    path = Path(text).expanduser() if text == "~" or text.startswith("~/") else Path(text)
    return Place("file", path=path.absolute())


def _file(text: str, rest: str) -> Place:
    if not rest.startswith("//"):
        if not rest:
            raise LocatorError(f"{text!r} does not name a store: a path must follow file:")
        return _path(rest)
    host, _, path = rest[2:].partition("/")
    if host not in ("", "localhost") or not path:
        raise LocatorError(f"{text!r} does not name a directory of this machine: write file:///PATH")
    if "\0" in (path := unquote(path)):
        raise LocatorError(f"{text!r} does not name a directory: it has a NUL byte in it")
    return _path("/" + path)


def _checked(text: str, word: str) -> str:
    if not _word(word):
        raise LocatorError(f"{text!r} names no valid region or project ({word!r}): use {FORMS}")
    return word


def _cloud(text: str, kind: Kind, bucket: str, prefix: str, region: str = "", project: str = "") -> Place:
    if not _bucket(bucket):
        raise LocatorError(f"{text!r} names no valid bucket ({bucket!r}): use {FORMS}")
    prefix = prefix.strip("/")
    for segment in prefix.split("/") if prefix else ():
        if not _segment(segment) or segment in (".", ".."):
            raise LocatorError(f"{text!r} has a prefix that cannot be used ({segment!r}): letters, digits, . _ - only")
    return Place(kind, bucket=bucket, prefix=prefix, region=region, project=project)


def open_objects(locator: str | os.PathLike[str] | Place, encryption: Encryption | None = None) -> Objects:
    """The objects at a place. Nothing is created or looked at yet. UsageError where a key for its encryption cannot be read.

    `encryption` of a bucket, where the environment does not say it (`Encryption.of_environment`).
    """
    place = locator if isinstance(locator, Place) else parse(locator)
    match place.kind:
        case "file":
            from towline.stores.objects.local import LocalObjects

            return LocalObjects(place.path)
        case "memory":
            from towline.stores.objects.memory import MemoryObjects

            return _memories.setdefault(place.name, MemoryObjects(name=place.url))
        case "gs":
            from towline.stores.objects.gcs import GcsObjects
            from towline.stores.objects.s3_encryption import Encryption

            encryption = encryption or Encryption.of_environment()
            return GcsObjects(place.bucket, place.prefix, project=place.project or None, encryption=encryption)
        case "s3":
            from towline.stores.objects.s3 import S3Objects
            from towline.stores.objects.s3_client import Access
            from towline.stores.objects.s3_encryption import Encryption

            access = Access(region=place.region or None)
            return S3Objects(place.bucket, place.prefix, access=access, encryption=encryption or Encryption.of_environment())

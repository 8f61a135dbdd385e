"""What a user's URL names: pure text work, with nothing of a credential in any form that is shown.

    data/x  ./a:b  /data/x  ~/x        a path: anything without `scheme:` in front. Literal: no escapes, no queries
    file:///PATH  file:PATH            percent-escapes count; the host is empty or localhost
    s3://BUCKET/KEY  gs://BUCKET/KEY   percent-escapes count, `?` and `#` do not; dots and double slashes stay: a key is text
    ftp://[USER[:PASSWORD]@]HOST[:PORT]/PATH    from the login's folder; a path that begins with %2F from the server's root
    http[s]://[USER[:PASSWORD]@]HOST[:PORT]/PATH[?QUERY]    sent as written, but for what may not stand in a URL

A path that ends in `/` names a directory, in every scheme but http. What `list_url` gives is made by `component`, so that it
can be joined with a `/` onto the URL that was listed and parsed again: escaped for a URL, literal for a path.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import ParseResult, SplitResult, quote, quote_from_bytes, unquote, unquote_to_bytes, urlparse, urlsplit

from towline.stores.jobstore.errors import InvalidImportExportUrlException

PATHLESS: Final = ("s3", "gs")
"""Schemes of buckets: what follows is a bucket and a key, no hierarchy of its own."""

_scheme = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):").match
_bucket = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,221}[A-Za-z0-9]").fullmatch
_userinfo = re.compile(r"//.*@")
"""Greedy: a password may hold what ought to have been escaped."""
_query = re.compile(r"\?.*")
_control = re.compile(r"[\x00-\x1f\x7f]")
_sendable = re.compile(r"[!-~]*").fullmatch
_type = re.compile(r";type=[aid]\Z")


@dataclass(frozen=True, slots=True)
class Url:
    """One place where a file may lie. `str` and `repr` show it without user, password and query."""

    scheme: str
    """Lower case; "file" for paths too."""
    path: str
    """Decoded: an absolute local path, the key in a bucket, a path on a server (http: as it is sent)."""
    host: str = ""
    """Or the bucket."""
    port: int | None = None
    user: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    query: str = field(default="", repr=False)
    """Of http, as it is sent."""
    literal: bool = False
    """It was given as a path."""

    @property
    def bucket(self) -> str:
        """Of s3 and gs."""
        return self.host

    @property
    def names_directory(self) -> bool:
        """Does the text alone say that this is a directory?"""
        return self.scheme not in ("http", "https") and (self.path.endswith("/") or not self.path)

    @property
    def address(self) -> str:
        """The URL of http without its user: what is asked for."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port is None else f":{self.port}"
        return f"{self.scheme}://{host}{port}{self.path}" + (f"?{self.query}" if self.query else "")

    def __str__(self) -> str:
        if self.literal:
            return _control.sub("?", os.fsencode(self.path).decode(errors="replace"))
        if self.scheme == "file":
            return f"file://{quote(os.fsencode(self.path))}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        where = host if self.port is None else f"{host}:{self.port}"
        path = self.path if self.scheme in ("http", "https") else "/" + quote(self.path.encode(errors="surrogateescape"))
        return f"{self.scheme}://{'***@' if self.user else ''}{where}{path}" + ("?***" if self.query else "")

    def __repr__(self) -> str:
        return f"Url({self})"


def parse(uri: str | os.PathLike[str]) -> Url:
    """What a URL names; a Path is always a path. Says nothing about whether the scheme is one that can be used.

    Raises InvalidImportExportUrlException for text that names nothing.
    """
    text = os.fspath(uri)
    if not isinstance(text, str) or not text:
        raise invalid(uri, "it is empty")
    found = _scheme(text) if isinstance(uri, str) else None
    if found is None:
        return _path(text)
    scheme, rest = found[1].lower(), text[found.end() :]
    match scheme:
        case "file":
            return _file(text, rest)
        case "s3" | "gs":
            return _object(text, scheme, rest)
        case "http" | "https":
            return _http(text, scheme)
        case "ftp" | "ftps":
            return _ftp(text, scheme)
        case _:
            return Url(scheme, "", host=_unknown_host(rest))


def component(url: Url, name: str) -> str:
    """A name in the directory `url` as it is joined onto that URL; a directory's ends in `/` before and after."""
    if url.literal:
        return name
    bare, slash = (name[:-1], "/") if name.endswith("/") else (name, "")
    if bare in (".", ".."):  # escaped, or whoever reads it as a URL would walk up
        return bare.replace(".", "%2E") + slash
    return quote_from_bytes(bare.encode(errors="surrogateescape"), safe="") + slash


def joined(url: Url, name: str) -> str:
    """The decoded path of a name in a directory."""
    return url.path + name if not url.path or url.path.endswith("/") else f"{url.path}/{name}"


def redacted(text: str) -> str:
    """Any text of a user's, fit for a message: no user and password, no query, no control characters, not too long."""
    shown = _control.sub("?", text)
    if (found := _scheme(shown)) and found[1].lower() not in ("file", *PATHLESS):
        shown = _query.sub("?***", _userinfo.sub("//***@", shown))
    return shown if len(shown) <= 300 else shown[:300] + "..."


def parsed(shown: str) -> ParseResult:
    """What the seed's exceptions carry; of text without secrets."""
    try:
        return urlparse(shown)
    except ValueError:
        return ParseResult("", "", shown, "", "", "")


def invalid(uri: object, why: str) -> InvalidImportExportUrlException:
    """The exception for text that names nothing that can be imported or exported."""
    return InvalidImportExportUrlException(parsed(redacted(str(uri))), why)


# ------------------------------------------------------------------------------------------------------- each scheme


def _path(text: str) -> Url:
    if "\0" in text:
        raise invalid(text, "it has a NUL byte in it")
    # as in `locate`: made absolute, but neither resolved nor normalised, since "link/.." may be somewhere else
    path = Path(text).expanduser() if text == "~" or text.startswith("~/") else Path(text)
    return Url("file", _with_slash(str(path.absolute()), text), literal=True)


def _with_slash(path: str, text: str) -> str:
    """pathlib drops the slash that says "a directory"."""
    return path + "/" if text.endswith(("/", "/.")) and not path.endswith("/") else path


def _file(text: str, rest: str) -> Url:
    if rest.startswith("//"):
        host, _, path = rest[2:].partition("/")
        if host not in ("", "localhost"):
            raise invalid(text, "it is on another machine; write file:///PATH")
        rest = "/" + path
    if not rest or "\0" in (path := os.fsdecode(unquote_to_bytes(rest))):
        raise invalid(text, "no path follows file:" if not rest else "it has a NUL byte in it")
    return Url("file", _with_slash(str(Path(path).absolute()), path))


def _object(text: str, scheme: str, rest: str) -> Url:
    bucket, _, key = rest[2:].partition("/")
    if not rest.startswith("//") or not _bucket(bucket):
        raise invalid(text, f"write {scheme}://BUCKET/KEY")
    return Url(scheme, _decoded(text, key), host=bucket)


def _ftp(text: str, scheme: str) -> Url:
    parts = _split(text)
    escaped = _type.sub("", text.partition("//")[2].partition("/")[2])
    path = unquote_to_bytes(escaped).decode(errors="surrogateescape")  # servers name files by bytes
    user, password = _login(text, parts)
    if _control.search(path):  # it becomes a line of a protocol
        raise invalid(text, "it has a control character in it")
    return Url(scheme, path, host=parts.hostname or "", port=_port(text, parts), user=user, password=password)


def _http(text: str, scheme: str) -> Url:
    parts = _split(text)
    user, password = _login(text, parts)
    path, query = _sent(parts.path or "/"), _sent(parts.query)
    return Url(scheme, path, host=parts.hostname or "", port=_port(text, parts), user=user, password=password, query=query)


def _login(text: str, parts: SplitResult) -> tuple[str | None, str | None]:
    user = None if parts.username is None else _decoded(text, parts.username)
    password = None if parts.password is None else _decoded(text, parts.password)
    if _control.search((user or "") + (password or "")):
        raise invalid(text, "it has a control character in it")
    return user, password


def _split(text: str) -> SplitResult:
    if _control.search(text):  # urlsplit would drop some of them without a word
        raise invalid(text, "it has a control character in it")
    try:
        parts = urlsplit(text)
    except ValueError:
        raise invalid(text, "its host cannot be read") from None
    if not parts.hostname:
        raise invalid(text, "it names no host")
    return parts


def _port(text: str, parts: SplitResult) -> int | None:
    try:
        return parts.port
    except ValueError:
        raise invalid(text, "its port is no number below 65536") from None


def _sent(part: str) -> str:
    """What was written, if it may be sent; else with the letters escaped that may not. Escapes are never undone: a signature
    may be over them."""
    return part if _sendable(part) and not set(part) & set('"<>\\^`{|}') else quote(part, safe="/?:@!$&'()*+,;=%~[]-._")


def _decoded(text: str, part: str) -> str:
    try:
        found = unquote(part, errors="strict")
        found.encode()
    except UnicodeError:
        raise invalid(text, "its escapes are not UTF-8") from None
    if "\0" in found:
        raise invalid(text, "it has a NUL byte in it")
    return found


def _unknown_host(rest: str) -> str:
    """Of a scheme that nobody knows: enough for a message, nothing that may be secret."""
    host = rest[2:].partition("/")[0].rpartition("@")[2] if rest.startswith("//") else ""
    return host if re.fullmatch(r"[A-Za-z0-9.:_-]{1,100}", host) else ""

"""http and https: files by GET, questions by HEAD, exports by PUT or POST. There are no directories and no listings.

The bytes are taken as they are sent: nothing is decompressed, so that a size is what was announced. A download that breaks off
goes on where it stopped if the server named the content by a strong ETag (If-Range forbids a splice of two contents). Some
servers allow GET only (a URL signed for GET refuses HEAD): then one byte is asked for, and the answer's head is read.

Which of PUT and POST an endpoint takes it says itself (OPTIONS, `Allow`); PUT if it says nothing. An upload is tried once: what
a server did with half of a body nobody knows. Redirects are followed when reading only. User and password of the URL go to its
host alone; proxies are taken from the environment.
"""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, NoReturn

from towline.stores.objects.retry import Judged, retry_after
from towline.stores.objects.streaming import in_thread
from towline.stores.transfer.base import (
    ASKING,
    CONNECT_S,
    PIECE,
    STALL_S,
    Fetched,
    Found,
    Noted,
    Piece,
    TransferError,
    missing,
    refused,
    translated,
    unimplemented,
)
from towline.stores.transfer.url import Url

if TYPE_CHECKING:
    import aiohttp
    import yarl

RESUMES_MAX = 5
"""So often in a row a download goes on without a new byte."""
_HIDDEN = {400, 403, 405, 501}
"""Answers to HEAD that do not say whether GET would work."""
_MISSING = {404, 410}
_REFUSED = {401, 403, 407}
_LATER = {408, 429, 500, 502, 503, 504}
"""Worth asking again."""

_range = re.compile(r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)").fullmatch


class _Later(TransferError):
    """The server may answer otherwise if it is asked again."""

    def __init__(self, text: str, after_s: float = 0.0) -> None:
        super().__init__(text)
        self.after_s = after_s


class HttpScheme:
    """http: and https: URLs. One session of connections, made at the first request."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None
        self._making = asyncio.Lock()

    async def look(self, url: Url) -> Found:
        """See `Scheme.look`."""
        async with self._answer("HEAD", url) as response:
            if response.status not in _HIDDEN:
                _judge(url, response)
                return Found(response.content_length)
        async with self._answer("GET", url, Range="bytes=0-0") as response:
            if response.status == 416:  # not one byte: it is empty
                return Found(0)
            _judge(url, response)
            return Found(_total(response) if response.status == 206 else response.content_length)

    async def entries(self, url: Url) -> list[str]:
        """There are none to be had."""
        unimplemented(url, "list")

    @asynccontextmanager
    async def read(self, url: Url) -> AsyncIterator[Fetched]:
        """See `Scheme.read`."""
        async with self._answer("GET", url) as response:
            _judge(url, response)
            yield Fetched(self._pieces(url, response), response.content_length, False)

    async def _pieces(self, url: Url, response: aiohttp.ClientResponse) -> AsyncGenerator[bytes, None]:
        """The body, across connections that break."""
        import aiohttp

        tag = _strong_tag(response)
        at, idle = 0, 0
        while True:
            try:
                async for piece in response.content.iter_chunked(PIECE):
                    at, idle = at + len(piece), 0
                    yield piece
                return
            except (aiohttp.ClientError, OSError) as error:
                idle += 1
                if not tag or idle > RESUMES_MAX:
                    _raise(url, error)
            finally:
                response.close()
            response = await self._resumed(url, at, tag)

    async def _resumed(self, url: Url, at: int, tag: str) -> aiohttp.ClientResponse:
        """The rest of the same content; the caller closes it."""
        response = await self._asked("GET", url, {"Range": f"bytes={at}-", "If-Range": tag})
        found = _range(response.headers.get("Content-Range", ""))
        if response.status == 206 and found and found[1] == str(at):
            return response
        response.close()
        raise TransferError(f"{url}: the download broke off after {at} bytes, and the server does not go on from there")

    # ------------------------------------------------------------------------------------------------------- writing

    async def write(self, url: Url, pieces: AsyncIterable[Piece], size: int | None, executable: bool) -> None:
        """See `Scheme.write`. What an upload that fails leaves is the server's affair."""
        method = await self._method(url)
        headers = {"Content-Type": "application/octet-stream"}
        if size is not None:
            headers["Content-Length"] = str(size)  # many (S3 among them) take no chunked body
        session, body = await self._open(), Noted(pieces)
        try:
            with _translated(url):
                async with session.request(
                    method, _address(url), data=body.read(), headers=_headers(url, headers), allow_redirects=False
                ) as response:
                    if 300 <= response.status < 400:
                        raise TransferError(f"{url}: the server sends the upload elsewhere; export to the final URL")
                    _judge(url, response)
        except TransferError:
            if body.error is not None:  # aiohttp would have it that the connection failed
                raise body.error from None
            raise

    async def _method(self, url: Url) -> str:
        """What the endpoint takes."""
        async with self._answer("OPTIONS", url) as response:
            allowed = {word.strip().upper() for word in response.headers.get("Allow", "").split(",")}
        return "POST" if "POST" in allowed and "PUT" not in allowed else "PUT"

    # ------------------------------------------------------------------------------------------------------- asking

    @asynccontextmanager
    async def _answer(self, method: str, url: Url, **headers: str) -> AsyncIterator[aiohttp.ClientResponse]:
        """An answer, of whatever status, whose body has not been read."""
        response = await self._asked(method, url, headers)
        try:
            yield response
        finally:
            response.close()  # not released: nobody wants to read the rest of it

    async def _asked(self, method: str, url: Url, headers: dict[str, str]) -> aiohttp.ClientResponse:
        """Ask, and again while the server is busy or cannot be reached."""
        session = await self._open()
        return await ASKING(lambda: _once(session, method, url, headers), lambda error: _verdict(url, error))

    async def _open(self) -> aiohttp.ClientSession:
        import ssl

        import aiohttp

        async with self._making:
            if self._session is None:
                trusted = await in_thread(ssl.create_default_context)
                self._session = aiohttp.ClientSession(
                    connector=aiohttp.TCPConnector(ssl=trusted),
                    cookie_jar=aiohttp.DummyCookieJar(),
                    headers={"Accept-Encoding": "identity", "User-Agent": "towline"},
                    timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=STALL_S),
                    auto_decompress=False,
                    trust_env=True,
                    read_bufsize=PIECE,
                )
            return self._session

    async def close(self) -> None:
        """Drop all connections."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()


async def _once(session: aiohttp.ClientSession, method: str, url: Url, headers: dict[str, str]) -> aiohttp.ClientResponse:
    try:
        with _translated(url):
            response = await session.request(method, _address(url), headers=_headers(url, headers), allow_redirects=True)
    except TransferError as error:
        raise _Later(str(error)) from None
    if response.status in _LATER:
        response.close()
        raise _Later(_said(url, response), retry_after(response.headers.get("Retry-After")))
    return response


def _verdict(url: Url, error: Exception) -> Judged:
    """See `retry.Judge`."""
    match error:
        case _Later():
            return Judged(TransferError(str(error)), again=True, after_s=error.after_s)
        case TimeoutError():
            return Judged(TransferError(f"{url}: the server did not answer in time"), again=True)
        case _:
            raise error


def _address(url: Url) -> yarl.URL:
    import yarl

    return yarl.URL(url.address, encoded=True)


def _headers(url: Url, given: Mapping[str, str]) -> dict[str, str]:
    """With user and password, which aiohttp drops when a redirect leads to another host."""
    if url.user is None:
        return dict(given)
    said = f"{url.user}:{url.password or ''}".encode()
    return {**given, "Authorization": f"Basic {base64.b64encode(said).decode()}"}


def _judge(url: Url, response: aiohttp.ClientResponse) -> None:
    """Raise unless the request has succeeded."""
    if response.status in _MISSING:
        raise missing(url)
    if response.status in _REFUSED:
        raise refused(url)
    if not 200 <= response.status < 300:
        raise TransferError(_said(url, response))


def _said(url: Url, response: aiohttp.ClientResponse) -> str:
    reason = "".join(letter for letter in (response.reason or "")[:100] if letter.isprintable())
    return f"{url}: the server answered {response.status} {reason}".rstrip()


def _total(response: aiohttp.ClientResponse) -> int | None:
    found = _range(response.headers.get("Content-Range", ""))
    return int(found[2]) if found and found[2] != "*" else None


def _strong_tag(response: aiohttp.ClientResponse) -> str:
    tag = response.headers.get("ETag", "")
    return "" if tag.startswith("W/") else tag


@contextmanager
def _translated(url: Url) -> Iterator[None]:
    """As `translated`, for what aiohttp raises: its texts hold the whole URL, so they are not passed on."""
    import aiohttp

    with translated(url):
        try:
            yield
        except aiohttp.ClientError as error:
            _raise(url, error)


def _raise(url: Url, error: Exception) -> NoReturn:
    import aiohttp

    match error:
        case aiohttp.ClientConnectorCertificateError():
            why = "the server's certificate is not trusted"
        case TimeoutError():
            why = "the server did not answer in time"
        case aiohttp.TooManyRedirects():
            why = "the server sends from one URL to the next without end"
        case aiohttp.ClientPayloadError():
            why = "the download broke off"
        case OSError() if error.strerror:
            why = error.strerror
        case _:
            why = " ".join(re.findall("[A-Z][a-z]+", type(error).__name__)).lower()
    raise TransferError(f"{url}: {why}") from None

"""One request to Google Cloud Storage's JSON API: who asks (gcsfs knows), over which session, and what the answer means.

gcsfs finds the credentials, the endpoint and the client certificate, and opens the session; its verbs are not used, because they
repeat what may not be repeated and take every unmet condition for an existing file. Here a request is sent once at a time;
`judge` tells what its failure means, and `objects.retry` alone decides whether it is sent again.

A session belongs to one event loop; there is one for every loop that asks. It closes itself when its loop is shut down
(`asyncio.run` does that), so a thread that runs a loop for one call leaves no socket behind.
"""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import os
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal, TypeVar
from urllib.parse import quote, urlencode

from towline.engine.errors import UsageError
from towline.stores.objects.base import NotFound, ObjectsError, PreconditionFailed
from towline.stores.objects.retry import Fate, Judged, Retry, retry_after, within
from towline.stores.objects.streaming import in_thread

if TYPE_CHECKING:
    from aiohttp import ClientSession
    from gcsfs.core import GCSFileSystem

T = TypeVar("T")

Body = Sequence[bytes | memoryview]
Identity = Literal["default", "anonymous"]

CONNECTIONS = 64
"""Requests under way at once, for each loop."""
SILENT_S = 60.0
"""A connection on which nothing moves for so long is given up."""
FRESH_S = 300.0
"""An access token is renewed so long before it expires."""
_SLICE = 1 << 20
"""Bytes of a body that are handed to the socket at once."""
_SMALL = 1 << 16
_SLOW = {"rateLimitExceeded", "userRateLimitExceeded", "slowDown"}
"""What Google's own front door says when it carries a request out later only, if asked again."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A request that succeeded."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> dict[str, Any]:
        """The resource that came back. ObjectsError if it is none: then no such service stands at the endpoint."""
        try:
            found = json.loads(self.body or b"{}")
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise ObjectsError("the answer is not of Google Cloud Storage: check the endpoint (STORAGE_EMULATOR_HOST)")
        return found


class Refused(Exception):
    """The service answered, but not with what was hoped for."""

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.status = status
        self.after_s = retry_after(headers.get("Retry-After"))
        self.reason, self.message = _explained(body)
        super().__init__(f"{status} {self.message}")


def _explained(body: bytes) -> tuple[str, str]:
    """Reason (one word) and message of an error answer; whatever it is, one line of it."""
    with suppress(ValueError, LookupError, TypeError, AttributeError):
        error = json.loads(body)["error"]
        return str((error.get("errors") or [{}])[0].get("reason", "")), " ".join(str(error["message"]).split())
    return "", " ".join(body[:200].decode("utf-8", "replace").split())


class Broken(Exception):
    """Content came back changed."""


class Stale(Exception):
    """The access token was refused; a fresh one has been fetched."""


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked. `about` names the object for messages."""

    method: str
    path: str
    """Percent-encoded, from the root of the endpoint; or a whole URL that the service gave."""
    about: str
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Body = ()
    conditional: bool = False
    """Does carrying it out twice differ from once (see `objects.retry`)?"""
    welcome: Collection[int] = (200, 204, 206, 308)
    """Statuses that are answers, not refusals."""
    media: bool = False
    """Is an object's content asked for? It comes as it is stored, and is verified if it comes whole."""
    answer_size: int = 0
    """Bytes that are expected back, for the time that an attempt is given."""
    deadline_s: float | None = None
    """For all attempts, where the policy's is too long."""

    @property
    def size(self) -> int:
        """Bytes of the body."""
        return sum(memoryview(piece).nbytes for piece in self.body)


class Rest:
    """The way to one endpoint under one identity. Safe in many threads, each with its loop."""

    def __init__(self, endpoint: str | None, identity: Identity | Any, retry: Retry | None = None) -> None:
        """`endpoint` None: Google's own. `identity`: "default" is what the environment of Google's tools says; anything else but
        "anonymous" is a google.auth Credentials."""
        self.endpoint = None if endpoint is None else endpoint.rstrip("/")
        self.identity = identity
        self._retry = retry or Retry()
        self._guard = threading.Lock()
        self._clients: dict[asyncio.AbstractEventLoop, asyncio.Task[_Client]] = {}

    def same_as(self, other: Rest) -> bool:
        """Is it the same service and the same identity?"""
        return self.endpoint == other.endpoint and self.identity == other.identity

    async def ask(self, request: Request) -> Answer:
        """The answer, after as many attempts as make sense. Raises ObjectsError (NotFound, PreconditionFailed, Ambiguous)."""
        return await self.repeat(lambda: self.once(request), request)

    async def repeat(self, act: Callable[[], Awaitable[T]], request: Request) -> T:
        """As `ask`, for attempts that are more than sending the request once."""
        limit_s = within(request.size + request.answer_size)
        if request.deadline_s is not None:
            limit_s = min(limit_s, request.deadline_s)
        async with (await self.client()).slots:
            return await self._retry(
                act,
                lambda error: judge(error, request),
                conditional=request.conditional,
                attempt_s=limit_s,
                deadline_s=request.deadline_s,
            )

    async def once(self, request: Request) -> Answer:
        """One attempt. Raises Refused, Stale, and what the network and Google's credentials raise."""
        client = await self.client()
        headers = {"Accept-Encoding": "gzip", **request.headers, **await client.authorization()}
        if request.method != "GET":
            headers["Content-Length"] = str(request.size)
        async with client.session.request(
            request.method,
            _url(client.location, request),
            data=_payload(request) if request.body else None,
            headers=headers,
            allow_redirects=False,
            auto_decompress=False,
        ) as response:
            body = await response.read()
        good = response.status in request.welcome
        if not (good and request.media) and response.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        if good:
            if request.media and response.status == 200:
                await _verify(response.headers, body)
            return Answer(response.status, response.headers, body)
        if response.status == 401 and await client.renew():
            raise Stale
        raise Refused(response.status, response.headers, body)

    # ------------------------------------------------------------------------------------------------------- sessions

    async def client(self) -> _Client:
        """The session of the running loop, opened by whoever needs it first. ObjectsError if there are no credentials."""
        loop = asyncio.get_running_loop()
        task = self._clients.get(loop)
        if task is not None and task.done() and not task.cancelled() and task.exception() is None:
            return task.result()
        with self._guard:
            task = self._clients.get(loop)
            if task is None or (task.done() and (task.cancelled() or task.exception() is not None)):
                for gone in [other for other in self._clients if other.is_closed()]:
                    del self._clients[gone]
                task = self._clients[loop] = loop.create_task(self._open())
        return await asyncio.shield(task)

    async def _open(self) -> _Client:
        filesystem = await in_thread(self._filesystem)
        session = await filesystem._set_session()
        # aiohttp sends "idempotent" requests a second time when a connection breaks, behind the back of the policy; it has no
        # public word for this
        session._retry_connection = False
        life = _closed_with_its_loop(session)
        await anext(life)
        return _Client(filesystem, session, life, asyncio.Semaphore(CONNECTIONS))

    def _filesystem(self) -> GCSFileSystem:
        """gcsfs with nothing of its own turned on but finding out who we are. Blocks: it may ask the machine's metadata."""
        # gcsfs would otherwise ask the real Google what kind of bucket it has before each first use of one
        os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
        from aiohttp import ClientTimeout
        from gcsfs.core import GCSFileSystem

        named = {"default": "google_default", "anonymous": "anon"}
        token = named[self.identity] if isinstance(self.identity, str) else self.identity
        try:
            made: GCSFileSystem = GCSFileSystem(
                project="",
                access="read_write",
                token=token,
                endpoint_url=self.endpoint,
                asynchronous=True,
                skip_instance_cache=True,
                use_listings_cache=False,
                session_kwargs={
                    "timeout": ClientTimeout(total=None, sock_connect=15.0, sock_read=SILENT_S),
                    "trust_env": not is_plain_http(self.endpoint),
                },
            )
        except Exception as error:
            # whatever a broken credentials file or a half-made configuration raises; there is no common root
            raise ObjectsError(
                f"there are no usable Google credentials ({' '.join(str(error).split())[:300]}): run `gcloud auth "
                "application-default login`, or set GOOGLE_APPLICATION_CREDENTIALS to a service account's key file"
            ) from error
        return made

    async def close(self) -> None:
        """Close the sessions of all loops; those that ask again get a new one."""
        with self._guard:
            clients, self._clients = self._clients, {}
        here = asyncio.get_running_loop()
        for loop, task in clients.items():
            if loop is here:
                await _close(task)
            elif loop.is_running():
                with suppress(RuntimeError):
                    await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(_close(task), loop))


async def _close(task: asyncio.Task[_Client]) -> None:
    with suppress(ObjectsError):
        client = await task
        await client.life.aclose()


async def _closed_with_its_loop(session: ClientSession) -> AsyncGenerator[None, None]:
    """An open session as an async generator: a loop that shuts down ends its async generators, and so the session."""
    try:
        yield
    finally:
        await session.close()


@dataclass(eq=False, slots=True)
class _Client:
    """A session of one loop, and who asks through it."""

    filesystem: GCSFileSystem
    session: ClientSession
    life: AsyncGenerator[None, None]
    slots: asyncio.Semaphore
    """Who asks takes one, and waits for it before the time of the request begins to run."""

    @property
    def location(self) -> str:
        """Scheme, host and port."""
        return str(self.filesystem._location).rstrip("/")

    @property
    def credentials(self) -> Any:
        """google.auth Credentials; None for anonymous."""
        return self.filesystem.credentials.credentials

    async def authorization(self) -> dict[str, str]:
        """The headers that say who asks."""
        headers: dict[str, str] = {}
        if self.credentials is not None:
            if not _fresh(self.credentials):
                await in_thread(self._renewed)
            self.credentials.apply(headers)
        return headers

    async def renew(self) -> bool:
        """Fetch a new access token whatever the age of the old one; False for anonymous, who has none."""
        if self.credentials is not None:
            await in_thread(self._renewed)
        return self.credentials is not None

    def _renewed(self) -> None:
        from google.auth.transport.requests import Request as Transport
        from requests import Session

        with self.filesystem.credentials.lock, Session() as session:
            self.credentials.refresh(Transport(session))


def _fresh(credentials: Any) -> bool:
    """Will the access token last for a while? (google.auth's expiry is UTC without saying so.)"""
    if not credentials.valid:
        return False
    soon = datetime.now(UTC).replace(tzinfo=None) + timedelta(seconds=FRESH_S)
    return credentials.expiry is None or bool(credentials.expiry > soon)


# ---------------------------------------------------------------------------------------------------- what comes and goes


def emulator() -> str | None:
    """The endpoint that STORAGE_EMULATOR_HOST names, as Google's own libraries read it."""
    host = os.environ.get("STORAGE_EMULATOR_HOST", "")
    if host in ("", "default"):
        return None
    return host if host.startswith(("http://", "https://")) else f"http://{host}"


def is_plain_http(endpoint: str | None) -> bool:
    """Is what is sent there readable on the way? Then no credentials of the environment go there: it is an emulator."""
    return endpoint is not None and not endpoint.startswith("https://")


def checked_endpoint(endpoint: str | None) -> str | None:
    """The endpoint itself. UsageError if it is no URL of a server."""
    if endpoint is not None and not endpoint.startswith(("http://", "https://")):
        raise UsageError(f"{endpoint!r} is not an endpoint of Google Cloud Storage: write http://HOST:PORT or https://HOST")
    return endpoint


def quoted(name: str) -> str:
    """An object's name as one segment of a path."""
    return quote(name, safe="")


def _url(location: str, request: Request) -> Any:
    from yarl import URL

    url = request.path if request.path.startswith("http") else location + request.path
    joint = "&" if "?" in url else "?"
    return URL(url + (joint + urlencode(request.query, quote_via=quote) if request.query else ""), encoded=True)


def _payload(request: Request) -> bytes | AsyncIterator[bytes | memoryview]:
    """Small bodies in one piece; large ones uncopied, in slices."""
    return b"".join(request.body) if request.size <= _SMALL else _slices(request.body)


async def _slices(body: Body) -> AsyncGenerator[bytes | memoryview, None]:
    for piece in body:
        view = memoryview(piece).cast("B")
        for at in range(0, len(view), _SLICE):
            yield view[at : at + _SLICE]


async def crc32c(data: bytes, before: int = 0) -> int:
    """Of these bytes after those of which `before` is; in a thread where it takes long."""
    from google_crc32c import extend

    return int(extend(before, data) if len(data) <= _SLICE else await asyncio.to_thread(extend, before, data))


def crc_text(crc: int) -> str:
    """As the API writes a CRC32C: base64 of its four bytes, the highest first."""
    return base64.b64encode(crc.to_bytes(4, "big")).decode()


async def _verify(headers: Mapping[str, str], body: bytes) -> None:
    told = [part.strip()[7:] for part in headers.get("X-Goog-Hash", "").split(",") if part.strip().startswith("crc32c=")]
    if told and told[0] != crc_text(await crc32c(body)):
        raise Broken("its CRC32C is not the one that the service tells")


# ---------------------------------------------------------------------------------------------------------- what it means


def judge(error: Exception, request: Request) -> Judged:
    """What the failure of one attempt means (the one border where foreign errors are translated)."""
    import aiohttp
    from google.auth.exceptions import GoogleAuthError, TransportError

    said = f"{request.about}: {' '.join(str(error).split()) or type(error).__name__}"
    match error:
        case Refused():
            return _judged_answer(error, request)
        case Stale():
            return Judged(ObjectsError(f"{request.about}: Google refuses the access token"), again=True)
        case ObjectsError():
            return Judged(error)
        case TransportError():
            return Judged(ObjectsError(f"cannot reach the server of Google's access tokens ({said})"), again=True)
        case GoogleAuthError():
            return Judged(ObjectsError(f"Google's credentials are of no use ({said}): log in again or check the key file"))
        case aiohttp.ClientConnectorCertificateError():
            return Judged(ObjectsError(f"cannot trust the server ({said}): check the endpoint and the machine's certificates"))
        case aiohttp.ClientConnectorError() | aiohttp.ConnectionTimeoutError():
            why = f"cannot reach the server ({said}): check the network and the endpoint"
            return Judged(ObjectsError(why), again=True, unreached=True)
        case aiohttp.InvalidURL():
            return Judged(ObjectsError(f"the endpoint is no URL ({said})"))
        case TimeoutError():
            return Judged(ObjectsError(f"{request.about}: no answer in time"), again=True, fate=Fate.MAYBE)
        case Broken() | gzip.BadGzipFile() | EOFError():
            return Judged(ObjectsError(f"the answer arrived broken ({said})"), again=True, fate=Fate.MAYBE)
        case aiohttp.ClientError() | OSError():
            return Judged(ObjectsError(f"the connection broke ({said})"), again=True, fate=Fate.MAYBE)
    raise error


def _judged_answer(refused: Refused, request: Request) -> Judged:
    status, about, said = refused.status, request.about, f"{request.about}: {refused}"
    if status == 404 and "bucket" in refused.message.lower() and "object" not in refused.message.lower():
        return Judged(ObjectsError(f"{about}: the bucket does not exist: create it, or check its name"))
    if status == 404:
        return Judged(NotFound(f"{about} does not exist"))
    if status == 412:
        return Judged(PreconditionFailed(f"{about} is not as the write demanded: it was created or replaced meanwhile"))
    if status == 429 or (status == 403 and refused.reason in _SLOW):
        # only Google's own words are believed that nothing was carried out; a proxy's are not
        fate = Fate.NOT if refused.reason in _SLOW else Fate.UNLIKELY
        return Judged(ObjectsError(f"Google asks to slow down ({said})"), again=True, fate=fate, after_s=refused.after_s)
    if status == 400 and "match" in refused.message and "calculated" in refused.message:
        return Judged(ObjectsError(f"the content arrived broken ({said})"), again=True)
    if status in (401, 403):
        return Judged(ObjectsError(f"access was refused ({said}): check the credentials and their roles on the bucket"))
    if status == 400 and "customer-supplied encryption key" in refused.message:
        return Judged(ObjectsError(f"the server refused ({said}): name the key that it was written with by TOWLINE_SSE_KEY_FILE"))
    if status == 408 or status >= 500:
        return Judged(ObjectsError(f"the server failed ({said})"), again=status != 501, fate=Fate.MAYBE, after_s=refused.after_s)
    return Judged(ObjectsError(f"the server refused ({said})"))

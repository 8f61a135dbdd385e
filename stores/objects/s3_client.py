"""The wire to one bucket: aiobotocore's clients, one for every event loop, and the door through which all requests go.

A client belongs to the loop that made it, and blocking callers run loops of their own (`files`), so clients are made on demand
and kept by loop. Each is held by an asynchronous generator: a loop that is shut down (`asyncio.run` does) closes its
generators and with them its client; `close` does it for all loops.

botocore's own retries are off: `retry` is the one policy. Its newer default of checksum trailers is off, too: they need a
chunked encoding that other servers than Amazon's do not speak. Content-MD5, which all of them verify, takes their place. And
aiohttp's own repetition of requests is off (`_sends_once`), without which no lost answer would ever be seen.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import io
import os
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cache, partial
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlsplit

from towline.stores.objects.base import NotFound, ObjectsError, PreconditionFailed, Version, When
from towline.stores.objects.retry import Judged, Retry
from towline.stores.objects.s3_encryption import Encryption
from towline.stores.objects.s3_errors import Doing, judge

T = TypeVar("T")

CONNECTIONS = 64
"""Requests under way at once, for each loop; more wait in line, before their time begins to run."""
_IN_THREAD = 64 << 10
"""From so many bytes on, a checksum is worth a thread."""


class Access(NamedTuple):
    """Which server, and as whom. What is None comes from the environment and files that all AWS programs read."""

    endpoint: str | None = None
    region: str | None = None
    key: str | None = None
    secret: str | None = None
    token: str | None = None
    profile: str | None = None

    @property
    def custom(self) -> str | None:
        """The endpoint, as far as arguments and environment tell it; None: Amazon's, or the profile's."""
        if os.environ.get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "").lower() == "true":
            return self.endpoint
        return self.endpoint or os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or None

    def sees(self, other: Access) -> bool:
        """Can our credentials be tried on the other's objects, by the same server?"""
        return self.custom == other.custom and self[2:] == other[2:]


class Connection(NamedTuple):
    """A client and its turnstile; both belong to one loop."""

    client: Any
    slots: asyncio.Semaphore


class Clients:
    """The clients of one Access, by loop. Safe to use from several threads."""

    def __init__(self, access: Access) -> None:
        self.access = access
        self._lock = threading.Lock()
        self._entries: dict[asyncio.AbstractEventLoop, _Entry] = {}

    async def get(self) -> Connection:
        """The running loop's. Raises ObjectsError where profile, region or endpoint make no sense."""
        loop = asyncio.get_running_loop()
        with self._lock:
            for gone in [known for known in self._entries if known.is_closed()]:
                del self._entries[gone]
            entry = self._entries.setdefault(loop, _Entry(self.access))
        return entry.connection or await entry.connect()

    async def close(self) -> None:
        """Close all; those of other loops by their own loops. They come back when they are needed again."""
        with self._lock:
            entries, self._entries = self._entries, {}
        for loop, entry in entries.items():
            if loop is asyncio.get_running_loop():
                await entry.close()
            elif loop.is_running():
                there = asyncio.run_coroutine_threadsafe(entry.close(), loop)
                with suppress(TimeoutError):
                    await asyncio.wait_for(asyncio.wrap_future(there), 10)


class _Entry:
    """One loop's client."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._opening = asyncio.Lock()
        self._holder: AsyncGenerator[Connection, None] | None = None
        self.connection: Connection | None = None

    async def connect(self) -> Connection:
        async with self._opening:
            if self.connection is None:
                self._holder = _hold(self._access)
                self.connection = await anext(self._holder)
            return self.connection

    async def close(self) -> None:
        holder, self._holder, self.connection = self._holder, None, None
        if holder is not None:
            await holder.aclose()


async def _hold(access: Access) -> AsyncGenerator[Connection, None]:
    """Yields once; the client lives until the generator is closed, at the latest by the end of its loop."""
    from botocore.exceptions import BotoCoreError

    try:
        manager = _client(access, path_style=access.custom is not None)
        client = await manager.__aenter__()
        if access.custom is None and not _of_amazon(client.meta.endpoint_url):
            # a profile names another server, where bucket names are no host names
            await manager.__aexit__(None, None, None)
            manager = _client(access, path_style=True)
            client = await manager.__aenter__()
    except (BotoCoreError, ValueError) as error:
        raise ObjectsError(f"cannot reach S3: {error}; check AWS_ENDPOINT_URL, AWS_PROFILE and ~/.aws/config") from error
    client.meta.events.register("before-call.s3.DeleteObjects", _sign_body)
    for operation in ("PutObject", "UploadPart"):
        client.meta.events.register(f"before-call.s3.{operation}", _send_at_once)
    try:
        yield Connection(client, asyncio.Semaphore(CONNECTIONS))
    finally:
        await manager.__aexit__(None, None, None)


def _client(access: Access, *, path_style: bool) -> Any:
    from aiobotocore.config import AioConfig
    from aiobotocore.session import AioSession

    session = AioSession(profile=access.profile)
    session.register_component("data_loader", _loader())
    session.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=_time)
    s3: dict[str, Any] = {}
    if (access.custom or "").startswith("http:"):
        # the body is proved by Content-MD5, which is signed; to hash it once more would hold the loop up
        s3["payload_signing_enabled"] = False
    if "addressing_style" not in (_scoped(session).get("s3") or {}):
        # said outright for Amazon, too: URLs are signed for another host than the region's otherwise
        s3["addressing_style"] = "path" if path_style else "virtual"
    config = AioConfig(
        s3=s3 or None,
        signature_version="s3v4",
        retries={"mode": "standard", "total_max_attempts": 1},
        connect_timeout=10,
        read_timeout=300,  # the last resort: every attempt has a time of its own
        max_pool_connections=CONNECTIONS,
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        user_agent_extra="towline",
        http_session_cls=_sends_once(),
    )
    region = access.region or session.get_config_variable("region") or os.environ.get("AWS_REGION") or "us-east-1"
    return session.create_client(
        "s3",
        region_name=region,
        endpoint_url=access.endpoint,
        aws_access_key_id=access.key,
        aws_secret_access_key=access.secret,
        aws_session_token=access.token,
        config=config,
    )


@cache
def _sends_once() -> type:
    """aiobotocore's session without aiohttp's own second sending: when a connection breaks before the answer, it repeats PUT and
    DELETE as "idempotent", and a conditional write then meets its own object and fails."""
    from aiobotocore.httpsession import AIOHTTPSession

    class Once(AIOHTTPSession):  # type: ignore[misc]  # aiobotocore has no types
        async def _get_session(self, proxy_url: str | None) -> Any:
            session = await super()._get_session(proxy_url)
            session._retry_connection = False  # aiohttp has no public word for it; the tests see whether it still means this
            return session

    return Once


@cache
def _loader() -> Any:
    """Reads botocore's model of S3 once a process: that takes longer than all the rest."""
    from botocore.loaders import create_loader

    return create_loader()


def _time(said: Any) -> datetime:
    """A time as S3 writes it: in XML by ISO 8601, in headers as HTTP does. botocore tries every notation that there is on each
    entry of each listing, which takes longer than all the rest of it."""
    from botocore.utils import parse_timestamp

    try:
        found = datetime.fromisoformat(said) if said[:1].isdigit() else parsedate_to_datetime(said)
    except (TypeError, ValueError):
        found = parse_timestamp(said)
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


def _scoped(session: Any) -> dict[str, Any]:
    from botocore.exceptions import ProfileNotFound

    try:
        found: dict[str, Any] = session.get_scoped_config()
    except ProfileNotFound:
        return {}  # create_client says it better
    return found


def _of_amazon(endpoint: str) -> bool:
    host = urlsplit(endpoint).hostname or ""
    return host.endswith((".amazonaws.com", ".amazonaws.com.cn", ".aws.dev", ".amazonaws.eu"))


def _sign_body(params: dict[str, Any], **_: Any) -> None:
    """DeleteObjects must have a checksum; the one that every server knows is Content-MD5."""
    params["headers"]["Content-MD5"] = _md5(params["body"])
    for name in [n for n in params["headers"] if n.lower().startswith(("x-amz-checksum-", "x-amz-sdk-checksum"))]:
        del params["headers"][name]
    params.get("context", {}).pop("checksum", None)


def _send_at_once(params: dict[str, Any], **_: Any) -> None:
    """Send a body in memory behind its header: botocore wraps it as a file, has the server asked first whether it wants it, which
    costs every write another round trip, and aiohttp then reads that file bit by bit in threads."""
    if isinstance(params["body"], io.BytesIO):
        params["body"] = params["body"].getvalue()
        params["headers"].pop("Expect", None)


def _md5(body: bytes) -> str:
    return base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()


async def md5(body: bytes) -> str:
    """Content-MD5 of a body: a server that gets other bytes than these refuses them."""
    return _md5(body) if len(body) < _IN_THREAD else await asyncio.to_thread(_md5, body)


def condition(when: When | Version) -> dict[str, str]:
    """What a write demands, as arguments of botocore. ETags go unquoted: Ceph takes them no other way, all others do both."""
    if isinstance(when, Version):
        return {"IfMatch": when.tag}
    return {"IfNoneMatch": "*"} if when is When.ABSENT else {}


def version_of(answer: dict[str, Any]) -> Version:
    """What tells this content of the object from others."""
    return Version(str(answer["ETag"]).strip('"'))


class Wire:
    """One bucket and prefix: names, encryption, and the one way in which requests are sent."""

    def __init__(self, bucket: str, prefix: str, clients: Clients, encryption: Encryption, retry: Retry) -> None:
        self.bucket = bucket
        self.clients = clients
        self.encryption = encryption
        self._retry = retry
        self._folder = f"{prefix}/" if prefix else ""
        self.url = f"s3://{bucket}" + (f"/{prefix}" if prefix else "")

    def with_encryption(self, encryption: Encryption) -> Wire:
        """The same place and the same connections."""
        return Wire(self.bucket, self._folder.rstrip("/"), self.clients, encryption, self._retry)

    def full(self, key: str) -> str:
        """The name inside the bucket of a key, or of the beginning of keys."""
        return self._folder + key

    def short(self, name: str) -> str:
        """The key of a name inside the bucket."""
        return name.removeprefix(self._folder)

    def at(self, key: str) -> dict[str, str]:
        """Bucket and name, as arguments of botocore."""
        return {"Bucket": self.bucket, "Key": self._folder + key}

    async def call(
        self,
        verb: str,
        key: str,
        act: Callable[[Any], Awaitable[T]],
        *,
        when: When | Version = When.OVERWRITE,
        conditional: bool | None = None,
        attempt_s: float | None = None,
        deadline_s: float | None = None,
    ) -> T:
        """Await `act(client)` as the retry policy will have it. `when` is what a write demands (`conditional`: it is not to be
        repeated blindly for another reason). Raises ObjectsError, which says "cannot VERB KEY"."""
        doing = Doing(verb, f"{self.url}/{key}" if key else self.url, self.bucket, self.encryption.kind == "customer")

        def judged(error: Exception) -> Judged:
            found = judge(error, doing)
            if isinstance(when, Version) and isinstance(found.error, NotFound):
                # to demand a version of what is not there is answered with 404 by some servers
                return Judged(PreconditionFailed(f"{doing.what} is gone, and a certain version of it was to be replaced"))
            return found

        connection = await self.clients.get()
        async with connection.slots:
            return await self._retry(
                partial(act, connection.client),
                judged,
                conditional=when is not When.OVERWRITE if conditional is None else conditional,
                attempt_s=attempt_s,
                deadline_s=deadline_s,
            )

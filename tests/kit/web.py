"""A web server on loopback that misbehaves on demand, with or without TLS (trusted by whoever trusts `Authority`)."""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import trustme
from aiohttp import web


@dataclass
class Web:
    """What it serves, how it errs, and what it was asked."""

    files: dict[str, bytes] = field(default_factory=dict)
    """Content by path."""
    log: list[str] = field(default_factory=list)
    """`METHOD path-and-query`, in order."""
    headers: list[dict[str, str]] = field(default_factory=list)
    """Those of the same requests."""
    statuses: list[int] = field(default_factory=list)
    """The next requests are answered so; 0: as they deserve."""
    cuts: list[int] = field(default_factory=list)
    """The next answers to GET break off after so many bytes of their body."""
    methods: set[str] = field(default_factory=lambda: {"GET", "HEAD", "PUT", "OPTIONS"})
    allow: bool = True
    """Is `Allow` said?"""
    chunked: bool = False
    """No Content-Length."""
    tags: bool = True
    """Strong ETags."""
    ranges: bool = True
    user: str = ""
    """`name:password` that is demanded."""
    redirects: dict[str, str] = field(default_factory=dict)
    extra: dict[str, str] = field(default_factory=dict)
    """More headers of answers."""
    url: str = ""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Every request comes through here."""
        self.log.append(f"{request.method} {request.path_qs}")
        self.headers.append(dict(request.headers))
        status = self.statuses.pop(0) if self.statuses else 0
        if status:
            return web.Response(status=status)
        if self.user and request.headers.get("Authorization") != _basic(self.user):
            return web.Response(status=401)
        if request.path in self.redirects:
            return web.Response(status=302, headers={"Location": self.redirects[request.path]})
        if request.method not in self.methods:
            return web.Response(status=405, headers={"Allow": ", ".join(self.methods)} if self.allow else {})
        if request.method == "OPTIONS":
            return web.Response(status=204, headers={"Allow": ", ".join(self.methods)} if self.allow else {})
        if request.method in ("PUT", "POST"):
            self.files[request.path] = await request.read()
            return web.Response(status=201)
        if request.path not in self.files:
            return web.Response(status=404)
        return await self._content(request, self.files[request.path])

    async def _content(self, request: web.Request, data: bytes) -> web.StreamResponse:
        tag = f'"{hash(data)}"' if self.tags else f'W/"{hash(data)}"'
        found = request.http_range if self.ranges and request.headers.get("If-Range", tag) == tag else slice(0, None)
        part = data[found.start or 0 : found.stop]
        response = web.StreamResponse(status=200, headers={"ETag": tag, **self.extra})
        if part != data or (self.ranges and "Range" in request.headers and found.start is not None):
            if not part:
                return web.Response(status=416, headers={"Content-Range": f"bytes */{len(data)}"})
            first = found.start or 0
            response.set_status(206)
            response.headers["Content-Range"] = f"bytes {first}-{first + len(part) - 1}/{len(data)}"
        if not self.chunked:
            response.content_length = len(part)
        await response.prepare(request)
        if request.method == "HEAD":
            return response
        if self.cuts:
            await response.write(part[: self.cuts.pop(0)])
            await asyncio.sleep(0)
            assert request.transport is not None
            request.transport.close()
            return response
        await response.write(part)
        return response


def _basic(user: str) -> str:
    return f"Basic {base64.b64encode(user.encode()).decode()}"


class Authority:
    """A certificate authority of the tests' own."""

    def __init__(self, folder: Path) -> None:
        self._ca = trustme.CA()
        self.file = folder / "ca.pem"
        self._ca.cert_pem.write_to_path(str(self.file))
        self.pair = folder / "server.pem"
        issued = self._ca.issue_cert("localhost", "127.0.0.1")
        self.pair.write_bytes(issued.private_key_pem.bytes() + b"".join(blob.bytes() for blob in issued.cert_chain_pems))

    def context(self) -> ssl.SSLContext:
        """For a server on localhost."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self.pair)
        return context


@asynccontextmanager
async def serving(context: ssl.SSLContext | None = None) -> AsyncIterator[Web]:
    """A server in the running loop; `url` has no slash at its end."""
    served = Web()
    application = web.Application(client_max_size=2**30)
    application.router.add_route("*", "/{any:.*}", served.answer)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
        scheme, host = ("https", "localhost") if context else ("http", "127.0.0.1")
        served.url = f"{scheme}://{host}:{runner.addresses[0][1]}"
        yield served
    finally:
        await runner.cleanup()

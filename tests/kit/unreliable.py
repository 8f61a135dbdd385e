"""An S3 server that fails on demand: a proxy before a real one, which loses requests, answers and bytes exactly when told to.

    async with Unreliable(server) as between:
        between.plan("PUT", LOST)            # carry out the next PUT, and lose its answer
        objects = ... between.server ...

Signatures stay valid: the real server is told the host that the client has signed.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

from aiohttp import ClientSession, TCPConnector, web
from yarl import URL

from tests.kit.servers import Server

LOST = "lost"
"""The request is carried out; its answer never comes."""
UNSENT = "unsent"
"""The request never reaches the server, and nobody says so."""
SPOILED = "spoiled"
"""The body arrives with other bytes."""
CUT = "cut"
"""Half of the answer's body comes, then the connection ends."""


def busy(after_s: float | None = None) -> web.Response:
    """503 SlowDown."""
    headers = {} if after_s is None else {"Retry-After": str(after_s)}
    return _said(503, "SlowDown", headers)


def failed() -> web.Response:
    """500 InternalError."""
    return _said(500, "InternalError", {})


def said(status: int, code: str) -> web.Response:
    """Any other refusal."""
    return _said(status, code, {})


def _said(status: int, code: str, headers: dict[str, str]) -> web.Response:
    text = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>on demand</Message></Error>"
    return web.Response(status=status, text=text, content_type="application/xml", headers=headers)


class Planned(NamedTuple):
    """One failure that waits for its request."""

    method: str
    fault: str | web.Response
    where: str
    """Must be part of path and query."""


@dataclass
class Unreliable:
    """The proxy."""

    upstream: Server
    plans: list[Planned] = field(default_factory=list)
    seen: list[str] = field(default_factory=list)
    """`METHOD path?query` of every request."""
    headers: list[dict[str, str]] = field(default_factory=list)
    """The headers of each, names in lower case."""
    under_way: set[str] = field(default_factory=set)
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    """While it is not set, uploads of parts wait."""
    server: Server = field(init=False)

    def plan(self, method: str, *faults: str | web.Response, where: str = "") -> None:
        """The next requests of this method (with this text in path or query) meet these faults, one each."""
        self.plans += [Planned(method, fault, where) for fault in faults]

    def count(self, method: str, where: str = "") -> int:
        """Requests of this method so far, failed ones too."""
        return sum(line.startswith(f"{method} ") and where in line for line in self.seen)

    async def __aenter__(self) -> Unreliable:
        self.gate.set()
        self._session = ClientSession(connector=TCPConnector(limit=0), auto_decompress=False)
        app = web.Application(client_max_size=1 << 30)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        port = self._runner.addresses[0][1]
        self.server = self.upstream._replace(endpoint=f"http://127.0.0.1:{port}")
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()
        await self._session.close()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        line = f"{request.method} {request.raw_path}"
        self.seen.append(line)
        self.headers.append({name.lower(): value for name, value in request.headers.items()})
        body = await request.read()
        fault = self._take(request)
        if isinstance(fault, web.Response):
            return fault
        if fault == UNSENT:
            return self._hang_up(request)
        if fault == SPOILED:
            body = bytes([body[0] ^ 1]) + body[1:]
        async with self._counted(line):
            if "partNumber" in line:
                await self.gate.wait()
            url = URL(self.upstream.endpoint + request.raw_path, encoded=True)
            skip = ("Accept", "User-Agent", "Content-Type", "Accept-Encoding")
            sent = self._session.request(
                request.method, url, headers=request.headers, data=body or None, skip_auto_headers=skip, allow_redirects=False
            )
            async with sent as answer:
                data = await answer.read()
        if fault == LOST:
            return self._hang_up(request)
        headers = {
            n: v for n, v in answer.headers.items() if n.lower() not in ("transfer-encoding", "connection", "date", "server")
        }
        if fault == CUT:
            cut = web.StreamResponse(status=answer.status, headers=headers)
            await cut.prepare(request)
            await cut.write(data[: len(data) // 2])
            return self._hang_up(request)
        return web.Response(status=answer.status, headers=headers, body=data)

    @asynccontextmanager
    async def _counted(self, line: str):
        self.under_way.add(line)
        try:
            yield
        finally:
            self.under_way.discard(line)

    def _take(self, request: web.Request) -> str | web.Response | None:
        for plan in self.plans:
            if plan.method == request.method and plan.where in request.raw_path:
                self.plans.remove(plan)
                return plan.fault
        return None

    def _hang_up(self, request: web.Request) -> web.StreamResponse:
        if request.transport is not None:
            request.transport.abort()
        return web.Response()

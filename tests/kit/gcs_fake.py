"""The faithful fake of Google Cloud Storage on loopback (`tests.kit.gcs_cloud` behind HTTP), with faults on demand.

It runs in a thread (`serving`) or as a process (`python -m tests.kit.gcs_fake PORT`). Beside the API there is a back door:

    POST   /_fake/faults     a `Fault` as JSON: what to do to requests that match
    DELETE /_fake/faults     no more faults, and the settings as they were
    POST   /_fake/settings   fields of `gcs_cloud.Settings` as JSON
    GET    /_fake/requests   every API request so far as "METHOD /path?query -> status" (-> 0: dropped); DELETE forgets them
    POST   /token            an OAuth token endpoint that gives everyone `Settings.token`
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from aiohttp import web
from yarl import URL

from tests.kit.gcs_cloud import Answer, Call, Cloud, Refusal, Settings


@dataclass
class Fault:
    """What happens to API requests whose "METHOD /path?query" the pattern is found in."""

    match: str
    skip: int = 0
    """So many matching requests, of those that no earlier fault took, pass first."""
    times: int = 1
    """To so many it happens then."""
    carry_out: bool = False
    """Is the request carried out before the fault?"""
    answer: int = 0
    """The status instead of the true answer; 0: the connection is dropped without one; -1: the true answer after all."""
    message: str = "injected"
    reason: str = "injected"
    retry_after: str | None = None
    delay_s: float = 0.0
    """Before anything else."""
    cut_at: int | None = None
    """The true answer, but the connection breaks after so many bytes of its body."""
    persist: int | None = None
    """A chunk of a resumable upload: only so many bytes of it are taken (the answer is then 308, or `answer`)."""
    flip: bool = False
    """One bit of the body changes: the request's on its way here, or else the answer's on its way back."""

    def takes(self, line: str) -> bool:
        """Does it happen to this request? (Counts.)"""
        if not self.times or not re.search(self.match, line):
            return False
        if self.skip:
            self.skip -= 1
            return False
        self.times -= 1
        return True


class Shell:
    """The cloud behind HTTP, with its faults and its log."""

    def __init__(self) -> None:
        self.cloud = Cloud()
        self.faults: list[Fault] = []
        self.log: list[str] = []

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Every request comes through here."""
        body = await request.read()
        if request.path.startswith("/_fake/"):
            return self._control(request, body)
        if request.path == "/token":
            token = self.cloud.settings.token or "anyone"
            return web.json_response({"access_token": token, "expires_in": 3600, "token_type": "Bearer"})
        line = f"{request.method} {request.raw_path}"
        fault = next((f for f in self.faults if f.takes(line)), None)
        # latin1 text of a path or query that was not encoded properly must not kill the server
        url = URL(request.raw_path, encoded=True)
        headers = {name.lower(): value for name, value in request.headers.items()}
        call = Call(request.method, url.raw_path, dict(url.query), headers, body, f"http://{request.host}")
        if fault is None:
            answer = self.cloud.handle(call)
            self.log.append(f"{line} -> {answer.status}")
            return _sent(answer)
        return await self._faulty(request, call, line, fault)

    async def _faulty(self, request: web.Request, call: Call, line: str, fault: Fault) -> web.StreamResponse:
        await asyncio.sleep(fault.delay_s)
        if fault.flip and call.body:
            call.body = _flipped(call.body)
        call.persist = fault.persist
        goes_on = fault.carry_out or fault.answer < 0 or fault.cut_at is not None or fault.persist is not None or fault.flip
        answer = self.cloud.handle(call) if goes_on else Answer(0)
        if fault.flip and not call.body:
            answer.body = _flipped(answer.body)
        if fault.answer > 0:
            answer = Refusal(fault.answer, fault.message, fault.reason).answer()
        elif fault.answer == 0 and fault.cut_at is None and fault.persist is None and not fault.flip:
            answer = Answer(0)
        if fault.retry_after is not None:
            answer.headers["Retry-After"] = fault.retry_after
        self.log.append(f"{line} -> {answer.status}")
        if answer.status == 0:
            return _dropped(request)
        return _sent(answer) if fault.cut_at is None else await _cut(request, answer, fault.cut_at)

    def _control(self, request: web.Request, body: bytes) -> web.Response:
        match request.method, request.path.removeprefix("/_fake/"):
            case "POST", "faults":
                self.faults.append(Fault(**json.loads(body)))
            case "DELETE", "faults":
                self.faults.clear()
                self.cloud.settings = Settings()
            case "POST", "settings":
                self.cloud.settings = dataclasses.replace(self.cloud.settings, **json.loads(body))
            case "DELETE", "requests":
                self.log.clear()
            case "GET", "requests":
                return web.json_response(self.log)
            case _:
                return web.Response(status=404)
        return web.json_response({})


def _flipped(body: bytes) -> bytes:
    """The middle of a body that has content there."""
    at = len(body) // 2
    return body[:at] + bytes([body[at] ^ 1]) + body[at + 1 :] if body else body


def _sent(answer: Answer) -> web.Response:
    headers = {name: value for name, value in answer.headers.items() if name != "Content-Type"}
    kind = answer.headers.get("Content-Type")
    return web.Response(status=answer.status, headers=headers | ({"Content-Type": kind} if kind else {}), body=answer.body)


def _dropped(request: web.Request) -> web.Response:
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


async def _cut(request: web.Request, answer: Answer, at: int) -> web.StreamResponse:
    response = web.StreamResponse(status=answer.status, headers=answer.headers)
    response.content_length = len(answer.body)
    await response.prepare(request)
    await response.write(answer.body[:at])
    _dropped(request)
    return response


async def start(port: int = 0) -> tuple[web.AppRunner, str]:
    """Serve on loopback; the runner to clean up, and the endpoint."""
    application = web.Application(client_max_size=2**31)
    application.router.add_route("*", "/{any:.*}", Shell().serve)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    return runner, f"http://127.0.0.1:{runner.addresses[0][1]}"


@contextmanager
def serving(port: int = 0) -> Iterator[str]:
    """A fake in a thread of its own; gives its endpoint."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="gcs-fake", daemon=True)
    thread.start()
    runner, endpoint = asyncio.run_coroutine_threadsafe(start(port), loop).result(10)
    try:
        yield endpoint
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


async def _main(port: int) -> None:
    _, endpoint = await start(port)
    print(endpoint, flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_main(int(sys.argv[1]) if len(sys.argv) > 1 else 0))

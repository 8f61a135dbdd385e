"""Content of more than one part on its way to Google Cloud Storage, in bounded memory; nothing is visible before its end.

`composed` sends several parts at once, each as a temporary object, and lets the service compose them (32 at a time, in as many
rounds as it takes). `in_turn` sends one part after the other through a resumable session, which the service keeps; wherever an
answer is lost it is asked how far it got, so that even the last part is settled without doubt as long as the service answers at
all. Both come to an end before they return: no request of theirs is under way after it, and what was temporary is deleted. Only
a crash leaves temporary objects behind (and sessions, which are no objects and vanish by themselves after a week).
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import aclosing, suppress
from functools import partial
from typing import Any

from towline.stores.objects.base import Ambiguous, NotFound, ObjectsError, PreconditionFailed
from towline.stores.objects.gcs_bucket import Bucket, Condition, generation_in
from towline.stores.objects.gcs_rest import Answer, Refused, Request, Rest, crc32c, crc_text
from towline.stores.objects.streaming import in_order, settle

WIDTH = 4
"""Parts under way at once."""
COMPOSE_MAX = 32
"""Objects that one call composes (the service's limit)."""
DELETES = 16
"""Deletions under way at once."""
TIDY_S = 20.0
"""For so long parts under way are waited for when an upload is given up, and for so long the deletion of what is temporary is
tried."""
GRANULE = 256 << 10
"""The parts of a session, but for the last one, are multiples of this (the service's rule)."""

Source = tuple[str, str]
"""A temporary object: name and generation."""


async def composed(bucket: Bucket, name: str, parts: AsyncIterator[bytes], folder: str, condition: Condition) -> str:
    """Make the object of these parts by way of temporary objects in `folder`; its generation."""
    temps = _Temps(bucket, folder)
    try:
        sources, crc = await temps.store(parts)
        while len(sources) > COMPOSE_MAX:
            sources = await temps.join(sources)
        return await bucket.compose(name, sources, crc, condition)
    except NotFound as gone:
        raise ObjectsError(f"{bucket.about(name)}: the upload's temporary parts are gone: somebody aborted it") from gone
    finally:
        await _insist(temps.drop())


class _Temps:
    """The temporary objects of one upload."""

    def __init__(self, bucket: Bucket, folder: str) -> None:
        self._bucket = bucket
        self._folder = folder
        self._names: list[str] = []

    def _new(self) -> str:
        """Its name is remembered before it can exist, so that whatever becomes of it, it is deleted."""
        self._names.append(f"{self._folder}{len(self._names):06d}")
        return self._names[-1]

    async def store(self, parts: AsyncIterator[bytes]) -> tuple[list[Source], str]:
        """Each part as an object, several at once; and the CRC32C of all."""
        running: deque[asyncio.Task[Source]] = deque()
        sources: list[Source] = []
        crc = 0
        try:
            async for part in parts:
                running.append(asyncio.create_task(self._insert(self._new(), part)))
                crc = await crc32c(part, crc)
                if len(running) >= WIDTH:
                    sources.append(await running[0])
                    running.popleft()
            while running:
                sources.append(await running[0])
                running.popleft()
        finally:
            await settle(running, TIDY_S)
        return sources, crc_text(crc)

    async def _insert(self, name: str, part: bytes) -> Source:
        return name, await self._bucket.insert(name, part)

    async def join(self, sources: Sequence[Source]) -> list[Source]:
        """Fewer objects with the same content, in the same order."""
        groups = [sources[at : at + COMPOSE_MAX] for at in range(0, len(sources), COMPOSE_MAX)]
        calls = [partial(self._compose, self._new(), group) for group in groups]
        async with aclosing(in_order(calls, WIDTH)) as made:
            return [source async for source in made]

    async def _compose(self, name: str, group: Sequence[Source]) -> Source:
        return name, await self._bucket.compose(name, group, None)

    async def drop(self) -> None:
        """Delete all of them. ObjectsError if that cannot be done now; then they stay to be found by `unfinished`."""
        await delete_all(self._bucket, self._names, TIDY_S)


async def delete_all(bucket: Bucket, names: Sequence[str], deadline_s: float | None = None) -> None:
    """Delete these, several at once; up to the first that cannot be deleted (before its deadline)."""
    calls = [partial(bucket.delete, name, deadline_s=deadline_s) for name in names]
    async with aclosing(in_order(calls, DELETES)) as deleted:
        async for _ in deleted:
            pass


async def _insist(work: Coroutine[Any, Any, None]) -> None:
    """Tidy up to the end, however often the caller is cancelled; whether it succeeds does not change the upload's outcome."""
    task = asyncio.ensure_future(work)
    while not task.done():
        with suppress(asyncio.CancelledError):
            await asyncio.wait([task])
    with suppress(ObjectsError, asyncio.CancelledError):
        task.result()


# --------------------------------------------------------------------------------------------------------- in turn


async def in_turn(bucket: Bucket, name: str, parts: AsyncIterator[bytes], condition: Condition) -> str:
    """Make the object of these parts (all but the last of a multiple of GRANULE bytes) by a resumable session; its generation."""
    session = await Session.begin(bucket, name, condition)
    try:
        held, crc = await anext(parts), 0
        async for part in parts:
            crc = await crc32c(held, crc)
            await session.send(held)
            held = part
        return await session.finish(held, crc_text(await crc32c(held, crc)))
    except BaseException:
        await _insist(session.cancel())
        raise


class Session:
    """A resumable upload that is under way."""

    def __init__(self, rest: Rest, url: str, begun: Request, headers: dict[str, str], conditional: bool) -> None:
        self._rest = rest
        self._url = url
        self._about = begun.about
        self._headers = headers
        self._conditional = conditional
        self._sent = 0
        """Bytes that the service has told us it keeps."""

    @classmethod
    async def begin(cls, bucket: Bucket, name: str, condition: Condition) -> Session:
        """Open it. To be asked for twice only leaves a session that nobody uses."""
        request = bucket.resumable(name, condition)
        answer = await bucket.rest.ask(request)
        url = answer.headers.get("Location", "")
        if not url.startswith("http"):
            raise ObjectsError(f"{request.about}: the answer names no upload session: check the endpoint")
        return cls(bucket.rest, url, request, bucket.sealing.headers(), bool(condition))

    async def send(self, part: bytes) -> None:
        """The next part, which is not the last one."""
        await self._put(part, None, {})

    async def finish(self, part: bytes, crc: str) -> str:
        """The last part and the CRC32C of all; the generation of the object that is visible now.

        Ambiguous if it may be visible, and had to meet a condition.
        """
        total = self._sent + len(part)
        try:
            done = await self._put(part, total, {"x-goog-hash": f"crc32c={crc}"})
        except PreconditionFailed:
            raise
        except ObjectsError as error:
            said_no = isinstance(error.__cause__, Refused) and error.__cause__.status in (400, 401, 403)
            if said_no or not self._conditional:
                raise
            raise Ambiguous(f"{error}; the upload may or may not have been completed") from error
        return generation_in(done or {}, self._about)

    async def _put(self, part: bytes, total: int | None, headers: dict[str, str]) -> dict[str, Any] | None:
        """Send one part until the service keeps all of it; what was made, after the last one."""
        progress = _Progress(self._sent, part, total)
        request = Request(
            "PUT", self._url, self._about, headers={**self._headers, **headers}, body=(part,), welcome=(200, 201, 308)
        )
        try:
            await self._rest.repeat(partial(progress.advance, self._rest.once, request), request)
        except NotFound as gone:
            raise ObjectsError(f"{self._about}: the service no longer knows the upload session: upload it anew") from gone
        self._sent += len(part)
        return progress.made

    async def cancel(self) -> None:
        """Give it up. ObjectsError if that did not arrive; then the service forgets it by itself."""
        welcome = (200, 204, 404, 410, 499)
        await self._rest.ask(Request("DELETE", self._url, self._about, welcome=welcome, deadline_s=TIDY_S))


class _Progress:
    """How far one part has got. What the service says of it counts, not what was sent."""

    def __init__(self, start: int, part: bytes, total: int | None) -> None:
        self._start, self._part, self._total = start, memoryview(part), total
        self._at = start
        self._doubt = False
        self.made: dict[str, Any] | None = None

    async def advance(self, once: Callable[[Request], Awaitable[Answer]], request: Request) -> None:
        """One attempt: after a failure it first asks what arrived, then sends what is missing. May be called until it returns."""
        if self._doubt:
            self._told(await once(self._with(request, b"", f"bytes */{self._total if self._total is not None else '*'}")))
        self._doubt = True
        while self.made is None and self._at < self._start + len(self._part):
            rest = self._part[self._at - self._start :]
            last = self._at + len(rest) - 1
            total = "*" if self._total is None else self._total
            self._told(await once(self._with(request, rest, f"bytes {self._at}-{last}/{total}")))
        self._doubt = False

    @staticmethod
    def _with(request: Request, body: bytes | memoryview, part: str) -> Request:
        headers = {**request.headers, "Content-Range": part}
        return Request("PUT", request.path, request.about, headers=headers, body=(body,), welcome=request.welcome)

    def _told(self, answer: Answer) -> None:
        if answer.status != 308:
            self.made = answer.json()
            return
        kept = re.fullmatch(r"bytes=0-([0-9]+)", answer.headers.get("Range", ""))
        at = int(kept[1]) + 1 if kept else 0
        if not self._start <= at <= self._start + len(self._part):
            raise ObjectsError(f"the upload session keeps {at} bytes of what had to be {self._start} at least: upload it anew")
        self._at = at

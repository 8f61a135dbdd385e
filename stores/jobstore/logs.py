"""Log messages: each is delivered to one reader, once.

A message is a record of the chain, so its number, and with it the order, is the chain's and no writer's clock matters. A reader
first commits which messages it takes (`LogsRead`), then delivers them: two readers never get the same one and none is lost
between them. What a reader could not deliver, because its callback raised or it was cancelled, it gives back. A reader that dies
in between keeps what it took, at most a batch; `read_all` delivers everything again.
"""

from __future__ import annotations

import asyncio
import inspect
import io
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any
from uuid import uuid4

from towline.stores.fileformat import PART
from towline.stores.jobstore.blobs import Blobs
from towline.stores.jobstore.chain import Build
from towline.stores.jobstore.hints import new_blob
from towline.stores.jobstore.records import Change, FileEntry, LogsDropped, LogsRead, LogWritten
from towline.stores.jobstore.state import State
from towline.stores.jobstore.streams import BlobReader, BlobWriter

INLINE_BYTES = 4096
"""Longer messages lie in a blob: records are kept in memory."""
_BATCH = 256


class LogMessage(str):
    """A message; for callbacks written for Toil's file handles it can be read like one, once."""

    _file: io.StringIO | None = None

    def _handle(self) -> io.StringIO:
        if self._file is None:
            self._file = io.StringIO(self)
        return self._file

    def read(self, n: int | None = -1) -> str:
        """As a text file's."""
        return self._handle().read(n)

    def readline(self) -> str:
        """As a text file's."""
        return self._handle().readline()

    def readlines(self) -> list[str]:
        """As a text file's."""
        return self._handle().readlines()


class Logs:
    """The log messages of one job store."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs

    async def write(self, message: str | bytes) -> None:
        """Add a message. Bytes are taken for UTF-8."""
        text = message.decode("utf-8", "surrogateescape") if isinstance(message, bytes) else message
        data = text.encode("utf-8", "surrogatepass")
        if len(data) <= INLINE_BYTES:
            await self._blobs.commit(lambda state: [LogWritten(data)])
            return
        encrypted = self._blobs.encryption(None)
        key = new_blob(uuid4().hex)
        writer = BlobWriter(self._blobs.view(encrypted), key)
        try:
            await writer.write(data)
            content = await writer.finish()
        except BaseException:
            await self._blobs.to_the_end(writer.abandon())
            raise
        entry = FileEntry("", key, content.size, PART, content.crcs, encrypted=encrypted)
        await self._blobs.keep(key, encrypted, lambda state: [LogWritten(blob=entry)])

    async def read(self, callback: Callable[[LogMessage], Any], read_all: bool = False) -> int:
        """Call `callback` with each unread message, oldest first, or with all there are; how many that was.

        An awaitable that the callback returns is awaited. What it raises is raised here; that message and those after it are
        unread again.
        """
        if read_all:
            return await self._deliver(*await self._take(_all), callback)
        count = 0
        while True:
            numbers, taken = await self._take(_some)
            if not numbers:
                return count
            count += await self._deliver(numbers, taken, callback)

    async def _take(self, choose: Callable[[State], tuple[list[int], list[int]]]) -> tuple[list[int], set[int]]:
        """(messages to be delivered, those of them that were unread and are ours now)."""
        numbers: list[int] = []
        taken: list[int] = []

        def take(state: State) -> Sequence[Change]:
            numbers[:], taken[:] = choose(state)
            return [LogsRead(list(taken))] if taken else []

        commit = asyncio.ensure_future(self._blobs.commit(take))
        try:
            await asyncio.shield(commit)
        except asyncio.CancelledError:
            await self._blobs.to_the_end(self._give_back_after(commit, taken))
            raise
        return numbers, set(taken)

    async def _give_back_after(self, commit: asyncio.Future[None], taken: list[int]) -> None:
        await commit
        await self._give_back(taken)

    async def _deliver(self, numbers: Sequence[int], taken: set[int], callback: Callable[[LogMessage], Any]) -> int:
        left = list(reversed(numbers))
        try:
            while left:
                await self._deliver_one(left[-1], callback)
                left.pop()
        finally:
            if mine := sorted(taken.intersection(left)):
                await self._blobs.to_the_end(self._give_back(mine))
        return len(numbers)

    async def _deliver_one(self, number: int, callback: Callable[[LogMessage], Any]) -> None:
        log = self._blobs.chain.state.logs.get(number)
        if log is None:
            return  # dropped by `clean` meanwhile
        said = callback(LogMessage((await self._text(log)).decode("utf-8", "surrogatepass")))
        if inspect.isawaitable(said):
            await said

    async def _text(self, log: LogWritten) -> bytes:
        if log.blob is None:
            return log.text
        reader = BlobReader(self._blobs.blob_of(log.blob))
        try:
            return await reader.read()
        finally:
            await self._blobs.to_the_end(reader.close())

    async def _give_back(self, numbers: Sequence[int]) -> None:
        def give(state: State) -> Sequence[Change]:
            there = [n for n in numbers if n in state.logs and n not in state.unread]
            return [LogsRead(there, undone=True)] if there else []

        await self._blobs.commit(give)

    async def drop(self, build: Callable[[State], int]) -> None:
        """Forget all messages with a number below what `build` says of the state."""
        drop: Build = lambda state: [LogsDropped(before)] if (before := build(state)) else []  # noqa: E731 - one line says it
        await self._blobs.commit(drop)


def _some(state: State) -> tuple[list[int], list[int]]:
    numbers = sorted(islice(state.unread, _BATCH))  # what was given back stands last
    return numbers, numbers


def _all(state: State) -> tuple[list[int], list[int]]:
    return sorted(state.logs), sorted(state.unread)

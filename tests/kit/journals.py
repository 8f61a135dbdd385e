"""Builders for journal tests: writers with known nonces, what a journal holds, and objects whose answers get lost."""

from __future__ import annotations

from towline.stores.journal.reader import JournalReader
from towline.stores.journal.writer import JournalWriter
from towline.stores.objects.base import Ambiguous, PreconditionFailed


async def claim(objects, who="A", **options):
    """A writer whose nonce is its name."""
    return await JournalWriter.claim(objects, nonce=who.encode().ljust(16, b"."), leader=f"leader-{who}", **options)


async def payloads(source, start=0):
    """All committed payloads from `start` on, in order; `source` is a reader or a place for bytes."""
    reader = source if isinstance(source, JournalReader) else await JournalReader.open(source)
    found = [pair async for pair in reader.records(start)]
    assert [seq for seq, _ in found] == list(range(start, reader.next_seq))
    return [payload for _, payload in found]


class Wrapped:
    """Passes every call on; subclasses change some."""

    def __init__(self, inner):
        self.inner = inner

    def __getattr__(self, name):
        return getattr(self.inner, name)


class LostAnswers(Wrapped):
    """Conditional creates answer as `script` says, one word each; an empty script answers truly.

    `done`: performed, the answer is lost. `dropped`: not performed, the answer is lost. `twice`: performed, and then the
    client's own retry is told that the object exists.
    """

    def __init__(self, inner, script):
        super().__init__(inner)
        self.script = list(script)

    async def put(self, key, data, when=None):
        word = self.script.pop(0) if self.script else ""
        if word in ("done", "twice"):
            await self.inner.put(key, data, when)
        if word == "twice":
            raise PreconditionFailed(f"{key} exists")
        if word:
            raise Ambiguous(f"no answer for {key}")
        return await self.inner.put(key, data, when)

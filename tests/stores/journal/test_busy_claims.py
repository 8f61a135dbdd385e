"""A claim of a bucket whose leader commits without a pause: it must come between two commits, and may not stop to read."""

from __future__ import annotations

import pytest

from tests.kit.journals import Wrapped, claim, payloads
from towline.engine.errors import FencedError, TowlineError
from towline.stores.journal.verify import verify
from towline.stores.objects.memory import MemoryObjects


async def test_a_claim_overtakes_a_leader_that_commits_without_a_pause():
    """Else each look at what it wrote would be out of date before it ends."""
    inner = MemoryObjects(appendable=False)
    a = await claim(inner, "A")
    told = []

    class Busy(Wrapped):
        """A commits before each read of B's, and before every second write."""

        puts = 0

        async def _commit(self):
            if a._busy():
                return
            try:
                payload = b"a%d" % len(told)
                await a.commit([payload])
                told.append(payload)
            except TowlineError:
                pass  # fenced at last

        async def get(self, *args):
            await self._commit()
            return await self.inner.get(*args)

        async def put(self, *args):
            self.puts += 1
            if self.puts % 2:
                await self._commit()
            return await self.inner.put(*args)

    objects = Busy(inner)
    b = await claim(objects, "B")
    assert len(told) >= 3
    with pytest.raises(FencedError, match="leader-B"):
        await a.commit([b"late"])
    await b.commit([b"b"])
    assert await payloads(inner) == [*told, b"b"]
    assert b.epoch > a.epoch
    assert (await verify(inner)).problems == []


async def test_a_claim_that_passes_another_unseen_has_the_higher_epoch():
    """B goes on to the next number without reading; what it passes was C's claim."""
    inner = MemoryObjects(appendable=False)
    a = await claim(inner, "A")
    await a.commit([b"a"])
    c = []

    class Between(Wrapped):
        async def put(self, key, data, when=None):
            if not c:
                c.append(await claim(self.inner, "C"))
                await c[0].commit([b"c"])
            return await self.inner.put(key, data, when)

    b = await claim(Between(inner), "B")
    assert c[0].epoch < b.epoch
    await b.commit([b"b"])
    with pytest.raises(FencedError):
        await c[0].commit([b"late"])
    assert await payloads(inner) == [b"a", b"c", b"b"]
    assert (await verify(inner)).problems == []

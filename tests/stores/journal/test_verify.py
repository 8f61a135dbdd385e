"""`towline store verify`: what the report says of sound, odd and damaged journals."""

from __future__ import annotations

from tests.kit.journals import Wrapped, claim
from towline.stores.journal.segments import segment_key
from towline.stores.journal.verify import verify
from towline.stores.objects.base import NotFound
from towline.stores.objects.memory import MemoryObjects


async def test_an_empty_place_is_sound():
    report = await verify(MemoryObjects())
    assert report.ok
    assert (report.segments, report.records, report.head) == (0, 0, 0)


async def test_the_figures_of_a_journal():
    memory = MemoryObjects()
    for who in "AB":
        writer = await claim(memory, who)
        await writer.commit([b"1", b"22"])
    await writer.close()
    report = await verify(memory)
    assert report.ok
    assert (report.segments, report.records, report.epochs, report.head) == (3, 4, 2, 3)
    assert report.bytes == sum([m.size async for m in memory.list("journal/")])
    assert report.leader == "leader-B"
    assert len(report.chain) == 64


async def test_all_damaged_segments_are_named():
    memory = MemoryObjects(appendable=False)
    writer = await claim(memory)
    for i in range(5):
        await writer.commit([b"%d" % i])
    for number in (3, 5):
        data = bytearray(memory._held[segment_key(number)].data)
        data[-10] ^= 1
        memory._held[segment_key(number)].data = data
    problems = (await verify(memory)).problems
    assert [p.split(":")[0] for p in problems] == [segment_key(3), segment_key(5)]


async def test_what_is_no_segment_is_noted():
    memory = MemoryObjects()
    writer = await claim(memory)
    await writer.commit([b"1"])
    await memory.put("journal/readme", b"")
    report = await verify(memory)
    assert report.ok
    assert report.notes == ["journal/readme is no segment"]


async def test_a_journal_that_moves_is_looked_at_again():
    memory = MemoryObjects()
    for who in "AB":
        writer = await claim(memory, who)
        await writer.commit([b"1"])

    class Moving(Wrapped):
        gone = 2

        async def get(self, key, start=0, length=None):
            if length is not None and start == 0 and length > 0 and length != 4096 and self.gone:
                self.gone -= 1
                raise NotFound(key)
            return await self.inner.get(key, start, length)

    assert (await verify(Moving(memory))).ok

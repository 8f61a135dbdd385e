"""What is deleted where nothing says that a place is a store: only keys of our very shape."""

from __future__ import annotations

from towline.stores.jobstore import remains
from towline.stores.objects.memory import MemoryObjects

OURS = [
    f"table/journal/{1:020d}.seg",
    f"table/parts/{0:020d}-{9:020d}.part",
    f"table/snapshots/{9:020d}-{'a' * 16}.state",
    "table/clock/now",
    f"blobs/ab/{'ab' * 16}.{'0' * 16}",
]
THEIRS = ["table/journal/notes.txt", "table/plan.seg", "blobs/ab/picture.png", "blobs.txt", "journal/1.seg", "files/x"]


async def test_by_shape_alone():
    objects = MemoryObjects()
    for key in OURS + THEIRS:
        await objects.put(key, b"x")
    assert not await remains.is_store(objects)
    await remains.delete(objects)
    await remains.delete(objects)
    assert sorted(THEIRS) == [m.key async for m in objects.list()]


async def test_the_mark_makes_a_store():
    objects = MemoryObjects()
    await objects.put("towline.json", b"{}")
    assert await remains.is_store(objects)

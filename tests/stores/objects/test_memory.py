"""The model keeps the contract, both as a disk and as a bucket."""

from __future__ import annotations

import pytest

from tests.kit.objects_contract import ObjectsContract
from towline.stores.objects.memory import MemoryObjects


class TestMemory(ObjectsContract):
    @pytest.fixture(params=[True, False], ids=["appendable", "bucket"])
    def objects(self, request):
        objects = MemoryObjects(appendable=request.param)
        objects.part_bytes = 100
        return objects

    async def fetch(self, objects, url):
        return await self.peek(objects, url.removeprefix(objects.url + "/"))

    async def peek(self, objects, key):
        held = objects._held.get(key)
        return None if held is None else bytes(held.data)


async def test_what_was_put_does_not_change_with_the_callers_buffer():
    buffer = bytearray(b"abc")
    objects = MemoryObjects()
    await objects.put("k", [memoryview(buffer)])
    buffer[0] = 0
    assert await objects.get("k") == b"abc"

"""Shared files beyond the contract (`tests/kit/filestore_contract.py`): a store with a key of its own, and races for one name."""

from __future__ import annotations

import asyncio

import pytest

from tests.kit.filestore_contract import opened, peek
from towline.stores.objects.base import ObjectsError
from towline.stores.objects.memory import MemoryObjects


class Secret(MemoryObjects):
    """A bucket with a key: what is written here is read here only, what is written through `plain` there only."""

    def __init__(self):
        super().__init__(appendable=False)
        self._clear = Clear(self)

    @property
    def plain(self):
        return self._clear

    async def put(self, key, data, when=None):
        data = data if isinstance(data, bytes) else b"".join(data)
        return await super().put(key, b"sealed:" + bytes(b ^ 0x55 for b in data), *([when] if when else []))

    async def get(self, key, start=0, length=None):
        whole = await super().get(key)
        if not whole.startswith(b"sealed:"):
            raise ObjectsError(f"{key} is not encrypted with this key")
        data = bytes(b ^ 0x55 for b in whole[7:])[start:]
        return data if length is None else data[:length]

    async def download(self, key, start=0, length=None):
        yield await self.get(key, start, length)


class Clear(MemoryObjects):
    """The same place without the key."""

    def __init__(self, secret):
        super().__init__(appendable=False)
        self._held = secret._held


@pytest.mark.parametrize(("wanted", "sealed"), [(None, True), (True, True), (False, False)])
async def test_the_encrypted_flag(wanted, sealed):
    place = Secret()
    async with opened(place) as store:
        async with store.shared.write_stream("name", encrypted=wanted) as file:
            await file.write(b"content")
        (key,) = await peek(place)
        assert (await place.plain.get(key) == b"content") is not sealed
        assert (await store.shared.entry("name")).encrypted is sealed
        async with store.shared.read_stream("name") as file:
            assert await file.read() == b"content"


async def test_files_are_encrypted_where_there_is_a_key():
    place = Secret()
    async with opened(place) as store:
        async with store.write_file_stream() as (file, name):
            await file.write(b"content")
        (key,) = await peek(place)
        assert await place.plain.get(key) != b"content"
        async with store.read_file_stream(name) as file:
            assert await file.read() == b"content"


async def test_of_many_writers_one_wins_whole():
    place = MemoryObjects(appendable=False)
    async with opened(place) as store, opened(place) as other:

        async def write(who, text):
            async with who.shared.write_stream("name", encoding="ascii") as file:
                for _ in range(3):
                    await file.write(text)
                    await asyncio.sleep(0)

        await asyncio.gather(*(write(who, text) for who in (store, other) for text in "abcdef"))
        async with store.shared.read_stream("name", encoding="ascii") as file:
            assert await file.read() in {text * 3 for text in "abcdef"}
        assert len(await peek(place)) == 1

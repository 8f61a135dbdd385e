"""What a store takes, and what its objects hold."""

from __future__ import annotations

import pytest

from towline.engine.errors import CorruptionError
from towline.stores.files import Files, new_key
from towline.stores.objects.base import NotFound
from towline.stores.objects.memory import MemoryObjects
from towline.stores.usage import Share, content, usage

UUID = "6" * 8 + "-1111-4111-8111-" + "6" * 12


@pytest.fixture
def objects():
    return MemoryObjects(appendable=False)


async def read(objects, key):
    return b"".join([piece async for piece in content(objects, key)])


async def test_sums_by_segments(objects):
    for key, size in {
        "towline.json": 5,
        "journal/1": 10,
        "journal/2": 20,
        "files/a/x": 7,
        "files/a/y": 1,
        "files/b/x": 2,
    }.items():
        await objects.put(key, bytes(size))
    assert await usage(objects) == [Share("journal/", 2, 30), Share("files/", 3, 10), Share("towline.json", 1, 5)]
    assert await usage(objects, "files/") == [Share("files/a/", 2, 8), Share("files/b/", 1, 2)]
    assert await usage(objects, "files/", 2) == [Share("files/a/x", 1, 7), Share("files/b/x", 1, 2), Share("files/a/y", 1, 1)]
    assert await usage(objects, "no") == []


@pytest.mark.parametrize("size", [0, 1, 100_000])
async def test_a_file_is_what_was_written(objects, tmp_path, size):
    (tmp_path / "f").write_bytes(data := bytes(range(256)) * (size // 256) + bytes(size % 256))
    ref = await Files(objects).put_file(new_key(UUID), tmp_path / "f")
    assert await read(objects, ref.key) == data


async def test_a_value_and_anything_else_are_what_lies_there(objects):
    ref = await Files(objects).put_value(new_key(UUID), b"header", [b"buffer"])
    assert await read(objects, ref.key) == await objects.get(ref.key)
    await objects.put("other", b"1")
    assert await read(objects, "other") == b"1"


async def test_damage_is_named(objects, tmp_path):
    (tmp_path / "f").write_bytes(b"12345")
    ref = await Files(objects).put_file(new_key(UUID), tmp_path / "f")
    whole = await objects.get(ref.key)
    for damaged in (whole[:-1], whole[:-20] + bytes([whole[-20] ^ 1]) + whole[-19:], whole[:10], b""):
        await objects.put(ref.key, damaged)
        with pytest.raises(CorruptionError, match=ref.key):
            await read(objects, ref.key)


async def test_what_is_not_there(objects):
    for key in ("nothing", new_key(UUID)):
        with pytest.raises(NotFound):
            await read(objects, key)

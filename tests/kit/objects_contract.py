"""The contract of `stores.objects.base`, once, for every backend: a backend's test class inherits it and looks in by `peek`.

A subclass gives an `objects` fixture (an empty store) and `peek(objects, key)`, which reads the stored bytes without the code
under test. Nothing here knows of files, folders or buckets.
"""

from __future__ import annotations

import asyncio

import pytest

from towline.engine.errors import UsageError
from towline.stores.objects.base import ABSENT, NotFound, ObjectsError, PreconditionFailed, Version


class ObjectsContract:
    """What every place for bytes must do."""

    async def peek(self, objects, key):
        """The stored bytes, read behind the back of the code under test; None if there are none."""
        raise NotImplementedError

    async def keys(self, objects, prefix="", start_after=""):
        return [m.key async for m in objects.list(prefix, start_after)]

    async def test_what_was_put_is_there(self, objects):
        await objects.put("a/b/c.bin", b"hello")
        assert await self.peek(objects, "a/b/c.bin") == b"hello"
        assert await objects.get("a/b/c.bin") == b"hello"

    async def test_buffers_are_written_one_after_the_other(self, objects):
        await objects.put("k", [b"ab", memoryview(b"--cd--")[2:4], b"", memoryview(b"ef")])
        assert await self.peek(objects, "k") == b"abcdef"

    async def test_many_buffers_and_many_bytes(self, objects):
        pieces = [bytes([i % 251]) * 1500 for i in range(3000)]
        await objects.put("k", pieces)
        assert await self.peek(objects, "k") == b"".join(pieces)
        assert await objects.get("k", 1499, 3) == bytes([0, 1, 1])

    async def test_an_empty_object_is_an_object(self, objects):
        await objects.put("k", b"")
        assert await objects.get("k") == b""
        assert (await objects.head("k")).size == 0

    @pytest.mark.parametrize(
        ("start", "length", "want"),
        [
            (0, None, b"0123456789"),
            (3, None, b"3456789"),
            (3, 4, b"3456"),
            (8, 10, b"89"),
            (10, 5, b""),
            (99, 1, b""),
            (2, 0, b""),
        ],
    )
    async def test_ranges_end_where_the_object_ends(self, objects, start, length, want):
        await objects.put("k", b"0123456789")
        assert await objects.get("k", start, length) == want

    async def test_create_keeps_the_first_writer(self, objects):
        await objects.put("k", b"1", ABSENT)
        with pytest.raises(PreconditionFailed):
            await objects.put("k", b"2", ABSENT)
        assert await self.peek(objects, "k") == b"1"

    async def test_of_many_creators_one_succeeds(self, objects):
        async def create(who):
            try:
                await objects.put("race/k", who, ABSENT)
            except PreconditionFailed:
                return None
            return who

        winners = [w for w in await asyncio.gather(*(create(b"%d" % i) for i in range(12))) if w]
        assert len(winners) == 1
        assert await self.peek(objects, "race/k") == winners[0]

    async def test_overwrite_replaces(self, objects):
        first = await objects.put("k", b"one")
        second = await objects.put("k", b"two")
        assert first != second
        assert await self.peek(objects, "k") == b"two"

    async def test_a_version_is_replaced_once(self, objects):
        version = await objects.put("k", b"0")
        assert (await objects.head("k")).version == version
        await objects.put("k", b"1", version)
        with pytest.raises(PreconditionFailed):
            await objects.put("k", b"2", version)
        assert await self.peek(objects, "k") == b"1"

    async def test_no_version_matches_what_is_not_there(self, objects):
        with pytest.raises(PreconditionFailed):
            await objects.put("k", b"1", Version("x"))
        assert await self.peek(objects, "k") is None

    async def test_versions_never_come_back(self, objects):
        seen = [await objects.put("k", b"same") for _ in range(60)]
        assert len(set(seen)) == 60

    async def test_counting_by_version_loses_no_step(self, objects):
        await objects.put("n", b"0")

        async def step():
            while True:
                version = (await objects.head("n")).version
                value = int(await objects.get("n"))
                if (await objects.head("n")).version != version:
                    continue
                try:
                    await objects.put("n", b"%d" % (value + 1), version)
                except PreconditionFailed:
                    continue
                return

        await asyncio.gather(*(step() for _ in range(8)))
        assert await self.peek(objects, "n") == b"8"

    async def test_what_is_not_there_is_not_found(self, objects):
        await objects.put("a/b", b"1")
        for key in ("b", "a/c", "a/b/c", "a"):
            with pytest.raises(NotFound):
                await objects.get(key)
            with pytest.raises(NotFound):
                await objects.head(key)

    async def test_head_tells_size_and_time(self, objects):
        before = await objects.put("k", b"12345")
        meta = await objects.head("k")
        assert (meta.key, meta.size, meta.version) == ("k", 5, before)
        assert meta.modified > 1e9

    async def test_list_is_in_key_order_across_folders(self, objects):
        keys = ["a", "a-b", "a.b", "aa/x", "ab", "b/1", "b/10", "b/2", "b-/1", "b.c", "B", "z/y/x", "z/y-x"]
        for key in keys:
            await objects.put(key, key.encode())
        assert await self.keys(objects) == sorted(keys)
        metas = [m async for m in objects.list()]
        assert [m.size for m in metas] == [len(k) for k in sorted(keys)]
        for prefix in ("a", "b", "b/", "b/1", "z/y", "z/y/", "q", "zz"):
            assert await self.keys(objects, prefix) == sorted(k for k in keys if k.startswith(prefix))
        for after in ["", *keys, "b/", "0", "zzz", "a-", "b/1x"]:
            assert await self.keys(objects, "", after) == sorted(k for k in keys if k > after)

    async def test_list_of_nothing(self, objects):
        assert await self.keys(objects) == []
        assert await self.keys(objects, "no/such/") == []

    async def test_long_lists_are_whole(self, objects):
        keys = [f"many/{i:05d}" for i in range(1100)]
        await asyncio.gather(*(objects.put(k, b"") for k in keys))
        assert await self.keys(objects, "many/") == keys
        assert await self.keys(objects, "many/", keys[998]) == keys[999:]

    async def test_delete_forgets_and_forgives(self, objects):
        for key in ("a", "b/c", "d"):
            await objects.put(key, b"1")
        await objects.delete_many(["a", "b/c", "not/there", "a"])
        assert await self.keys(objects) == ["d"]
        assert await self.peek(objects, "b/c") is None
        await objects.put("a", b"again", ABSENT)
        assert await self.peek(objects, "a") == b"again"

    async def test_delete_in_an_empty_store(self, objects):
        await objects.delete_many(["nothing/here"])

    @pytest.mark.parametrize(
        "key",
        [
            "",
            "/",
            "/a",
            "a/",
            "a//b",
            "..",
            "a/../b",
            ".",
            "a/.",
            ".hidden",
            "a/.hidden",
            "a b",
            "a\\b",
            "ä",
            "a\n",
            "a\0b",
            "x" * 201,
        ],
    )
    async def test_bad_keys_are_refused(self, objects, key):
        for act in (objects.put(key, b"1"), objects.get(key), objects.head(key), objects.delete_many([key]), objects.sync(key)):
            with pytest.raises(UsageError, match="is not an object key"):
                await act

    async def test_sync_of_what_is_there_and_what_is_not(self, objects):
        await objects.put("k", b"1")
        await objects.sync("k")
        with pytest.raises(NotFound):
            await objects.sync("other")

    async def test_an_appender_grows_its_object(self, objects):
        if not objects.appendable:
            with pytest.raises(ObjectsError):
                await objects.appender("log", b"head")
            return
        appender = await objects.appender("log", b"head")
        assert await self.peek(objects, "log") == b"head"
        assert await appender.append(b"-one") == 8
        assert await appender.append(b"-two", absent="next") == 12
        assert await self.peek(objects, "log") == b"head-one-two"
        assert await objects.get("log", 4) == b"-one-two"
        await objects.put("next", b"")
        with pytest.raises(PreconditionFailed):
            await appender.append(b"-void", absent="next")
        await appender.close()
        await appender.close()
        with pytest.raises(ObjectsError):
            await appender.append(b"after the end")

    async def test_an_appender_creates(self, objects):
        if objects.appendable:
            await objects.put("log", b"first")
            with pytest.raises(PreconditionFailed):
                await objects.appender("log", b"second")
            assert await self.peek(objects, "log") == b"first"

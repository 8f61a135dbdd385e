"""The contract of `stores.objects.base`, once, for every backend: a backend's test class inherits it and looks in by `peek`.

A subclass gives an `objects` fixture (an empty store) and `peek(objects, key)`, which reads the stored bytes without the code
under test; `fetch(objects, url)` where a signed URL is followed by something else than urllib. Nothing here knows of files,
folders or buckets. The sizes of streams are told in the backend's own parts, `objects.part_bytes`: make them small in the
fixture where the backend allows it.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import urllib.request
from contextlib import aclosing

import pytest

from towline.engine.errors import UsageError
from towline.stores.objects.base import ABSENT, OVERWRITE, Ambiguous, NotFound, ObjectsError, PreconditionFailed, Version
from towline.stores.objects.memory import MemoryObjects

SIZES = {
    "nothing": lambda part: 0,
    "one": lambda part: 1,
    "part-1": lambda part: part - 1,
    "part": lambda part: part,
    "part+1": lambda part: part + 1,
    "parts": lambda part: 3 * part + 5,
}
"""Bytes of a stream, by the size of a part."""


def content(size, seed=0):
    return random.Random(seed).randbytes(size)


async def odd_pieces(data, part):
    """The data in pieces of all sorts of sizes: none, one byte, many parts."""
    at = 0
    for size in itertools.cycle([0, 1, 7, part // 3 + 1, part, 2 * part + 1]):
        if at >= len(data):
            return
        piece = data[at : at + size]
        yield memoryview(piece) if size % 2 else piece
        at += size


async def collected(stream):
    return b"".join([piece async for piece in stream])


class Stop(Exception):
    """What a source of pieces dies of."""


class ObjectsContract:
    """What every place for bytes must do."""

    async def peek(self, objects, key):
        """The stored bytes, read behind the back of the code under test; None if there are none."""
        raise NotImplementedError

    async def fetch(self, objects, url):
        """What a GET of this URL gives to a stranger."""

        def get():
            with urllib.request.urlopen(url) as answer:
                return answer.read()

        return await asyncio.to_thread(get)

    async def keys(self, objects, prefix="", start_after=""):
        return [m.key async for m in objects.list(prefix, start_after)]

    async def nothing_is_left(self, objects):
        """No object, no upload and no task of ours."""
        assert await self.keys(objects) == []
        assert [u async for u in objects.unfinished()] == []

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

    async def test_a_version_tells_the_bytes(self, objects):
        """Two writes of the same bytes may have one version (an ETag is a hash); two of different bytes never."""
        seen = [await objects.put("k", b"%02d" % (i % 30)) for i in range(60)]
        assert len(set(seen[:30])) == len(set(seen[30:])) == 30
        assert all(seen[i] != seen[j] for i in range(30) for j in range(30, 60) if i != j - 30)

    async def test_counting_by_version_loses_no_step(self, objects):
        """Each step adds its own byte, so that a step whose answer was lost can tell whether it was made."""
        await objects.put("n", b"0")

        async def step(mine):
            while True:
                version = (await objects.head("n")).version
                value = await objects.get("n")
                if mine in value:
                    return
                if (await objects.head("n")).version != version:
                    continue
                try:
                    await objects.put("n", value + mine, version)
                except (PreconditionFailed, Ambiguous):
                    continue
                return

        await asyncio.gather(*(step(b"%d" % i) for i in range(1, 9)))
        assert sorted(await self.peek(objects, "n")) == sorted(b"012345678")

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

    many = 1100
    """Keys of a long list: more than come in one page."""

    async def test_long_lists_are_whole(self, objects):
        keys = [f"many/{i:05d}" for i in range(self.many)]
        await asyncio.gather(*(objects.put(k, b"") for k in keys))
        assert await self.keys(objects, "many/") == keys
        assert await self.keys(objects, "many/", keys[98]) == keys[99:]

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
        await objects.put("k", b"1")
        for act in (
            objects.put(key, b"1"),
            objects.upload(key, odd_pieces(b"1", 10)),
            objects.get(key),
            collected(objects.download(key)),
            objects.head(key),
            objects.delete_many([key]),
            objects.copy(objects, "k", key),
            objects.copy(objects, key, "k"),
            objects.sign(key),
            objects.sync(key),
        ):
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

    # ------------------------------------------------------------------------------------------------------ uploads

    @pytest.mark.parametrize("size", SIZES)
    async def test_uploads_of_every_size(self, objects, size):
        part = objects.part_bytes
        data = content(SIZES[size](part))
        version = await objects.upload("a/k", odd_pieces(data, part))
        assert await self.peek(objects, "a/k") == data
        meta = await objects.head("a/k")
        assert (meta.size, meta.version) == (len(data), version)
        assert [u async for u in objects.unfinished()] == []

    @pytest.mark.parametrize("size", ["one", "parts"])
    async def test_an_upload_minds_what_it_meets(self, objects, size):
        part = objects.part_bytes
        old, new = content(SIZES[size](part)), content(SIZES[size](part), 1)
        version = await objects.upload("k", odd_pieces(old, part), ABSENT)
        for when in (ABSENT, Version("another")):
            with pytest.raises(PreconditionFailed):
                await objects.upload("k", odd_pieces(new, part), when)
        assert await self.peek(objects, "k") == old
        with pytest.raises(PreconditionFailed):
            await objects.upload("not-there", odd_pieces(new, part), version)
        newer = await objects.upload("k", odd_pieces(new, part), version)
        assert newer != version
        with pytest.raises(PreconditionFailed):
            await objects.upload("k", odd_pieces(old, part), version)
        assert await self.peek(objects, "k") == new
        await objects.upload("k", odd_pieces(old, part), OVERWRITE)
        assert await self.peek(objects, "k") == old
        assert await self.keys(objects) == ["k"]
        assert [u async for u in objects.unfinished()] == []

    async def test_of_two_creating_uploads_one_wins(self, objects):
        part = objects.part_bytes
        contents = [content(2 * part, seed) for seed in range(2)]
        outcomes = await asyncio.gather(
            *(objects.upload("k", odd_pieces(data, part), ABSENT) for data in contents), return_exceptions=True
        )
        assert sorted(isinstance(o, Version) for o in outcomes) == [False, True]
        assert any(isinstance(o, PreconditionFailed) for o in outcomes)
        winner = 0 if isinstance(outcomes[0], Version) else 1
        assert await self.peek(objects, "k") == contents[winner]

    async def test_an_upload_is_invisible_until_its_end(self, objects):
        part = objects.part_bytes
        await objects.put("old", b"old")

        async def pieces():
            for _ in range(3):
                yield content(part)
                assert await self.peek(objects, "new") is None
                assert await self.peek(objects, "old") == b"old"
                assert await self.keys(objects) == ["old"]

        await objects.upload("new", pieces())
        await objects.upload("old", (piece async for piece in odd_pieces(b"new", 10)))
        assert await self.peek(objects, "old") == b"new"

    @pytest.mark.parametrize("size", ["nothing", "one", "part", "parts"])
    async def test_when_the_pieces_fail_nothing_was(self, objects, size):
        part = objects.part_bytes

        async def pieces():
            if size != "nothing":
                yield content(SIZES[size](part))
            raise Stop

        with pytest.raises(Stop):
            await objects.upload("k", pieces())
        assert await self.peek(objects, "k") is None
        await self.nothing_is_left(objects)

    @pytest.mark.parametrize("size", ["nothing", "one", "part", "parts"])
    async def test_when_the_caller_is_cancelled_nothing_was(self, objects, size):
        part = objects.part_bytes
        waiting = asyncio.Event()

        async def pieces():
            if size != "nothing":
                yield content(SIZES[size](part))
            waiting.set()
            await asyncio.Event().wait()

        upload = asyncio.create_task(objects.upload("k", pieces()))
        await waiting.wait()
        upload.cancel()
        with pytest.raises(asyncio.CancelledError):
            await upload
        assert await self.peek(objects, "k") is None
        await self.nothing_is_left(objects)

    async def test_what_is_under_way_can_be_told_and_aborted(self, objects):
        """Where uploads cannot be listed, there is nothing to abort, and the upload ends well."""
        part = objects.part_bytes
        waiting, go = asyncio.Event(), asyncio.Event()

        async def pieces():
            yield content(2 * part)
            waiting.set()
            await go.wait()
            yield b"end"

        upload = asyncio.create_task(objects.upload("a/k", pieces()))
        await waiting.wait()
        assert [u async for u in objects.unfinished("b/")] == []
        found = [u async for u in objects.unfinished("a/")]
        assert [u.key for u in found] in ([], ["a/k"])
        assert all(u.started > 1e9 and u.id for u in found)
        await objects.abort(found)
        await objects.abort(found)
        go.set()
        if found:
            with pytest.raises(ObjectsError):
                await upload
            assert await self.peek(objects, "a/k") is None
        else:
            await upload
            assert await self.peek(objects, "a/k") == content(2 * part) + b"end"
        assert [u async for u in objects.unfinished()] == []

    # ---------------------------------------------------------------------------------------------------- downloads

    @pytest.mark.parametrize("size", SIZES)
    async def test_downloads_of_every_size(self, objects, size):
        data = content(SIZES[size](objects.part_bytes))
        await objects.put("k", data)
        assert await collected(objects.download("k")) == data
        assert all([len(piece) > 0 async for piece in objects.download("k")])

    async def test_downloads_of_ranges(self, objects):
        part = objects.part_bytes
        data = content(3 * part + 5)
        await objects.put("k", data)
        for start in (0, 1, part - 1, part, 2 * part + 3, len(data), len(data) + 9):
            for length in (None, 0, 1, part, part + 1, len(data)):
                want = data[start:] if length is None else data[start : start + length]
                assert await collected(objects.download("k", start, length)) == want, (start, length)

    async def test_a_download_of_nothing_says_so_first(self, objects):
        for key in ("k", "a/b"):
            for start, length in ((0, None), (5, 3), (0, 0)):
                with pytest.raises(NotFound):
                    await anext(objects.download(key, start, length))

    @pytest.mark.parametrize("act", ["put", "upload", "delete"])
    async def test_a_download_is_of_one_version(self, objects, act):
        part = objects.part_bytes
        old, new = b"o" * (6 * part), b"n" * (6 * part)
        await objects.put("k", old)
        async with aclosing(objects.download("k")) as pieces:
            found = [await anext(pieces)]
            match act:
                case "put":
                    await objects.put("k", new)
                case "upload":
                    await objects.upload("k", odd_pieces(new, part))
                case _:
                    await objects.delete_many(["k"])
            try:
                found += [piece async for piece in pieces]
            except ObjectsError:
                assert old.startswith(b"".join(found))
            else:
                assert b"".join(found) == old

    async def test_a_download_given_up_leaves_no_task(self, objects):
        part = objects.part_bytes
        await objects.put("k", content(6 * part))
        await objects.get("k")
        before = asyncio.all_tasks()
        pieces = objects.download("k")
        await anext(pieces)
        await pieces.aclose()
        untouched = objects.download("k")
        await untouched.aclose()

        async def read():
            async with aclosing(objects.download("k")) as pieces:
                async for _ in pieces:
                    reading.set()
                    await asyncio.Event().wait()

        reading = asyncio.Event()
        task = asyncio.create_task(read())
        await reading.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert asyncio.all_tasks() <= before

    # -------------------------------------------------------------------------------------------------------- copies

    @pytest.mark.parametrize("size", SIZES)
    async def test_copies_of_every_size(self, objects, size):
        """Within the place, and to and from another one."""
        data = content(SIZES[size](objects.part_bytes))
        memory = MemoryObjects(appendable=False)
        await memory.put("there", data)
        await objects.copy(memory, "there", "a/here")
        version = await objects.copy(objects, "a/here", "b/again")
        assert (await objects.head("b/again")).version == version
        assert await self.peek(objects, "a/here") == await self.peek(objects, "b/again") == data
        await memory.copy(objects, "b/again", "back")
        assert await memory.get("back") == data
        await objects.delete_many(["a/here"])
        assert await self.peek(objects, "b/again") == data

    async def test_a_copy_minds_what_it_meets(self, objects):
        memory = MemoryObjects()
        for place in (objects, memory):
            await place.put("new", b"new")
        version = await objects.put("k", b"old")
        for source in (objects, memory):
            for when in (ABSENT, Version("another")):
                with pytest.raises(PreconditionFailed):
                    await objects.copy(source, "new", "k", when)
        assert await self.peek(objects, "k") == b"old"
        await objects.copy(objects, "new", "k", version)
        assert await self.peek(objects, "k") == b"new"
        await objects.copy(memory, "new", "k", OVERWRITE)
        await objects.copy(memory, "new", "k2", ABSENT)
        assert await self.keys(objects) == ["k", "k2", "new"]

    async def test_a_copy_of_nothing(self, objects):
        for source in (objects, MemoryObjects()):
            with pytest.raises(NotFound):
                await objects.copy(source, "not-there", "k")
        assert await self.peek(objects, "k") is None
        await self.nothing_is_left(objects)

    async def test_a_copy_does_not_change_with_its_source(self, objects):
        await objects.put("a", b"1")
        await objects.copy(objects, "a", "b")
        await objects.put("a", b"2")
        assert await self.peek(objects, "b") == b"1"
        await objects.put("b", b"3")
        assert await self.peek(objects, "a") == b"2"

    # --------------------------------------------------------------------------------------------------------- links

    async def test_a_signed_url_leads_to_the_object(self, objects):
        data = content(1000)
        await objects.put("a/k-1.bin", data)
        assert await self.fetch(objects, await objects.sign("a/k-1.bin", expires_s=600)) == data
        assert await objects.sign("not/there")

    async def test_the_plain_side_of_a_place_holds_the_same_keys(self, objects):
        await objects.plain.put("k", b"plain")
        assert await objects.plain.get("k") == b"plain"
        assert await self.keys(objects) == ["k"]

"""A whole store is proved: nothing that a committed record names may be missing, short, or other than it was."""

from __future__ import annotations

import msgspec
import pytest

from tests.kit.book import Book, chunk, uuid_of, write
from tests.kit.journals import claim
from towline.engine import codec
from towline.stores import snapshots, verify
from towline.stores.files import new_key
from towline.stores.journal.parts import drop_segments, make_part
from towline.stores.journal.reader import JournalReader
from towline.stores.objects.base import OVERWRITE
from towline.stores.objects.memory import MemoryObjects
from towline.stores.store import Mark, Store
from towline.stores.verify import verify_store


@pytest.fixture(params=["local", "bucket"])
async def store(request, tmp_path):
    if request.param == "local":
        return await Store.open(tmp_path / "s", create=True)
    return Store(MemoryObjects(appendable=False), Mark(1, "u", "0"))


async def filled(store):
    """Three jobs with a file each: two completed, one whose file was taken back by a failure; and a snapshot."""
    book = Book()
    book.lead()
    book.add(chunk("flow", [uuid_of(i) for i in range(3)]))
    refs = []
    for row in range(3):
        content = bytes([row]) * (9 << 20 if row == 1 else 50_000)
        refs.append(await store.files.put_value(new_key(uuid_of(row), (1, row + 1)), b"h", [content]))
    for row in range(2):
        book.end(row, output=codec.stub(msgspec.msgpack.encode(refs[row])))
    book.complete([2])
    await write(store.objects, book.payloads)
    made = await snapshots.make(store)
    await write(store.objects, [book.named(*made)], nonce=2)
    return refs, made


async def change(store, key, data):
    await store.objects.put(key, data, OVERWRITE)


async def test_a_sound_store(store):
    refs, _ = await filled(store)
    for deep in (False, True):
        report = await verify_store(store, deep)
        assert report.problems == []
        assert (report.records, report.snapshots, report.files, report.deep) == (8, 1, 2, deep)
        assert report.file_bytes == refs[0].size + refs[1].size


async def test_an_empty_store(store):
    report = await verify_store(store, True)
    assert (report.ok, report.records, report.files, report.snapshots, report.table_records) == (True, 0, 0, 0, 0)


async def test_a_missing_file_is_named_with_its_job(store):
    refs, _ = await filled(store)
    await store.objects.delete_many([refs[1].key, refs[2].key])
    report = await verify_store(store)
    assert report.problems == [f"{refs[1].key}: it is missing, but the output of job {uuid_of(1)} names it"]
    assert report.files == 1


async def test_a_short_file_is_found(store):
    refs, _ = await filled(store)
    data = await store.objects.get(refs[0].key)
    await change(store, refs[0].key, data[:-1])
    assert (await verify_store(store)).problems == [
        f"{refs[0].key}: it has {refs[0].size - 1} bytes instead of {refs[0].size}, at offset {refs[0].size - 1}"
    ]


@pytest.mark.parametrize("at", [0, 100, (8 << 20) + 5, -40, -3])
async def test_only_a_deep_look_finds_a_flipped_byte(store, at):
    refs, _ = await filled(store)
    data = bytearray(await store.objects.get(refs[1].key))
    data[at] ^= 1
    await change(store, refs[1].key, bytes(data))
    assert (await verify_store(store)).ok
    (problem,) = (await verify_store(store, deep=True)).problems
    assert refs[1].key in problem
    assert "at offset" in problem
    assert problem.endswith(f"(the output of job {uuid_of(1)})")


async def test_the_snapshot_is_proved(store):
    _, made = await filled(store)
    data = bytearray(await store.objects.get(made.key))
    data[len(data) // 2] ^= 1
    await change(store, made.key, bytes(data))
    report = await verify_store(store)
    assert [made.key in problem for problem in report.problems] == [True]


async def test_a_damaged_journal_is_reported_and_the_rest_left(store):
    await filled(store)
    key = [meta.key async for meta in store.objects.list("journal/") if meta.size > 200][-1]
    data = bytearray(await store.objects.get(key))
    data[-10] ^= 1
    await change(store, key, bytes(data))
    report = await verify_store(store, deep=True)
    assert any(key in problem for problem in report.problems)
    assert report.files == 0


async def test_segments_that_were_collected_are_accounted_for():
    memory = MemoryObjects(appendable=False, clock=lambda: 1000.0)
    book = Book()
    book.lead()
    book.add(chunk("flow", [uuid_of(i) for i in range(40)]))
    for row in range(40):
        book.complete([row])
    await write(memory, book.payloads)
    reader = await JournalReader.open(memory)
    await make_part(memory, reader, reader.next_seq)
    dropped = await drop_segments(memory, reader.next_seq, grace_s=1.0, now=5000.0)
    report = await verify_store(Store(memory, Mark(1, "u", "0")))
    assert report.problems == []
    assert report.collected == len(dropped) > 3
    (part,) = [meta.key async for meta in memory.list("parts/")]
    await memory.delete_many([part])
    assert not (await verify_store(Store(memory, Mark(1, "u", "0")))).ok


async def test_the_table_is_proved_too():
    from towline.stores.jobstore.chain import Chain, table
    from towline.stores.jobstore.records import Began, FileEntry, FilePut

    memory = MemoryObjects(appendable=False)
    store = Store(memory, Mark(1, "u", "0"))
    chain = await Chain.create(memory, Began("w", b"\x80"))
    await memory.put("blobs/aa/bb", b"content")
    entry = FileEntry("aa", "blobs/aa/bb", 7)
    await chain.commit(lambda state: [FilePut(entry)])
    await chain.close()
    writer = await claim(memory)
    await writer.close()
    report = await verify_store(store)
    assert report.problems == []
    assert (report.table_records, report.files) == (2, 1)
    await memory.delete_many(["blobs/aa/bb"])
    assert (await verify_store(store)).problems == ["blobs/aa/bb: it is missing, but file aa names it"]
    keys = [meta.key async for meta in table(memory).list("journal/")]
    data = bytearray(await table(memory).get(keys[0]))
    data[-10] ^= 1
    await table(memory).put(keys[0], bytes(data))
    assert "table/" in (await verify_store(store)).problems[0]


def test_the_range_of_stubs_holds_all_of_them():
    longest = codec.stub(msgspec.msgpack.encode(verify.FileRef(new_key("x" * 99, (2**32 - 1, 2**32 - 1)), 2**63, 2**32 - 1)))
    shortest = codec.stub(msgspec.msgpack.encode(verify.FileRef(new_key(uuid_of(1), (1, 1)), 1, 1)))
    assert len(shortest) in verify.STUB_BYTES
    assert len(longest) in verify.STUB_BYTES

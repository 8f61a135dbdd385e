"""Written rows: durable, one commit each, found by what their ids say; old formats stay readable."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec
import pytest

from tests.golden.documents import make
from tests.kit.documents import plain
from towline.engine.errors import CorruptionError, UsageError
from towline.stores.documents import written
from towline.stores.documents.place import DocumentStore
from towline.stores.documents.written import Entry, Id, Index, Written, id_of
from towline.stores.jobstore.errors import ConcurrentFileModificationException
from towline.stores.jobstore.records import ABSENT
from towline.stores.jobstore.state import Job
from towline.stores.objects.base import ObjectsError
from towline.stores.objects.memory import MemoryObjects
from towline.stores.verify import verify_store

GOLDEN = Path(__file__).parents[2] / "golden" / "documents"


@pytest.mark.parametrize(
    "format", sorted(path.name for path in GOLDEN.iterdir() if path.is_dir() and path.name.startswith("format"))
)
def test_a_golden_collection_is_read(tmp_path, format):
    shutil.copytree(GOLDEN / format, tmp_path / "store")
    store = DocumentStore(tmp_path / "store")
    expected = [make.DOCUMENTS[0] | {"name": "again"}, *make.DOCUMENTS[1:]]
    assert plain(store.query()) == plain(expected)
    assert store.query_one({"uuid": make.UUID.format(1), "index": 2}) == make.DOCUMENTS[1]


async def test_the_golden_collection_is_sound(tmp_path):
    from towline.stores.store import Store

    shutil.copytree(GOLDEN / "format1", tmp_path / "store")
    store = await Store.open(tmp_path / "store")
    report = await verify_store(store, deep=True)
    assert report.ok, report.problems
    assert (report.files, report.table_records > 5) == (1, True)
    blob = next((tmp_path / "store" / "documents").glob("main/blobs/*/*"))
    blob.chmod(0o600)
    blob.write_bytes(b"x" + blob.read_bytes()[1:])
    assert any("documents/main/blobs/" in text for text in (await verify_store(store, deep=True)).problems)
    blob.unlink()
    assert any("is missing" in text for text in (await verify_store(store)).problems)


def test_ids_say_what_they_are_found_by():
    id = id_of({"uuid": "a:b.c", "index": 3}, "uuid")
    assert str(id) == "3..uuid:a:b.c"
    assert Id.parse(str(id)) == id
    assert id_of({"uuid": "u", "index": True}, "uuid").number == ""
    assert id_of({"uuid": 5}, "uuid").field == ""


def test_the_index_is_kept_up():
    index = Index([("1..uuid:u", Job(1, b"")), ("2..uuid:u", Job(2, b"")), (".x.:", Job(3, b""))])
    assert list(index.having("uuid", "u")) == ["1..uuid:u", "2..uuid:u"]
    index["1..uuid:u"] = Job(4, b"")
    del index["2..uuid:u"]
    assert index.pop("nothing", None) is None
    assert list(index.having("uuid", "u")) == ["1..uuid:u"]
    assert list(index.silent_on("uuid")) == [".x.:"]
    index.pop("1..uuid:u")
    assert list(index.having("uuid", "u")) == []


async def test_two_writers_see_each_other():
    objects = MemoryObjects()
    one, two = Written(objects), Written(objects)
    await one.refresh()
    assert len(one.rows) == 0
    await one.commit([Entry("1..uuid:a", {"n": 1})])
    await two.commit([Entry("1..uuid:b", {"n": 2})])
    await one.refresh()
    assert await one.documents(["1..uuid:b", "1..uuid:a", "nobody"]) == {"1..uuid:b": {"n": 2}, "1..uuid:a": {"n": 1}}
    version = one.version("1..uuid:a")
    await two.commit([Entry("1..uuid:a", {"n": 3})])
    with pytest.raises(ConcurrentFileModificationException):
        await one.commit([Entry("1..uuid:a", {"n": 4}), Entry("1..uuid:c", {})], expected={"1..uuid:a": version})
    await one.refresh()
    assert one.version("1..uuid:c") == ABSENT, "all of it or nothing"
    await one.close()
    await two.close()


async def test_a_refused_commit_leaves_no_content_behind():
    objects = MemoryObjects()
    collection = Written(objects)
    await collection.commit([Entry("1..uuid:a", {})])
    with pytest.raises(ConcurrentFileModificationException):
        await collection.commit([Entry("1..uuid:a", {"x": "x" * 100_000})], expected={"1..uuid:a": 99})
    assert [meta.key async for meta in objects.list("documents/main/blobs/")] == []
    await collection.commit([Entry("1..uuid:a", {"x": "x" * 100_000})])
    await collection.commit([], ["1..uuid:a"])
    assert [meta.key async for meta in objects.list("documents/main/blobs/")] == []
    await collection.close()


async def test_content_that_nobody_names_is_collected():
    """A writer that dies between the content and the record leaves an orphan; `gc` takes it."""
    objects = MemoryObjects()
    collection = Written(objects)
    await collection.commit([Entry("1..uuid:a", {"x": "x" * 100_000})])

    class Dying(MemoryObjects):
        pass

    _, blobs = await collection._made()
    left: list[str] = []
    await collection._lay_aside(blobs, "1..uuid:b", b"y" * 50_000, left)
    found = await collection.gc(dry_run=True)
    assert found.doomed == []
    kept = [meta.key async for meta in objects.list("documents/main/blobs/")]
    assert len(kept) == 2
    assert (await blobs.gc(dry_run=False, older_than_s=-1)).orphans == left
    assert (await collection.documents(["1..uuid:a"]))["1..uuid:a"]["x"][:1] == "x"


async def test_a_store_that_fails_says_so_and_the_document_is_not_there():
    class Full(MemoryObjects):
        full = False

        async def put(self, key, data, when=None, **options):
            if self.full:
                raise ObjectsError("the disk is full")
            return await super().put(key, data, when, **options)

    objects = Full()
    collection = Written(objects)
    await collection.commit([Entry("1..uuid:a", {"n": 1})])
    objects.full = True
    with pytest.raises(ObjectsError, match="the disk is full"):
        await collection.commit([Entry("1..uuid:b", {"n": 2})])
    objects.full = False
    await collection.refresh()
    assert list(collection.rows) == ["1..uuid:a"]


def test_rows_that_are_none_are_corruption():
    with pytest.raises(CorruptionError, match="a document's row cannot be read"):
        written._row(b"\xc1", "somewhere")
    assert written._row(msgspec.msgpack.encode([None, b""]), "x").hides


def test_collections_have_plain_names():
    assert written.check_collection("data_2-x") == "data_2-x"
    for name in ("", "a/b", "..", "ä", "x" * 101):
        with pytest.raises(UsageError):
            written.check_collection(name)

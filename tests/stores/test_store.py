"""Opening a store: missing, foreign, newer, there already; and the note of where its leader listens."""

from __future__ import annotations

import asyncio
import json
import pickle
import stat
from itertools import count

import pytest

from tests.kit.servers import make_bucket
from towline.engine.errors import CorruptionError, UsageError
from towline.stores import errors
from towline.stores.errors import StoreExists, StoreForeign, StoreLocked, StoreMissing, StoreNewer
from towline.stores.locate import open_objects
from towline.stores.objects.base import ABSENT
from towline.stores.store import MARK, Store, is_ours, read_mark

_names = count()


@pytest.fixture(params=["disk", "memory"])
def url(request, tmp_path):
    return str(tmp_path / "deep" / "store") if request.param == "disk" else f"memory:store-{next(_names)}"


async def test_created_once_and_opened_ever_after(url):
    made = await Store.open(url, create=True, uuid="the-uuid")
    assert (made.uuid, made.url) == ("the-uuid", open_objects(url).url)
    assert json.loads(await made.objects.get(MARK)) == {"format": 1, "store": "the-uuid", "towline": made.mark.towline}
    assert (await Store.open(url)).uuid == (await Store.open(url, create=True, uuid="other")).uuid == "the-uuid"
    with pytest.raises(StoreExists, match="resume"):
        await Store.open(url, create=True, exclusive=True)


async def test_two_stores_have_two_uuids(tmp_path):
    assert (await Store.open(tmp_path / "a", create=True)).uuid != (await Store.open(tmp_path / "b", create=True)).uuid


async def test_all_who_create_at_once_open_the_same_store(tmp_path):
    stores = await asyncio.gather(*(Store.open(tmp_path / "s", create=True) for _ in range(8)))
    assert len({store.uuid for store in stores}) == 1


async def test_exclusive_creation_has_one_winner(tmp_path):
    tries = (Store.open(tmp_path / "s", create=True, exclusive=True) for _ in range(8))
    ends = await asyncio.gather(*tries, return_exceptions=True)
    assert sum(isinstance(end, Store) for end in ends) == 1
    assert sum(isinstance(end, StoreExists) for end in ends) == 7


async def test_missing(url):
    with pytest.raises(StoreMissing) as caught:
        await Store.open(url)
    assert open_objects(url).url in str(caught.value)
    assert "`run`" in str(caught.value)
    assert isinstance(caught.value, errors.NoStore)


async def test_looking_for_a_store_makes_nothing(tmp_path):
    with pytest.raises(StoreMissing):
        await Store.open(tmp_path / "s")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["data.csv", "with space", ".hidden", "journal"])
@pytest.mark.parametrize("create", [False, True])
async def test_a_directory_of_something_else_is_left_alone(tmp_path, name, create):
    (tmp_path / name).write_text("mine")
    with pytest.raises(StoreForeign, match="not a towline store") as caught:
        await Store.open(tmp_path, create=create)
    assert name in str(caught.value)
    assert [p.name for p in tmp_path.iterdir()] == [name]


async def test_a_file_and_a_broken_link_are_foreign(tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to("nowhere")
    for name in ("file", "link"):
        with pytest.raises(StoreForeign):
            await Store.open(tmp_path / name, create=True)


async def test_foreign_objects_in_memory():
    await open_objects("memory:foreign").put("a/b", b"")
    with pytest.raises(StoreForeign, match="a/b"):
        await Store.open("memory:foreign", create=True)


async def test_an_empty_directory_and_what_a_crashed_creation_left_may_be_used(tmp_path):
    (tmp_path / ".tmp").mkdir()
    (tmp_path / ".lock").write_text("")
    with pytest.raises(StoreMissing):
        await Store.open(tmp_path)
    assert (await Store.open(tmp_path, create=True)).uuid


async def test_a_newer_format_is_refused(url):
    mark = {"format": 2, "store": "u", "towline": "9.1", "more": [1]}
    await open_objects(url).put(MARK, json.dumps(mark).encode())
    with pytest.raises(StoreNewer, match=r"format 2 \(written by towline 9\.1\).*upgrade") as caught:
        await Store.open(url, create=True)
    assert isinstance(caught.value, errors.NewerFormat)


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"", CorruptionError),
        (b"{nonsense", CorruptionError),
        (b"[]", StoreForeign),
        (b'{"name": "another program"}', StoreForeign),
        (b'{"format": 1}', CorruptionError),
        (b'{"format": 1, "store": 7, "towline": "1"}', CorruptionError),
        (b'{"format": "1", "store": "u", "towline": "1"}', StoreForeign),
    ],
)
def test_marks_that_are_none(data, error):
    with pytest.raises(error, match=r"towline\.json"):
        read_mark(data, "/place")


async def test_a_symlinked_store_is_opened_by_the_link(tmp_path):
    made = await Store.open(tmp_path / "real", create=True)
    (tmp_path / "link").symlink_to("real")
    found = await Store.open(tmp_path / "link")
    assert (found.uuid, found.url) == (made.uuid, str(tmp_path / "link"))


async def test_where_the_leader_listens(url):
    store = await Store.open(url, create=True)
    assert await store.get_endpoint() is None
    await store.drop_endpoint(b"nobody")
    await store.put_endpoint(b"one")
    await store.put_endpoint(b"two")
    await store.drop_endpoint(b"one")
    assert await store.get_endpoint() == b"two"
    await store.drop_endpoint(b"two")
    assert await store.get_endpoint() is None


async def test_taking_back_never_hits_a_successor(url, monkeypatch):
    store = await Store.open(url, create=True)
    await store.put_endpoint(b"mine")
    get = store.objects.get

    async def read_then_lose(key, *rest):
        data = await get(key, *rest)
        await store.put_endpoint(b"theirs")
        return data

    monkeypatch.setattr(store.objects, "get", read_then_lose)
    await store.drop_endpoint(b"mine")
    monkeypatch.undo()
    assert await store.get_endpoint() == b"theirs"


async def test_only_the_owner_reads_the_endpoint(tmp_path):
    store = await Store.open(tmp_path / "s", create=True)
    await store.put_endpoint(b"secret")
    assert stat.S_IMODE((tmp_path / "s" / "leader.json").stat().st_mode) == 0o600


def test_errors_cross_process_borders_whole():
    for error in (
        StoreMissing.at("/s"), StoreExists.at("/s"), StoreForeign.at("/s", "x"), StoreNewer.at("/s", 2, 1, "9"),
        StoreLocked.by("/s", 41, "host"),
    ):  # fmt: skip
        again = pickle.loads(pickle.dumps(error))
        assert (type(again), str(again)) == (type(error), str(error))
        assert isinstance(again, UsageError)
        assert "/s" in str(again)
    assert "process 41 on host" in str(StoreLocked.by("/s", 41, "host"))
    assert "connect" in str(StoreLocked.by("/s", 41, "host"))
    assert "takeover" in str(StoreLocked.by("/s", 41, "host"))


async def test_the_mark_is_created_conditionally(url):
    """A store that appears between look and write wins."""
    objects = open_objects(url)
    put = objects.put

    async def late(key, data, when=None):
        assert when is ABSENT
        await put(key, b'{"format": 1, "store": "first", "towline": "0"}', ABSENT)
        return await put(key, data, when)

    from towline.stores.store import _create

    class Racing:
        url = objects.url
        get = staticmethod(objects.get)

    racing = Racing()
    racing.put = late
    assert (await _create(racing, "second", exclusive=False)).store == "first"


@pytest.mark.parametrize(
    ("key", "ours"),
    [
        ("towline.json", True),
        ("leader.json", True),
        ("journal/00000000000000000001.seg", True),
        ("parts/00000000000000000001-00000000000000000009.part", True),
        ("snapshots/00000000000000000018-0123456789abcdef.arrow", True),
        ("files/shared/0-0/id", True),
        ("clock/now", True),
        ("table/journal/00000000000000000001.seg", True),
        ("table/snapshots/00000000000000000018-0123456789abcdef.state", True),
        ("blobs/3f/" + "3f" * 16 + "." + "0" * 16, True),
        ("documents/main/table/clock/now", True),
        ("documents/main/blobs/3f/" + "3f" * 16 + "." + "0" * 16, True),
        ("files/report.csv", False),
        ("journal/notes.txt", False),
        ("documents/thesis.pdf", False),
        ("run2/towline.json", False),
        ("run2/journal/00000000000000000001.seg", False),
        ("blobs/mine", False),
    ],
)
def test_what_is_ours_is_told_by_its_whole_key(key, ours):
    assert is_ours(key) is ours


async def test_a_store_that_was_named_with_its_region_says_it_to_other_processes(moto, monkeypatch):
    for name, value in moto.environment().items():
        monkeypatch.setenv(name, value)
    bucket = await asyncio.to_thread(make_bucket, moto)
    store = await Store.open(f"aws:us-east-1:{bucket}:x", create=True)
    assert store.url == f"aws:us-east-1:{bucket}:x"
    await store.close()

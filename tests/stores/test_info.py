"""What a store says of itself."""

from __future__ import annotations

import json

import pytest

from tests.kit.book import story, write
from towline.stores import snapshots
from towline.stores.errors import StoreMissing
from towline.stores.files import new_key
from towline.stores.info import info
from towline.stores.store import Store


async def test_everything_is_counted(tmp_path):
    store = await Store.open(tmp_path / "s", create=True, uuid="u-1")
    book = story()
    await write(store.objects, book.payloads)
    made = await snapshots.make(store, 8)
    await write(store.objects, [book.named(*made)], nonce=2)
    ref = await store.files.put_value(new_key(None), b"h", [b"x" * 100])
    said = await info(store.url)
    assert json.loads(json.dumps(said)) == said
    assert (said["format"], said["uuid"], said["url"]) == (1, "u-1", str(tmp_path / "s"))
    segments = [meta.key async for meta in store.objects.list("journal/")]
    assert (said["records"], said["segments"], said["epochs"]) == (len(book.payloads), len(segments), 2)
    assert said["journal_bytes"] > sum(map(len, book.payloads))
    assert said["jobs"] == {"waiting": 5, "delayed": 1, "ready": 2, "completed": 5, "failed": 1, "stopped": 1}
    assert said["total"] == sum(said["jobs"].values()) == 15
    assert [flow["name"] for flow in said["flows"]] == ["flow flow-a", "flow flow-b"]
    assert said["snapshot"] == {"seq": 8, "key": made.key, "digest": made.digest}
    assert said["snapshots"]["count"] == 1
    assert said["files"] == {"count": 1, "bytes": ref.size}
    assert (said["leader"]["epoch"], said["leader"]["pid"], said["leader"]["closed"]) == (2, 4242, False)
    assert said["workers"] == 1


async def test_an_empty_store(tmp_path):
    store = await Store.open(tmp_path / "s", create=True)
    said = await info(store.url)
    assert (said["records"], said["jobs"], said["leader"], said["snapshot"]) == (0, {}, None, None)
    assert said["files"] == said["snapshots"] == {"count": 0, "bytes": 0}


async def test_no_store(tmp_path):
    with pytest.raises(StoreMissing):
        await info(str(tmp_path))

"""The end of a store: nothing of it stays, nothing else goes, and a half-ended one is known as that."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tests.kit.journals import Wrapped
from tests.stores.test_migrate import FILES, everything, made
from towline.stores.destroy import destroy
from towline.stores.errors import StoreDestroyed
from towline.stores.objects.base import ObjectsError, Unfinished
from towline.stores.objects.local import LocalObjects
from towline.stores.objects.memory import MemoryObjects
from towline.stores.store import MARK, Store


@pytest.fixture(params=["folder", "bucket"])
async def objects(request, tmp_path):
    return await made(LocalObjects(tmp_path / "s") if request.param == "folder" else MemoryObjects(appendable=False))


async def test_nothing_stays(objects):
    told = []
    wanted = len(await everything(objects)) - 1
    assert await destroy(objects, told.append) == wanted > FILES
    assert told == [wanted]
    assert await everything(objects) == {}
    if isinstance(objects, LocalObjects):
        assert not objects.root.exists()
    assert await destroy(objects) == 0


async def test_what_is_somebody_elses_stays(tmp_path):
    objects = await made(LocalObjects(tmp_path / "s"))
    (tmp_path / "s" / "my notes.txt").write_text("mine")
    (tmp_path / "s" / ".tmp" / "half").write_text("ours")
    await destroy(objects)
    assert [path.name for path in (tmp_path / "s").iterdir()] == ["my notes.txt"]


async def test_in_a_bucket_other_stores_and_other_peoples_objects_and_uploads_stay():
    """A store in a bucket's root, without a prefix: everything else in the bucket lies below it."""
    objects = await made(MemoryObjects(appendable=False))
    others = {f"run2/{MARK}": b"{}", "run2/journal/00000000000000000001.seg": b"x", "files/report.csv": b"1,2"}
    for key, data in others.items():
        await objects.put(key, data)

    class Shared(Wrapped):
        left: Sequence[str] = ("My Video.mp4", "run2/blobs/1", f"blobs/00/{'0' * 32}.{'0' * 16}")

        async def unfinished(self, prefix=""):
            for key in self.left:
                yield Unfinished(key, "1", 0.0)

        async def abort(self, uploads):
            self.left = [key for key in self.left if key not in [upload.key for upload in uploads]]

    shared = Shared(objects)
    await destroy(shared)
    assert await everything(objects) == others
    assert shared.left == ["My Video.mp4", "run2/blobs/1"]


class Stops(Wrapped):
    """Deletes nothing."""

    async def delete_many(self, keys):
        raise ObjectsError("the line is dead")


async def test_half_a_store_is_known_as_that(tmp_path):
    objects = await made(LocalObjects(tmp_path / "s"))
    with pytest.raises(ObjectsError):
        await destroy(Stops(objects))
    for create in (True, False):
        with pytest.raises(StoreDestroyed, match="store destroy"):
            await Store.open(tmp_path / "s", create=create)
    await destroy(objects)
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize("mark", [b"{", b"[1]", b"", b'{"format": 99}'])
async def test_whatever_its_mark_says(objects, mark):
    await objects.put(MARK, mark)
    await destroy(objects)
    assert await everything(objects) == {}


async def test_where_there_is_none(tmp_path):
    assert await destroy(LocalObjects(tmp_path / "nothing")) == 0
    assert not (tmp_path / "nothing").exists()

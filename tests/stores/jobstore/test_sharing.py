"""Links between a local store and the files of its owner: made on demand only, and never believed."""

from __future__ import annotations

import errno
import os

import pytest

from tests.kit.leaks import nothing_left
from tests.kit.pieces import content, digest
from towline.engine.errors import CorruptionError
from towline.stores.fileformat import PART
from towline.stores.jobstore import sharing
from towline.stores.jobstore.abstract import AbstractJobStore
from towline.stores.jobstore.config import Config
from towline.stores.objects.memory import MemoryObjects


@pytest.fixture
async def store(tmp_path):
    made = AbstractJobStore(tmp_path / "store")
    await made.initialize(Config())
    yield made
    await made.close()


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "source"
    path.write_bytes(content(PART + 3))
    path.chmod(0o755)
    return path


async def blob_of(store, file):
    return store._parts.objects.root / (await store._parts.files.entry(file)).blob


async def read(store, file):
    async with store.read_file_stream(file) as stream:
        return await stream.read()


async def test_a_copy_is_what_an_import_makes_by_default(store, source):
    blob = await blob_of(store, await store.import_file(source))
    assert not blob.is_symlink()
    assert not blob.samefile(source)


async def test_a_hard_link(store, source):
    file = await store.import_file(source, hardlink=True)
    blob = await blob_of(store, file)
    assert blob.samefile(source)
    assert not blob.is_symlink()
    assert (file.size, file.executable) == (PART + 3, True)
    assert digest(await read(store, file)) == digest(content(PART + 3))
    await store.delete_file(file)
    assert source.exists()
    assert not blob.exists()


async def test_a_symlink_where_the_configuration_wants_it(store, source, tmp_path):
    store.config.symlinkImports = True
    (tmp_path / "way").symlink_to("source")
    file = await store.import_file(tmp_path / "way")
    blob = await blob_of(store, file)
    assert os.readlink(blob) == str(source.resolve())
    assert digest(await read(store, file)) == digest(content(PART + 3))
    assert not (await blob_of(store, await store.import_file(source, symlink=False))).is_symlink()
    assert not (await blob_of(store, await store.import_file(source, hardlink=True))).is_symlink()
    await store.delete_file(file)
    assert source.exists()


async def test_a_shared_file_that_changes_is_found_out(store, source):
    file = await store.import_file(source, hardlink=True)
    with source.open("r+b") as opened:
        opened.write(b"other")
    with pytest.raises(CorruptionError):
        await read(store, file)


async def test_a_shared_file_that_goes_is_missed(store, source):
    store.config.symlinkImports = True
    file = await store.import_file(source)
    source.unlink()
    with pytest.raises(CorruptionError, match="missing"):
        await read(store, file)


async def test_where_no_link_can_be_a_copy_is_made(store, source, monkeypatch):
    def link(*args):
        raise OSError(errno.EXDEV, "another device")

    monkeypatch.setattr(sharing.os, "link", link)
    file = await store._parts.files.link_in(source, False)
    assert file is None
    monkeypatch.undo()
    assert await sharing.link_in(MemoryObjects(), "blobs/x/y", source, False) is None
    assert os.listdir(store._parts.objects.root / ".tmp") == []


@pytest.mark.parametrize(("name", "kind"), [("gone", FileNotFoundError), ("folder", IsADirectoryError)])
async def test_what_cannot_be_linked(store, tmp_path, name, kind):
    (tmp_path / "folder").mkdir()
    with nothing_left("fds"), pytest.raises(kind):
        await store.import_file(tmp_path / name, hardlink=True)
    assert await store.get_all_file_ids() == []
    assert (await store.gc(older_than_s=-3600)).orphans == []


async def test_a_blob_that_is_a_link_already_stays_what_it_is(store, source, tmp_path):
    store.config.symlinkImports = store.config.moveExports = True
    file = await store.import_file(source)
    await store.export_file(file, tmp_path / "out")
    assert (await blob_of(store, file)).resolve() == source.resolve()
    await sharing.lead_to(MemoryObjects(), "blobs/x/y", tmp_path / "out")

"""s3 and gs: objects that somebody else named, as files and directories; the same rules for both providers."""

from __future__ import annotations

import pytest

from tests.kit.clouds import GsCloud, S3Cloud
from tests.kit.pieces import MIB, breaking, content, digest, pieces_of
from towline.engine.errors import CorruptionError, UsageError
from towline.stores.objects.base import NotFound
from towline.stores.transfer.base import Found
from towline.stores.transfer.buckets import raw_key
from towline.stores.transfer.gs_ import GsScheme
from towline.stores.transfer.s3_ import S3Scheme
from towline.stores.transfer.url import component, parse

ODD = [" a b ", "ü/ö", ".dot", "a//b", "a/../b", "per%20cent", "q?x=1#y", "x" * 300, "tab\there", "d/e/f/g/h/i/j/k/l/m", "+&=;@"]
"""Keys that no key of ours is."""


@pytest.fixture(params=["s3", "gs"])
def cloud(request, monkeypatch):
    made = S3Cloud(request.getfixturevalue("moto")) if request.param == "s3" else GsCloud(request.getfixturevalue("gcs"))
    for name, value in made.environment().items():
        monkeypatch.setenv(name, value)
    return made


@pytest.fixture
async def scheme(cloud):
    made = S3Scheme() if cloud.scheme == "s3" else GsScheme()
    yield made
    await made.close()


async def read(scheme, text):
    async with scheme.read(parse(text)) as fetched:
        assert not fetched.executable
        return b"".join([piece async for piece in fetched.pieces]), fetched.size


@pytest.mark.parametrize("key", ODD)
async def test_any_key_can_be_read_written_and_found(scheme, cloud, key):
    cloud.put(key, b"theirs")
    url = cloud.url(key)
    assert await scheme.look(parse(url)) == Found(6)
    assert await read(scheme, url) == (b"theirs", 6)
    await scheme.write(parse(url), pieces_of(b"ours"), 4, False)
    assert cloud.names() == [key]
    assert cloud.peek(key) == b"ours"


async def test_every_key_is_reached_by_walking_the_listing(scheme, cloud):
    for key in [*ODD, "a", "a/c"]:
        cloud.put(key, b"")
    found, folders = [], [f"{cloud.scheme}://{cloud.bucket}"]
    while folders:
        folder = folders.pop()
        for name in await scheme.entries(parse(folder)):
            url = f"{folder.removesuffix('/')}/{component(parse(folder), name)}" if not folder.endswith("//") else folder + name
            if name.endswith("/"):
                folders.append(url if name != "/" else f"{folder.rstrip('/')}//")
            else:
                found.append(parse(url).path)
    assert sorted(found) == sorted([*ODD, "a", "a/c"])


async def test_directories_are_what_keys_begin_with(scheme, cloud):
    cloud.put("d/x", b"1")
    cloud.put("d/e/y", b"2")
    cloud.put("d/e/z", b"3")
    cloud.put("dd", b"4")
    cloud.put("mark/", b"")
    root = f"{cloud.scheme}://{cloud.bucket}"
    for text in (root, f"{root}/", f"{root}/d", f"{root}/d/", f"{root}/d/e", f"{root}/mark", f"{root}/mark/"):
        assert await scheme.look(parse(text)) == Found(None, directory=True), text
    assert await scheme.entries(parse(root)) == ["d/", "dd", "mark/"]
    assert await scheme.entries(parse(f"{root}/d")) == await scheme.entries(parse(f"{root}/d/")) == ["e/", "x"]
    assert await scheme.entries(parse(f"{root}/mark")) == []
    for text in (f"{root}/d", f"{root}/d/", root):
        with pytest.raises(IsADirectoryError):
            await read(scheme, text)
    for text in (f"{root}/d/", root):
        with pytest.raises(IsADirectoryError):
            await scheme.write(parse(text), pieces_of(b""), 0, False)
    with pytest.raises(NotADirectoryError):
        await scheme.entries(parse(f"{root}/dd"))


async def test_what_is_missing(scheme, cloud):
    cloud.put("x", b"")
    for key in ("y", "x/", "x/y"):
        with pytest.raises(FileNotFoundError):
            await scheme.look(parse(f"{cloud.scheme}://{cloud.bucket}/{key}"))
        with pytest.raises(FileNotFoundError):
            await read(scheme, f"{cloud.scheme}://{cloud.bucket}/{key}")
    with pytest.raises(FileNotFoundError):
        await scheme.entries(parse(f"{cloud.scheme}://{cloud.bucket}/y"))


async def test_a_bucket_that_is_not_there(scheme, cloud):
    url = f"{cloud.scheme}://no-such-bucket-here/x"
    with pytest.raises(FileNotFoundError, match="bucket"):
        await scheme.look(parse(url))
    with pytest.raises(FileNotFoundError, match="bucket"):
        await scheme.entries(parse(url))
    with pytest.raises(FileNotFoundError, match="bucket"):
        await scheme.write(parse(url), pieces_of(b"x"), 1, False)


async def test_an_empty_bucket_is_an_empty_directory(scheme, cloud):
    root = f"{cloud.scheme}://{cloud.bucket}"
    assert await scheme.look(parse(root)) == Found(None, directory=True)
    assert await scheme.entries(parse(root)) == []


async def test_a_long_listing_comes_whole(scheme, cloud, monkeypatch):
    from towline.stores.transfer import gs_, s3_

    monkeypatch.setattr(s3_, "PAGE", 3)
    monkeypatch.setattr(gs_, "PAGE", 3)
    for number in range(8):
        cloud.put(f"d/{number}", b"")
        cloud.put(f"d/s{number}/x", b"")
    names = await scheme.entries(parse(f"{cloud.scheme}://{cloud.bucket}/d"))
    assert names == [f"{n}" for n in range(8)] + [f"s{n}/" for n in range(8)]


@pytest.mark.parametrize("error", [ZeroDivisionError(), NotFound("of the source"), CorruptionError("of the source")])
async def test_a_source_that_fails_leaves_nothing_and_is_not_taken_for_the_bucket(scheme, cloud, error):
    for size in (10, 9 * MIB):
        with pytest.raises(type(error)) as caught:
            await scheme.write(parse(cloud.url("x")), breaking(content(size), error), None, False)
        assert caught.value is error
    assert cloud.names() == []


async def test_content_of_several_parts(scheme, cloud):
    data = content(9 * MIB)
    await scheme.write(parse(cloud.url("big file")), pieces_of(data, MIB + 7), len(data), False)
    assert cloud.names() == ["big file"]
    assert digest((await read(scheme, cloud.url("big file")))[0]) == digest(data)


async def test_a_copy_between_foreign_keys_is_made_by_the_server(scheme, cloud):
    cloud.put("from here", b"data")
    objects = scheme.objects(cloud.bucket)
    await objects.copy(objects, "from here", "ü/to there")
    assert cloud.peek("ü/to there") == b"data"


@pytest.mark.parametrize("key", ["", "a\0b", "x" * 1025, "ü" * 513])
def test_what_no_provider_takes(key):
    with pytest.raises(UsageError):
        raw_key(key)

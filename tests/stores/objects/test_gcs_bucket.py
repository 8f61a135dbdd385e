"""The requests on one bucket, by names that are no keys. (What keys can reach is in test_gcs.)"""

from __future__ import annotations

from contextlib import aclosing

import pytest

from towline.stores.objects.base import ABSENT, OVERWRITE, NotFound, ObjectsError, PreconditionFailed, Version
from towline.stores.objects.gcs_bucket import Bucket, condition_of, generation_in
from towline.stores.objects.gcs_rest import Rest
from towline.stores.objects.retry import Policy, Retry
from towline.stores.objects.s3_encryption import Encryption

ODD = ["folder/", "a b", "ü/ö", "a?b&c=d#e%2F", "'quoted'", "..", "日本"]


@pytest.fixture
async def bucket(gcs):
    gcs.calm()
    rest = Rest(gcs.endpoint, "anonymous", Retry(Policy(attempts=2, first_s=0.0)))
    yield Bucket(rest, gcs.new_bucket(), Encryption())
    await rest.close()
    gcs.calm()


async def names(bucket, prefix="", start=""):
    async with aclosing(bucket.list(prefix, start)) as found:
        return [stat.name async for stat in found]


async def test_names_of_all_sorts(bucket, gcs):
    for name in ODD:
        generation = await bucket.insert(name, name.encode())
        assert (await bucket.stat(name))[:3] == (name, len(name.encode()), generation)
        assert await bucket.read(name) == gcs.peek(bucket.name, name) == name.encode()
    assert await names(bucket) == sorted(ODD)
    assert await names(bucket, "a", "a?") == ["a?b&c=d#e%2F"]
    await bucket.rewrite(bucket, "a b", "c/d é")
    await bucket.compose("all", [("a b", (await bucket.stat("a b")).generation)], None)
    assert await bucket.read("all") == await bucket.read("c/d é") == b"a b"
    for name in ODD:
        await bucket.delete(name)
        await bucket.delete(name)
    assert await names(bucket) == ["all", "c/d é"]


async def test_one_generation_is_read(bucket):
    old = await bucket.insert("k", b"old")
    assert (await bucket.begin("k", 1, 1))[:] == (b"l", old, 3)
    assert await bucket.read("k", 0, 2, old) == b"ol"
    await bucket.insert("k", b"new")
    with pytest.raises(NotFound):
        await bucket.read("k", 0, 2, old)


async def test_a_generation_is_deleted_only_as_it_is(bucket, gcs):
    old = await bucket.insert("k", b"old")
    await bucket.insert("k", b"new")
    with pytest.raises(PreconditionFailed):
        await bucket.delete("k", {"ifGenerationMatch": old})
    assert gcs.peek(bucket.name, "k") == b"new"


async def test_a_copy_is_of_the_generation_that_was_found(bucket, gcs):
    """The source is replaced between two steps: the service no longer has what was begun with."""
    await bucket.insert("k", b"x" * 1000)
    gcs.settings(rewrite_step=400)
    steps = 0
    ask = bucket.rest.ask

    async def replaced_meanwhile(request):
        nonlocal steps
        steps += "rewriteTo" in request.path
        if steps == 2:
            steps += 1
            await bucket.insert("k", b"y" * 1000)
        return await ask(request)

    bucket.rest.ask = replaced_meanwhile
    with pytest.raises(NotFound, match="no longer what was to be copied"):
        await bucket.rewrite(bucket, "k", "copy")
    assert gcs.names(bucket.name) == ["k"]


def test_conditions():
    assert condition_of(OVERWRITE, "k") == {}
    assert condition_of(ABSENT, "k") == {"ifGenerationMatch": "0"}
    assert condition_of(Version("17"), "k") == {"ifGenerationMatch": "17"}
    with pytest.raises(PreconditionFailed):
        condition_of(Version("0"), "k")


@pytest.mark.parametrize("answer", [{}, {"generation": None}, {"generation": "x"}])
def test_an_answer_without_a_generation_is_not_googles(answer):
    with pytest.raises(ObjectsError, match="names no generation"):
        generation_in(answer, "gs://b/k")

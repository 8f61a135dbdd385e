"""Parts: cut without loss, growing, and what becomes of conditions at the end of an upload. (Uploads themselves: test_s3.)"""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.kit.servers import make_bucket
from tests.kit.unreliable import Unreliable, said
from towline.stores.objects import s3_multipart
from towline.stores.objects.base import ABSENT, OVERWRITE, ObjectsError, PreconditionFailed, Version
from towline.stores.objects.retry import Policy, Retry
from towline.stores.objects.s3_client import Access, Clients, Wire
from towline.stores.objects.s3_encryption import Encryption
from towline.stores.objects.s3_multipart import Honours, Upload, chained, drop, insist, parts_of, put_spooled, upload_parts

PIECES = st.lists(st.binary(max_size=40), max_size=12)


async def several(pieces):
    for piece in pieces:
        yield piece


async def listed(parts):
    return [part async for part in parts]


@given(PIECES, st.integers(1, 30))
def test_parts_are_of_one_size_and_nothing_is_lost(pieces, size):
    parts = asyncio.run(listed(parts_of(several(pieces), size)))
    assert b"".join(parts) == b"".join(pieces)
    assert all(len(part) == size for part in parts[:-1])
    assert all(0 < len(part) <= size for part in parts)


@given(PIECES)
def test_parts_grow_before_there_are_too_many(pieces):
    old, s3_multipart._GROWTH = s3_multipart._GROWTH, 3
    try:
        parts = asyncio.run(listed(parts_of(several(pieces), 2)))
    finally:
        s3_multipart._GROWTH = old
    assert b"".join(parts) == b"".join(pieces)
    assert all(len(part) == 2 << min(i // 3, 8) for i, part in enumerate(parts[:-1]))


def test_ten_thousand_parts_hold_the_largest_object():
    most = sum((8 << 20) << min(n // s3_multipart._GROWTH, 8) for n in range(s3_multipart.PARTS_MAX))
    assert most > 5 << 40


async def test_a_wide_memoryview_is_bytes():
    wide = memoryview(bytes(range(32))).cast("I")
    assert b"".join(await listed(parts_of(several([wide]), 5))) == bytes(range(32))


async def test_chained():
    rest = several([b"3", b"4"])
    assert await listed(chained([b"1", b"2"], rest)) == [b"1", b"2", b"3", b"4"]
    rest = several([b"3", b"4"])
    chain = chained([b"1"], rest)
    assert await anext(chain) == b"1"
    assert await anext(chain) == b"3"
    await chain.aclose()
    assert await listed(rest) == []


async def test_insisting_outlives_being_cancelled_and_tells_nothing():
    began, go, done = asyncio.Event(), asyncio.Event(), []

    async def work():
        began.set()
        await go.wait()
        done.append(1)
        raise ObjectsError("told to nobody")

    task = asyncio.create_task(insist(work()))
    await began.wait()
    task.cancel()
    await asyncio.sleep(0)
    assert not task.done()
    go.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert done == [1]
    await insist(work())
    assert done == [1, 1]


async def test_an_upload_that_is_given_up_while_it_begins_is_aborted(moto, bucket):
    async with Unreliable(moto) as between:
        wire = wire_of(between.server, bucket, "given-up")
        upload = asyncio.create_task(upload_parts(wire, "k", several([b"x"]), OVERWRITE, in_flight=1))
        while not between.count("POST", "uploads"):
            await asyncio.sleep(0)
        upload.cancel()
        with pytest.raises(asyncio.CancelledError):
            await upload
        assert between.count("DELETE", "uploadId") == 1
        assert await names(wire) == []
        await wire.clients.close()


def wire_of(server, bucket, prefix):
    access = Access(server.endpoint, "us-east-1", server.access, server.secret)
    return Wire(bucket, prefix, Clients(access), Encryption(), Retry(Policy(first_s=0.001, longest_s=0.01, attempts=3)))


@pytest.fixture(scope="session")
def bucket(moto):
    return make_bucket(moto)


@pytest.fixture
async def wire(moto, bucket, request):
    wire = wire_of(moto, bucket, request.node.name.translate({91: "-", 93: "-"}))
    yield wire
    await wire.clients.close()


async def names(wire):
    connection = await wire.clients.get()
    found = await connection.client.list_objects_v2(Bucket=wire.bucket, Prefix=wire.full(""))
    pending = await connection.client.list_multipart_uploads(Bucket=wire.bucket, Prefix=wire.full(""))
    return [one["Key"] for one in [*found.get("Contents", ()), *pending.get("Uploads", ())]]


@pytest.mark.parametrize(("when", "honoured"), [(OVERWRITE, True), (ABSENT, True), (Version("x"), False)])
async def test_moto_minds_one_condition_at_the_end_of_an_upload(wire, when, honoured):
    honours = Honours()
    assert await honours.ask(wire, when) is honoured
    assert await honours.ask(wire, when) is honoured
    assert await names(wire) == []


async def test_ceph_minds_none(ceph):
    bucket = await asyncio.to_thread(make_bucket, ceph)
    wire = wire_of(ceph, bucket, "x")
    honours = Honours()
    assert [await honours.ask(wire, when) for when in (OVERWRITE, ABSENT, Version("x"))] == [True, False, False]
    assert await names(wire) == []
    await wire.clients.close()


async def test_a_question_that_fails_is_asked_again_and_leaves_nothing(moto, bucket):
    async with Unreliable(moto) as between:
        wire = wire_of(between.server, bucket, "asked")
        honours = Honours()
        between.plan("POST", said(403, "AccessDenied"), where="uploadId")
        with pytest.raises(ObjectsError, match="access is denied"):
            await honours.ask(wire, ABSENT)
        assert await names(wire) == []
        assert await honours.ask(wire, ABSENT)
        await wire.clients.close()


async def test_what_has_ended_cannot_be_dropped(wire):
    upload = await Upload.begin(wire, "k")
    assert await drop(wire, "k", upload.id)
    assert not await drop(wire, "k", upload.id)
    with pytest.raises(ObjectsError, match=r"somebody has aborted it|the server failed"):
        await upload.send(1, b"x")
    await upload.abort()


async def test_spooled_puts_mind_their_condition(wire):
    version = await put_spooled(wire, "k", parts_of(several([b"abc"] * 9), 4), ABSENT)
    with pytest.raises(PreconditionFailed):
        await put_spooled(wire, "k", parts_of(several([b"x"]), 4), ABSENT)
    with pytest.raises(PreconditionFailed):
        await put_spooled(wire, "k", parts_of(several([b"x"]), 4), Version("other"))
    connection = await wire.clients.get()
    found = await connection.client.get_object(**wire.at("k"))
    assert await found["Body"].read() == b"abc" * 9
    assert found["ETag"].strip('"') == version.tag


async def test_what_is_too_large_to_spool_is_refused(wire, monkeypatch):
    monkeypatch.setattr(s3_multipart, "SINGLE_MAX", 10)
    with pytest.raises(ObjectsError, match="write it to a new key without a condition"):
        await put_spooled(wire, "k", several([b"x" * 6] * 2), ABSENT)
    assert await names(wire) == []

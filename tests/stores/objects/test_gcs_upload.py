"""Content of more than one part: order, bounds, and ends that leave nothing. (Outcomes by faults are in test_gcs.)"""

from __future__ import annotations

import asyncio

import pytest

from towline.stores.objects.base import Ambiguous, ObjectsError
from towline.stores.objects.gcs_bucket import Bucket
from towline.stores.objects.gcs_rest import Answer, Request, Rest
from towline.stores.objects.gcs_upload import GRANULE, WIDTH, Session, _insist, _Progress, composed, in_turn
from towline.stores.objects.retry import Policy, Retry
from towline.stores.objects.s3_encryption import Encryption


@pytest.fixture
async def bucket(gcs):
    async def sleep(_):
        await asyncio.sleep(0)

    gcs.calm()
    rest = Rest(gcs.endpoint, "anonymous", Retry(Policy(attempts=4), sleep=sleep))
    yield Bucket(rest, gcs.new_bucket(), Encryption())
    await rest.close()
    gcs.calm()


async def parts(*sizes):
    for number, size in enumerate(sizes):
        yield bytes([number]) * size


async def test_so_many_parts_are_under_way_and_no_more(bucket, monkeypatch):
    """The source is asked for another part only when one of those before has arrived."""
    insert, waiting, taken, most = bucket.insert, asyncio.Event(), 0, 0

    async def held(name, part):
        nonlocal most
        await waiting.wait()
        return await insert(name, part)

    async def source():
        nonlocal taken, most
        async for part in parts(*[10] * 20):
            taken += 1
            yield part

    monkeypatch.setattr(bucket, "insert", held)
    upload = asyncio.create_task(composed(bucket, "k", source(), "tmp/", {}))
    for _ in range(50):
        await asyncio.sleep(0)
    assert taken == WIDTH
    waiting.set()
    await upload
    assert await bucket.read("k") == b"".join([part async for part in parts(*[10] * 20)])


@pytest.mark.parametrize("cut", ["raised", "cancelled"])
async def test_a_part_that_is_still_being_stored_when_the_upload_is_given_up_leaves_nothing(bucket, gcs, cut):
    """Its request has arrived: to break it off and delete what it has not made yet would leave it for ever."""
    gcs.fault("POST .*name=tmp", answer=-1, delay_s=0.2, times=2)

    async def source():
        for part in (b"1", b"2"):
            yield part
        for _ in range(2000):
            await asyncio.sleep(0)
        if cut == "raised":
            raise ZeroDivisionError
        upload.cancel()
        await asyncio.Event().wait()

    upload = asyncio.ensure_future(composed(bucket, "k", source(), "tmp/", {}))
    with pytest.raises(ZeroDivisionError if cut == "raised" else asyncio.CancelledError):
        await upload
    assert gcs.names(bucket.name) == []
    assert len([line for line in gcs.requests() if "name=tmp" in line and line.endswith("-> 200")]) == 2


async def test_many_rounds_of_composing_keep_the_order(bucket, gcs, monkeypatch):
    monkeypatch.setattr("towline.stores.objects.gcs_upload.COMPOSE_MAX", 3)
    sizes = [n % 7 + 1 for n in range(40)]
    await composed(bucket, "k", parts(*sizes), "tmp/", {"ifGenerationMatch": "0"})
    assert gcs.peek(bucket.name, "k") == b"".join([part async for part in parts(*sizes)])
    assert gcs.names(bucket.name) == ["k"]


async def test_one_part_that_cannot_be_written_ends_it_all(bucket, gcs):
    gcs.fault("multipart", skip=5, answer=403)
    with pytest.raises(ObjectsError, match="access was refused"):
        await composed(bucket, "k", parts(*[5] * 20), "tmp/", {})
    assert gcs.names(bucket.name) == []


async def test_tidying_up_is_not_stopped_by_another_cancellation(bucket, gcs):
    waiting = asyncio.Event()

    async def source():
        async for part in parts(5, 5, 5, 5, 5, 5):
            yield part
        waiting.set()
        await asyncio.Event().wait()

    upload = asyncio.create_task(composed(bucket, "k", source(), "tmp/", {}))
    await waiting.wait()
    gcs.fault("DELETE", answer=503, times=3)
    for _ in range(20):
        upload.cancel()
        await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError):
        await upload
    assert gcs.names(bucket.name) == []


async def test_what_tidying_up_raises_is_its_own_affair():
    async def fails():
        raise ObjectsError("no")

    await _insist(fails())

    async def bug():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await _insist(bug())


async def test_a_session_that_is_given_up_is_cancelled(bucket, gcs):
    async def source():
        async for part in parts(GRANULE, GRANULE):
            yield part
        raise KeyError

    with pytest.raises(KeyError):
        await in_turn(bucket, "k", source(), {})
    (cancelled,) = [line for line in gcs.requests() if line.startswith("DELETE")]
    assert cancelled.endswith("-> 499")
    assert gcs.names(bucket.name) == []


async def test_a_session_that_the_service_has_forgotten(bucket, gcs):
    session = await Session.begin(bucket, "k", {})
    await session.send(b"x" * GRANULE)
    await session.cancel()
    await session.cancel()
    with pytest.raises(ObjectsError, match="no longer knows the upload session"):
        await session.send(b"x" * GRANULE)


async def test_a_service_that_lost_what_it_had_is_not_believed():
    progress = _Progress(2 * GRANULE, b"x" * GRANULE, None)

    async def once(request):
        return Answer(308, {"Range": f"bytes=0-{GRANULE - 1}"}, b"")

    with pytest.raises(ObjectsError, match="keeps 262144 bytes of what had to be 524288"):
        await progress.advance(once, Request("PUT", "http://x/", "gs://b/k"))


async def test_the_content_of_a_session_is_verified_at_its_end(bucket, gcs):
    gcs.fault("PUT", flip=True, skip=1)
    with pytest.raises(ObjectsError, match="arrived broken") as caught:
        await in_turn(bucket, "k", parts(GRANULE, GRANULE, 5), {"ifGenerationMatch": "0"})
    assert not isinstance(caught.value, Ambiguous)
    assert gcs.names(bucket.name) == []

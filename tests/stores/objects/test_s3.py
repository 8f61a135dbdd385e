"""S3: the contract on moto and on a Ceph gateway, and what only a server has (keys, lost answers, throttling, signatures)."""

from __future__ import annotations

import asyncio
import itertools
import os
import urllib.error
import urllib.request
from functools import partial

import pytest
from botocore.exceptions import ClientError
from hypothesis import settings

from tests.kit.objects_contract import ObjectsContract, collected, content
from tests.kit.objects_machine import SETTINGS, ObjectsMachine
from tests.kit.servers import bare, make_bucket
from tests.kit.unreliable import CUT, LOST, SPOILED, UNSENT, Unreliable, busy, failed, said
from towline.engine.errors import UsageError
from towline.stores.objects import s3
from towline.stores.objects.base import ABSENT, OVERWRITE, Ambiguous, NotFound, ObjectsError, PreconditionFailed
from towline.stores.objects.probe import probe
from towline.stores.objects.retry import Policy, Retry
from towline.stores.objects.s3 import S3Objects
from towline.stores.objects.s3_client import Access
from towline.stores.objects.s3_encryption import Encryption
from towline.stores.store import Store

PART = 64 << 10
QUICK = Retry(Policy(first_s=0.001, longest_s=0.01, attempts=5))
_serial = itertools.count()


def access(server, **other):
    return Access(**{"endpoint": server.endpoint, "region": "us-east-1", "key": server.access, "secret": server.secret, **other})


def place(server, bucket, **options):
    """A new, empty place."""
    options = {"access": access(server), "part_bytes": PART, "retry": QUICK, **options}
    return S3Objects(bucket, f"runs/{next(_serial)}", **options)


def name_of(objects, key):
    return f"{objects.url.split('/', 3)[3]}/{key}"


async def look(server, bucket, name):
    """The stored bytes, read by a client of its own."""
    async with bare(server) as client:
        return await stored(client, bucket, name)


async def stored(client, bucket, name):
    """What a bare client finds; None if there is nothing."""
    try:
        answer = await client.get_object(Bucket=bucket, Key=name)
    except ClientError as error:
        if error.response["Error"]["Code"] == "NoSuchKey":
            return None
        raise
    return await answer["Body"].read()


async def several(data, size=PART):
    """The data in pieces."""
    for at in range(0, len(data), size):
        yield data[at : at + size]


async def uploads(objects):
    return [u async for u in objects.unfinished()]


@pytest.fixture(scope="session")
def moto_bucket(moto):
    return make_bucket(moto)


@pytest.fixture(scope="session")
def ceph_bucket(ceph):
    return make_bucket(ceph)


class Contract(ObjectsContract):
    """On a real server. A subclass gives the fixture `server`: where it is, and a bucket."""

    many = 250

    @pytest.fixture(autouse=True)
    def short_pages(self, monkeypatch):
        """Pages that are shorter than the server's own are as good, and quicker to fill."""
        monkeypatch.setattr(s3, "PAGE", 100)

    @pytest.fixture
    async def objects(self, server):
        objects = place(*server)
        async with bare(server[0]) as client:
            self.stored = partial(stored, client, server[1])
            yield objects
        await objects.close()

    async def peek(self, objects, key):
        return await self.stored(name_of(objects, key))


class TestMoto(Contract):
    @pytest.fixture
    def server(self, moto, moto_bucket):
        return moto, moto_bucket


class TestCeph(Contract):
    @pytest.fixture
    def server(self, ceph, ceph_bucket):
        return ceph, ceph_bucket


class AgainstTheModel(ObjectsMachine):
    where = None

    def make(self):
        return place(*self.where, part_bytes=5)

    def conditioned(self, key, which, act):
        """Here a version comes back with its bytes: such a replace succeeds, and the model's does not."""
        if known := self.versions.get(key):
            then = known[-1 - which % len(known)]
            now = self.both(lambda o: o.head(key))
            if not isinstance(now[0], type) and (now[0].version == then[0]) != (now[1].version == then[1]):
                return
        super().conditioned(key, which, act)


@pytest.fixture
def machine_place(moto, moto_bucket):
    AgainstTheModel.where = moto, moto_bucket


TestAgainstTheModel = pytest.mark.usefixtures("machine_place")(AgainstTheModel.TestCase)
TestAgainstTheModel.settings = settings(SETTINGS, max_examples=5, stateful_step_count=20)


@pytest.fixture(params=["moto", "ceph"])
async def objects(request):
    """A place on each server."""
    server, bucket = request.getfixturevalue(request.param), request.getfixturevalue(f"{request.param}_bucket")
    objects = place(server, bucket)
    yield objects
    await objects.close()


@pytest.fixture
async def between(moto):
    async with Unreliable(moto) as between:
        yield between


@pytest.fixture
async def shaky(between, moto_bucket):
    """A place behind the proxy."""
    objects = place(between.server, moto_bucket)
    yield objects
    await objects.close()


# ------------------------------------------------------------------------------------------------------- lost answers


@pytest.mark.parametrize(("fault", "there"), [(LOST, b"1"), (UNSENT, None), (failed(), None)])
async def test_a_create_without_an_answer_is_ambiguous_and_not_repeated(between, shaky, fault, there):
    between.plan("PUT", fault)
    with pytest.raises(Ambiguous):
        await shaky.put("k", b"1", ABSENT)
    assert between.count("PUT") == 1
    found = [m.key async for m in shaky.list()]
    assert (await shaky.get("k") if found else None) == there


async def test_a_replace_without_an_answer_is_ambiguous(between, shaky):
    version = await shaky.put("k", b"1")
    between.plan("PUT", LOST)
    with pytest.raises(Ambiguous):
        await shaky.put("k", b"2", version)
    assert await shaky.get("k") == b"2"


async def test_a_plain_write_without_an_answer_is_repeated(between, shaky):
    between.plan("PUT", LOST, UNSENT, failed())
    await shaky.put("k", b"1")
    assert between.count("PUT") == 4
    assert await shaky.get("k") == b"1"


@pytest.mark.parametrize("when", [OVERWRITE, ABSENT])
async def test_a_busy_server_is_asked_again(between, shaky, when):
    between.plan("PUT", busy(), busy(), said(503, "ServiceUnavailable"), said(409, "ConditionalRequestConflict"))
    await shaky.put("k", b"1", when)
    assert between.count("PUT") == 5
    assert await shaky.get("k") == b"1"


async def test_a_busy_server_is_given_the_time_it_wants(between, moto_bucket):
    slept = []

    async def sleep(seconds):
        slept.append(seconds)

    objects = place(between.server, moto_bucket, retry=Retry(sleep=sleep, chance=lambda: 0.0))
    between.plan("PUT", busy(3))
    await objects.put("k", b"1")
    assert slept == [3]
    await objects.close()


async def test_what_a_busy_server_refused_may_still_be_what_is_met(between, shaky):
    await shaky.put("k", b"1")
    between.plan("PUT", busy())
    with pytest.raises(Ambiguous):
        await shaky.put("k", b"1", ABSENT)
    between.plan("PUT", said(409, "ConditionalRequestConflict"))
    with pytest.raises(PreconditionFailed):
        await shaky.put("k", b"2", ABSENT)


async def test_reads_are_repeated_until_they_are_whole(between, shaky):
    data = content(3 * PART)
    await shaky.put("k", data)
    between.plan("GET", CUT, LOST, failed(), busy())
    assert await shaky.get("k") == data
    between.plan("GET", CUT, CUT, CUT)
    assert await collected(shaky.download("k")) == data
    between.plan("HEAD", LOST, failed())
    assert (await shaky.head("k")).size == len(data)
    between.plan("GET", LOST, where="list-type")
    assert [m.key async for m in shaky.list()] == ["k"]


async def test_a_server_that_stays_away_is_given_up(between, shaky):
    between.plan("GET", *[failed() for _ in range(9)])
    with pytest.raises(ObjectsError, match=r"cannot read s3://.*/k: the server failed \(500 InternalError\)"):
        await shaky.get("k")
    assert between.count("GET") == QUICK.policy.attempts


async def test_bytes_that_arrive_spoiled_are_sent_again(ceph, ceph_bucket):
    async with Unreliable(ceph) as between:
        objects = place(between.server, ceph_bucket)
        data = content(3 * PART)
        between.plan("PUT", SPOILED)
        await objects.put("k", data[:PART], ABSENT)
        between.plan("PUT", SPOILED, where="partNumber")
        await objects.upload("long", several(data))
        assert between.plans == []
        assert await objects.get("k") == data[:PART]
        assert await objects.get("long") == data
        await objects.close()


async def test_writes_carry_the_one_checksum_that_all_servers_know(between, shaky):
    """And nothing that older servers stumble over, or that costs another round trip."""
    await shaky.put("k", b"1")
    await shaky.upload("long", several(content(3 * PART)))
    await shaky.delete_many(["k"])
    wrote = [h for line, h in zip(between.seen, between.headers, strict=True) if line.startswith("PUT") or "?delete" in line]
    assert len(wrote) == 5
    for headers in wrote:
        assert "content-md5" in headers
        assert not [name for name in headers if name.startswith(("x-amz-checksum", "x-amz-sdk", "x-amz-trailer", "expect"))]
        assert "aws-chunked" not in headers.get("content-encoding", "")


# ------------------------------------------------------------------------------------------------------------- uploads


@pytest.mark.parametrize("when", [OVERWRITE, ABSENT])
async def test_an_upload_whose_end_was_not_answered_knows_that_it_is_there(between, shaky, when):
    data = content(3 * PART)
    between.plan("POST", LOST, where="uploadId")
    if when is ABSENT:
        between.plans.clear()
        await shaky.upload("first", several(data), when)  # asks once whether conditions are minded at the end
        between.plan("POST", LOST, where="uploadId")
    version = await shaky.upload("k", several(data), when)
    assert between.plans == []
    assert (await shaky.head("k")).version == version
    assert await shaky.get("k") == data


async def test_an_upload_whose_end_was_not_carried_out_is_none(between, shaky):
    between.plan("POST", UNSENT, where="uploadId")
    with pytest.raises(ObjectsError, match="nothing was written") as caught:
        await shaky.upload("k", several(content(3 * PART)))
    assert not isinstance(caught.value, Ambiguous)
    assert [m async for m in shaky.list()] == await uploads(shaky) == []


async def test_an_upload_that_nobody_can_tell_of_is_ambiguous(between, shaky):
    between.plan("POST", UNSENT, where="uploadId")
    between.plan("DELETE", said(404, "NoSuchUpload"))
    with pytest.raises(Ambiguous):
        await shaky.upload("k", several(content(3 * PART)))


async def test_an_upload_that_may_not_go_on_leaves_nothing(between, shaky):
    between.plan("PUT", said(403, "AccessDenied"), where="partNumber=2")
    with pytest.raises(ObjectsError, match="access is denied"):
        await shaky.upload("k", several(content(9 * PART)))
    assert [m async for m in shaky.list()] == await uploads(shaky) == []


async def test_what_could_not_be_aborted_is_found_and_dropped(between, shaky, monkeypatch):
    monkeypatch.setattr(s3, "PAGE", 2)
    for key in "abcde":
        between.plan("PUT", said(403, "AccessDenied"), where="partNumber=2")
        between.plan("DELETE", said(403, "AccessDenied"))
        with pytest.raises(ObjectsError):
            await shaky.upload(f"x/{key}", several(content(2 * PART)))
    found = await uploads(shaky)
    assert [u.key for u in found] == ["x/a", "x/b", "x/c", "x/d", "x/e"]
    await shaky.abort(found)
    assert await uploads(shaky) == []


async def test_parts_go_side_by_side_and_memory_is_bounded(between, shaky):
    """While no part is answered, no more than `width` are sent and no more than those and two are taken from the source."""
    taken = 0

    async def pieces():
        nonlocal taken
        for _ in range(12):
            taken += 1
            yield content(PART)

    between.gate.clear()
    upload = asyncio.create_task(shaky.upload("k", pieces()))
    while len(between.under_way) < shaky.width:
        await asyncio.sleep(0)
    # a whole request of another kind passes meanwhile: whatever could still be sent has been
    with pytest.raises(NotFound):
        await shaky.head("k")
    assert len(between.under_way) == shaky.width
    assert taken <= shaky.width + 2
    between.gate.set()
    await upload
    assert await shaky.get("k") == content(PART) * 12


async def test_more_connections_than_there_are_wait_in_line(between, shaky, monkeypatch):
    await asyncio.gather(*(shaky.put(f"k/{i}", b"") for i in range(200)))
    assert len([m async for m in shaky.list("k/")]) == 200


async def test_the_way_of_large_files_works_with_real_parts(moto, moto_bucket):
    objects = place(moto, moto_bucket, part_bytes=5 << 20)
    data = os.urandom(1 << 20) * 21
    await objects.upload("k", several(data, 3 << 20), ABSENT)
    assert await collected(objects.download("k")) == data
    await objects.close()


# ---------------------------------------------------------------------------------------------------------------- copies


async def test_copies_pass_no_byte_through_here(between, shaky):
    data = content(40 * PART)
    await shaky.put("k", data)
    before = between.count("GET")
    await shaky.copy(shaky, "k", "whole")
    shaky.copy_bytes = PART
    await shaky.copy(shaky, "k", "parts")
    await shaky.copy(shaky, "k", "new", ABSENT)
    with pytest.raises(PreconditionFailed):
        await shaky.copy(shaky, "k", "new", ABSENT)
    assert between.count("GET") == before
    for key in ("whole", "parts", "new"):
        assert await shaky.get(key) == data
    assert await uploads(shaky) == []


async def test_a_copy_that_we_may_not_make_is_streamed(between, shaky):
    await shaky.put("k", b"1")
    between.plan("PUT", said(403, "AccessDenied"))
    await shaky.copy(shaky, "k", "k2")
    assert await shaky.get("k2") == b"1"


async def test_a_source_that_changes_under_a_copy_is_noticed(between, shaky):
    shaky.copy_bytes = PART
    await shaky.put("k", content(70 * PART))
    between.gate.clear()
    copy = asyncio.create_task(shaky.copy(shaky, "k", "k2"))
    while not between.under_way:
        await asyncio.sleep(0)
    await shaky.put("k", content(70 * PART, seed=1))
    between.gate.set()
    with pytest.raises(ObjectsError, match=r"replaced meanwhile|not as the write demands"):
        await copy
    with pytest.raises(NotFound):
        await shaky.head("k2")
    assert await uploads(shaky) == []


async def test_between_servers_a_copy_is_streamed(moto, moto_bucket, ceph, ceph_bucket):
    here, there = place(moto, moto_bucket), place(ceph, ceph_bucket)
    data = content(3 * PART + 1)
    await there.put("k", data)
    await here.copy(there, "k", "k")
    assert await here.get("k") == data
    await here.close()
    await there.close()


# ------------------------------------------------------------------------------------------------------------ encryption


async def test_without_the_key_nothing_can_be_read(ceph, ceph_bucket):
    """(moto takes the key and ignores it.)"""
    data = content(3 * PART + 1)
    secret = place(ceph, ceph_bucket, encryption=Encryption.by_key(os.urandom(32)))
    await secret.put("k", data)
    await secret.upload("long", several(data))
    await secret.copy(secret, "long", "copy")
    for key in ("k", "long", "copy"):
        assert await secret.get(key) == await collected(secret.download(key)) == data
        assert (await secret.head(key)).size == len(data)
        with pytest.raises(ClientError):
            await look(ceph, ceph_bucket, name_of(secret, key))
        for read in (secret.plain.get(key), secret.plain.head(key), collected(secret.plain.download(key))):
            with pytest.raises(ObjectsError, match="the server refuses"):
                await read
    other = S3Objects(
        ceph_bucket, name_of(secret, "")[:-1], access=access(ceph), encryption=Encryption.by_key(os.urandom(32)), retry=QUICK
    )
    with pytest.raises(ObjectsError, match="perhaps it was encrypted with another key"):
        await other.get("k")
    await other.close()
    await secret.close()


async def test_what_has_its_own_key_cannot_be_signed(objects):
    secret = S3Objects("bucket", encryption=Encryption.by_key(bytes(32)))
    with pytest.raises(ObjectsError, match="without which nobody can read it"):
        await secret.sign("k")
    assert secret.plain.plain is secret.plain is not secret
    assert secret.plain.url == secret.url
    assert objects.plain is objects


async def test_a_plain_object_beside_secret_ones_is_for_all(ceph, ceph_bucket):
    secret = place(ceph, ceph_bucket, encryption=Encryption.by_key(os.urandom(32)))
    await secret.plain.put("k", b"public")
    assert await look(ceph, ceph_bucket, name_of(secret, "k")) == b"public"
    await secret.close()


async def test_the_providers_key_is_asked_for(moto, moto_bucket):
    for encryption, want in ((Encryption.by_provider(), "AES256"), (Encryption.by_kms("some-key"), "aws:kms")):
        objects = place(moto, moto_bucket, encryption=encryption)
        await objects.put("k", b"1")
        await objects.upload("long", several(content(2 * PART + 1)))
        async with bare(moto) as client:
            for key in ("k", "long"):
                found = await client.head_object(Bucket=moto_bucket, Key=name_of(objects, key))
                assert found["ServerSideEncryption"] == want
        await objects.close()


# ----------------------------------------------------------------------------------------------------- links and places


async def test_a_signed_url_is_for_one_object_only(ceph, ceph_bucket):
    objects = place(ceph, ceph_bucket)
    await objects.put("k", b"1")
    await objects.put("other", b"2")
    url = await objects.sign("k")
    with pytest.raises(urllib.error.HTTPError, match="403"):
        await asyncio.to_thread(urllib.request.urlopen, url.replace("/k?", "/other?"))
    await objects.close()


@pytest.mark.parametrize("expires_s", [0, -1, 8 * 86400, float("inf"), float("nan")])
async def test_urls_are_signed_for_a_week_at_most(objects, expires_s):
    with pytest.raises(UsageError, match="can be signed for 1 to 604800 seconds"):
        await objects.sign("k", expires_s=expires_s)


async def test_a_bucket_that_is_not_there_is_named(objects):
    gone = S3Objects("no-such-bucket", "x", access=objects._wire.clients.access, retry=QUICK, part_bytes=PART)
    acts = [gone.get("k"), gone.head("k"), gone.put("k", b""), gone.put("k", b"", ABSENT), gone.delete_many(["k"]), probe(gone)]
    acts += [
        gone.upload("k", several(content(3 * PART))),
        collected(gone.download("k")),
        anext(gone.list()),
        anext(gone.unfinished()),
    ]
    for act in acts:
        with pytest.raises(ObjectsError, match="there is no bucket 'no-such-bucket' here: create it") as caught:
            await act
        assert not isinstance(caught.value, NotFound)
    await gone.close()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [({"secret": "x"}, "the secret does not belong to the access key"), ({"key": "x"}, "does not know the access key")],
)
async def test_wrong_credentials_are_told_apart(ceph, ceph_bucket, wrong, said):
    objects = place(ceph, ceph_bucket, access=access(ceph, **wrong))
    with pytest.raises(ObjectsError, match=said):
        await objects.get("k")
    with pytest.raises(ObjectsError, match="access is denied"):
        await objects.head("k")  # a HEAD's answer says no more
    await objects.close()


async def test_no_server_is_said_so(moto_bucket, moto):
    objects = place(moto, moto_bucket, access=access(moto, endpoint="http://127.0.0.1:9"))
    with pytest.raises(ObjectsError, match=r"no connection to the server.*check the network and AWS_ENDPOINT_URL"):
        await objects.put("k", b"1", ABSENT)
    await objects.close()


async def test_keys_that_could_not_be_deleted_are_told(between, shaky):
    await shaky.put("k", b"1")
    answer = "<DeleteResult><Error><Key>k</Key><Code>{}</Code><Message>m</Message></Error></DeleteResult>"
    between.plan("POST", _xml(answer.format("AccessDenied")), where="delete")
    with pytest.raises(ObjectsError, match=r"cannot delete .*/k: access is denied"):
        await shaky.delete_many(["k"])
    between.plan("POST", _xml(answer.format("InternalError")), _xml(answer.format("SlowDown")), where="delete")
    await shaky.delete_many(["k"])
    assert between.count("POST", "delete") == 4
    assert [m async for m in shaky.list()] == []


def _xml(text):
    from aiohttp import web

    return web.Response(text=text, content_type="application/xml")


async def test_many_keys_are_deleted_in_pages(between, shaky, monkeypatch):
    monkeypatch.setattr(s3, "PAGE", 3)
    keys = [f"k/{i}" for i in range(10)]
    await asyncio.gather(*(shaky.put(key, b"") for key in keys))
    assert [m.key async for m in shaky.list("k/", "k/1")] == keys[2:]
    await shaky.delete_many(keys[1:])
    assert between.count("POST", "delete") == 3
    assert [m.key async for m in shaky.list()] == keys[:1]


async def test_what_others_left_at_the_place_is_listed(moto, moto_bucket):
    objects = place(moto, moto_bucket)
    async with bare(moto) as client:
        for name in ("", "a file", "k"):
            await client.put_object(Bucket=moto_bucket, Key=name_of(objects, name), Body=b"")
    assert [m.key async for m in objects.list()] == ["a file", "k"]
    await objects.close()


async def test_a_whole_bucket_may_be_the_place(moto, moto_bucket):
    objects = S3Objects(moto_bucket, access=access(moto), retry=QUICK)
    await objects.put("at-the-top", b"1")
    assert await look(moto, moto_bucket, "at-the-top") == b"1"
    assert "at-the-top" in [m.key async for m in objects.list("at")]
    await objects.delete_many(["at-the-top"])
    await objects.close()


async def test_a_store_is_opened_by_its_url_and_the_environment(objects, monkeypatch):
    found = objects._wire.clients.access
    for name, value in (("ENDPOINT_URL_S3", found.endpoint), ("ACCESS_KEY_ID", found.key), ("SECRET_ACCESS_KEY", found.secret)):
        monkeypatch.setenv(f"AWS_{name}", value)
    made = await Store.open(objects.url, create=True)
    again = await Store.open(objects.url.replace("s3://", "aws:us-east-1:").replace("/", ":", 1))
    assert made.uuid == again.uuid
    assert [m.key async for m in objects.list()] == ["towline.json"]
    await made.close()
    await again.close()


async def test_a_place_that_does_not_keep_its_word_is_refused(swift, monkeypatch):
    bucket = "towline-liar"
    async with bare(swift) as client:
        await client.create_bucket(Bucket=bucket)
    for name, value in swift.environment().items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match=r"does not honour conditional .* no run can be led from it"):
        await Store.open(f"s3://{bucket}/x", create=True)
    objects = S3Objects(bucket)
    assert [m async for m in objects.list()] == []
    await objects.close()

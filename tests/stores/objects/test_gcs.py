"""Objects on Google Cloud Storage keep the contract: over the faithful fake, and what an emulator for plain I/O lets be seen."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import threading
from contextlib import aclosing
from typing import ClassVar

import pytest

from tests.kit.objects_contract import ObjectsContract, collected, content, odd_pieces
from tests.kit.objects_machine import SETTINGS, ObjectsMachine
from towline.engine.errors import UsageError
from towline.stores.locate import open_objects
from towline.stores.objects import gcs_bucket
from towline.stores.objects.base import ABSENT, Ambiguous, NotFound, ObjectsError, PreconditionFailed, Unfinished, Version
from towline.stores.objects.gcs import GcsObjects
from towline.stores.objects.probe import probe
from towline.stores.objects.retry import Policy, Retry
from towline.stores.objects.s3_encryption import Encryption

PART = 256 << 10
KEY = bytes(range(32))
HASH = base64.b64encode(hashlib.sha256(KEY).digest()).decode()
KEY_HEADERS = {
    "x-goog-encryption-algorithm": "AES256",
    "x-goog-encryption-key": base64.b64encode(KEY).decode(),
    "x-goog-encryption-key-sha256": HASH,
}
COLD = {"storageClass": "COLDLINE"}
"""A bucket where temporary objects cost: uploads go in turn."""


@pytest.fixture
def waits():
    """The seconds that the retry policy wanted to wait."""
    return []


@pytest.fixture
def retry(waits):
    """The one policy, in a world where waiting takes no time."""

    async def sleep(seconds):
        waits.append(seconds)
        await asyncio.sleep(0)

    return Retry(Policy(attempts=12), sleep=sleep)


@pytest.fixture
async def opened(gcs, retry):
    """Opens objects on the fake, in a new bucket if none is named; closes them, and takes back all faults."""
    gcs.calm()
    made = []

    def open_(prefix="runs/first", bucket=None, resource=None, **options):
        options = {"endpoint": gcs.endpoint, "part_bytes": PART, "retry": retry} | options
        made.append(GcsObjects(bucket or gcs.new_bucket(**(resource or {})), prefix, **options))
        return made[-1]

    yield open_
    for objects in made:
        await objects.close()
    gcs.calm()


def bucket_of(objects):
    return objects.url.split("/")[2]


def sent(gcs, *words):
    """The requests that bear all these words."""
    return [line for line in gcs.requests() if all(word in line for word in words)]


class OverTheFake(ObjectsContract):
    many = 250

    @pytest.fixture(autouse=True)
    def short_pages(self, monkeypatch):
        monkeypatch.setattr(gcs_bucket, "PAGE", 100)

    @pytest.fixture(autouse=True)
    def server(self, gcs):
        self.gcs = gcs

    async def peek(self, objects, key):
        assert objects.url.endswith("runs/first")
        found = await asyncio.to_thread(self.gcs.peek, bucket_of(objects), f"runs/first/{key}", self.headers)
        return found

    headers: ClassVar[dict[str, str]] = {}


class TestComposed(OverTheFake):
    """The usual bucket: what is large goes out as several objects at once."""

    @pytest.fixture
    async def objects(self, opened):
        return opened()

    async def test_nothing_else_is_in_the_bucket(self, objects):
        await objects.upload("k", odd_pieces(content(5 * PART), PART))
        assert self.gcs.names(bucket_of(objects)) == ["runs/first/k"]
        assert sent(self.gcs, "POST", "/compose")


class TestInTurn(OverTheFake):
    """A bucket where temporary objects cost: what is large goes through a resumable session."""

    @pytest.fixture
    async def objects(self, opened):
        return opened(resource=COLD)

    async def test_it_is_one_session(self, objects):
        await objects.upload("k", odd_pieces(content(5 * PART + 1), PART))
        assert not sent(self.gcs, "/compose")
        assert len(sent(self.gcs, "PUT", "upload_id")) == 6


class TestUnderAKey(OverTheFake):
    """Encrypted by a key of our own."""

    headers: ClassVar[dict[str, str]] = KEY_HEADERS

    @pytest.fixture
    async def objects(self, opened):
        return opened(encryption=Encryption.by_key(KEY))

    async def fetch(self, objects, url):
        pytest.skip("what only our key opens has no URL for strangers")

    async def test_a_signed_url_leads_to_the_object(self, objects):
        with pytest.raises(ObjectsError, match="no URL alone"):
            await objects.sign("k")


class TestPlainInputAndOutput:
    """gcp-storage-emulator: somebody else's reading of the API. It minds no condition and pages nothing."""

    @pytest.fixture
    async def objects(self, plain_gcs):
        objects = GcsObjects(plain_gcs.new_bucket(), "p", endpoint=plain_gcs.endpoint, part_bytes=PART)
        yield objects
        await objects.close()

    @pytest.mark.parametrize("size", [0, 1, PART - 1, PART, PART + 1, 3 * PART + 5])
    async def test_what_goes_in_comes_out(self, objects, plain_gcs, size):
        data = content(size)
        version = await objects.upload("a/k", odd_pieces(data, PART))
        assert plain_gcs.peek(bucket_of(objects), "p/a/k") == data
        assert (await objects.head("a/k"))[1:3] == (size, version)
        assert await objects.get("a/k") == data
        assert await objects.get("a/k", 1, 7) == data[1:8]
        assert await collected(objects.download("a/k")) == data
        await objects.copy(objects, "a/k", "b")
        assert plain_gcs.peek(bucket_of(objects), "p/b") == data

    async def test_keys(self, objects):
        for key in ("x/1", "x/2", "y"):
            await objects.put(key, key.encode())
        assert {m.key async for m in objects.list("x/")} == {"x/1", "x/2"}
        assert {m.key async for m in objects.list("", "x/1")} == {"x/2", "y"}
        await objects.delete_many(["x/1", "x/2", "nothing"])
        assert [m.key async for m in objects.list()] == ["y"]
        with pytest.raises(NotFound):
            await objects.get("x/1")


async def test_the_probe_believes_the_fake(gcs, opened):
    objects = opened()
    await probe(objects)
    assert gcs.names(bucket_of(objects)) == []


async def test_the_probe_finds_out_who_minds_no_condition(plain_gcs):
    objects = GcsObjects(plain_gcs.new_bucket(), endpoint=plain_gcs.endpoint)
    with pytest.raises(UsageError, match="does not honour conditional create"):
        await probe(objects)
    await objects.close()


class AgainstTheModel(ObjectsMachine):
    """Its fake is its own: hypothesis knows no fixtures."""

    def make(self):
        return GcsObjects(self.gcs.new_bucket(), endpoint=self.gcs.endpoint, part_bytes=PART)


@pytest.fixture(scope="class")
def given_fake(request, gcs):
    AgainstTheModel.gcs = gcs


@pytest.mark.usefixtures("given_fake")
class TestAgainstTheModel(AgainstTheModel.TestCase):
    settings = SETTINGS


# ------------------------------------------------------------------------------------------------------- lost answers


@pytest.mark.parametrize("answer", [0, 500, 503], ids=["dropped", "500", "503"])
async def test_a_lost_answer_of_a_conditional_write_is_ambiguous_and_nothing_is_sent_again(gcs, opened, answer):
    objects = opened()
    gcs.fault("uploadType=multipart", carry_out=True, answer=answer)
    with pytest.raises(Ambiguous):
        await objects.put("k", b"1", ABSENT)
    assert gcs.peek(bucket_of(objects), "runs/first/k") == b"1"
    version = (await objects.head("k")).version
    gcs.fault("uploadType=multipart", answer=answer)
    with pytest.raises(Ambiguous):
        await objects.put("k", b"2", version)
    assert gcs.peek(bucket_of(objects), "runs/first/k") == b"1"
    assert len(sent(gcs, "uploadType=multipart")) == 2


async def test_an_unconditional_write_is_sent_again(gcs, opened, waits):
    objects = opened()
    gcs.fault("uploadType=multipart", carry_out=True)
    gcs.fault("uploadType=multipart", answer=503, retry_after="7")
    version = await objects.put("k", b"1")
    assert (await objects.head("k")).version == version
    assert len(waits) == 2
    assert waits[1] >= 7


async def test_reads_listings_and_deletions_are_sent_again(gcs, opened):
    objects = opened()
    await objects.put("k", b"content")
    for match in ("GET /download", r"GET \S+/o/", r"GET \S+/o\?"):
        gcs.fault(match, answer=503, times=2)
        gcs.fault(match)
        gcs.fault(match, cut_at=3)
    gcs.fault("DELETE", carry_out=True)
    assert await objects.get("k") == b"content"
    assert (await objects.head("k")).size == 7
    assert [m.key async for m in objects.list()] == ["k"]
    await objects.delete_many(["k"])
    assert gcs.names(bucket_of(objects)) == []


async def test_what_the_service_says_it_did_not_do_is_sent_again_under_its_condition(gcs, opened, waits):
    objects = opened()
    gcs.fault("uploadType=multipart", answer=429, reason="rateLimitExceeded", retry_after="2", times=3)
    await objects.put("k", b"1", ABSENT)
    assert min(waits) >= 2
    gcs.fault("uploadType=multipart", answer=429, reason="rateLimitExceeded")
    with pytest.raises(PreconditionFailed):
        await objects.put("k", b"2", ABSENT)


async def test_one_key_that_is_overwritten_in_a_hurry_is_waited_for(gcs, opened):
    """The service takes about one write of it a second; here none, until somebody has waited."""

    async def sleep(_):
        gcs.settings(overwrites_per_s=None)

    objects = opened(retry=Retry(Policy(), sleep=sleep))
    version = await objects.put("k", b"0", ABSENT)
    for n in range(1, 4):
        gcs.settings(overwrites_per_s=0.001)
        version = await objects.put("k", b"%d" % n, version)
    assert gcs.peek(bucket_of(objects), "runs/first/k") == b"3"
    assert len(sent(gcs, "-> 429")) == 3


async def test_a_server_that_never_recovers_is_told(gcs, opened):
    objects = opened()
    gcs.fault(".", answer=503, times=100, message="Backend Error")
    with pytest.raises(ObjectsError, match=r"the server failed .*Backend Error") as caught:
        await objects.put("k", b"1")
    assert not isinstance(caught.value, Ambiguous)
    with pytest.raises(ObjectsError, match="503"):
        await objects.get("k")


async def test_of_many_writers_in_many_loops_one_wins(gcs, opened):
    """Each thread has a loop of its own, as the workers' have; all share one GcsObjects."""
    objects = opened()
    outcomes = []

    async def create(who):
        try:
            await objects.put("race/k", b"%d" % who, ABSENT)
        except PreconditionFailed:
            return
        outcomes.append(who)

    threads = [threading.Thread(target=lambda who=who: asyncio.run(create(who))) for who in range(8)]
    for thread in threads:
        thread.start()
    await asyncio.gather(*(create(who) for who in range(8, 16)))
    for thread in threads:
        await asyncio.to_thread(thread.join)
    assert len(outcomes) == 1
    assert gcs.peek(bucket_of(objects), "runs/first/race/k") == b"%d" % outcomes[0]


async def test_content_that_changes_on_its_way_is_found_and_sent_again(gcs, opened):
    objects = opened()
    data = content(5000)
    gcs.fault("uploadType=multipart", flip=True)
    await objects.put("k", data, ABSENT)
    assert gcs.peek(bucket_of(objects), "runs/first/k") == data
    gcs.fault("GET /download", flip=True)
    assert await objects.get("k") == data
    assert len(sent(gcs, "GET /download", "200")) == 3


# ------------------------------------------------------------------------------------------------------------ streams


@pytest.mark.parametrize("resource", [{}, COLD], ids=["composed", "in turn"])
async def test_a_stream_survives_what_a_network_does(gcs, opened, resource):
    objects = opened(resource=resource)
    data = content(6 * PART + 9)
    gcs.fault("POST /upload", answer=503)
    gcs.fault("(PUT|multipart)", skip=1)
    gcs.fault("(PUT|multipart)", skip=2, carry_out=True)
    gcs.fault("(PUT|multipart)", skip=3, carry_out=True, answer=500)
    gcs.fault("(PUT|multipart)", skip=4, answer=429, reason="rateLimitExceeded")
    await objects.upload("k", odd_pieces(data, PART))
    assert gcs.peek(bucket_of(objects), "runs/first/k") == data
    for skip in range(3):
        gcs.fault("GET /download", skip=skip, cut_at=1000)
    assert await collected(objects.download("k")) == data


async def test_a_session_goes_on_where_the_service_has_got_to(gcs, opened):
    objects = opened(resource=COLD, part_bytes=3 * PART)
    data = content(8 * PART + 9)
    gcs.fault("PUT", persist=PART, answer=-1)
    gcs.fault("PUT", persist=0, answer=-1)
    gcs.fault("PUT", persist=PART, answer=503)
    gcs.fault("PUT", skip=3, persist=PART, answer=503)
    await objects.upload("k", odd_pieces(data, PART), ABSENT)
    assert gcs.peek(bucket_of(objects), "runs/first/k") == data
    assert len(sent(gcs, "PUT", "-> 503")) == 2
    assert len(sent(gcs, "PUT")) == 9


async def test_the_lost_answer_of_a_sessions_end_is_settled_by_asking(gcs, opened):
    objects = opened(resource=COLD)
    gcs.fault("PUT", skip=2, carry_out=True)
    version = await objects.upload("k", odd_pieces(content(2 * PART + 9), PART), ABSENT)
    assert (await objects.head("k")).version == version


async def test_a_session_whose_end_nobody_tells_is_ambiguous(gcs, opened):
    objects = opened(resource=COLD)
    gcs.fault("PUT", skip=2, carry_out=True)
    gcs.fault("PUT", skip=2, times=100, answer=503)
    with pytest.raises(Ambiguous):
        await objects.upload("k", odd_pieces(content(2 * PART + 9), PART), ABSENT)


async def test_the_lost_answer_of_the_composing_is_ambiguous(gcs, opened):
    objects = opened()
    gcs.fault("/compose", carry_out=True)
    with pytest.raises(Ambiguous):
        await objects.upload("k", odd_pieces(content(3 * PART), PART), ABSENT)
    assert gcs.names(bucket_of(objects)) == ["runs/first/k"]


async def test_more_parts_than_one_call_composes(gcs, opened):
    objects = opened()
    data = content(70 * PART + 1)
    await objects.upload("k", odd_pieces(data, PART))
    assert hashlib.sha256(gcs.peek(bucket_of(objects), "runs/first/k")).digest() == hashlib.sha256(data).digest()
    assert len(sent(gcs, "/compose")) == 4
    assert gcs.names(bucket_of(objects)) == ["runs/first/k"]


async def test_what_was_composed_wrongly_is_found_and_deleted(gcs, opened, monkeypatch):
    objects = opened()
    whole = objects.bucket.compose
    monkeypatch.setattr(objects.bucket, "compose", lambda name, sources, *rest: whole(name, sources[:-1], *rest))
    with pytest.raises(ObjectsError, match="composed wrongly"):
        await objects.upload("k", odd_pieces(content(3 * PART), PART))
    assert gcs.names(bucket_of(objects)) == []


async def test_parts_that_a_crash_leaves_are_told_and_dropped(gcs, opened):
    """The crash: no deletion gets through."""
    objects = opened()
    await objects.put("a/other", b"1")
    gcs.fault("/compose", answer=403)
    gcs.fault("DELETE", answer=403, times=100)
    with pytest.raises(ObjectsError, match="access was refused"):
        await objects.upload("a/k", odd_pieces(content(3 * PART), PART))
    gcs.calm()
    assert len(gcs.names(bucket_of(objects))) == 4
    assert [m.key async for m in objects.list()] == ["a/other"]
    (found,) = [u async for u in objects.unfinished()]
    assert found.key == "a/k"
    assert found.started > 1e9
    assert [u async for u in objects.unfinished("a/o")] == []
    await objects.abort([found])
    assert gcs.names(bucket_of(objects)) == ["runs/first/a/other"]
    with pytest.raises(UsageError):
        await objects.abort([Unfinished("a", "../other", 0.0)])


async def test_where_we_may_not_ask_for_the_bucket_it_goes_in_turn(gcs, opened):
    objects = opened()
    gcs.fault(r"GET /storage/v1/b/[^/]+\?", answer=403)
    for key in ("a", "b"):
        await objects.upload(key, odd_pieces(content(2 * PART), PART))
    assert not sent(gcs, "/compose")
    assert len(sent(gcs, "fields=storageClass")) == 1


async def test_a_download_asks_for_one_generation_only(gcs, opened):
    objects = opened()
    first = await objects.put("k", content(4 * PART))
    async with aclosing(objects.download("k")) as pieces:
        assert await anext(pieces) == content(4 * PART)[:PART]
        await objects.put("k", content(4 * PART, 1))
        with pytest.raises(ObjectsError, match="was replaced or deleted while it was read") as caught:
            [piece async for piece in pieces]
        assert not isinstance(caught.value, NotFound)
    begun, *rest = sent(gcs, "GET /download")
    assert "generation=" not in begun
    assert rest
    assert all(f"generation={first.tag}" in line for line in rest)


async def test_copies_are_made_by_the_service_in_as_many_steps_as_it_likes(gcs, opened):
    objects, other = opened(), opened("elsewhere")
    data = content(3 * PART)
    await objects.put("k", data)
    gcs.settings(rewrite_step=PART)
    gcs.calm_log()
    await other.copy(objects, "k", "copy", ABSENT)
    assert len(sent(gcs, "rewriteTo")) == 3
    assert not sent(gcs, "/download")
    assert gcs.peek(bucket_of(other), "elsewhere/copy") == data
    with pytest.raises(PreconditionFailed):
        await other.copy(objects, "k", "copy", ABSENT)
    gcs.fault("rewriteTo", skip=2, carry_out=True)
    with pytest.raises(Ambiguous):
        await other.copy(objects, "k", "copy2", ABSENT)


async def test_what_is_stored_compressed_comes_as_it_is_stored(gcs, opened):
    """Its size and checksum speak of the stored bytes, not of what a browser would unpack."""
    import gzip

    objects = opened("")
    packed = gzip.compress(b"text" * 100)
    body = (
        b'--x\r\nContent-Type: application/json\r\n\r\n{"name": "t", "contentEncoding": "gzip"}\r\n--x\r\n\r\n'
        + packed
        + b"\r\n--x--"
    )
    upload = f"/upload/storage/v1/b/{bucket_of(objects)}/o?uploadType=multipart"
    gcs.ask("POST", upload, body, {"Content-Type": "multipart/related; boundary=x"})
    assert await objects.get("t") == await collected(objects.download("t")) == packed
    assert (await objects.head("t")).size == len(packed)


# --------------------------------------------------------------------------------------------------- what lies in a bucket


async def test_long_listings_come_in_pages(gcs, opened):
    objects = opened()
    keys = [f"n/{n:04d}" for n in range(2200)]
    for at in range(0, len(keys), 50):
        await asyncio.gather(*(objects.put(key, b"") for key in keys[at : at + 50]))
    gcs.calm()
    assert [m.key async for m in objects.list()] == keys
    assert len(sent(gcs, "GET")) == 3
    assert [m.key async for m in objects.list("n/", "n/1999")] == keys[2000:]
    assert len(sent(gcs, "GET")) == 4


async def test_a_prefix_is_a_world_of_its_own(gcs, opened):
    outer = opened("")
    inner = opened("in/side", bucket=bucket_of(outer))
    await outer.put("k", b"outer")
    await inner.put("k", b"inner")
    await outer.put("in/side-", b"")
    assert [m.key async for m in inner.list()] == ["k"]
    assert [m.key async for m in outer.list()] == ["in/side-", "in/side/k", "k"]
    assert await outer.get("in/side/k") == b"inner"
    assert inner.url == f"{outer.url}/in/side"


async def test_names_of_others_are_passed_over(gcs, opened):
    objects = opened("")
    for name in ("a%20b", "folder%2F", ".hidden%2Fk", "ok"):
        gcs.ask("POST", f"/upload/storage/v1/b/{bucket_of(objects)}/o?uploadType=media&name={name}", b"x")
    assert len(gcs.names(bucket_of(objects))) == 4
    assert [m.key async for m in objects.list()] == ["ok"]


@pytest.mark.parametrize("act", ["get", "head", "put", "list", "upload"])
async def test_a_bucket_that_is_not_there_is_told_from_an_object_that_is_not(opened, act):
    objects = opened(bucket="no-such-bucket")
    calls = {
        "get": lambda: objects.get("k"),
        "head": lambda: objects.head("k"),
        "put": lambda: objects.put("k", b""),
        "list": lambda: collected(m.key.encode() async for m in objects.list()),
        "upload": lambda: objects.upload("k", odd_pieces(content(3 * PART), PART)),
    }
    with pytest.raises(ObjectsError, match=r"gs://no-such-bucket\S*: the bucket does not exist") as caught:
        await calls[act]()
    assert not isinstance(caught.value, NotFound)


async def test_a_bucket_is_created_once(gcs, opened):
    objects = opened(bucket=f"{gcs.new_bucket()}-new", project="p1")
    await objects.create_bucket()
    await objects.create_bucket()
    await objects.put("k", b"1")
    assert len(sent(gcs, "POST /storage/v1/b?project=p1")) == 2


# ------------------------------------------------------------------------------------------------------------- keys


async def test_without_our_key_nobody_reads_it(gcs, opened):
    sealed = opened(encryption=Encryption.by_key(KEY))
    await sealed.put("k", b"secret")
    with pytest.raises(ObjectsError, match="encrypted by a customer-supplied encryption key"):
        await sealed.plain.get("k")
    await sealed.plain.put("p", b"plain")
    await sealed.copy(sealed.plain, "p", "sealed-copy")
    await sealed.plain.copy(sealed, "k", "plain-copy")
    assert gcs.peek(bucket_of(sealed), "runs/first/plain-copy") == b"secret"
    assert gcs.peek(bucket_of(sealed), "runs/first/sealed-copy", KEY_HEADERS) == b"plain"
    assert sealed.plain is sealed.plain
    assert sealed.plain.plain is sealed.plain


async def test_a_key_of_the_key_management_is_named_with_every_write(gcs, opened):
    name = "projects/p/locations/l/keyRings/r/cryptoKeys/k"
    objects = opened(encryption=Encryption.by_kms(name))
    await objects.put("one", b"1")
    await objects.upload("composed", odd_pieces(content(2 * PART), PART))
    await objects.copy(objects, "one", "copied")
    cold = opened(encryption=Encryption.by_kms(name), resource=COLD)
    await cold.upload("in-turn", odd_pieces(content(2 * PART), PART))
    for place, key in ((objects, "one"), (objects, "composed"), (objects, "copied"), (cold, "in-turn")):
        status, body = gcs.ask("GET", f"/storage/v1/b/{bucket_of(place)}/o/runs%2Ffirst%2F{key}")
        assert (status, json.loads(body)["kmsKeyName"]) == (200, f"{name}/cryptoKeyVersions/1")
    with pytest.raises(UsageError, match="projects/P/locations/L"):
        opened(encryption=Encryption.by_kms("arn:aws:kms:1"))


@pytest.mark.parametrize("options", [{"part_bytes": 1000}, {"part_bytes": 0}, {"endpoint": "storage.example"}])
async def test_settings_that_cannot_be(options):
    with pytest.raises(UsageError):
        GcsObjects("bucket", **options)


async def test_no_version_of_another_store_is_asked_for(gcs, opened):
    objects = opened()
    for tag in ("x", "0", "-1", "", "1 or 2"):
        with pytest.raises(PreconditionFailed, match="no generation"):
            await objects.put("k", b"", Version(tag))
    assert sent(gcs, "multipart") == []


async def test_locators_open_it(gcs, monkeypatch):
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", gcs.endpoint.removeprefix("http://"))
    bucket = gcs.new_bucket()
    for locator in (f"gs://{bucket}/p", f"google:project-1:{bucket}/p", f"gce:us:{bucket}:p"):
        objects = open_objects(locator)
        assert isinstance(objects, GcsObjects)
        await objects.put("k", locator.encode())
        assert gcs.peek(bucket, "p/k") == locator.encode()
        assert objects.url == f"gs://{bucket}/p"
        await objects.close()
    assert open_objects(f"google:project-1:{bucket}/p").project == "project-1"

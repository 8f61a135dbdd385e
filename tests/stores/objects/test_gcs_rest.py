"""Requests to Google: who asks, over which session, and what each failure means."""

from __future__ import annotations

import asyncio
import gzip
import json
import threading
from datetime import timedelta

import aiohttp
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from towline.engine.errors import UsageError
from towline.stores.objects import gcs_rest
from towline.stores.objects.base import ABSENT, NotFound, ObjectsError, PreconditionFailed
from towline.stores.objects.gcs import GcsObjects
from towline.stores.objects.gcs_rest import Refused, Request, Rest, Stale, judge
from towline.stores.objects.retry import Fate, Policy, Retry

REQUEST = Request("GET", "/storage/v1/b/b/o/k", "gs://b/k")


@pytest.fixture
def retry():
    async def sleep(_):
        await asyncio.sleep(0)

    return Retry(Policy(attempts=5), sleep=sleep)


@pytest.fixture
def calm(gcs):
    gcs.calm()
    yield
    gcs.calm()


def refused(status, message="", reason="", **headers):
    body = {"error": {"code": status, "message": message, "errors": [{"reason": reason, "message": message}]}}
    return Refused(status, headers, json.dumps(body).encode())


# ------------------------------------------------------------------------------------------------- what a failure means


@pytest.mark.parametrize(
    ("error", "kind", "again", "fate"),
    [
        (refused(404, "No such object: b/k"), NotFound, False, Fate.NOT),
        (Refused(404, {}, b""), NotFound, False, Fate.NOT),
        (refused(404, "The specified bucket does not exist."), ObjectsError, False, Fate.NOT),
        (refused(412, "conditionNotMet"), PreconditionFailed, False, Fate.NOT),
        (refused(429, "slow", "rateLimitExceeded"), ObjectsError, True, Fate.NOT),
        (Refused(429, {}, b"a proxy says so"), ObjectsError, True, Fate.UNLIKELY),
        (refused(403, "slow", "userRateLimitExceeded"), ObjectsError, True, Fate.NOT),
        (refused(403, "no permission", "forbidden"), ObjectsError, False, Fate.NOT),
        (refused(401, "Invalid Credentials"), ObjectsError, False, Fate.NOT),
        (refused(400, 'Provided crc32c "a" doesn\'t match calculated crc32c "b".'), ObjectsError, True, Fate.NOT),
        (refused(400, "invalid argument"), ObjectsError, False, Fate.NOT),
        (refused(408, "request timeout"), ObjectsError, True, Fate.MAYBE),
        (refused(500, "Backend Error"), ObjectsError, True, Fate.MAYBE),
        (refused(503, "Backend Error"), ObjectsError, True, Fate.MAYBE),
        (Refused(501, {}, b""), ObjectsError, False, Fate.MAYBE),
        (Stale(), ObjectsError, True, Fate.NOT),
        (TimeoutError(), ObjectsError, True, Fate.MAYBE),
        (aiohttp.ServerDisconnectedError(), ObjectsError, True, Fate.MAYBE),
        (aiohttp.ClientPayloadError("short"), ObjectsError, True, Fate.MAYBE),
        (aiohttp.ConnectionTimeoutError(), ObjectsError, True, Fate.NOT),
        (ConnectionResetError(), ObjectsError, True, Fate.MAYBE),
        (gzip.BadGzipFile("no gzip"), ObjectsError, True, Fate.MAYBE),
        (ObjectsError("no credentials"), ObjectsError, False, Fate.NOT),
    ],
)
def test_each_failure_has_one_meaning(error, kind, again, fate):
    judged = judge(error, REQUEST)
    assert type(judged.error) is kind
    assert (judged.again, judged.fate) == (again, fate)
    assert "\n" not in str(judged.error)


def test_a_bug_is_no_failure_of_the_service():
    with pytest.raises(ZeroDivisionError):
        judge(ZeroDivisionError(), REQUEST)


def test_the_service_says_when_to_come_back():
    assert judge(refused(429, "slow", "rateLimitExceeded", **{"Retry-After": "7"}), REQUEST).after_s == 7
    assert judge(refused(503, "", "", **{"Retry-After": "Fri, 31 Dec 1999 23:59:59 GMT"}), REQUEST).after_s == 0


@pytest.mark.parametrize("body", [b"", b"\xff\xfe<html>", b'{"error": "text"}', b'{"error": {"errors": []}}', b"[]", b"null"])
def test_whatever_comes_as_an_error_can_be_told(body):
    assert "gs://b/k: 503" in str(judge(Refused(503, {}, body), REQUEST).error)


async def test_nobody_listens(retry, unused_tcp_port):
    rest = Rest(f"http://127.0.0.1:{unused_tcp_port}", "anonymous", retry)
    with pytest.raises(ObjectsError, match="cannot reach the server"):
        await rest.ask(REQUEST)
    await rest.close()


async def test_what_is_no_json_is_no_google(gcs, retry, calm):
    gcs.fault("GET", cut_at=None, answer=-1)
    rest = Rest(gcs.endpoint, "anonymous", retry)
    answer = await rest.ask(Request("GET", f"/storage/v1/b/{gcs.new_bucket()}", "gs://b"))
    assert answer.json()["kind"] == "storage#bucket"
    for body in (b"<html>", b"[]"):
        with pytest.raises(ObjectsError, match="not of Google Cloud Storage"):
            answer.__class__(200, {}, body).json()
    await rest.close()


# ------------------------------------------------------------------------------------------------------- who asks


@pytest.fixture(scope="module")
def signer():
    """A service account's private key."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@pytest.fixture
def account(gcs, signer, calm):
    """A service account's key file content, whose tokens come from the fake; and the fake demands one."""
    pem = signer.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    public = signer.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    bucket = gcs.new_bucket()
    gcs.settings(token="first", signer=public.decode())
    return bucket, {
        "type": "service_account",
        "project_id": "p",
        "private_key_id": "1",
        "private_key": pem,
        "client_email": "who@p.iam.gserviceaccount.com",
        "client_id": "1",
        "token_uri": f"{gcs.endpoint}/token",
    }


async def test_the_environments_credentials_are_found_and_renewed(gcs, account, retry, monkeypatch, tmp_path):
    bucket, content = account
    file = tmp_path / "key.json"
    file.write_text(json.dumps(content))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(file))
    objects = GcsObjects(bucket, endpoint=gcs.endpoint, credentials="default", retry=retry)
    await objects.put("k", b"1", ABSENT)
    gcs.settings(token="second")
    version = await objects.put("k", b"2", (await objects.head("k")).version)
    gcs.settings(token="third")
    assert await objects.put("k", b"3", version) != version
    assert any("-> 401" in line for line in gcs.requests())
    await objects.close()


async def test_without_credentials_it_says_what_to_do(monkeypatch, tmp_path, retry):
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "nothing.json"))
    objects = GcsObjects("bucket", endpoint="https://127.0.0.1:1", retry=retry)
    for _ in range(2):
        with pytest.raises(ObjectsError, match="gcloud auth application-default login"):
            await objects.get("k")
    await objects.close()


async def test_who_is_not_let_in_is_told_so(gcs, account, retry):
    objects = GcsObjects(account[0], endpoint=gcs.endpoint, retry=retry)
    with pytest.raises(ObjectsError, match=r"access was refused .*Invalid Credentials"):
        await objects.get("k")
    await objects.close()


async def test_no_token_goes_over_plain_http_by_itself(gcs, monkeypatch):
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", gcs.endpoint)
    assert GcsObjects("bucket").bucket.rest.identity == "anonymous"
    assert GcsObjects("bucket", endpoint="https://storage.example").bucket.rest.identity == "default"
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "default")
    assert GcsObjects("bucket").bucket.rest.identity == "default"
    assert GcsObjects("bucket").bucket.rest.endpoint is None


@pytest.mark.parametrize("key", ["a/k-1.bin", "deep/er/k"])
async def test_signed_urls(gcs, account, retry, key):
    """The fake verifies them by Google's published process, with the public key."""
    from google.oauth2 import service_account

    credentials = service_account.Credentials.from_service_account_info(account[1])
    objects = GcsObjects(account[0], "p", endpoint=gcs.endpoint, credentials=credentials.with_scopes(["s"]), retry=retry)
    await objects.put(key, b"for all")
    url = await objects.sign(key, expires_s=60)
    assert "X-Goog-Expires=60" in url
    path = url.removeprefix(gcs.endpoint)
    assert gcs.ask("GET", path) == (200, b"for all")
    assert gcs.ask("GET", path.replace("k", "K"))[0] == 403
    assert gcs.ask("GET", path.replace("Expires=60", "Expires=6000"))[0] == 403
    assert gcs.ask("GET", path.partition("?")[0])[0] == 403
    for expires_s in (0.0, 8 * 86400.0):
        with pytest.raises(UsageError, match="604800"):
            await objects.sign(key, expires_s=expires_s)
    await objects.close()


async def test_who_has_no_key_cannot_sign(retry):
    objects = GcsObjects("bucket", endpoint="https://storage.example", credentials="anonymous", retry=retry)
    with pytest.raises(ObjectsError, match="cannot be signed by anonymous access"):
        await objects.sign("k")
    await objects.close()


def test_a_token_is_renewed_before_it_expires():
    class Credentials:
        valid = True
        expiry = None

    assert gcs_rest._fresh(Credentials)
    now = gcs_rest.datetime.now(gcs_rest.UTC).replace(tzinfo=None)
    Credentials.expiry = now + timedelta(seconds=600)
    assert gcs_rest._fresh(Credentials)
    Credentials.expiry = now + timedelta(seconds=200)
    assert not gcs_rest._fresh(Credentials)
    Credentials.valid = False
    assert not gcs_rest._fresh(Credentials)


# -------------------------------------------------------------------------------------------------------- sessions


async def test_each_loop_has_a_session_that_closes_with_it(gcs, retry, calm):
    bucket = gcs.new_bucket()
    rest = Rest(gcs.endpoint, "anonymous", retry)
    sessions = []

    async def once():
        await asyncio.gather(*(rest.ask(Request("GET", f"/storage/v1/b/{bucket}", "gs://b")) for _ in range(3)))
        sessions.append((await rest.client()).session)

    await once()
    for _ in range(2):
        thread = threading.Thread(target=lambda: asyncio.run(once()))
        thread.start()
        await asyncio.to_thread(thread.join)
    mine, *others = sessions
    assert len({id(session) for session in sessions}) == 3
    assert not mine.closed
    assert all(session.closed for session in others)
    await rest.close()
    assert mine.closed
    await once()
    assert not sessions[-1].closed
    await rest.close()


async def test_the_sessions_of_other_loops_are_closed_by_them(gcs, retry, calm):
    bucket = gcs.new_bucket()
    rest = Rest(gcs.endpoint, "anonymous", retry)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def once():
        await rest.ask(Request("GET", f"/storage/v1/b/{bucket}", "gs://b"))
        return (await rest.client()).session

    session = await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(once(), loop))
    await rest.close()
    assert session.closed
    loop.call_soon_threadsafe(loop.stop)
    await asyncio.to_thread(thread.join)
    loop.close()


async def test_a_cancelled_opener_leaves_the_session_to_others(gcs, retry, calm):
    rest = Rest(gcs.endpoint, "anonymous", retry)
    first, second = (asyncio.create_task(rest.client()) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    client = await second
    assert client is await rest.client()
    await rest.close()


async def test_large_bodies_go_out_whole(gcs, retry, calm):
    """Of odd buffers, in slices."""
    bucket = gcs.new_bucket()
    rest = Rest(gcs.endpoint, "anonymous", retry)
    pieces = [b"a" * 3_000_000, memoryview(b"xbx")[1:2], memoryview(bytearray(b"c" * 70_000)), b""]
    query = {"uploadType": "media", "name": "k/ü &?"}
    request = Request("POST", f"/upload/storage/v1/b/{bucket}/o", "gs://b/k", query, body=pieces)
    gcs.fault("POST", carry_out=True)
    assert (await rest.ask(request)).json()["name"] == "k/ü &?"
    assert gcs.peek(bucket, "k/ü &?") == b"".join(pieces)
    await rest.close()


@pytest.mark.parametrize("method", ["PUT", "DELETE", "GET"])
async def test_a_request_whose_connection_breaks_is_sent_once(method):
    """aiohttp would send it again by itself: a conditional write whose answer was lost would then meet its own object."""
    seen = []

    async def hang_up(reader, writer):
        seen.append((await reader.readuntil(b"\r\n\r\n")).split()[0].decode())
        writer.close()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
        rest = Rest(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", "anonymous")
        with pytest.raises(aiohttp.ServerDisconnectedError):
            await rest.once(Request(method, "/upload", "gs://b/k"))
        await rest.close()
    assert seen == [method]

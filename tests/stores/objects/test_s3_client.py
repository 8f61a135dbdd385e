"""Clients: one for every loop, closed with it; what the environment and its files say; names and conditions."""

from __future__ import annotations

import asyncio
import gc
import threading
import warnings
from datetime import UTC, datetime

import pytest

from tests.kit.servers import make_bucket
from tests.kit.unreliable import LOST, Unreliable
from towline.stores.objects import s3_client
from towline.stores.objects.base import ABSENT, OVERWRITE, Ambiguous, ObjectsError, Version
from towline.stores.objects.retry import Policy, Retry
from towline.stores.objects.s3 import S3Objects
from towline.stores.objects.s3_client import Access, Clients, Wire, condition, version_of
from towline.stores.objects.s3_encryption import Encryption

HERE = Access("http://127.0.0.1:9", "us-east-1", "key", "secret")


def own_config(monkeypatch, tmp_path, text=""):
    """An AWS configuration of the test's own, and nothing of the developer's."""
    config = tmp_path / "config"
    config.write_text(text)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)


async def signed(access):
    """A signed URL shows endpoint, addressing and key without asking any server."""
    objects = S3Objects("bucket", "x", access=access)
    try:
        return await objects.sign("k")
    finally:
        await objects.close()


async def test_concurrent_callers_share_one_client():
    clients = Clients(HERE)
    found = await asyncio.gather(*(clients.get() for _ in range(5)))
    assert len({id(connection.client) for connection in found}) == 1
    await clients.close()


async def test_after_close_there_is_a_new_one():
    clients = Clients(HERE)
    first = await clients.get()
    await clients.close()
    await clients.close()
    assert (await clients.get()).client is not first.client
    await clients.close()


def test_every_loop_has_its_own_and_closes_it(moto):
    """As blocking callers do: a loop for one call, and nobody who closes."""
    objects = S3Objects(make_bucket(moto), access=Access(moto.endpoint, "us-east-1", moto.access, moto.secret))
    faults = []

    def work(name):
        try:
            for turn in range(2):
                asyncio.run(objects.put(f"{name}/{turn}", b"1"))
        except BaseException as error:
            faults.append(error)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        threads = [threading.Thread(target=work, args=(i,)) for i in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        gc.collect()
    assert not faults
    assert [str(w.message) for w in caught if "nclosed" in str(w.message)] == []

    async def keys():
        return [m.key async for m in objects.list()]

    assert len(asyncio.run(keys())) == 6
    assert all(loop.is_closed() for loop in objects._wire.clients._entries)


async def test_close_reaches_the_loops_of_other_threads():
    clients = Clients(HERE)
    other = asyncio.new_event_loop()
    thread = threading.Thread(target=other.run_forever)
    thread.start()
    theirs = await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(clients.get(), other))
    mine = await clients.get()
    assert theirs.client is not mine.client
    await clients.close()
    for connection in (theirs, mine):
        assert connection.client._endpoint.http_session._sessions is None
    other.call_soon_threadsafe(other.stop)
    thread.join()
    other.close()


async def test_a_lost_answer_is_not_swallowed_below_us(moto, monkeypatch):
    """aiohttp sends a PUT again when its connection breaks; then nobody would learn of the first one."""
    bucket = await asyncio.to_thread(make_bucket, moto)
    async with Unreliable(moto) as between:
        objects = S3Objects(
            bucket, access=Access(between.server.endpoint, "us-east-1", "k", "s"), retry=Retry(Policy(attempts=1))
        )
        await objects.put("warm", b"")
        between.plan("PUT", LOST)
        with pytest.raises(Ambiguous):
            await objects.put("k", b"1", ABSENT)
        assert between.count("PUT") == 2
        await objects.close()


async def test_amazon_is_the_default(monkeypatch, tmp_path):
    own_config(monkeypatch, tmp_path)
    assert (await signed(HERE._replace(endpoint=None))).startswith("https://bucket.s3.amazonaws.com/x/k?")
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    url = await signed(HERE._replace(endpoint=None, region=None))
    assert url.startswith("https://bucket.s3.eu-central-1.amazonaws.com/x/k?")


@pytest.mark.parametrize("name", ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"])
async def test_the_environment_names_the_server(monkeypatch, tmp_path, name):
    own_config(monkeypatch, tmp_path)
    monkeypatch.setenv(name, "http://minio.local:9000")
    assert (await signed(HERE._replace(endpoint=None))).startswith("http://minio.local:9000/bucket/x/k?")
    monkeypatch.setenv("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true")
    assert (await signed(HERE._replace(endpoint=None))).startswith("https://bucket.s3.amazonaws.com/x/k?")


PROFILE = """
[profile lab]
region = eu-west-1
endpoint_url = http://ceph.local:7480
aws_access_key_id = profilekey
aws_secret_access_key = profilesecret
"""


async def test_a_profile_names_the_server_and_who_we_are(monkeypatch, tmp_path):
    own_config(monkeypatch, tmp_path, PROFILE)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID", raising=False)
    url = await signed(Access(profile="lab"))
    assert url.startswith("http://ceph.local:7480/bucket/x/k?")
    assert "profilekey" in url
    assert "eu-west-1" in url
    monkeypatch.setenv("AWS_PROFILE", "lab")
    assert (await signed(Access())).startswith("http://ceph.local:7480/bucket/x/k?")


async def test_a_profile_may_ask_for_host_names(monkeypatch, tmp_path):
    own_config(monkeypatch, tmp_path, PROFILE + "s3 =\n    addressing_style = virtual\n")
    assert (await signed(Access(profile="lab"))).startswith("http://bucket.ceph.local:7480/x/k?")


@pytest.mark.parametrize(
    ("access", "said"), [(Access(profile="nobody"), "nobody"), (HERE._replace(endpoint="no url"), "Invalid endpoint")]
)
async def test_nonsense_in_the_configuration_is_told(monkeypatch, tmp_path, access, said):
    own_config(monkeypatch, tmp_path)
    with pytest.raises(ObjectsError, match=rf"cannot reach S3: .*{said}.*check AWS_ENDPOINT_URL"):
        await signed(access)


async def test_no_credentials_are_told(monkeypatch, tmp_path):
    own_config(monkeypatch, tmp_path)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ObjectsError, match="there are no credentials: set AWS_ACCESS_KEY_ID"):
        await signed(HERE._replace(key=None, secret=None))


def test_who_sees_whose_objects(monkeypatch):
    monkeypatch.delenv("AWS_ENDPOINT_URL_S3", raising=False)
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    assert HERE.sees(HERE._replace(region="elsewhere"))
    assert not HERE.sees(HERE._replace(endpoint="http://127.0.0.1:10"))
    assert not HERE.sees(HERE._replace(key="other"))
    monkeypatch.setenv("AWS_ENDPOINT_URL", HERE.endpoint)
    assert HERE.sees(HERE._replace(endpoint=None))


def test_conditions_are_headers_without_quotes():
    assert condition(OVERWRITE) == {}
    assert condition(ABSENT) == {"IfNoneMatch": "*"}
    assert condition(Version("abc-2")) == {"IfMatch": "abc-2"}
    assert version_of({"ETag": '"abc-2"'}) == Version("abc-2")


@pytest.mark.parametrize(("prefix", "url", "name"), [("", "s3://b", "k"), ("a/b", "s3://b/a/b", "a/b/k")])
def test_names(prefix, url, name):
    wire = Wire("b", prefix, Clients(HERE), Encryption(), Retry())
    assert wire.url == wire.with_encryption(Encryption.by_provider()).url == url
    assert wire.at("k") == {"Bucket": "b", "Key": name}
    assert wire.short(wire.full("k")) == "k"
    assert wire.with_encryption(Encryption()).at("k") == wire.at("k")


@pytest.mark.parametrize("size", [0, 3, s3_client._IN_THREAD, s3_client._IN_THREAD + 1])
async def test_checksums(size):
    import base64
    import hashlib

    assert base64.b64decode(await s3_client.md5(bytes(size))) == hashlib.md5(bytes(size)).digest()


@pytest.mark.parametrize(
    "said",
    ["Wed, 04 Mar 2026 05:06:07 GMT", "2026-03-04T05:06:07.000Z", "2026-03-04T05:06:07Z", "20260304T050607Z", 1772600767],
)
def test_times_in_every_notation(said):
    assert s3_client._time(said) == datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)

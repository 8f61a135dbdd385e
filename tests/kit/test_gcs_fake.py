"""The fake of Google Cloud Storage is what it claims to be: seen through gcsfs, a client that others wrote, and by itself."""

from __future__ import annotations

import asyncio
import json
import os

import pytest

from tests.kit.gcs_cloud import Call, Cloud, Refusal, crc32c, select
from tests.kit.gcs_fake import Fault

KIB_256 = 256 << 10


@pytest.fixture
async def fs(gcs, monkeypatch):
    monkeypatch.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
    from gcsfs.core import GCSFileSystem

    gcs.calm()
    made = GCSFileSystem(
        endpoint_url=gcs.endpoint,
        token="anon",
        project="p",
        asynchronous=True,
        skip_instance_cache=True,
        use_listings_cache=False,
    )
    session = await made._set_session()
    yield made
    await session.close()
    gcs.calm()


async def outcome(awaitable):
    try:
        await awaitable
    except OSError as error:
        return type(error).__name__
    return "ok"


def tally(outcomes):
    return {what: outcomes.count(what) for what in set(outcomes)}


# ---------------------------------------------------------------------------------------------------- through gcsfs


async def test_what_gcsfs_writes_it_reads(fs, gcs):
    bucket = gcs.new_bucket()
    data = os.urandom(3 * KIB_256 + 5)
    await fs._pipe_file(f"{bucket}/a", b"1")
    await fs._pipe_file(f"{bucket}/big", data, chunksize=KIB_256)
    assert await fs._cat_file(f"{bucket}/a") == b"1"
    assert await fs._cat_file(f"{bucket}/big") == data
    assert await fs._cat_file(f"{bucket}/big", start=1000, end=1010) == data[1000:1010]
    await fs._cp_file(f"{bucket}/big", f"{bucket}/copy")
    await fs._merge(f"{bucket}/both", [f"{bucket}/a", f"{bucket}/copy"])
    assert await fs._cat_file(f"{bucket}/both") == b"1" + data
    assert sorted(await fs._ls(bucket, detail=False)) == [f"{bucket}/{name}" for name in ("a", "big", "both", "copy")]
    await fs._rm_file(f"{bucket}/a")
    assert not await fs._exists(f"{bucket}/a")


async def test_a_condition_decides_who_writes(fs, gcs):
    bucket = gcs.new_bucket()

    async def up(name, body, **query):
        path = f"{gcs.endpoint}/upload/storage/v1/b/{bucket}/o"
        return await fs._call("POST", path, uploadType="media", name=name, data=body, json_out=True, **query)

    await up("c", b"1", ifGenerationMatch="0")
    assert await outcome(up("c", b"2", ifGenerationMatch="0")) == "FileExistsError"
    assert await outcome(fs._pipe_file(f"{bucket}/c", b"3", mode="create")) == "FileExistsError"
    assert await outcome(fs._pipe_file(f"{bucket}/c", bytes(2**21), mode="create", chunksize=KIB_256)) == "FileExistsError"
    assert gcs.peek(bucket, "c") == b"1"
    race = await asyncio.gather(*(outcome(up("race", b"%d" % i, ifGenerationMatch="0")) for i in range(32)))
    assert tally(race) == {"ok": 1, "FileExistsError": 31}
    generation = (await up("d", b"0"))["generation"]
    assert await outcome(up("d", b"x", ifGenerationMatch="1")) == "FileExistsError"
    race = await asyncio.gather(*(outcome(up("d", b"%d" % i, ifGenerationMatch=generation)) for i in range(32)))
    assert tally(race) == {"ok": 1, "FileExistsError": 31}
    assert await outcome(up("d", b"y", ifGenerationMatch=generation)) == "FileExistsError"


async def test_listings_come_in_pages(fs, gcs):
    bucket = gcs.new_bucket()
    await asyncio.gather(*(fs._pipe_file(f"{bucket}/l/{i:03d}/x", b".") for i in range(25)))
    names, pages, more = [], 0, {}
    while True:
        page = await fs._call(
            "GET", f"{gcs.endpoint}/storage/v1/b/{bucket}/o", prefix="l/", maxResults="10", json_out=True, **more
        )
        names, pages = names + [item["name"] for item in page["items"]], pages + 1
        if "nextPageToken" not in page:
            break
        more = {"pageToken": page["nextPageToken"]}
    assert (pages, names) == (3, [f"l/{i:03d}/x" for i in range(25)])
    assert len(await fs._ls(f"{bucket}/l")) == 25


# -------------------------------------------------------------------------------------------------------- by itself


@pytest.fixture
def cloud():
    made = Cloud()
    assert said(made, "POST", "/storage/v1/b", json.dumps({"name": "bkt"}).encode()).status == 200
    return made


def said(cloud, method, path, body=b"", headers=None, **query):
    return cloud.handle(Call(method, path, {k: str(v) for k, v in query.items()}, headers or {}, body))


def put(cloud, name, body=b"", headers=None, **query):
    answer = said(cloud, "POST", "/upload/storage/v1/b/bkt/o", body, headers, uploadType="media", name=name, **query)
    return answer.status, json.loads(answer.body)


def get(cloud, name, headers=None, **query):
    return said(cloud, "GET", f"/storage/v1/b/bkt/o/{name}", headers=headers, **query)


def test_generations_only_grow(cloud):
    found = [int(put(cloud, name)[1]["generation"]) for name in ("a", "b", "a", "a", "c")]
    assert found == sorted(set(found))


@pytest.mark.parametrize(
    ("query", "absent", "there"),
    [
        ({"ifGenerationMatch": 0}, 200, 412),
        ({"ifGenerationMatch": "own"}, 412, 200),
        ({"ifGenerationMatch": 1}, 412, 412),
        ({"ifGenerationNotMatch": 0}, 412, 200),
        ({"ifGenerationNotMatch": "own"}, 200, 412),
        ({"ifMetagenerationMatch": 1}, 412, 200),
        ({"ifMetagenerationMatch": 2}, 412, 412),
        ({"ifMetagenerationNotMatch": 1}, 200, 412),
        ({"ifGenerationMatch": "x"}, 400, 400),
        ({}, 200, 200),
    ],
)
def test_preconditions_of_every_way_to_write(cloud, query, absent, there):
    generation = put(cloud, "there")[1]["generation"]
    source = put(cloud, "source", b"s")[1]["generation"]
    path = "/upload/storage/v1/b/bkt/o"
    wanted = {key: generation if value == "own" else value for key, value in query.items()}
    composed = json.dumps({"sourceObjects": [{"name": "source", "generation": source}]}).encode()
    for name, status in (("absent", absent), ("there", there)):
        begun = said(cloud, "POST", path, b"{}", uploadType="resumable", name=name, **wanted)
        assert begun.status == status
        for act in (
            lambda name=name: said(cloud, "POST", path, b"x", uploadType="media", name=name, **wanted),
            lambda name=name: said(cloud, "POST", f"/storage/v1/b/bkt/o/{name}/compose", composed, **wanted),
            lambda name=name: said(cloud, "POST", f"/storage/v1/b/bkt/o/source/rewriteTo/b/bkt/o/{name}", **wanted),
            lambda name=name: said(cloud, "POST", f"/storage/v1/b/bkt/o/source/copyTo/b/bkt/o/{name}", **wanted),
        ):
            before = dict(cloud.buckets["bkt"])
            assert act().status == status
            assert (cloud.buckets["bkt"] == before) == (status != 200)
            cloud.buckets["bkt"] = before


def test_preconditions_of_reading_and_deleting(cloud):
    generation = put(cloud, "k", b"content")[1]["generation"]
    assert get(cloud, "k", ifGenerationNotMatch=generation).status == 304
    assert get(cloud, "k", ifGenerationMatch=1).status == 412
    assert get(cloud, "k", generation=generation, alt="media").body == b"content"
    assert get(cloud, "k", generation=1).status == 404
    assert said(cloud, "DELETE", "/storage/v1/b/bkt/o/k", ifGenerationMatch=1).status == 412
    assert said(cloud, "DELETE", "/storage/v1/b/bkt/o/k", ifGenerationMatch=generation).status == 204
    assert said(cloud, "DELETE", "/storage/v1/b/bkt/o/k").status == 404


def test_a_session_looks_at_its_condition_again_at_its_end(cloud):
    path = "/upload/storage/v1/b/bkt/o"
    begun = said(cloud, "POST", path, b"{}", uploadType="resumable", name="k", ifGenerationMatch=0)
    upload = {"upload_id": begun.headers["X-GUploader-UploadID"]}
    assert said(cloud, "PUT", path, bytes(KIB_256), {"content-range": f"bytes 0-{KIB_256 - 1}/*"}, **upload).status == 308
    assert said(cloud, "PUT", path, b"x" * 9, {"content-range": f"bytes {KIB_256}-{KIB_256 + 8}/*"}, **upload).status == 400
    kept = said(cloud, "PUT", path, headers={"content-range": "bytes */*"}, **upload)
    assert (kept.status, kept.headers["Range"]) == (308, f"bytes=0-{KIB_256 - 1}")
    assert get(cloud, "k").status == 404
    put(cloud, "k", b"another")
    end = {"content-range": f"bytes {KIB_256}-{KIB_256}/{KIB_256 + 1}"}
    assert said(cloud, "PUT", path, b"x", end, **upload).status == 412
    assert get(cloud, "k", alt="media").body == b"another"


def test_a_session_that_is_over_says_so_again_and_one_that_is_cancelled_is_gone(cloud):
    path = "/upload/storage/v1/b/bkt/o"
    ids = [
        said(cloud, "POST", path, b"{}", uploadType="resumable", name=name).headers["X-GUploader-UploadID"] for name in ("a", "b")
    ]
    end = {"content-range": "bytes 0-2/3"}
    bad = said(cloud, "PUT", path, b"abc", {**end, "x-goog-hash": f"crc32c={crc32c(b'abd')}"}, upload_id=ids[0])
    assert bad.status == 400
    done = said(cloud, "PUT", path, headers={"content-range": "bytes */3"}, upload_id=ids[0])
    assert json.loads(done.body)["size"] == "3"
    assert said(cloud, "PUT", path, headers={"content-range": "bytes */*"}, upload_id=ids[0]).body == done.body
    assert said(cloud, "DELETE", path, upload_id=ids[1]).status == 499
    assert said(cloud, "PUT", path, b"abc", end, upload_id=ids[1]).status == 404


def test_checksums_are_verified_and_told(cloud):
    assert put(cloud, "k", b"abc", {"x-goog-hash": f"crc32c={crc32c(b'abd')}"})[0] == 400
    status, told = put(cloud, "k", b"abc", {"x-goog-hash": f"crc32c={crc32c(b'abc')}"})
    assert (status, told["crc32c"]) == (200, "Nks/tw==")
    assert "crc32c=Nks/tw==" in get(cloud, "k", alt="media").headers["X-Goog-Hash"]


def test_compose_takes_32_and_only_what_is_there(cloud):
    names = [f"p{i}" for i in range(33)]
    generations = {name: put(cloud, name, name.encode())[1]["generation"] for name in names}

    def compose(sources):
        return said(cloud, "POST", "/storage/v1/b/bkt/o/all/compose", json.dumps({"sourceObjects": sources}).encode())

    assert compose([]).status == 400
    assert compose([{"name": name} for name in names]).status == 400
    assert compose([{"name": "p0", "generation": "1"}]).status == 404
    assert compose([{"name": "p0", "objectPreconditions": {"ifGenerationMatch": "1"}}]).status == 412
    made = json.loads(compose([{"name": name, "generation": generations[name]} for name in names[:32]]).body)
    assert "md5Hash" not in made
    assert made["crc32c"] == crc32c("".join(names[:32]).encode())
    assert made["componentCount"] == 32


def test_a_rewrite_goes_in_steps_by_its_token(cloud):
    put(cloud, "k", b"x" * 100)
    cloud.settings.rewrite_step = 40
    path, query, told = "/storage/v1/b/bkt/o/k/rewriteTo/b/bkt/o/c", {}, []
    while True:
        step = json.loads(said(cloud, "POST", path, **query).body)
        told.append(step["totalBytesRewritten"])
        if step["done"]:
            break
        assert get(cloud, "c").status == 404
        query = {"rewriteToken": step["rewriteToken"]}
    assert told == ["40", "80", "100"]
    assert get(cloud, "c", alt="media").body == b"x" * 100
    put(cloud, "k", b"y" * 100)
    assert said(cloud, "POST", path, **query).status == 400


def test_listing_by_prefix_delimiter_and_offsets(cloud):
    for name in ("a/1", "a/2", "a/b/3", "b", "c"):
        put(cloud, name)

    def listed(**query):
        page = json.loads(said(cloud, "GET", "/storage/v1/b/bkt/o", **query).body)
        return [item["name"] for item in page.get("items", [])], page.get("prefixes", [])

    assert listed() == (["a/1", "a/2", "a/b/3", "b", "c"], [])
    assert listed(delimiter="/") == (["b", "c"], ["a/"])
    assert listed(prefix="a/", delimiter="/") == (["a/1", "a/2"], ["a/b/"])
    assert listed(startOffset="a/2", endOffset="c") == (["a/2", "a/b/3", "b"], [])
    assert listed(maxResults=2) == (["a/1", "a/2"], [])
    assert said(cloud, "GET", "/storage/v1/b/none/o").status == 404


@pytest.mark.parametrize(
    ("asked", "status", "body", "told"),
    [
        ("bytes=2-4", 206, b"234", "bytes 2-4/10"),
        ("bytes=8-", 206, b"89", "bytes 8-9/10"),
        ("bytes=8-99", 206, b"89", "bytes 8-9/10"),
        ("bytes=10-", 416, None, "bytes */10"),
        ("items=1-2", 200, b"0123456789", None),
    ],
)
def test_ranges(cloud, asked, status, body, told):
    put(cloud, "k", b"0123456789")
    answer = get(cloud, "k", {"range": asked}, alt="media")
    assert (answer.status, answer.headers.get("Content-Range")) == (status, told)
    assert body is None or answer.body == body


def test_one_object_takes_so_many_changes_a_second():
    now = 1e9
    cloud = Cloud(clock=lambda: now)
    said(cloud, "POST", "/storage/v1/b", b'{"name": "bkt"}')
    cloud.settings.overwrites_per_s = 1.0
    assert put(cloud, "k")[0] == 200
    now += 0.9
    assert put(cloud, "k")[0] == 429
    assert put(cloud, "other")[0] == 200
    now += 0.2
    assert put(cloud, "k")[0] == 200


def test_a_partial_response_has_the_fields_that_were_asked():
    whole = {"items": [{"name": "a", "size": "1", "x": 2}], "nextPageToken": "t", "kind": "k"}
    assert select(whole, "items(name,size),nextPageToken") == {"items": [{"name": "a", "size": "1"}], "nextPageToken": "t"}
    assert select(whole, None) == whole


def test_buckets(cloud):
    assert said(cloud, "POST", "/storage/v1/b", b'{"name": "bkt"}').status == 409
    assert said(cloud, "POST", "/storage/v1/b", b'{"name": "No Name"}').status == 400
    assert json.loads(said(cloud, "GET", "/storage/v1/b/bkt").body)["storageClass"] == "STANDARD"
    put(cloud, "k")
    assert said(cloud, "DELETE", "/storage/v1/b/bkt").status == 409
    said(cloud, "DELETE", "/storage/v1/b/bkt/o/k")
    assert said(cloud, "DELETE", "/storage/v1/b/bkt").status == 204
    assert said(cloud, "GET", "/storage/v1/b/bkt").status == 404


def test_faults_come_in_turn():
    fault = Fault("GET .*/k", skip=1, times=2)
    assert [fault.takes(line) for line in ("GET /k", "PUT /k", "GET /k", "GET /k", "GET /k")] == [False, False, True, True, False]


def test_a_refusal_is_told_as_google_tells_it():
    answer = json.loads(Refusal(412, "At least one").answer().body)
    assert answer["error"]["code"] == 412
    assert answer["error"]["errors"][0]["reason"] == "conditionNotMet"


async def test_faults_over_http(gcs):
    gcs.calm()
    bucket = gcs.new_bucket()
    path = f"/upload/storage/v1/b/{bucket}/o?uploadType=media&name=k"
    gcs.fault("name=k", carry_out=True)
    with pytest.raises(OSError, match=r"without response|reset"):
        gcs.ask("POST", path, b"1")
    assert gcs.peek(bucket, "k") == b"1"
    gcs.fault("name=k", answer=503, retry_after="1")
    assert gcs.ask("POST", path, b"2")[0] == 503
    assert gcs.peek(bucket, "k") == b"1"
    assert [line.rpartition("-> ")[2] for line in gcs.requests() if "name=k" in line] == ["0", "503"]
    gcs.fault("name=k", times=9, answer=500)
    gcs.calm()
    assert gcs.ask("POST", path, b"3")[0] == 200
    assert gcs.requests() == [f"POST {path} -> 200"]

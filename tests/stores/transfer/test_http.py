"""http and https against a real server that errs on demand."""

from __future__ import annotations

import pytest

from tests.kit.pieces import MIB, breaking, content, digest, pieces_of
from tests.kit.web import Authority, serving
from towline.stores.jobstore.errors import UnimplementedURLException
from towline.stores.objects.retry import Policy, Retry
from towline.stores.transfer import http_
from towline.stores.transfer.base import Found, TransferError
from towline.stores.transfer.http_ import HttpScheme
from towline.stores.transfer.url import parse


@pytest.fixture
async def web():
    async with serving() as served:
        yield served


@pytest.fixture
async def scheme(monkeypatch):
    monkeypatch.setattr(http_, "ASKING", Retry(Policy(attempts=3, first_s=0.001)))
    made = HttpScheme()
    yield made
    await made.close()


async def read(scheme, text):
    async with scheme.read(parse(text)) as fetched:
        return b"".join([piece async for piece in fetched.pieces]), fetched


@pytest.mark.parametrize("size", [0, 1, MIB + 1])
@pytest.mark.parametrize("chunked", [False, True])
async def test_reading(scheme, web, size, chunked):
    web.files["/x"], web.chunked = content(size), chunked
    data, fetched = await read(scheme, f"{web.url}/x?a=%2F")
    assert digest(data) == digest(content(size))
    assert (fetched.size, fetched.executable) == (None if chunked else size, False)
    assert web.log == ["GET /x?a=%2F"]


async def test_looking(scheme, web):
    web.files["/x"] = b"abc"
    assert await scheme.look(parse(f"{web.url}/x")) == Found(3)
    web.chunked = True
    assert await scheme.look(parse(f"{web.url}/x")) == Found(None)
    with pytest.raises(FileNotFoundError):
        await scheme.look(parse(f"{web.url}/y"))


@pytest.mark.parametrize("ranges", [True, False])
async def test_a_server_that_refuses_head_is_asked_for_one_byte(scheme, web, ranges):
    web.methods.remove("HEAD")
    web.files.update({"/x": content(MIB), "/empty": b""})
    web.ranges = ranges
    assert await scheme.look(parse(f"{web.url}/x")) == Found(MIB)
    assert await scheme.look(parse(f"{web.url}/empty")) == Found(0)
    with pytest.raises(FileNotFoundError):
        await scheme.look(parse(f"{web.url}/y"))


async def test_what_is_missing_or_refused(scheme, web):
    with pytest.raises(FileNotFoundError):
        await read(scheme, f"{web.url}/x")
    web.user = "me:secret"
    with pytest.raises(PermissionError):
        await read(scheme, f"{web.url}/x")
    assert len(web.log) == 2  # neither is asked again


async def test_user_and_password(scheme, web):
    web.files["/x"], web.user = b"data", "me@x:p/w:d"
    data, _ = await read(scheme, f"{web.url.replace('//', '//me%40x:p%2Fw%3Ad@')}/x")
    assert data == b"data"


async def test_the_password_does_not_follow_a_redirect_to_another_host(scheme, web):
    async with serving() as other:
        other.files["/y"] = b"there"
        web.redirects["/x"] = f"{other.url.replace('127.0.0.1', 'localhost')}/y"
        data, _ = await read(scheme, f"{web.url.replace('//', '//me:secret@')}/x")
        assert data == b"there"
        assert "Authorization" in web.headers[0]
        assert "Authorization" not in other.headers[0]


async def test_redirects_without_end(scheme, web):
    web.redirects["/x"] = "/x?secret=1"
    with pytest.raises(TransferError, match="without end") as caught:
        await read(scheme, f"{web.url}/x?secret=1")
    assert "secret" not in str(caught.value)


async def test_a_redirect_does_not_lead_to_a_local_file(scheme, web):
    web.redirects["/x"] = "file:///etc/hostname"
    with pytest.raises(TransferError):
        await read(scheme, f"{web.url}/x")


async def test_a_busy_server_is_asked_again(scheme, web):
    web.files["/x"], web.statuses = b"abc", [503, 429]
    data, _ = await read(scheme, f"{web.url}/x")
    assert data == b"abc"
    assert len(web.log) == 3


async def test_a_server_that_stays_broken(scheme, web):
    web.statuses = [500, 500, 500]
    with pytest.raises(TransferError, match="500"):
        await read(scheme, f"{web.url}/x")
    assert web.statuses == []


async def test_nobody_there(scheme):
    with pytest.raises(TransferError, match=r"127\.0\.0\.1:9"):
        await read(scheme, "http://127.0.0.1:9/x")


async def test_a_download_that_breaks_off_goes_on_where_it_stopped(scheme, web):
    web.files["/x"], web.cuts = content(3 * MIB), [MIB, 1, 0, 12345]
    data, _ = await read(scheme, f"{web.url}/x")
    assert digest(data) == digest(content(3 * MIB))
    assert [headers.get("Range") for headers in web.headers][:3] == [None, f"bytes={MIB}-", f"bytes={MIB + 1}-"]


async def test_it_does_not_go_on_for_ever(scheme, web):
    web.files["/x"], web.cuts = content(MIB), [0] * 100
    with pytest.raises(TransferError, match="broke off"):
        await read(scheme, f"{web.url}/x")
    assert len(web.log) == http_.RESUMES_MAX + 1


@pytest.mark.parametrize("wrong", ["tags", "ranges"])
async def test_a_download_is_never_spliced_blindly(scheme, web, wrong):
    web.files["/x"], web.cuts = content(MIB), [1000]
    setattr(web, wrong, False)
    with pytest.raises(TransferError, match="broke off"):
        await read(scheme, f"{web.url}/x")


async def test_nor_with_content_that_has_changed(scheme, web):
    web.files["/x"], web.cuts = content(3 * MIB), [1000]
    with pytest.raises(TransferError, match="broke off"):
        async with scheme.read(parse(f"{web.url}/x")) as fetched:
            web.files["/x"] = content(3 * MIB - 1)
            _ = [piece async for piece in fetched.pieces]


async def test_compressed_bytes_are_taken_as_they_are(scheme, web):
    web.files["/x.gz"], web.extra = b"\x1f\x8bnot really", {"Content-Encoding": "gzip"}
    data, fetched = await read(scheme, f"{web.url}/x.gz")
    assert data == web.files["/x.gz"]
    assert fetched.size == len(data)


@pytest.mark.parametrize("size", [0, 1, MIB + 1])
@pytest.mark.parametrize("said", [True, False])
async def test_export_by_put(scheme, web, size, said):
    await scheme.write(parse(f"{web.url}/x?sig=%2F"), pieces_of(content(size)), size if said else None, True)
    assert digest(web.files["/x"]) == digest(content(size))
    assert web.log[-1] == "PUT /x?sig=%2F"
    assert web.headers[-1].get("Content-Length") == (str(size) if said else None)


async def test_export_by_post_where_that_is_what_is_taken(scheme, web):
    web.methods = {"POST"}
    await scheme.write(parse(f"{web.url}/api/upload"), pieces_of(b"data"), 4, False)
    assert web.files["/api/upload"] == b"data"
    assert web.log[-1] == "POST /api/upload"


async def test_export_that_is_refused(scheme, web):
    web.methods, web.allow = {"GET"}, False
    with pytest.raises(TransferError, match="405"):
        await scheme.write(parse(f"{web.url}/x"), pieces_of(b"data"), 4, False)
    web.statuses = [204, 403]
    with pytest.raises(PermissionError):
        await scheme.write(parse(f"{web.url}/x"), pieces_of(b"data"), 4, False)
    web.statuses = [204]
    web.redirects["/x"] = "/y"
    with pytest.raises(TransferError, match="elsewhere"):
        await scheme.write(parse(f"{web.url}/x"), pieces_of(b"data"), 4, False)


async def test_an_export_whose_content_fails(scheme, web):
    with pytest.raises(ZeroDivisionError):
        await scheme.write(parse(f"{web.url}/x"), breaking(content(MIB), ZeroDivisionError()), None, False)
    assert web.files == {}


async def test_there_is_no_listing(scheme, web):
    with pytest.raises(UnimplementedURLException, match="list") as caught:
        await scheme.entries(parse(f"{web.url}/"))
    assert "http" in str(caught.value)


async def test_https_with_a_trusted_authority_only(scheme, tmp_path, monkeypatch):
    authority = Authority(tmp_path)
    async with serving(authority.context()) as web:
        web.files["/x"] = b"safe"
        with pytest.raises(TransferError, match="not trusted"):
            await read(scheme, f"{web.url}/x")
        assert web.log == []
        await scheme.close()
        monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
        assert (await read(scheme, f"{web.url}/x"))[0] == b"safe"

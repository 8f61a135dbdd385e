"""Locators: every form and what it means, and the sentence for what means nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from towline.engine.errors import UsageError
from towline.stores.errors import LocatorError
from towline.stores.locate import Place, open_objects, parse
from towline.stores.objects.local import LocalObjects


@pytest.mark.parametrize(
    ("locator", "path"),
    [
        ("/a/b", "/a/b"),
        ("/a:b/c", "/a:b/c"),
        ("file:/a/b", "/a/b"),
        ("file:///a/b%20c", "/a/b c"),
        ("file://localhost/a", "/a"),
        ("file:/a%20b", "/a%20b"),
        ("/a/link/../b", "/a/link/../b"),
    ],
)
def test_absolute_paths(locator, path):
    assert str(parse(locator).path) == path
    assert parse(locator).kind == "file"


@pytest.mark.parametrize("locator", ["runs/first", "./a:b", "file:runs/first", "../x", "s3"])
def test_relative_paths_are_below_the_working_directory(locator, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    want = tmp_path / locator.removeprefix("file:")
    assert parse(locator) == Place("file", path=want)
    assert parse(Path(locator.removeprefix("file:"))).path == want


def test_home_is_a_path(monkeypatch):
    monkeypatch.setenv("HOME", "/home/someone")
    assert parse("~/runs:1").path == Path("/home/someone/runs:1")


def test_a_symlink_stays_one(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    assert parse(tmp_path / "link").path == tmp_path / "link"


@pytest.mark.parametrize(
    ("locator", "place", "url"),
    [
        ("s3://bucket", Place("s3", bucket="bucket"), "s3://bucket"),
        ("s3://bucket/a/b/", Place("s3", bucket="bucket", prefix="a/b"), "s3://bucket/a/b"),
        ("aws:eu-west-1:bucket", Place("s3", bucket="bucket", region="eu-west-1"), "aws:eu-west-1:bucket"),
        ("aws:eu-west-1:bucket:a/b", Place("s3", bucket="bucket", prefix="a/b", region="eu-west-1"), "aws:eu-west-1:bucket:a/b"),
        ("gs://bucket/p", Place("gs", bucket="bucket", prefix="p"), "gs://bucket/p"),
        ("google:project-1:bucket/p", Place("gs", bucket="bucket", prefix="p", project="project-1"), "google:project-1:bucket/p"),
        ("gce:us-east1:bucket:p", Place("gs", bucket="bucket", prefix="p", region="us-east1"), "gs://bucket/p"),
        ("memory:x-1", Place("memory", name="x-1"), "memory:x-1"),
    ],
)
def test_other_places(locator, place, url):
    assert parse(locator) == place
    assert parse(locator).url == url
    assert parse(url)._replace(region="") == place._replace(region="")
    assert parse(url).region == place.region or place.kind == "gs"


@pytest.mark.parametrize(
    "locator",
    [
        "", "a\0b", "file:", "file://host/x", "file:///x%00", "ftp://x/y", "nope:x", "s3:bucket", "s3://", "s3://B_UCKET",
        "s3://bucket/a//b", "s3://bucket/../b", "s3://bucket/a b", "aws:eu west:bucket", "aws::bucket", "google:p", "memory:",
        "memory:a/b",
    ],
)  # fmt: skip
def test_what_names_no_place_is_refused_in_one_line(locator):
    with pytest.raises(LocatorError) as caught:
        parse(locator)
    assert "\n" not in str(caught.value)
    assert repr(locator)[:8] in str(caught.value)


@given(st.text(max_size=40))
def test_any_text_is_a_place_or_a_locator_error(text):
    try:
        place = parse(text)
    except LocatorError:
        return
    assert place.kind != "file" or place.path.is_absolute()


def test_opening(tmp_path):
    objects = open_objects(tmp_path / "s")
    assert isinstance(objects, LocalObjects)
    assert objects.root == tmp_path / "s"
    assert not objects.root.exists()
    assert open_objects("memory:same") is open_objects("memory:same")
    assert open_objects("memory:same") is not open_objects("memory:other")


@pytest.mark.parametrize("locator", ["s3://bucket/x", "gs://bucket/x", "aws:us-west-2:bucket:x", "google:project:bucket/x"])
def test_opening_a_bucket_asks_nobody(locator, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    objects = open_objects(locator)
    assert objects.url.endswith("s://bucket/x" if locator[0] == "g" else "s3://bucket/x")
    assert not objects.appendable


def test_a_key_that_cannot_be_read_is_said_at_once(monkeypatch, tmp_path):
    monkeypatch.setenv("TOWLINE_SSE_KEY_FILE", str(tmp_path / "none"))
    with pytest.raises(UsageError, match=r"the key file .* cannot be read"):
        open_objects("s3://bucket/x")

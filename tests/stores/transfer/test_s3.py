"""What only s3: URLs have: refusals that say who refused."""

from __future__ import annotations

import pytest

from towline.stores.objects.base import ObjectsError
from towline.stores.transfer.s3_ import ForeignS3, S3Scheme
from towline.stores.transfer.url import parse


class Refusing:
    """Objects whose every word is one error."""

    def __init__(self, status):
        self.error = ObjectsError("refused")
        self.error.__cause__ = RuntimeError()
        self.error.__cause__.response = {"ResponseMetadata": {"HTTPStatusCode": status}}

    async def head(self, key):
        raise self.error


@pytest.mark.parametrize(
    ("status", "kind"), [(401, PermissionError), (403, PermissionError), (404, FileNotFoundError), (500, ObjectsError)]
)
async def test_what_a_status_means(status, kind, monkeypatch):
    scheme = S3Scheme()
    monkeypatch.setattr(scheme, "_open", lambda bucket: Refusing(status))
    with pytest.raises(kind):
        await scheme.look(parse("s3://bucket/x"))


def test_one_client_for_each_bucket():
    scheme = S3Scheme()
    assert scheme.objects("aaa") is scheme.objects("aaa")
    assert scheme.objects("aaa") is not scheme.objects("bbb")
    assert isinstance(scheme.objects("aaa"), ForeignS3)

"""Buckets of both providers for tests of URLs: empty ones on moto and on the fake of GCS, seen through a back door."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from typing import Any, Protocol
from urllib.parse import quote
from uuid import uuid4

import boto3

from tests.kit.gcs_servers import GcsServer
from tests.kit.servers import Server


class Cloud(Protocol):
    """One bucket and its server."""

    scheme: str
    bucket: str

    def environment(self) -> Mapping[str, str]:
        """What makes all clients use the server."""
        ...

    def put(self, key: str, data: bytes) -> None: ...

    def peek(self, key: str) -> bytes | None: ...

    def names(self) -> list[str]: ...

    def url(self, key: str) -> str: ...


class _Named:
    scheme = ""
    bucket = ""

    def url(self, key: str) -> str:
        """Of an object, escaped."""
        return f"{self.scheme}://{self.bucket}/{quote(key)}"


@cache
def _client(server: Server) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=server.endpoint,
        aws_access_key_id=server.access,
        aws_secret_access_key=server.secret,
        region_name="us-east-1",
    )


class S3Cloud(_Named):
    """A bucket on an S3 server."""

    scheme = "s3"

    def __init__(self, server: Server) -> None:
        self._server = server
        self.bucket = f"b-{uuid4().hex[:12]}"
        self.client = _client(server)
        self.client.create_bucket(Bucket=self.bucket)

    def environment(self) -> Mapping[str, str]:
        """See `Cloud`."""
        return self._server.environment()

    def put(self, key: str, data: bytes) -> None:
        """Behind the back of the code under test."""
        self.client.put_object(Bucket=self.bucket, Key=key, Body=data)

    def peek(self, key: str) -> bytes | None:
        """The same."""
        if key not in self.names():
            return None
        body: bytes = self.client.get_object(Bucket=self.bucket, Key=key)["Body"].read()
        return body

    def names(self) -> list[str]:
        """Of a small bucket."""
        return [one["Key"] for one in self.client.list_objects_v2(Bucket=self.bucket).get("Contents", ())]


class GsCloud(_Named):
    """A bucket on the fake of GCS."""

    scheme = "gs"

    def __init__(self, server: GcsServer) -> None:
        self.server = server
        self.bucket = server.new_bucket()

    def environment(self) -> Mapping[str, str]:
        """See `Cloud`."""
        return self.server.environment()

    def put(self, key: str, data: bytes) -> None:
        """Behind the back of the code under test."""
        path = f"/upload/storage/v1/b/{self.bucket}/o?uploadType=media&name={quote(key, safe='')}"
        status, said = self.server.ask("POST", path, data, {"Content-Type": "application/octet-stream"})
        assert status == 200, json.loads(said)

    def peek(self, key: str) -> bytes | None:
        """The same."""
        return self.server.peek(self.bucket, key)

    def names(self) -> list[str]:
        """Of a small bucket."""
        return self.server.names(self.bucket)

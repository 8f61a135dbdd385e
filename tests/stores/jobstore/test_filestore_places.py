"""The contract of files on servers: moto, a Ceph gateway, and the fake of Google's storage. Parts are small, to be quick."""

from __future__ import annotations

from functools import cache
from uuid import uuid4

import pytest

from tests.kit.filestore_contract import FileStoreContract
from tests.kit.servers import make_bucket
from towline.stores.objects.gcs import GcsObjects
from towline.stores.objects.gcs_upload import GRANULE
from towline.stores.objects.s3 import S3Objects
from towline.stores.objects.s3_client import Access

bucket_on = cache(make_bucket)


class OnServer(FileStoreContract):
    part = GRANULE


class OnS3(OnServer):
    """A subclass gives the fixture `server`. One bucket, and a prefix of its own for each test."""

    @pytest.fixture
    def bucket(self, server):
        return bucket_on(server)

    @pytest.fixture
    async def place(self, server, bucket):
        access = Access(server.endpoint, "us-east-1", server.access, server.secret)
        objects = S3Objects(bucket, uuid4().hex, access=access, part_bytes=self.part)
        yield objects
        await objects.close()


class TestMoto(OnS3):
    @pytest.fixture
    def server(self, moto):
        return moto


class TestCeph(OnS3):
    @pytest.fixture
    def server(self, ceph):
        return ceph


class TestGcs(OnServer):
    @pytest.fixture
    async def place(self, gcs):
        objects = GcsObjects(gcs.new_bucket(), "runs/one", endpoint=gcs.endpoint, part_bytes=self.part)
        yield objects
        await objects.close()

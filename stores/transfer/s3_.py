"""s3: URLs: any object of any bucket that the credentials of the environment may see."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from functools import partial
from typing import Any

from towline.stores.objects.s3 import PAGE, S3Objects
from towline.stores.objects.s3_errors import status_of
from towline.stores.transfer.buckets import BucketScheme, raw_key


class ForeignS3(S3Objects):
    """A whole bucket whose keys may be any text."""

    _check = staticmethod(raw_key)

    async def children(self, prefix: str) -> AsyncGenerator[str, None]:
        """See `ForeignObjects.children`."""
        asked: dict[str, Any] = {"Bucket": self._wire.bucket, "Prefix": prefix, "Delimiter": "/", "MaxKeys": PAGE}
        while True:
            page = await self._wire.call("list", prefix, partial(_list, asked))
            found = [one["Key"] for one in page.get("Contents", ())] + [one["Prefix"] for one in page.get("CommonPrefixes", ())]
            for key in sorted(found):
                if key != prefix:
                    yield key[len(prefix) :]
            if not page.get("IsTruncated"):
                return
            asked["ContinuationToken"] = page["NextContinuationToken"]


async def _list(asked: dict[str, Any], client: Any) -> Any:
    return await client.list_objects_v2(**asked)


class S3Scheme(BucketScheme):
    """s3: URLs. Server, region and credentials are those of every AWS program."""

    def _open(self, bucket: str) -> ForeignS3:
        return ForeignS3(bucket)

    def _status(self, error: Exception) -> int:
        return status_of(error)

"""gs: URLs: any object of any bucket that Google's default credentials may see."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from towline.stores.objects.gcs import GcsObjects
from towline.stores.objects.gcs_bucket import PAGE
from towline.stores.objects.gcs_rest import Refused, Request
from towline.stores.transfer.buckets import BucketScheme, raw_key


class ForeignGcs(GcsObjects):
    """A whole bucket whose names may be any text."""

    def __init__(self, bucket: str) -> None:
        super().__init__(bucket)
        self.bucket._composes = False  # no temporary objects in a bucket of others: we do not come back to tidy

    def _name(self, key: str) -> str:
        return raw_key(key)

    def _key(self, name: str) -> str:
        return name

    async def children(self, prefix: str) -> AsyncGenerator[str, None]:
        """See `ForeignObjects.children`."""
        bucket = self.bucket
        query = {"prefix": prefix, "delimiter": "/", "maxResults": str(PAGE), "fields": "items(name),prefixes,nextPageToken"}
        while True:
            page = (await bucket.rest.ask(Request("GET", bucket._path(), f"{bucket.about(prefix)}*", query))).json()
            found = [item["name"] for item in page.get("items") or ()] + list(page.get("prefixes") or ())
            for name in sorted(found):
                if name != prefix:
                    yield name[len(prefix) :]
            if not page.get("nextPageToken"):
                return
            query["pageToken"] = page["nextPageToken"]


class GsScheme(BucketScheme):
    """gs: URLs. Endpoint and credentials are those of every program of Google's."""

    def _open(self, bucket: str) -> ForeignGcs:
        return ForeignGcs(bucket)

    def _status(self, error: Exception) -> int:
        return error.__cause__.status if isinstance(error.__cause__, Refused) else 0

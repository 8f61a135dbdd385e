"""Writes the golden documents of the format of this version: `python tests/golden/documents/make.py`.

Run it for a NEW format only, into a folder of its own: what is here was written by released versions and stays for good.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import shutil
from pathlib import Path

from towline.stores.documents.written import MAIN, PREFIX, Entry, Id, Written
from towline.stores.jobstore import records
from towline.stores.jobstore.blobs import Blobs
from towline.stores.jobstore.chain import Chain, Options
from towline.stores.objects.base import ABSENT
from towline.stores.objects.local import LocalObjects
from towline.stores.objects.wrappers import Prefixed

HERE = Path(__file__).parent / "format1"
UUID = "00000000-0000-4000-8000-00000000000{}"
DOCUMENTS = [
    {
        "uuid": UUID.format(1),
        "index": 1,
        "output": {"a": [1, 2.5, None, "x"]},
        "name": "first",
        "at": dt.datetime(2024, 5, 1, 12),
    },
    {
        "uuid": UUID.format(1),
        "index": 2,
        "output": {"@module": "m", "@class": "C", "n": 1},
        "metadata": {"tag": "t"},
        "hosts": ["h"],
    },
    {"uuid": UUID.format(2), "index": 1, "output": "large " * 5000},
    {"task": 7, "data": b"bytes"},
]


def entry(document: dict) -> Entry:
    """The row of a document, with nothing in it that was drawn at random."""
    if "uuid" not in document:
        return Entry(str(Id("", "0f" * 16, "", "")), document)
    return Entry(
        str(Id(str(document["index"]), "", "uuid", document["uuid"])), document, [3, 4] if document["index"] == 2 else None
    )


async def write(place: Path) -> None:
    objects = LocalObjects(place)
    await objects.put(
        "towline.json", b'{"format": 1, "store": "00000000-0000-4000-8000-000000000000", "towline": "0.1.0"}\n', ABSENT
    )
    written = Written(objects, MAIN)
    chain = await Chain.create(
        Prefixed(objects, PREFIX + MAIN), records.Began("golden", b""), nonce=b"g" * 16, options=Options(name="golden")
    )
    written._chain, written._blobs = chain, Blobs(Prefixed(objects, PREFIX + MAIN), chain)
    await written.commit([entry(document) for document in DOCUMENTS])
    hidden = Entry(str(Id("1", "", "uuid", UUID.format(3))), None, [1, 2])
    await written.commit([hidden, entry({"uuid": UUID.format(4), "index": 1})])
    await written.commit([], [str(Id("1", "", "uuid", UUID.format(4)))])
    await chain.snapshot()
    await written.commit([entry(DOCUMENTS[0] | {"name": "again"})])
    await written.close()


if __name__ == "__main__":
    shutil.rmtree(HERE, ignore_errors=True)
    asyncio.run(write(HERE))

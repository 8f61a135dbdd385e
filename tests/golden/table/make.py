"""Writes the golden job table of the format of this version: `python tests/golden/table/make.py`.

Run it for a NEW format only, into a folder of its own: what is here was written by released versions and stays for good.
"""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

from towline.stores.jobstore import records as r
from towline.stores.jobstore.chain import Chain, Options
from towline.stores.jobstore.config import Config
from towline.stores.jobstore.description import JobDescription
from towline.stores.jobstore.image import FORMAT
from towline.stores.jobstore.kinds import CheckpointJobDescription, ServiceJobDescription
from towline.stores.objects.base import Objects
from towline.stores.objects.local import LocalObjects

CONFIG = Config(workflow_id="golden", retry_count=2, pair=(1, "two"))


def entry(name: str, blob: int, **more: object) -> r.FileEntry:
    """A file whose blob has this number. (The blobs themselves are not here.)"""
    return r.FileEntry(name, f"blobs/{blob:02x}/{blob:032x}.{blob:016x}", 3, 8 << 20, b"\1\2\3\4", **more)  # type: ignore[arg-type]  # keywords are fields


def descriptions() -> dict[str, JobDescription]:
    """One of each kind, by id."""
    plain = JobDescription({"memory": "2Gi", "cores": 0.5, "accelerators": "k80:2"}, "plain", "unit", "shown")
    plain.attach_body("file", "module")
    plain.add_child("checkpoint")
    plain.add_follow_on("service")
    plain.files_to_delete, plain.remaining_try_count, plain.note = ["file"], 1, {"mine": (1, 2)}  # type: ignore[attr-defined]  # an attribute of a user
    checkpoint = CheckpointJobDescription(job_name="checkpoint")
    checkpoint.checkpoint, checkpoint.checkpoint_files_to_delete = "run it", ["file"]
    service = ServiceJobDescription(job_name="service")
    service.signals = ["a", None, "c"]
    return {"plain": plain, "checkpoint": checkpoint, "service": service}


def changes() -> list[r.Change]:
    """Every kind of record but `snapshotted` and `destroyed`, which may not stand just anywhere."""
    body = {job: desc.encode() for job, desc in descriptions().items()}
    return [
        r.Began("golden", CONFIG.encode(), "0.1.0", 1.7e9),
        *(r.JobPut(job, r.ABSENT, data) for job, data in body.items()),
        r.RootSet("plain"),
        r.JobPut("plain", 1, body["plain"]),
        r.FilePut(entry("file", 1, executable=True, owner="plain", cleanup=True, encrypted=True, hint="reads.bam")),
        r.FilePut(entry("file", 2, owner="plain"), 6),
        r.FilePut(entry("gone", 3)),
        r.FileDeleted("gone"),
        r.SharedPut(entry("shared", 4)),
        r.SharedPut(entry("gone", 5), r.ABSENT),
        r.SharedDeleted("gone"),
        r.Condemned(["blobs/06/" + "6" * 32 + "." + "6" * 16]),
        r.Swept([entry("", 1).blob]),
        r.LogWritten(b"dropped"),
        r.LogsDropped(16),
        r.LogWritten("read, ünd".encode()),
        r.LogWritten(blob=entry("", 7)),
        r.LogsRead([17, 18]),
        r.LogsRead([18], undone=True),
        r.JobPut("deleted", r.ABSENT, body["plain"]),
        r.JobDeleted("deleted"),
        r.ConfigWritten(CONFIG.encode()),
    ]


async def write(objects: Objects) -> None:
    """A record a segment; two snapshots, and what is below the first one lies in a part."""
    options = Options(grace_s=-1e9, name="golden")
    began, *rest = changes()
    assert isinstance(began, r.Began)
    chain = await Chain.create(objects, began, nonce=b"g" * 16, options=options)
    for change in rest:
        await chain.commit(lambda state, change=change: [change])  # type: ignore[misc]  # mypy cannot infer the default
    await chain.snapshot()
    await chain.commit(lambda state: [r.RootSet("plain")])
    await chain.snapshot()
    await chain.commit(lambda state: [r.RootSet("checkpoint")])
    await chain.close()


def main() -> None:
    """Below this folder."""
    here = Path(__file__).parent / f"format{FORMAT}"
    asyncio.run(write(LocalObjects(here)))
    (here / "table/clock/now").unlink()
    (here / "table/clock").rmdir()
    shutil.rmtree(here / ".tmp")
    (here / ".lock").unlink(missing_ok=True)


if __name__ == "__main__":
    main()

"""A process that writes one large file to a job store by stream, and reads it back; so that its memory can be measured.

    python -m tests.stores.jobstore.mover LOCATOR BYTES

The content is made on the way and never whole in memory. Prints one JSON object: both digests, seconds, and the peak of the
resident memory before anything was moved and at the end, in bytes. The store is destroyed.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from towline.stores.jobstore.abstract import AbstractJobStore
from towline.stores.jobstore.config import Config

STEP = 1 << 20


def pieces(size: int) -> Iterator[bytes]:
    """So many bytes; no two pieces are equal."""
    block = random.Random(size).randbytes(STEP)
    for at in range(0, size, STEP):
        yield (at.to_bytes(8, "big") + block[8:])[: size - at]


def peak() -> int:
    """Bytes that this process had resident at most. (Not ru_maxrss: a child inherits its parent's.)"""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found[1]) * 1024


async def move(locator: str, size: int) -> dict[str, object]:
    """Write and read; see the module."""
    async with AbstractJobStore(locator) as store:
        await store.initialize(Config())
        try:
            wrote, read, before, begun = hashlib.sha256(), hashlib.sha256(), peak(), time.monotonic()
            async with store.write_file_stream() as (stream, name):
                for piece in pieces(size):
                    wrote.update(piece)
                    await stream.write(piece)
            middle = time.monotonic()
            async with store.read_file_stream(name) as stream:
                while piece := await stream.read(STEP):
                    read.update(piece)
            ended = time.monotonic()
        finally:
            await store.destroy()
    return {
        "bytes": size, "wrote": wrote.hexdigest(), "read": read.hexdigest(), "before": before, "peak": peak(),
        "write_s": round(middle - begun, 2), "read_s": round(ended - middle, 2),
    }  # fmt: skip


if __name__ == "__main__":
    print(json.dumps(asyncio.run(move(sys.argv[1], int(sys.argv[2])))))

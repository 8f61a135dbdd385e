"""Writes the golden journals of the format of this version: `python tests/golden/journal/make.py`.

Run it for a NEW format only, into a folder of its own: what is here was written by released versions and stays for good.
"""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

from towline.stores.journal.parts import drop_segments, make_part
from towline.stores.journal.reader import JournalReader
from towline.stores.journal.segments import FORMAT
from towline.stores.journal.writer import JournalWriter
from towline.stores.objects.local import LocalObjects

PAYLOADS = [f"record {i}".encode() * (1 + i % 3) + bytes(250 * (i % 4 == 3)) for i in range(24)]
"""What the golden journals hold, in order."""


async def write(folder: Path, appendable: bool) -> None:
    """Four claims of six records each; the third died torn, the oldest segments lie in parts."""
    objects = LocalObjects(folder, appendable=appendable)
    for turn in range(4):
        nonce = bytes([turn + 1]) * 16
        writer = await JournalWriter.claim(objects, nonce=nonce, leader=f"golden-{turn}", segment_bytes=500)
        for start in range(6 * turn, 6 * turn + 6, 2):
            await writer.commit(PAYLOADS[start : start + 2])
        if turn == 0:
            await writer.close()
        if turn == 2 and appendable:
            with max((folder / "journal").iterdir()).open("ab") as file:
                file.write(bytes(100))
    await make_part(objects, await JournalReader.open(objects), 12, 1)
    await drop_segments(objects, 6, grace_s=0.0, now=1e12)


def main() -> None:
    """Both modes, below this folder."""
    here = Path(__file__).parent / f"format{FORMAT}"
    for name, appendable in (("appended", True), ("linked", False)):
        asyncio.run(write(here / name, appendable))
        shutil.rmtree(here / name / ".tmp")
        (here / name / ".lock").unlink(missing_ok=True)


if __name__ == "__main__":
    main()

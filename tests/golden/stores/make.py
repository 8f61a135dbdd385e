"""Writes the golden stores of the format of this version: `python -m tests.golden.stores.make`.

Run it for a NEW format, or when records have GROWN at their end (raise `GROWN` then): into folders of their own, because what is
here stays for good, and is read on every run.
"""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import msgspec

from tests.kit.book import story, uuid_of
from towline.engine import codec
from towline.stores import snapshots
from towline.stores.files import Files
from towline.stores.journal.parts import drop_segments, make_part
from towline.stores.journal.reader import JournalReader
from towline.stores.journal.writer import JournalWriter
from towline.stores.objects.local import LocalObjects
from towline.stores.store import FORMAT, MARK, Mark, Store

GROWN = 2
"""How often records of this format have grown, counted from 1."""
LARGE = list(range(6000))
"""The output of the job `uuid_of(4)`, whose content is a file."""


async def write(folder: Path, appendable: bool) -> None:
    """A short run under three leaders: with a snapshot, a file, and its oldest segments in parts."""
    objects = LocalObjects(folder, appendable=appendable)
    await objects.put(MARK, msgspec.json.encode(Mark(FORMAT, "golden", "0.1.0")) + b"\n")
    store, book = Store(objects, Mark(FORMAT, "golden", "0.1.0")), story()
    early = len(book.payloads)
    book.complete([4])
    ref = await Files(objects).put_value(f"files/{uuid_of(5)}/2-{book.counter + 1}/{5:032x}", *codec.split(LARGE))
    book.end(5, output=codec.stub(msgspec.msgpack.encode(ref)))
    for turn, payloads in enumerate((book.payloads[:early], book.payloads[early:])):
        writer = await JournalWriter.claim(objects, nonce=bytes([turn + 1]) * 16, leader=f"golden-{turn}", segment_bytes=700)
        for start in range(0, len(payloads), 3):
            await writer.commit(payloads[start : start + 3])
        await writer.close()
    made = await snapshots.make(store)
    reader = await JournalReader.open(objects)
    await make_part(objects, reader, 12, 1000)
    await drop_segments(objects, 12, grace_s=0.0, now=1e12)
    writer = await JournalWriter.claim(objects, nonce=bytes([3]) * 16, leader="golden-2")
    book.named(*made)
    book.leave()
    await writer.commit(book.payloads[-3:])
    await writer.close()


def main() -> None:
    """Both modes, below this folder."""
    for mode in ("appended", "linked"):
        here = folder_of(mode)
        asyncio.run(write(here, mode == "appended"))
        shutil.rmtree(here / ".tmp", ignore_errors=True)
        (here / ".lock").unlink(missing_ok=True)


def folder_of(mode: str) -> Path:
    """Where the newest golden store of a mode lies."""
    return Path(__file__).parent / f"format{FORMAT}" / (mode if GROWN == 1 else f"{mode}-{GROWN}")


if __name__ == "__main__":
    main()

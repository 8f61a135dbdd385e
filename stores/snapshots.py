"""Snapshots: the folded journal up to some record, as one Arrow file, made outside the leader from committed records only.

A snapshot is `snapshots/<seq>-<beginning of its digest>.arrow`: everything up to and without record `seq`. It counts once a
committed `Snapshotted` record names its key and digest; that record stands behind `seq`, so whoever restores from a snapshot
meets it in the tail that he reads anyway. `believed` finds the newest such snapshot without reading what is before it.

`make` folds the last believed snapshot and the records since then with the engine's own ledger. Before it returns it tidies
by that believed snapshot, which is named already: older snapshots go (two stay), journal segments below it move into parts and
are dropped after their grace period (R4). `python -m towline.stores.snapshots URL` is the same as a process of its own and
prints one JSON line; `make_in_subprocess` is how a leader calls it.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import hmac
import json
import os
import re
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from towline.engine import model
from towline.engine.errors import CorruptionError, TowlineError, UsageError
from towline.engine.image import Image, image_of, ledger_from
from towline.engine.ledger import Ledger
from towline.stores.journal import parts
from towline.stores.journal.reader import JournalReader
from towline.stores.journal.writer import GRACE_S
from towline.stores.locate import parse
from towline.stores.objects.base import ABSENT, NotFound, Objects, PreconditionFailed
from towline.stores.objects.local import LocalObjects
from towline.stores.store import Store

PREFIX = "snapshots/"
BATCH_RECORDS = 2048
BATCH_BYTES = 4 << 20
"""How much of the journal is folded in one go in a thread, while the event loop answers others."""
PIECE_BYTES = 8 << 20
"""A larger snapshot goes to a bucket in pieces of this size."""
_shape = re.compile(r"snapshots/(\d{20})-[0-9a-f]{16}\.arrow").fullmatch
_TAG = b"\xabsnapshotted"
"""How the encoded record begins, behind the byte that says how many fields it has."""


class Made(NamedTuple):
    """A snapshot, as `Snapshotted` is to name it."""

    seq: int
    key: str
    digest: str


def seq_of(key: str) -> int | None:
    """First record that is not in this snapshot; None: the key is no snapshot's."""
    found = _shape(key)
    return int(found[1]) if found else None


def digest_of(data: Any) -> str:
    """Of the whole file: blake2b, 32 bytes, hex."""
    return hashlib.blake2b(data, digest_size=32).hexdigest()


# ------------------------------------------------------------------------------------------------------------- finding


async def listed(objects: Objects) -> list[str]:
    """The keys of all snapshots, named or not, oldest first."""
    return [meta.key async for meta in objects.list(PREFIX) if seq_of(meta.key) is not None]


async def believed(objects: Objects, reader: JournalReader) -> Made | None:
    """The newest snapshot that a committed record names; None: begin at record 0."""
    named: dict[str, str] = {}
    end = reader.next_seq
    for key in reversed(await listed(objects)):
        seq = seq_of(key)
        assert seq is not None
        if seq >= end:
            continue  # nothing that this reader knows can name it
        await _name(reader, seq, end, key, named)
        end = seq
        if key in named:
            return Made(seq, key, named[key])
    return None


async def _name(reader: JournalReader, start: int, end: int, wanted: str, named: dict[str, str]) -> None:
    """Add key and digest of the snapshots that the records from `start` up to `end` name; enough once `wanted` is found."""
    records = reader.records(start)
    try:
        async for seq, payload in records:
            if seq >= end or wanted in named:
                break
            if payload[1 : 1 + len(_TAG)] == _TAG:
                record = model.decode_record(payload)
                assert isinstance(record, model.Snapshotted)
                named[record.key] = record.digest
    finally:
        await records.aclose()


async def read(objects: Objects, made: Made) -> Image:
    """The image in a believed snapshot, proved against its digest. NotFound if it was pruned meanwhile."""
    if isinstance(objects, LocalObjects):
        path = objects.root / made.key
        return await asyncio.to_thread(_read_mapped, path, made, str(path))
    # it may be larger than memory should be: through a file without a name for others, which is mapped like a local one
    with tempfile.NamedTemporaryFile(prefix="towline-snapshot-") as file:
        async for piece in objects.download(made.key):
            await asyncio.to_thread(file.write, piece)
        file.flush()
        return await asyncio.to_thread(_read_mapped, Path(file.name), made, f"{objects.url}/{made.key}")


def _read_mapped(path: Path, made: Made, name: str) -> Image:
    import pyarrow as pa

    try:
        with pa.memory_map(str(path), "r") as file:
            return image_from(file.read_buffer(), made, name)
    except FileNotFoundError as error:
        raise NotFound(f"{name} does not exist") from error


def image_from(data: Any, made: Made, name: str) -> Image:
    """The image in the bytes of a snapshot. CorruptionError if they are not those that were named."""
    import pyarrow as pa

    from towline.stores import table

    if not hmac.compare_digest(digest_of(data), made.digest):
        raise CorruptionError(f"{name}: the snapshot is not the one that the journal names, at offset 0 or later")
    try:
        with pa.ipc.open_file(pa.py_buffer(data)) as file:
            image = table.from_batch(file.get_batch(0), name)
    except (pa.ArrowInvalid, KeyError, msgspec.MsgspecError) as error:
        raise CorruptionError(f"{name}: the snapshot cannot be read ({error}), at offset 0 or later") from error
    if image.seq != made.seq:
        raise CorruptionError(f"{name}: it holds the records up to {image.seq}, not up to {made.seq}, at offset 0")
    return image


# ------------------------------------------------------------------------------------------------------------- folding


async def batches(records: AsyncIterator[tuple[int, bytes]], upto: int | None = None) -> AsyncIterator[list[tuple[int, bytes]]]:
    """The records below `upto`, some thousand at a time."""
    batch: list[tuple[int, bytes]] = []
    size = 0
    async for seq, payload in records:
        if upto is not None and seq >= upto:
            break
        batch.append((seq, payload))
        size += len(payload)
        if len(batch) >= BATCH_RECORDS or size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


async def fold(reader: JournalReader, start: int, upto: int | None, apply: Callable[[int, bytes], Any]) -> None:
    """Hand every committed record from `start` to `upto` to `apply`, in a thread, in order."""

    def work(batch: list[tuple[int, bytes]]) -> None:
        for seq, payload in batch:
            apply(seq, payload)

    async for batch in batches(reader.records(start), upto):
        await asyncio.to_thread(work, batch)


def image_bytes(image: Image) -> Any:
    """The snapshot file of an image, as an Arrow buffer. The same image gives the same bytes."""
    import pyarrow as pa

    from towline.stores import table

    batch = table.to_batch(image)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return sink.getvalue()


# -------------------------------------------------------------------------------------------------------------- making


async def make(store: Store | str, upto_seq: int | None = None, *, grace_s: float = GRACE_S) -> Made:
    """Write the snapshot of the records below `upto_seq` (default: all that are committed), and tidy. Nothing names it yet.

    The caller's duty is to have the leader append `Snapshotted`. May run beside a leader, on any machine. A believed snapshot
    that holds as much already is returned as it is. `grace_s`: how long segments are kept (at least the writers' own, R4).
    """
    if isinstance(store, str):
        store = await Store.open(store)
    objects = store.objects
    reader = await JournalReader.open(objects)
    upto = min(reader.next_seq, upto_seq) if upto_seq is not None else reader.next_seq
    old = await believed(objects, reader)
    if old is not None and old.seq >= upto:
        return old
    if not objects.appendable:
        # the small segments first: what is read from the part is a few requests instead of one for each of them
        await parts.make_part(objects, reader, upto)
        await reader.take_parts()
    ledger = ledger_from(await read(objects, old)) if old is not None else Ledger()
    await fold(reader, ledger.next_seq, upto, lambda seq, payload: ledger.apply(seq, payload, model.decode_record(payload)))
    made = await _write(objects, await asyncio.to_thread(image_of, ledger))
    if old is not None:
        await tidy(objects, reader, old, made, grace_s)
    return made


async def _write(objects: Objects, image: Image) -> Made:
    data = await asyncio.to_thread(image_bytes, image)
    digest = await asyncio.to_thread(digest_of, data)
    made = Made(image.seq, f"{PREFIX}{image.seq:020d}-{digest[:16]}.arrow", digest)
    whole = memoryview(data)
    with suppress(PreconditionFailed):  # the key names the content: what is there is this very file
        if len(whole) <= PIECE_BYTES or isinstance(objects, LocalObjects):
            await objects.put(made.key, [whole], ABSENT)
        else:
            await objects.upload(made.key, _sliced(whole), ABSENT)
    return made


async def _sliced(whole: memoryview) -> AsyncIterator[memoryview]:
    for start in range(0, len(whole), PIECE_BYTES):
        yield whole[start : start + PIECE_BYTES]


async def tidy(objects: Objects, reader: JournalReader, old: Made, new: Made, grace_s: float) -> None:
    """Drop what the believed snapshot `old` makes superfluous; it stays itself, for readers that are slow.

    Everything else that is older than `new` and is not `old` goes: superseded, or never named by a leader that died.
    """
    superfluous = [key for key in await listed(objects) if (seq_of(key) or 0) < new.seq and key != old.key]
    await objects.delete_many(superfluous)
    await parts.make_part(objects, reader, old.seq)
    await parts.drop_segments(objects, old.seq, grace_s=grace_s, now=await parts.store_now(objects))


async def make_in_subprocess(url: str, upto_seq: int | None = None, *, grace_s: float = GRACE_S) -> Made:
    """As `make`, in a process of its own, which ends when this is cancelled. TowlineError says why it failed."""
    if parse(url).kind == "memory":
        return await make(url, upto_seq, grace_s=grace_s)
    command = [sys.executable, "-P", "-m", __name__, url, f"--grace={grace_s}"]
    if upto_seq is not None:
        command.append(f"--upto={upto_seq}")
    pipe, null = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(*command, stdin=null, stdout=pipe, stderr=pipe, start_new_session=True)
    try:
        out, complaint = await process.communicate()
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
            await asyncio.shield(process.wait())
    if process.returncode:
        last = (complaint.decode(errors="replace").strip().splitlines() or ["it said nothing"])[-1]
        raise TowlineError(f"the snapshot of {url} was not made (exit {process.returncode}): {last}")
    said = json.loads(out)
    return Made(said["seq"], said["key"], said["digest"])


def main(argv: list[str] | None = None) -> int:
    """`python -m towline.stores.snapshots URL [--upto SEQ] [--grace SECONDS]`."""
    parser = argparse.ArgumentParser(prog="python -m towline.stores.snapshots", description="Write a snapshot of a store.")
    parser.add_argument("url")
    parser.add_argument("--upto", type=int, help="first record that is not to be in it (default: all committed ones are)")
    parser.add_argument("--grace", type=float, default=GRACE_S, help="seconds that journal segments are kept")
    options = parser.parse_args(argv)
    with suppress(OSError):
        os.nice(10)
    try:
        made = asyncio.run(make(options.url, options.upto, grace_s=options.grace))
    except (TowlineError, UsageError) as error:
        print(error, file=sys.stderr)
        return 1
    print(json.dumps(made._asdict()))
    return 0


if __name__ == "__main__":
    sys.exit(main())

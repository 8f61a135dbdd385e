"""Proves a whole store: the journal and the job table from end to end, snapshots, and that every file which counts is there.

The journal and the table are chains (`journal.verify`). From their committed records follows which objects must exist: the
snapshot that a restart begins with, the file of each output that stands now, the blob of each file of the job table. Each must
be there with the size that its record names; `deep` reads them, too, and proves every byte. Reads only, and may run beside a
leader: what is demanded is read before what is there is listed, and nothing that counts is ever deleted.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import NamedTuple

from towline.engine.errors import CorruptionError
from towline.engine.states import JobState
from towline.stores import files, replay, snapshots
from towline.stores.documents import written
from towline.stores.fileformat import TAIL, Prover, Sealed, end_bytes, read_footer
from towline.stores.files import FileRef, reference_in
from towline.stores.journal import verify as chains
from towline.stores.journal.ahead import in_order
from towline.stores.journal.reader import JournalReader
from towline.stores.objects.base import NotFound, Objects
from towline.stores.objects.wrappers import Prefixed
from towline.stores.store import Store

STUB_BYTES = range(40, 1024)
"""An output of another length is no stub of a file."""
BLOBS = "blobs/"
_END_BYTES = 64 << 10


@dataclass
class Report(chains.Report):
    """What was proven of the journal, and then of the rest."""

    table_records: int = 0
    """Of the job table's chain."""
    snapshots: int = 0
    """That a committed record names, read and proved."""
    files: int = 0
    """That committed records name and that are there, with the right size."""
    file_bytes: int = 0
    deep: bool = False
    """Was every byte of them proved, too?"""


class Wanted(NamedTuple):
    """An object that must exist."""

    key: str
    size: int
    crc32c: int
    """Of a file's footer."""
    crcs: bytes
    """Of a blob's parts; b"": it is a file, or nobody has proved it."""
    part: int
    owner: str
    """Who names it, for people."""


async def verify_store(store: Store, deep: bool = False) -> Report:
    """Prove all that lies in a store. Raises ObjectsError if it cannot be read; what is wrong with it is in the report."""
    report = Report(**vars(await chains.verify(store.objects)), deep=deep)
    try:
        wanted = await _of_journal(store, report) if report.ok else {}
        wanted |= await _of_table(store.objects, "", report)
        for collection in await written.collections(store.objects):
            wanted |= await _of_table(store.objects, f"{written.PREFIX}{collection}/", report)
    except CorruptionError as error:
        report.problems.append(str(error))
        return report
    await _are_there(store.objects, wanted, report)
    return report


# ------------------------------------------------------------------------------------------------- what must be there


async def _of_journal(store: Store, report: Report) -> dict[str, Wanted]:
    """The files of outputs that stand, from the newest snapshot and the records after it: as a restart would see them."""
    reader = await JournalReader.open(store.objects)
    core = await replay.restore(store, reader)
    await _named_snapshots(store.objects, reader, report)
    graph, places = core.ledger.graph, dict[int, list[int]]()
    completed = int(JobState.COMPLETED)
    for row in range(graph.size):
        if graph.state[row] == completed and graph.out_length[row] in STUB_BYTES:
            places.setdefault(graph.out_seq[row], []).append(row)
    wanted: dict[str, Wanted] = {}
    if places:
        async with aclosing(reader.records(min(places))) as records:
            async for seq, payload in records:
                for row in places.get(seq, ()):
                    place = graph.output(row)
                    ref = reference_in(payload[place.offset : place.offset + place.length]) if place is not None else None
                    if ref is not None:
                        wanted[ref.key] = Wanted(ref.key, ref.size, ref.crc32c, b"", 0, f"the output of job {graph.uuid(row)}")
    return wanted


async def _named_snapshots(objects: Objects, reader: JournalReader, report: Report) -> None:
    made = await snapshots.believed(objects, reader)
    if made is None:
        return
    try:
        await snapshots.read(objects, made)
    except NotFound:
        report.problems.append(f"{made.key}: the snapshot is missing, but record {made.seq} or a later one names it")
    except CorruptionError as error:
        report.problems.append(str(error))
    else:
        report.snapshots += 1


async def _of_table(objects: Objects, where: str, report: Report) -> dict[str, Wanted]:
    """The blobs of files, shared files and logs of the job table, if there is one below `where`."""
    from towline.stores.jobstore.chain import Chain, table

    inside = Prefixed(objects, where) if where else objects
    place = table(inside)
    async with aclosing(_listed(place, "")) as found:
        if await anext(found, None) is None:
            return {}
    proved = await chains.verify(place)
    report.table_records += proved.records
    report.problems += [f"{where}table/{text}" for text in proved.problems]
    report.notes += [f"{where}table/{text}" for text in proved.notes]
    if not proved.ok:
        return {}
    state = (await Chain.open(inside)).state
    named = [(file.entry, f"file {id}") for id, file in state.files.items()]
    named += [(file.entry, f"shared file {name}") for name, file in state.shared.items()]
    named += [(log.blob, f"log {number}") for number, log in state.logs.items() if log.blob is not None]
    return {where + e.blob: Wanted(where + e.blob, e.size, 0, e.crcs, e.part, owner) for e, owner in named}


# ------------------------------------------------------------------------------------------------------ is it there?


async def _listed(objects: Objects, prefix: str) -> AsyncGenerator[tuple[str, int], None]:
    async for meta in objects.list(prefix):
        yield meta.key, meta.size


async def _are_there(objects: Objects, wanted: Mapping[str, Wanted], report: Report) -> None:
    sizes: dict[str, int] = {}
    for prefix in {files.PREFIX, BLOBS, written.PREFIX} if wanted else ():
        sizes |= {key: size async for key, size in _listed(objects, prefix) if key in wanted}
    sound = []
    for key, want in sorted(wanted.items()):
        size = sizes.get(key)
        if size is None:
            report.problems.append(f"{key}: it is missing, but {want.owner} names it")
        elif size != want.size:
            report.problems.append(f"{key}: it has {size} bytes instead of {want.size}, at offset {min(size, want.size)}")
        else:
            sound.append(want)
    report.files, report.file_bytes = len(sound), sum(want.size for want in sound)
    if report.deep:
        async for want, fault in in_order(sound, lambda want: _proved(objects, want), lambda want: want.size, most=8):
            if fault:
                report.problems.append(f"{fault} ({want.owner})")


async def _proved(objects: Objects, want: Wanted) -> str:
    """What is wrong with the content of an object; empty: nothing."""
    try:
        if not want.key.startswith(files.PREFIX):
            await _prove_blob(objects, want)
        else:
            await prove_file(objects, FileRef(want.key, want.size, want.crc32c))
    except CorruptionError as error:
        return str(error)
    except NotFound:
        return f"{want.key}: it has vanished"
    return ""


async def prove_file(objects: Objects, ref: FileRef) -> None:
    """Read a file of the store to its end and prove every byte of it, in bounded memory. CorruptionError, NotFound."""
    import pyarrow as pa

    sealed, name = Sealed(ref.size, ref.crc32c), f"{objects.url}/{ref.key}"
    end = pa.py_buffer(await objects.get(ref.key, max(0, ref.size - max(_END_BYTES, TAIL.size))))
    need = end_bytes(end, sealed, name)
    if need > end.size:
        end = pa.py_buffer(await objects.get(ref.key, ref.size - need))
    footer, body = read_footer(end, sealed, name)
    prover = Prover(footer, body, name)
    async with aclosing(objects.download(ref.key, 0, body)) as pieces:
        async for piece in pieces:
            await asyncio.to_thread(prover.feed, piece)
    prover.ended(body)


async def _prove_blob(objects: Objects, want: Wanted) -> None:
    from towline.stores.jobstore.streams import Blob, Content, proved_parts

    async with aclosing(proved_parts(Blob(objects, want.key, Content(want.size, want.crcs)))) as parts:
        async for _ in parts:
            pass

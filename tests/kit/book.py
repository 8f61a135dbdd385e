"""Writes journals that an engine would write, record by record, without an engine: what restores and snapshots are tried on.

A `Book` applies each record to a ledger of its own as it says it, so that a record the engine would refuse fails where it
is written. Everything is derived from numbers: the same calls give the same bytes.
"""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from towline.engine import codec, model
from towline.engine.ids import NO_ROW
from towline.engine.ledger import Ledger
from towline.engine.states import JobState
from towline.stores.journal.reader import JournalReader
from towline.stores.journal.writer import JournalWriter
from towline.stores.objects.base import Objects
from towline.stores.objects.memory import MemoryObjects

WALL = 1_700_000_000.0


def uuid_of(number: int, space: int = 0) -> str:
    """A canonical uuid for a number."""
    return f"{space:08x}-0000-4000-8000-{number:012x}"


def chunk(
    flow: str,
    uuids: Sequence[str],
    parents: Sequence[Sequence[int]] = (),
    *,
    base: int = 0,
    total: int | None = None,
    indices: Sequence[int] = (),
    externals: Sequence[tuple[str, int]] = (),
    names: Sequence[str] = ("add",),
    args: Sequence[Any] | None = None,
) -> model.Chunk:
    """A piece of a submission; `parents` gives job numbers of the submission for each job."""
    packed = [codec.encode([list(arg), {}]) for arg in (args or [(i,) for i in range(len(uuids))])]
    ends, at = array("I"), 0
    for one in packed:
        at += len(one)
        ends.append(at)
    functions = [model.Function(f"f-{name}", f"jobs:{name}") for name in dict.fromkeys(names)]
    specs = [
        model.Spec(f"f-{name}", name, model.Options(priority=i, requirements={"cores": float(i)})) for i, name in enumerate(names)
    ]
    counts = array("I", [len(p) for p in parents]) if parents else array("I")
    return model.Chunk(
        flow, base, len(uuids), len(uuids) if total is None else total,
        b"".join(bytes.fromhex(u.replace("-", "")) for u in uuids) if all(len(u) == 36 for u in uuids) else list(uuids),
        array("H", indices).tobytes(), specs, array("I", [i % len(specs) for i in range(len(uuids))]).tobytes(), functions,
        counts.tobytes(), array("I", [p for some in parents for p in some]).tobytes(), b"", list(externals), f"flow {flow}",
        ends.tobytes(), b"".join(packed),
    )  # fmt: skip


class Book:
    """A journal in the making."""

    def __init__(self) -> None:
        self.ledger = Ledger()
        self.payloads: list[bytes] = []
        self.epoch = 0
        self.counter = 0
        self.wall = WALL

    def say(self, record: model.Record) -> bytes:
        """Add a record."""
        payload = model.encode(record)
        self.ledger.apply(len(self.payloads), payload, model.decode_record(payload))
        self.payloads.append(payload)
        self.wall += 1.0
        return payload

    def lead(self, store: str = "the-store") -> None:
        """A (new) leader, and its worker `w<epoch>`."""
        if not self.payloads:
            self.say(model.Opened(store, "0.1.0", self.wall))
        self.epoch += 1
        self.say(model.Led(self.epoch, "leader", "host", "boot", "ns", 4242, 7.0, self.wall, 60.0))
        self.say(model.Joined(f"w{self.epoch}", "host", "boot", "ns", 5000, 8.0, 5001, 8.5, self.wall))

    def leave(self, *, close: bool = True, suspects: Sequence[int] = ()) -> None:
        """The worker leaves, then the leader."""
        self.say(model.Left(f"w{self.epoch}", "gone", self.wall, list(suspects)))
        if close:
            self.say(model.Closed(self.wall))

    def add(self, what: model.Chunk) -> int:
        """Submit; returns the first row."""
        row = self.ledger.graph.size
        self.say(model.Added(row, self.wall, what))
        return row

    def complete(self, rows: Sequence[int], values: Sequence[Any] | None = None) -> None:
        """Plain outcomes of these rows, in one record."""
        outputs = [codec.encode(value) for value in (values or [row * 2 for row in rows])]
        ends, at = array("I"), 0
        for output in outputs:
            at += len(output)
            ends.append(at)
        n = len(rows)
        plain = model.Plain(
            array("I", rows).tobytes(), array("I", self._counters(n)).tobytes(), array("d", [self.wall] * n).tobytes(),
            array("f", [0.5] * n).tobytes(), ends.tobytes(), b"".join(outputs),
        )  # fmt: skip
        self.say(model.Completed(f"w{self.epoch}", self.epoch, self.wall, plain))

    def end(
        self,
        row: int,
        state: JobState = JobState.COMPLETED,
        *,
        output: bytes = b"\xc0",
        growth: model.Growth | None = None,
        kind: str = "error",
        attempts: int = 1,
        stored: bytes = b"",
    ) -> tuple[int, int]:
        """An outcome that is more than bytes; returns its attempt."""
        (counter,) = self._counters(1)
        failure = None if state is JobState.COMPLETED else model.Failure(kind, "ValueError: no", "Traceback ...")
        ending = model.Ending(row, counter, output, failure, growth, stored, self.wall, 0.25)
        first = self.ledger.graph.size if growth is not None else NO_ROW
        until = self.wall + 5 if state is JobState.DELAYED else 0.0
        self.say(model.Ended(f"w{self.epoch}", self.epoch, self.wall, ending, int(state), attempts, until, first))
        return self.epoch, counter

    def log(self, row: int) -> None:
        """What a job wrote."""
        self.say(model.Logged(self.epoch, [model.Log(row, 1, b"out", b"err")]))

    def stop(self, rows: Sequence[int]) -> None:
        """A user stops these."""
        self.say(model.Steered("stop", array("I", rows).tobytes(), int(JobState.STOPPED), self.wall))

    def named(self, seq: int, key: str, digest: str) -> bytes:
        """A snapshot is named."""
        return self.say(model.Snapshotted(seq, key, digest, self.wall))

    def _counters(self, n: int) -> range:
        self.counter += n
        return range(self.counter - n + 1, self.counter + 1)


def story() -> Book:
    """A short run in which everything happens that leaves a mark on the ledger."""
    book = Book()
    book.lead()
    diamond = [[], [0], [0], [1, 2], [3], [3]]
    book.add(chunk("flow-a", [uuid_of(i) for i in range(6)], diamond, names=("add", "times", "add"), total=8))
    book.add(chunk("flow-a", [uuid_of(i) for i in (6, 7)], [[5], [6, 0]], base=6, total=8))
    book.add(chunk("flow-b", ["job one", "job two", "x" * 16], [[], [0], []], args=[(b"y" * 300,), (), (1, 2)]))
    book.complete([0])
    book.log(0)
    book.complete([2, 1], ["a", [1, 2]])
    heir = chunk("flow-a", [uuid_of(99), uuid_of(3)], [[], [0]], indices=[1, 2], names=("fit",))
    book.end(3, growth=model.Growth(replace=heir, heir=1))
    book.end(8, JobState.DELAYED, attempts=1)
    book.leave(close=False, suspects=[10])
    book.lead()
    book.end(10, JobState.FAILED, kind="lost", attempts=0)
    book.log(10)
    detour = chunk("flow-a", [uuid_of(200), uuid_of(201)], [[], []])
    book.end(11, growth=model.Growth(detour=detour), stored=b"\xa1s")
    book.stop([9])
    return book


def big_story(jobs: int) -> Book:
    """Chains of ten; nine of ten jobs are done."""
    book = Book()
    book.lead()
    for base in range(0, jobs, 1000):
        n = min(1000, jobs - base)
        parents = [[base + i - 1] if (base + i) % 10 else [] for i in range(n)]
        book.add(chunk("flow", [uuid_of(base + i) for i in range(n)], parents, base=base, total=jobs))
    for step in range(9):
        book.complete(range(step, jobs, 10))
    return book


async def write(objects: Objects, payloads: Sequence[bytes], *, segment_bytes: int = 64 << 20, nonce: int = 1) -> JournalReader:
    """Commit these records as one leader, a few at a time; returns a fresh reader of the journal."""
    writer = await JournalWriter.claim(objects, nonce=nonce.to_bytes(16, "little"), leader="test", segment_bytes=segment_bytes)
    for start in range(0, len(payloads), 5):
        await writer.commit(payloads[start : start + 5])
    await writer.close()
    return await JournalReader.open(objects)


def write_sync(objects: Objects, payloads: Sequence[bytes]) -> None:
    """As `write`, from a test without a loop."""
    asyncio.run(write(objects, payloads))


def write_golden(folder: Path) -> None:
    """The files under tests/golden that this floor must read for ever; run `python -m tests.kit.book` for a new format."""
    from towline.engine.image import image_of
    from towline.stores import files, snapshots

    book = story()
    data = bytes(snapshots.image_bytes(image_of(book.ledger)))
    (folder / "snapshots").mkdir(parents=True, exist_ok=True)
    (folder / "snapshots" / "story-1.arrow").write_bytes(data)
    (folder / "files").mkdir(exist_ok=True)
    objects = MemoryObjects()
    content = [b"first buffer", b"", bytes(range(256)) * 5]
    ref = files.Files(objects).put_value_sync(files.new_key(uuid_of(1), (3, 7)), b"the header", content)
    (folder / "files" / "value-1.bin").write_bytes(asyncio.run(objects.get(ref.key)))
    print("digest", snapshots.digest_of(data), "ref", ref)


if __name__ == "__main__":
    write_golden(Path(__file__).parents[1] / "golden")

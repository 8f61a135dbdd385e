"""Files and small objects on a bucket, ours against aiobotocore and gcsfs used bare, turn by turn in one session.

    python -m towline.benchmarks.files --place "Ceph RGW=s3://bucket/prefix" --place "GCS fake=gs://bucket"

Which server and as whom is said by the usual environment; `make files` starts both servers on this machine. Every repetition
writes and reads one large file by path and by stream, and many small objects at once; the order of the peers is turned round
with each. What was read is compared with what was written, outside the time. Ratios of medians are what counts.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import random
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from filecmp import cmp
from pathlib import Path
from statistics import median
from typing import Any

import msgspec

from towline.benchmarks import machine
from towline.benchmarks.machine import Machine
from towline.benchmarks.peers.base import WrongOutcome
from towline.benchmarks.peers.stores import CONCURRENCY, WIDTH, Kind, Mover, open_all
from towline.stores.fileformat import PART

BAR = 0.8
"""What ours has to reach, as a multiple of what the bare client does."""
SMALL_BYTES = 4096
PLACES = "FILES_PLACES"
"""Environment: places by default, as `NAME=LOCATOR` with a semicolon between two."""
PAIRS = (("write path", "read path"), ("write stream", "read stream"), ("put small", "get small"))
"""What is measured: a way of writing, and the way of reading that goes with it."""

Clock = Callable[[], float]


class Moved(msgspec.Struct, frozen=True, kw_only=True):
    """One peer at one work, all repetitions in the order in which they were made."""

    place: str
    """The server, by its user's name for it."""
    work: str
    peer: str
    kind: Kind
    objects: int
    size: int
    """Bytes of each object."""
    seconds: list[float]

    @property
    def rate(self) -> float:
        """Of small objects, objects a second; else MB (10^6 bytes) a second. By the median."""
        return (self.objects if "small" in self.work else self.objects * self.size / 1e6) / median(self.seconds)


class FilesReport(msgspec.Struct, frozen=True, kw_only=True):
    """One session of measuring."""

    format: int = 1
    machine: Machine
    repeats: int
    part_bytes: int = PART
    parts_at_once: int = WIDTH
    objects_at_once: int = CONCURRENCY
    results: list[Moved] = []

    def ratio(self, moved: Moved, kind: Kind = "bare") -> float | None:
        """Its rate as a multiple of the bare client's at the same place and work; None without one of this kind."""
        there = (m for m in self.results if m.kind == kind and (m.place, m.work) == (moved.place, moved.work))
        base = next(there, None)
        return None if base is None else moved.rate / base.rate

    def missed(self) -> list[str]:
        """A sentence for each bar that was not reached."""
        ours = [(moved, self.ratio(moved)) for moved in self.results if moved.kind == "ours"]
        return [
            f"{moved.place}, {moved.work}: {moved.peer} {ratio:.2f} x bare, the bar is {BAR:g} x"
            for moved, ratio in ours
            if ratio is not None and ratio < BAR
        ]


class Load(msgspec.Struct, frozen=True):
    """What is moved: the same bytes for everybody."""

    file: Path
    content: bytes
    small: list[bytes]

    @classmethod
    def make(cls, folder: Path, size: int, count: int) -> Load:
        """Content that no server can compress, and the file that holds it.

        No small one ends with a carriage return: gcsfs ends content with a bare line feed, and a server takes both for the end.
        """
        rng = random.Random(7)
        content = b"".join(rng.randbytes(min(1 << 20, size - at)) for at in range(0, size, 1 << 20))
        (folder / "source").write_bytes(content)
        return cls(folder / "source", content, [rng.randbytes(SMALL_BYTES - 1) + b"." for _ in range(count)])


class Session:
    """The peers of one place, turn by turn."""

    def __init__(self, place: str, load: Load, folder: Path, *, clock: Clock = time.perf_counter) -> None:
        self._place, self._load, self._clock = place, load, clock
        self._target = folder / "target"
        self._seconds: dict[tuple[str, str], list[float]] = {}

    async def turn(self, peers: Sequence[Mover], repetition: int) -> None:
        """Each work by each peer that offers it, once. WrongOutcome if what was read is not what was written."""
        for pair in PAIRS:
            for peer in peers if repetition % 2 == 0 else reversed(peers):
                if _offers(peer, pair[0]):
                    await self._both(peer, *pair)

    async def _both(self, peer: Mover, write: str, read: str) -> None:
        gc.collect()
        load = self._load
        match write:
            case "write path":
                name = await self._timed(peer, write, _of(peer, "write_path")(load.file))
                await self._timed(peer, read, _of(peer, "read_path")(name, self._target))
                right, names = cmp(load.file, self._target, shallow=False), [name]
                self._target.unlink()
            case "write stream":
                name = await self._timed(peer, write, _of(peer, "write_stream")(load.content))
                got = await self._timed(peer, read, _of(peer, "read_stream")(name))
                right, names = b"".join(got) == load.content, [name]
            case _:
                names = await self._timed(peer, write, _of(peer, "put")(load.small))
                right = await self._timed(peer, read, _of(peer, "get")(names)) == load.small
        if not right:
            raise WrongOutcome(f"{peer.name} on {self._place}: {read} gave other bytes than {write} took")
        await peer.delete(names)

    async def _timed(self, peer: Mover, work: str, act: Awaitable[Any]) -> Any:
        began = self._clock()
        done = await act
        self._seconds.setdefault((work, peer.name), []).append(round(self._clock() - began, 6))
        return done

    def results(self, kinds: Mapping[str, Kind]) -> list[Moved]:
        """What came of it, work by work."""
        works = [work for pair in PAIRS for work in pair]
        load = self._load
        return [
            Moved(
                place=self._place, work=work, peer=peer, kind=kinds[peer], seconds=self._seconds[work, peer],
                objects=len(load.small) if "small" in work else 1, size=SMALL_BYTES if "small" in work else len(load.content),
            )
            for work in works
            for peer in dict.fromkeys(name for there, name in self._seconds if there == work)
        ]  # fmt: skip


def _of(peer: Mover, verb: str) -> Any:
    return getattr(peer, verb)


def _offers(peer: Mover, work: str) -> bool:
    return hasattr(peer, {"put small": "put"}.get(work, work.replace(" ", "_")))


async def measure(
    places: Sequence[tuple[str, str]], size: int, count: int, repeats: int, folder: Path, say: Callable[[str], None]
) -> list[Moved]:
    """All places, all peers, `repeats` times, after a turn that is not counted: it opens connections and files."""
    load, results = Load.make(folder, size, count), list[Moved]()
    warm = Load.make(await asyncio.to_thread(_folder, folder / "warm"), PART + 1, 2 * CONCURRENCY)
    for name, locator in places:
        async with AsyncExitStack() as held:
            peers = await open_all(locator, held)
            await Session(name, warm, folder).turn(peers, 0)
            session = Session(name, load, folder)
            for repetition in range(repeats):
                await session.turn(peers, repetition)
                say(f"{name}: {repetition + 1}/{repeats}")
            results += session.results({peer.name: peer.kind for peer in peers})
    return results


def _folder(path: Path) -> Path:
    path.mkdir()
    return path


def rows(report: FilesReport) -> list[tuple[str, ...]]:
    """One line a measurement, as HEADER says."""
    return [
        (
            moved.place,
            moved.work,
            moved.peer,
            f"{moved.rate:,.0f} {'/s' if 'small' in moved.work else 'MB/s'}",
            *("" if (ratio := report.ratio(moved, kind)) is None else f"{ratio:.2f}" for kind in KINDS),
            " ".join(f"{seconds:.2f}" for seconds in moved.seconds),
        )
        for moved in report.results
    ]


KINDS: tuple[Kind, ...] = ("bare", "unchecked")
HEADER = ("server", "work", "by", "rate", *(f"x {kind}" for kind in KINDS), "seconds")


def table(report: FilesReport) -> str:
    """As Markdown, which people can read too."""
    lines = [HEADER, ("---", "---", "---", "---:", "---:", "---:", "---"), *rows(report)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 1 if a bar was missed and `--gate` was given."""
    given = parser().parse_args(arguments)
    texts = given.place or [text for text in os.environ.get(PLACES, "").split(";") if text]
    places = [(name, locator) for name, _, locator in (text.rpartition("=") for text in texts)]
    if not places or not all(name for name, _ in places):
        print(f'say where: --place "NAME=LOCATOR", or {PLACES}; `make files` does so', file=sys.stderr)
        return 2
    given.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="files-", dir=given.folder) as root:
        here = machine.describe(Path(root))
        work = measure(places, given.mib << 20, given.small, given.repeats, Path(root), lambda text: print(text, file=sys.stderr))
        report = FilesReport(machine=here, repeats=given.repeats, results=asyncio.run(work))
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=1) + b"\n")
    print(table(report))
    print(f"load {here.load_1min:g} before, {here.cores} cores; raw numbers: {given.out}")
    missed = report.missed()
    for sentence in missed:
        print(f"below the bar: {sentence}")
    return 1 if missed and given.gate else 0


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="python -m towline.benchmarks.files", description=(__doc__ or "").splitlines()[0])
    made.add_argument("--place", action="append", metavar="NAME=LOCATOR", help="a server's name and a place on it; repeatable")
    made.add_argument("--mib", type=int, default=256, help="size of the large file")
    made.add_argument("--small", type=int, default=2000, help=f"number of small objects, {SMALL_BYTES} bytes each")
    made.add_argument("--repeats", type=int, default=5)
    made.add_argument("--out", type=Path, default=Path("results/files.json"))
    made.add_argument("--folder", type=Path, default=Path("results"), help="where the local files are; should be a disk")
    made.add_argument("--gate", action="store_true", help="exit with 1 if a bar is missed")
    return made


if __name__ == "__main__":
    sys.exit(main())

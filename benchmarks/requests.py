"""How many requests a run costs on a bucket: the real leader and worker in this process, over counted objects that answer late.

    python -m towline.benchmarks.requests --jobs 200000 --latency-ms 100

The store is memory that behaves as a bucket does (nothing can be appended to, every request takes its time), so each commit is
the create of a segment. Counted is everything: choosing the store, claiming it, the run, closing, and then, apart from it, what
it takes to read the run back from the store alone. Requests follow time (commits a second) more than jobs; per million they are
told by proportion, which is too many rather than too few.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from typing import Any, cast
from uuid import uuid4

import msgspec

from towline.benchmarks.peers.base import WrongOutcome
from towline.stores import locate, replay
from towline.stores.objects.memory import MemoryObjects
from towline.stores.objects.probe import PREFIX as PROBES
from towline.stores.objects.wrappers import Counting, Latency, Tally

MILLION = 1_000_000
BAR, AIM = 5_000, 1_000
"""Requests for a million no-op jobs: at most, and hoped for."""
GAP_S = 1.0
"""No key may be overwritten sooner: GCS takes about one write of an object a second. (A probe's keys are, to try just that.)"""
FREE = "sync"
"""What a bucket need not be asked for."""

WRITING = frozenset({"put", "upload", "upload.part", "copy", "list", "unfinished"})
"""Verbs that S3 bills as PUT, COPY, POST or LIST; deletions are free, all others are GETs."""
PRICE_WRITING, PRICE_READING = 0.005 / 1000, 0.0004 / 1000
"""Dollars a request: S3 Standard in us-east-1."""


class Requests(msgspec.Struct, frozen=True, kw_only=True):
    """What one run cost. Times in seconds."""

    jobs: int
    latency_ms: float
    run_s: float
    requests: dict[str, int]
    """By verb."""
    commits: int
    """Segments of the journal that were created."""
    bytes_out: int
    shortest_gap_s: float
    """Between two writes of one key; infinite if no key was written twice."""
    rewritten: str
    """That key."""
    reopened: dict[str, int]
    """Requests for reading the whole run back, by verb."""
    reopen_s: float

    @property
    def total(self) -> int:
        """All requests of the run."""
        return sum(self.requests.values())

    @property
    def per_million(self) -> float:
        """By proportion."""
        return self.total * MILLION / self.jobs

    @property
    def dollars_per_million(self) -> float:
        """What S3 asks for the requests of a million jobs, by proportion."""
        return cost(self.requests) * MILLION / self.jobs


def cost(requests: dict[str, int]) -> float:
    """Dollars."""
    return sum(n * (PRICE_WRITING if verb in WRITING else PRICE_READING) for verb, n in requests.items() if verb != "delete_many")


def asked(tally: Tally) -> dict[str, int]:
    """Requests by verb."""
    return {verb: n for verb, n in tally.requests.items() if verb != FREE}


class Bucket:
    """A bucket in this process, under a locator of its own."""

    def __init__(self, latency_ms: float) -> None:
        name = f"requests-{uuid4().hex}"
        self.url = f"memory:{name}"
        self._counting: Counting = Counting(Latency(MemoryObjects(appendable=False, name=self.url), latency_ms / 1000))
        self._name = name

    def __enter__(self) -> Bucket:
        locate._memories[self._name] = cast(Any, self._counting)  # the one door through which a locator becomes objects
        return self

    def __exit__(self, *error: object) -> None:
        del locate._memories[self._name]

    def since(self) -> Tally:
        """What was counted since the last time."""
        tally, self._counting.tally = self._counting.tally, Tally()
        return tally


def measure(jobs: int, latency_ms: float) -> Requests:
    """Run a flat flow of no-op jobs on a bucket, and read it back. WrongOutcome if not all jobs completed."""
    import towline
    from towline.benchmarks import shapes

    flow, _ = shapes.flow_of(shapes.flat(jobs))
    with Bucket(latency_ms) as bucket:
        began = time.monotonic()
        ran = towline.run(flow, store=bucket.url, local=True, progress=False)
        run_s = time.monotonic() - began
        counts = ran.counts()
        if counts != {"completed": jobs}:
            raise WrongOutcome(f"of {jobs} jobs {counts} have ended")
        tally = bucket.since()
        began = time.monotonic()
        loaded = asyncio.run(replay.load(bucket.url))
        reopen_s = time.monotonic() - began
        if loaded.core.ledger.graph.size != jobs:
            raise WrongOutcome(f"{loaded.core.ledger.graph.size} jobs were read back instead of {jobs}")
        gaps = [(gap_s, key) for key, gap_s in tally.gaps_s.items() if not key.startswith(PROBES)]
        gap_s, rewritten = min(gaps, default=(float("inf"), ""))
        return Requests(
            jobs=jobs, latency_ms=latency_ms, run_s=run_s, requests=asked(tally), bytes_out=tally.bytes_out,
            commits=sum(key.startswith("journal/") for key in tally.writes), shortest_gap_s=gap_s, rewritten=rewritten,
            reopened=asked(bucket.since()), reopen_s=reopen_s,
        )  # fmt: skip


def told(found: Requests) -> str:
    """The figures for people."""
    verbs = ", ".join(f"{n} {verb}" for verb, n in sorted(found.requests.items(), key=lambda item: -item[1]))
    again = ", ".join(f"{n} {verb}" for verb, n in sorted(found.reopened.items(), key=lambda item: -item[1]))
    gap = f"{found.shortest_gap_s:.2f} s ({found.rewritten})" if found.rewritten else "no key was written twice"
    return "\n".join(
        [
            f"{found.jobs} flat no-op jobs, {found.latency_ms:g} ms a request: {found.run_s:.1f} s, "
            f"{found.jobs / found.run_s:.0f} jobs/s",
            f"requests           {found.total}: {verbs}",
            f"commits            {found.commits}, {found.jobs / max(1, found.commits):.0f} jobs each; {found.bytes_out} bytes",
            f"for a million      {found.per_million:.0f} (bar {BAR}, aim {AIM}), ${found.dollars_per_million:.4f} on S3",
            f"shortest rewrite   {gap}",
            f"read back          {sum(found.reopened.values())} requests in {found.reopen_s:.1f} s: {again}",
        ]
    )


def main(argv: list[str] | None = None) -> int:
    """Exit code 1 if the bar is missed or a key was written too often."""
    parser = argparse.ArgumentParser(prog="python -m towline.benchmarks.requests", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--jobs", type=int, default=MILLION)
    parser.add_argument("--latency-ms", type=float, default=100.0)
    parser.add_argument("--json", action="store_true", help="print one JSON line")
    options = parser.parse_args(argv)
    found = measure(options.jobs, options.latency_ms)
    print(msgspec.json.encode(found).decode() if options.json else told(found))
    missed = found.per_million > BAR if options.jobs >= MILLION // 10 else False
    return int(missed or found.shortest_gap_s < GAP_S)


if __name__ == "__main__":
    sys.exit(main())

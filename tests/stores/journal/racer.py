"""Two leader processes race for one bucket, race after race, with delays and lost answers; each race is then judged.

    python -m tests.stores.journal.racer --races 500 --server moto       # or ceph, or file: a folder that is used as a bucket is

Both processes live through all races. In a race each claims the journal and commits until it has told its quota, or is fenced;
what merely fails (an answer that never came) it tries again with a claim of its own. The judge knows what each was told, and
reads what is there with `docs/read_store.py` alone: one chain, nothing told is missing or out of order, whoever did not get
through was fenced, and somebody always gets through.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from docs import read_store
from towline.engine.errors import FencedError, TowlineError
from towline.stores.journal import writer as writer_module
from towline.stores.journal.ahead import in_order
from towline.stores.journal.writer import JournalWriter
from towline.stores.locate import open_objects
from towline.stores.objects.base import Objects
from towline.stores.objects.local import LocalObjects
from towline.stores.objects.wrappers import LOST_AFTER, LOST_BEFORE, Faults, Latency, Prefixed, drawn

TOGETHER = 4
"""Races under way at once: a race waits most of the time."""
DELAY_S = 0.02
"""Of one request, at most, there and back."""
FILLER = b"x" * 50
"""Stands beside each payload that counts: a commit is more than one record."""


class Racer:
    """Leads until it has told its quota or another has taken over."""

    def __init__(self, objects: Objects, who: str, quota: int) -> None:
        self.objects, self.who, self.quota = objects, who, quota
        self.told: list[str] = []
        self.fenced = False
        self.claims = 0

    async def run(self) -> None:
        """The whole race."""
        while len(self.told) < self.quota and not self.fenced:
            self.claims += 1
            try:
                await self._lead()
            except FencedError:
                self.fenced = True
            except TowlineError:
                continue

    async def _lead(self) -> None:
        name = f"{self.who}{self.claims}"
        writer = await JournalWriter.claim(self.objects, nonce=name.encode().ljust(16, b"."), leader=name)
        while len(self.told) < self.quota:
            payload = f"{self.who}.{self.claims}.{len(self.told)}"
            await writer.commit([payload.encode(), FILLER])
            self.told.append(payload)

    def said(self) -> dict[str, Any]:
        """What it was told, for the judge."""
        return {"who": self.who, "quota": self.quota, "told": self.told, "fenced": self.fenced, "claims": self.claims}


def judge(stored: Mapping[str, bytes], racers: Sequence[Mapping[str, Any]]) -> list[str]:
    """What is wrong with a race, by the bytes that it left behind and by what the racers were told."""
    try:
        found = [payload.decode() for _, payload in read_store.read(stored) if payload != FILLER]
    except (ValueError, KeyError, IndexError) as error:
        return [f"the journal cannot be proved: {error!r}"]
    wrong = [f"{payload} stands {times} times in the journal" for payload, times in Counter(found).items() if times > 1]
    for racer in racers:
        told = set(racer["told"])
        mine = [payload for payload in found if payload in told]
        if mine != racer["told"]:
            wrong.append(f"{racer['who']} was told {racer['told']}, the journal holds {mine} of it")
        if not racer["fenced"] and len(racer["told"]) < racer["quota"]:
            wrong.append(f"{racer['who']} neither got through nor was fenced")
    if not any(len(racer["told"]) == racer["quota"] for racer in racers):
        wrong.append("nobody got through")
    return wrong


# ------------------------------------------------------------------------------------------------------ a racing process


def place(base: str, race: int, shared: Objects | None) -> Objects:
    """Where a race is run: a folder of its own, or a prefix of its own in the bucket."""
    return LocalObjects(Path(base) / str(race), appendable=False) if shared is None else Prefixed(shared, f"race-{race}")


def opened(base: str) -> Objects | None:
    """The bucket; None: it is a folder."""
    return None if base.startswith("/") else open_objects(base)


async def _race(base: str, shared: Objects | None, order: Mapping[str, Any]) -> dict[str, Any]:
    rng = random.Random(order["seed"])
    losing = rng.choice([0.0, 0.1, 0.3])
    faulty = Faults(
        place(base, order["race"], shared),
        drawn(rng.randrange(1 << 30), losing, (LOST_BEFORE, LOST_AFTER), lambda call: call.verb == "put"),
    )
    slow_s = rng.choice([0.0, DELAY_S / 4, DELAY_S])
    late = Latency(faulty, lambda call: rng.uniform(0, slow_s), lambda call: rng.uniform(0, slow_s))
    await asyncio.sleep(rng.uniform(0, slow_s))
    racer = Racer(late, order["who"], order["quota"])
    await racer.run()
    return {"race": order["race"], **racer.said()}


async def _serve(base: str) -> None:
    """Races as they are ordered, line by line, until the input ends; each is told as it ends."""
    writer_module._PAUSE_S = 0.005
    shared = opened(base)
    running: set[asyncio.Task[None]] = set()

    async def one(order: Mapping[str, Any]) -> None:
        said = await _race(base, shared, order)
        print(json.dumps(said), flush=True)

    while line := await asyncio.to_thread(sys.stdin.readline):
        task = asyncio.ensure_future(one(json.loads(line)))
        running.add(task)
        task.add_done_callback(running.discard)
    if running:
        await asyncio.wait(running)
    if shared is not None:
        await shared.close()


# ------------------------------------------------------------------------------------------------------------- the judge


@contextmanager
def _process(base: str, environment: Mapping[str, str]) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", __name__ if __name__ != "__main__" else "tests.stores.journal.racer", "--serve", base]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, **environment},
        cwd=Path(__file__).parents[3], start_new_session=True,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()


class Outcome(Counter[str]):
    """How often what was seen, over all races; and what was wrong."""

    def __init__(self) -> None:
        super().__init__()
        self.wrong: list[str] = []


def run_races(base: str, races: int, seed: int = 0, environment: Mapping[str, str] | None = None) -> Outcome:
    """So many races of two processes at a place: an absolute folder, or the URL of a bucket that `environment` leads to."""
    said: dict[int, list[dict[str, Any]]] = {number: [] for number in range(races)}
    with ExitStack() as stack:
        pair = [stack.enter_context(_process(base, environment or {})) for _ in range(2)]
        for start in range(0, races, TOGETHER):
            numbers = range(start, min(start + TOGETHER, races))
            for number in numbers:
                for who, process in zip("AB", pair, strict=True):
                    rng = random.Random(f"{seed}/{number}/{who}")
                    order = {"race": number, "who": who, "seed": rng.randrange(1 << 30), "quota": rng.randint(3, 8)}
                    assert process.stdin is not None
                    process.stdin.write(json.dumps(order) + "\n")
                    process.stdin.flush()
            for process in pair:
                for _ in numbers:
                    assert process.stdout is not None
                    line = process.stdout.readline()
                    if not line:
                        raise RuntimeError("a racing process has ended; its last words are on stderr")
                    told = json.loads(line)
                    said[told["race"]].append(told)
    return asyncio.run(_judged(base, said, environment or {}))


async def _judged(base: str, said: Mapping[int, list[dict[str, Any]]], environment: Mapping[str, str]) -> Outcome:
    outcome, before = Outcome(), dict(os.environ)
    os.environ.update(environment)
    shared = opened(base)

    async def stored_of(number: int) -> dict[str, bytes]:
        objects = place(base, number, shared)
        return {meta.key: await objects.get(meta.key) async for meta in objects.list()}

    try:
        async for number, stored in in_order(said, stored_of, most=8):
            racers = said[number]
            outcome.wrong += [f"race {number}: {text}" for text in judge(stored, racers)]
            outcome["races"] += 1
            outcome["segments"] += len(stored)
            outcome["claims"] += sum(racer["claims"] for racer in racers)
            outcome["fenced"] += sum(racer["fenced"] for racer in racers)
            outcome["told"] += sum(len(racer["told"]) for racer in racers)
    finally:
        if shared is not None:
            await shared.close()
        os.environ.clear()
        os.environ.update(before)
    return outcome


def main(argv: list[str] | None = None) -> int:
    """Exit code 1 if something was wrong in a race."""
    parser = argparse.ArgumentParser(prog="python -m tests.stores.journal.racer", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--races", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--server", choices=["moto", "ceph", "file"], default="moto")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.serve:
        asyncio.run(_serve(options.serve))
        return 0
    from tests.kit import servers

    began = time.monotonic()
    with ExitStack() as stack:
        environment: dict[str, str] = {}
        if options.server == "file":
            base = stack.enter_context(tempfile.TemporaryDirectory(prefix="towline-races-"))
        else:
            server = stack.enter_context({"moto": servers.run_moto, "ceph": servers.run_ceph}[options.server]())
            base, environment = f"s3://{servers.make_bucket(server)}", server.environment()
        outcome = run_races(base, options.races, options.seed, environment)
    for text in outcome.wrong:
        print(text)
    print(f"{dict(outcome)} on {options.server} in {time.monotonic() - began:.1f} s; {len(outcome.wrong)} wrong")
    return int(bool(outcome.wrong))


if __name__ == "__main__":
    sys.exit(main())

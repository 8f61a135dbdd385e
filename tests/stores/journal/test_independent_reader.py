"""FORMAT.md is enough to read a store: `docs/read_store.py`, written from it alone, agrees with towline and finds all damage."""

from __future__ import annotations

import ast
import random
import subprocess
import sys
from pathlib import Path

import pytest

from docs import read_store
from tests.golden.journal.make import PAYLOADS
from tests.kit.journals import claim, payloads
from towline.engine.errors import FencedError
from towline.stores.journal.parts import drop_segments, make_part
from towline.stores.journal.reader import JournalReader
from towline.stores.journal.verify import verify
from towline.stores.objects.local import LocalObjects
from towline.stores.objects.memory import MemoryObjects

ROOT = Path(__file__).parents[3]
GOLDEN = ROOT / "tests" / "golden" / "journal"
CASES = sorted(str(p.relative_to(GOLDEN)) for p in GOLDEN.glob("format*/*"))
READER = ROOT / "docs" / "read_store.py"


async def held(objects):
    """All objects of a store, as they lie there."""
    return {meta.key: await objects.get(meta.key) async for meta in objects.list()}


def said(stored):
    """The payloads, by the independent reader."""
    found = read_store.read(stored)
    assert [seq for seq, _ in found] == list(range(len(found)))
    return [payload for _, payload in found]


def flips(stored, step):
    """The store with one byte changed, at every `step`-th place of every object."""
    for key, data in stored.items():
        for at in range(0, len(data), step):
            yield key, at, stored | {key: data[:at] + bytes([data[at] ^ 0x20]) + data[at + 1 :]}


def test_it_is_short_and_knows_nothing_of_towline():
    text = READER.read_text()
    tree = ast.parse(text)
    lines = {number for number, line in enumerate(text.splitlines(), 1) if line.strip()}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [node.module] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            assert not [name for name in names if name.split(".")[0] in ("towline", "tests")]
            lines -= set(range(node.lineno, node.end_lineno + 1))
        if isinstance(node, ast.Module | ast.FunctionDef) and ast.get_docstring(node):
            lines -= set(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    assert len(lines) <= 60
    assert READER.name in (ROOT / "docs" / "FORMAT.md").read_text()


@pytest.mark.parametrize("case", CASES)
async def test_it_reads_the_golden_stores(case):
    objects = LocalObjects(GOLDEN / case)
    stored = await held(objects)
    assert said(stored) == PAYLOADS


@pytest.mark.parametrize("case", CASES)
def test_it_is_a_program(case):
    out = subprocess.run([sys.executable, READER, GOLDEN / case], capture_output=True, text=True, check=True).stdout
    assert out == f"{len(PAYLOADS)} records, all proven\n"


@pytest.mark.parametrize("case", CASES)
async def test_it_refuses_what_towline_refuses_in_a_golden_store(case):
    stored = await held(LocalObjects(GOLDEN / case))
    refused = 0
    for key, at, damaged in flips(stored, 13):
        memory = MemoryObjects(appendable="appended" in case)
        for name, data in damaged.items():
            await memory.put(name, data)
        sound = (await verify(memory)).ok
        try:
            found = said(damaged)
        except ValueError:
            found = None
            refused += 1
        assert found == (PAYLOADS if sound else None), (key, at)
    assert refused > 20


@pytest.mark.parametrize("appendable", [True, False])
async def test_every_flipped_byte_of_a_fresh_store_is_refused(appendable):
    memory = MemoryObjects(appendable=appendable)
    for who in "AB":
        writer = await claim(memory, who)
        await writer.commit([who.encode() * 30, b"", bytes(300)])
        await writer.commit([b"more"])
    await writer.close()
    stored = await held(memory)
    assert len(said(stored)) == 8
    for key, at, damaged in flips(stored, 1):
        with pytest.raises(ValueError, match="damaged"):
            said(damaged)
            pytest.fail(f"{key} at {at}")


async def _story(rng, memory):
    """Claims, commits, takeovers, torn tails and garbage collection, as they come."""
    told, writer = [], await claim(memory)
    for turn in range(rng.randint(1, 16)):
        match rng.choice(["claim", "commit", "commit", "commit", "close", "collect", "tear", "void"]):
            case "claim" | "commit" if writer is None:
                writer = await claim(memory, f"c{turn}")
            case "claim":
                writer = await claim(memory, f"w{turn}", segment_bytes=rng.choice([300, 900, 1 << 20]))
            case "commit" if writer is not None:
                batch = [rng.choice([b"", bytes(rng.randint(0, 900)), rng.randbytes(rng.randint(1, 400))]) for _ in range(3)]
                await writer.commit(batch)
                told += batch
            case "close" if writer is not None:
                await writer.close()
                writer = None
            case "collect":
                reader = await JournalReader.open(memory)
                upto = rng.randint(0, reader.next_seq)
                await make_part(memory, reader, upto, rng.choice([1, 700, 1 << 20]))
                await drop_segments(memory, rng.randint(0, upto), grace_s=0.0, now=1e12)
            case "tear" if memory.appendable and writer is not None:
                number = writer.reader.last_segment
                memory._held[f"journal/{number:020}.seg"].data += bytes(rng.randint(1, 1200))
                writer = await claim(memory, f"t{turn}") if rng.random() < 0.7 else None
            case "void" if writer is not None:
                late, writer = writer, await claim(memory, f"v{turn}")
                with pytest.raises(FencedError):
                    await late.commit([b"late"])
    return told


@pytest.mark.parametrize("appendable", [True, False])
async def test_it_agrees_with_towline_about_fresh_stores(appendable):
    records = 0
    for seed in range(120):
        rng = random.Random(seed)
        memory = MemoryObjects(appendable=appendable, clock=lambda: 1000.0)
        told = await _story(rng, memory)
        assert told == await payloads(memory), seed
        assert said(await held(memory)) == told, seed
        records += len(told)
    assert records > 500


async def test_a_missing_segment_and_a_missing_part_are_found():
    memory = MemoryObjects(appendable=False, clock=lambda: 1000.0)
    writer = await claim(memory)
    for i in range(8):
        await writer.commit([b"%d" % i])
    await make_part(memory, await JournalReader.open(memory), 4, 1)
    await drop_segments(memory, 3, grace_s=1.0, now=5000.0)
    stored = await held(memory)
    assert len(said(stored)) == 8
    read = 0
    for key in stored:
        rest = {name: data for name, data in stored.items() if name != key}
        try:
            assert said(rest) in (said(stored), said(stored)[:7]), key  # covered by a part; the newest, whose loss nothing tells
            read += 1
        except ValueError:
            continue
    assert read < len(stored) / 2

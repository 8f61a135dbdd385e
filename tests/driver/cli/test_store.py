"""`towline store verify` and `towline store info`, over a real store."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from towline.cli.main import build
from towline.cli.store import size
from towline.engine import model
from towline.stores.journal.writer import JournalWriter
from towline.stores.store import Store

BEATS = 5


async def _make(path: Path) -> None:
    store = await Store.open(path, create=True, uuid="5" * 32)
    writer = await JournalWriter.claim(store.objects, nonce=b"n" * 16, leader="test")
    led = model.Led(writer.epoch, "l", "here", "boot", "ns", 1, 1.0, 1.0, 60.0)
    beats = [model.encode(model.Beat(float(n))) for n in range(BEATS)]
    await writer.commit([model.encode(model.Opened(store.uuid, "0", 0.0)), model.encode(led), *beats])
    await writer.commit([model.encode(model.Closed(9.0))])
    await writer.close()
    await store.close()


@pytest.fixture
def store(store_dir: Path) -> Path:
    asyncio.run(_make(store_dir))
    return store_dir


def towline(*args: object) -> Result:
    return CliRunner().invoke(build(), ["store", *map(str, args)])


def test_a_sound_store_is_proven(store: Path) -> None:
    result = towline("verify", store)
    assert result.exit_code == 0, result.output
    first, last = result.stdout.splitlines()
    assert first.startswith(f"{store}: {BEATS + 3} records in 2 segments (")
    assert last == "sound"
    said = json.loads(towline("verify", store, "--json").stdout)
    assert (said["ok"], said["records"], said["problems"]) == (True, BEATS + 3, [])


def test_a_flipped_bit_is_named(store: Path) -> None:
    segment = min((store / "journal").glob("*.seg"))
    data = bytearray(segment.read_bytes())
    data[200] ^= 1
    segment.write_bytes(data)
    result = towline("verify", store)
    assert result.exit_code == 1
    assert f"damaged: journal/{segment.name}" in result.stdout
    assert result.stdout.splitlines()[-1] == "1 places are damaged"
    assert json.loads(towline("verify", "--store", store, "--json").stdout)["ok"] is False


def test_what_a_store_is_and_holds(store: Path) -> None:
    result = towline("info", store)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[:2] == [f"store      {store}", f"uuid       {'5' * 32}"]
    assert lines[3] == "jobs       0 in 0 flows"
    assert lines[4].startswith(f"journal    {BEATS + 3} records in 2 segments, ")
    assert lines[-1] == "leader     epoch 1, process 1 on here; it has closed"
    said = json.loads(towline("info", store, "--json").stdout)
    assert (said["uuid"], said["format"], said["total"]) == ("5" * 32, 1, 0)


@pytest.mark.parametrize("command", ["verify", "info"])
def test_no_store_is_one_sentence(command: str, tmp_path: Path) -> None:
    result = towline(command, tmp_path / "nothing")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("towline: there is no store at ")
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters/to a friend").touch()
    result = towline(command, tmp_path / "letters")
    assert result.exit_code == 2
    assert "is not a towline store" in result.stderr


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (3 << 30, "3.0 GiB"), (5 << 40, "5.0 TiB")]
)
def test_sizes_are_for_people(count: int, text: str) -> None:
    assert size(count) == text

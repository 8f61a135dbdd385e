"""`towline store du|ls|cat`, over a store that a run has left."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from towline import Flow, job, run
from towline.cli.main import build


@job
def large(value: int) -> bytes:
    return bytes([value]) * 50_000


@pytest.fixture
def store(store_dir: Path) -> Path:
    run(Flow([large(1), large(2)]), store=store_dir, local=True, progress=False)
    return store_dir


def towline(*args: object) -> Result:
    return CliRunner().invoke(build(), ["store", *map(str, args)])


def test_du_sums_up(store: Path) -> None:
    said = json.loads(towline("du", store, "--json").stdout)
    on_disk = {
        str(path.relative_to(store)): path.stat().st_size for path in store.rglob("*") if path.is_file() and path.name[0] != "."
    }
    assert (said["count"], said["bytes"]) == (len(on_disk), sum(on_disk.values()))
    assert said["shares"][0]["name"] == "files/"
    lines = towline("du", store).stdout.splitlines()
    assert lines[0].split() == ["97.9", "KiB", "2", "files/"]
    assert lines[-1].endswith("objects in all")
    assert len(json.loads(towline("du", store, "files/", "--json").stdout)["shares"]) == 2


def test_ls_lists(store: Path) -> None:
    keys = towline("ls", store).stdout.splitlines()
    assert keys == sorted(keys)
    assert "towline.json" in keys
    [first, second] = towline("ls", store, "files/", "--long").stdout.splitlines()
    assert first.split()[0] == second.split()[0]
    assert int(first.split()[0]) > 50_000
    said = [json.loads(line) for line in towline("ls", store, "files/", "--json").stdout.splitlines()]
    assert [one["key"] for one in said] == [line.split()[-1] for line in (first, second)]


def test_verify_reads_files_only_when_asked(store: Path) -> None:
    file = next(path for path in (store / "files").rglob("*") if path.is_file())
    assert "2 files (97.9 KiB), every byte proved" in towline("verify", store, "--deep").stdout
    data = bytearray(file.read_bytes())
    data[1000] ^= 1
    file.write_bytes(data)
    assert towline("verify", store).exit_code == 0
    deep = towline("verify", store, "--deep")
    assert deep.exit_code == 1
    assert f"damaged: {file}: the content is damaged" in deep.stdout
    file.unlink()
    missing = towline("verify", store)
    assert missing.exit_code == 1
    assert str(file.relative_to(store)) in missing.stdout


def test_cat_writes_bytes(store: Path) -> None:
    assert towline("cat", store, "towline.json").stdout_bytes == (store / "towline.json").read_bytes()


def test_cat_of_nothing_is_one_sentence(store: Path) -> None:
    result = towline("cat", store, "files/none")
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert "has no object, file or shared file 'files/none'" in result.stderr
    assert towline("cat", store, "../secret").exit_code == 2


@pytest.mark.parametrize("command", ["du", "ls"])
def test_no_store_is_one_sentence(command: str, tmp_path: Path) -> None:
    result = towline(command, tmp_path / "none")
    assert result.exit_code == 2
    assert "there is no store" in result.stderr

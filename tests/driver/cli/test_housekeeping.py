"""`towline store migrate|gc|destroy|kill`: what they do, what they refuse, and that they ask before they lose anything."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

import towline as api
from tests.kit.leaks import eventually
from towline import Flow, job, resume, run
from towline.cli.main import build
from towline.stores.store import MARK


@job
def large(value: int) -> bytes:
    return bytes([value]) * 50_000


@pytest.fixture
def store(store_dir: Path) -> Path:
    run(Flow([large(1), large(2)]), store=store_dir, local=True, progress=False)
    return store_dir


def towline(*args: object, says: str = "") -> Result:
    return CliRunner().invoke(build(), ["store", *map(str, args)], input=says)


def listing(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_store_moves(store: Path, tmp_path: Path) -> None:
    result = towline("migrate", store, tmp_path / "new")
    assert result.exit_code == 0, result.output
    assert "all proved" in result.stdout
    assert resume(tmp_path / "new", local=True, progress=False).state == "completed"
    assert json.loads(towline("verify", tmp_path / "new", "--json").stdout)["ok"]
    again = towline("migrate", store, tmp_path / "new")
    assert again.exit_code == 2
    assert "there is already a store" in again.stderr


def test_destroy_asks(store: Path) -> None:
    before = listing(store)
    refused = towline("destroy", store, says="n\n")
    assert refused.exit_code == 2
    assert "nothing was deleted" in refused.stderr
    assert listing(store) == before
    assert towline("destroy", store, says="y\n").exit_code == 0
    assert not store.exists()


def test_destroy_goes_on_where_it_was_interrupted(store: Path) -> None:
    (store / MARK).write_text('{"format": 1, "store": "x", "towline": "0", "destroyed": true}')
    assert "is being destroyed" in towline("info", store).stderr
    assert towline("destroy", store, "--yes").exit_code == 0
    assert not store.exists()
    assert towline("destroy", store, "--yes").exit_code == 2


def test_gc_names_and_then_deletes(store: Path) -> None:
    assert towline("gc", store).stdout == "0 orphans, 0 uploads found; give --delete to delete them\n"
    orphan = store / "files" / ("5" * 8 + "-1111-4111-8111-" + "5" * 12) / "1-7" / ("a" * 32)
    orphan.parent.mkdir(parents=True)
    orphan.write_bytes(b"left by an attempt that died")
    assert towline("import", store, __file__).exit_code == 0
    blob = next(path for path in (store / "blobs").rglob("*") if path.is_file())
    left = store / "blobs" / "bb" / ("b" * 32 + "." + "c" * 16)
    left.parent.mkdir(exist_ok=True)
    left.write_bytes(b"left by an import that died")
    api.JobStore(store, {"data": store}).update({"uuid": "u", "index": 1, "output": {"big": "x" * 50_000}}, save={"data": "big"})
    part = next(path for path in (store / "documents" / "data" / "blobs").rglob("*") if path.is_file())
    beside = store / "documents" / "data" / "blobs" / "dd" / ("d" * 32 + "." + "c" * 16)
    beside.parent.mkdir(exist_ok=True)
    beside.write_bytes(b"left by a writer of documents that died")
    for path in (left, beside):
        os.utime(path, (1e9, 1e9))
    keys = [str(path.relative_to(store)) for path in (orphan, left, beside)]
    said = towline("gc", store).stdout.splitlines()
    assert said[:3] == keys
    assert said[3:] == ["3 orphans, 0 uploads found; give --delete to delete them"]
    assert orphan.exists()
    said = json.loads(towline("gc", store, "--delete", "--json").stdout)
    assert (said["deleted"], said["orphans"]) == (True, keys)
    assert [path.exists() for path in (orphan, left, beside, blob, part)] == [False, False, False, True, True]


def test_nobody_to_kill(store: Path) -> None:
    result = towline("kill", store)
    assert result.exit_code == 2
    assert "nothing to kill" in result.stderr


SCRIPT = """
import os, sys, time
from towline import Flow, job, run
@job
def wait(flag, n):
    open(flag + str(n), "w").close()
    while not os.path.exists(flag + "go"):
        time.sleep(0.01)
    return n
run(Flow([wait(sys.argv[2], n) for n in range(3)], name="w"), store=sys.argv[1], workers=1, progress=False)
"""


@pytest.mark.ray
def test_a_run_that_is_led_cannot_be_moved_and_can_be_killed(store_dir: Path, tmp_path: Path) -> None:
    flag = str(tmp_path / "flag-")
    driver = subprocess.Popen([sys.executable, "-c", SCRIPT, str(store_dir), flag], stderr=subprocess.PIPE, text=True)
    try:
        assert eventually(Path(flag + "0").exists, patience_s=120)
        for command in (["migrate", store_dir, tmp_path / "new"], ["destroy", store_dir, "--yes"]):
            refused = towline(*command)
            assert refused.exit_code == 2
            assert "is being led by process" in refused.stderr
        assert not (tmp_path / "new").exists()
        Path(flag + "go").touch()
        killed = towline("kill", store_dir)
        assert killed.exit_code == 0, killed.stderr
        driver.wait(120)
    finally:
        driver.kill()
        driver.communicate()
    assert resume(store_dir, local=True, progress=False).counts() == {"completed": 3}
    assert api.connect(store_dir).state == "completed"

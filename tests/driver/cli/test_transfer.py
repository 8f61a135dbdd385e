"""`towline store import|export`, over the store of a run and one of its own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from towline import Flow, job, run
from towline.cli.main import build


@job
def add(a: int, b: int) -> int:
    return a + b


@pytest.fixture(params=["of a run", "of its own"])
def store(request: pytest.FixtureRequest, store_dir: Path, tmp_path: Path) -> Path:
    if request.param == "of a run":
        run(Flow([add(1, 2)]), store=store_dir, local=True, progress=False)
    else:
        assert towline("import", store_dir, __file__, "--create").exit_code == 0
    return store_dir


def towline(*args: object) -> Result:
    return CliRunner().invoke(build(), ["store", *map(str, args)])


def test_in_and_out(store: Path, tmp_path: Path) -> None:
    sources = []
    for number in range(5):
        sources.append(tmp_path / f"in {number}.txt")
        sources[-1].write_bytes(bytes([number]) * number * 1000)
    sources[3].chmod(0o700)
    result = towline("import", store, *sources)
    assert result.exit_code == 0, result.stderr
    ids = result.stdout.split()
    assert len(ids) == 5
    assert towline("cat", store, ids[4]).stdout_bytes == sources[4].read_bytes()
    pairs = [part for number, one in enumerate(ids) for part in (one, tmp_path / f"out {number}")]
    assert towline("export", store, *pairs).exit_code == 0
    for number, source in enumerate(sources):
        out = tmp_path / f"out {number}"
        assert (out.read_bytes(), out.stat().st_mode & 0o100) == (source.read_bytes(), 0o100 if number == 3 else 0)


def test_a_shared_name(store: Path) -> None:
    assert towline("import", store, __file__, "--name", "this.py").stdout == ""
    assert towline("cat", store, "this.py").stdout_bytes == Path(__file__).read_bytes()
    said = json.loads(towline("import", store, __file__, "--json").stdout)
    assert list(said["files"]) == [__file__]


def test_what_cannot_be_done_is_one_sentence(store: Path, tmp_path: Path) -> None:
    for args in (
        ["import", store, tmp_path / "missing"],
        ["import", store, tmp_path],
        ["import", store, "gopher://host/file"],
        ["import", store, __file__, __file__, "--name", "x"],
        ["import", tmp_path / "none", __file__],
        ["export", store, "0" * 32 + "-no", tmp_path / "out"],
        ["export", store, "alone"],
    ):
        result = towline(*args)
        assert result.exit_code == 2, (args, result.output)
        assert result.stderr.count("\n") == 1, result.stderr
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "none").exists()

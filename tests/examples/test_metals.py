"""examples/metals.py computes what is known of these metals, detours where its guess is poor, and resumes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from examples import metals
from towline import Flow, Response, run

ROOT = Path(__file__).parents[2]

KNOWN = {"Cu": (3.590, 133.6), "Ag": (4.064, 99.8), "Al": (3.994, 37.3)}
"""Lattice constant (Å) and bulk modulus (GPa): ASE's fit with EMT around the measured lattice constants."""

PNG = b"\x89PNG\r\n\x1a\n"


def samples_around(metal: str, middle: float, points: int) -> list[tuple[float, float]]:
    step = 2 * metals.SPAN / (points - 1)
    return [metals.energy.original(metal, middle * (1 - metals.SPAN + i * step)) for i in range(points)]


@pytest.mark.parametrize("metal", sorted(KNOWN))
def test_the_fit_finds_the_known_values(metal: str) -> None:
    a, bulk_modulus = KNOWN[metal]
    found = metals.fit.original(metal, samples_around(metal, a * 1.01, metals.COARSE))
    assert found["a"] == pytest.approx(a, rel=2e-3)
    assert found["bulk_modulus"] == pytest.approx(bulk_modulus, rel=2e-2)


@pytest.mark.parametrize("off", [-0.20, -0.045, 0.045, 0.20])
def test_a_minimum_near_or_beyond_the_end_is_a_detour_towards_it(off: float) -> None:
    a, _ = KNOWN["Cu"]
    samples = samples_around("Cu", a * (1 + off), metals.COARSE)
    answer = metals.fit.original("Cu", samples)
    assert isinstance(answer, Response)
    assert isinstance(answer.detour, Flow)
    *energies, again = answer.detour.jobs
    assert len(energies) == metals.FINE
    assert answer.output["finer"].uuid == again.uuid
    middle = energies[metals.FINE // 2].function_args[1]
    assert abs(middle - a) < abs(a * off)


def test_the_table_unwraps_detours_however_deep() -> None:
    last = {"metal": "Al", "a": 4.0, "bulk_modulus": 37.0, "samples": []}
    rows = metals.tabulate.original([{"metal": "Al", "finer": {"metal": "Al", "finer": last}}, last])
    assert [row["detours"] for row in rows] == [2, 0]
    assert [row["a"] for row in rows] == [4.0, 4.0]


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The whole study, in this process."""
    store = tmp_path_factory.mktemp("metals") / "store"
    done = run(metals.study(metals.METALS), store=str(store), local=True, progress=False)
    assert done.state == "completed"
    assert done.output("metals-plot").startswith(PNG)
    table: list[dict[str, Any]] = done.output("metals-table")
    return table


def test_the_study_finds_the_known_values(rows: list[dict[str, Any]]) -> None:
    assert [row["metal"] for row in rows] == metals.METALS
    found = {row["metal"]: (row["a"], row["bulk_modulus"]) for row in rows}
    for metal, (a, bulk_modulus) in KNOWN.items():
        assert found[metal] == (pytest.approx(a, rel=2e-3), pytest.approx(bulk_modulus, rel=1e-2)), metal


def test_the_study_detours_where_the_guess_is_poor(rows: list[dict[str, Any]]) -> None:
    detours = {row["metal"]: row["detours"] for row in rows}
    assert detours["Al"] > 1, "the detour of a detour is part of what the example shows"
    assert detours["Ag"] == 0, "a good guess needs none"


def script(cwd: Path, *words: str) -> list[str]:
    """Run the example as a user does; the lines that it printed."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "metals.py"), "--local", *words],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"COLUMNS": "100"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_as_a_script_it_shows_the_table_and_where_things_are_and_a_second_start_the_same(tmp_path: Path) -> None:
    store = tmp_path / "kept" / "here"
    first = script(tmp_path, "--store", str(store))
    assert any("Cu" in line and "3.590" in line and "133.6" in line for line in first)
    plot = Path(next(line for line in first if line.startswith("plot:")).split(maxsplit=1)[1])
    assert plot.read_bytes().startswith(PNG)
    assert any(line.startswith("store:") and str(store) in line for line in first)
    table = [line for line in first if "│" in line]
    assert [line for line in script(tmp_path, "--store", str(store)) if "│" in line] == table

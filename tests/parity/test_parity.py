"""Every program on jobflow and on towline: responses, documents, warnings and exceptions are the same, or listed as deliberate.

Each is run three times: by jobflow's run_locally, by towline's, and by towline's with compat="jobflow". Programs that are just a
flow also go through `run(local=True)`. docs/COMPATIBILITY.md says why each listed difference is one.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.parity.differences import DIFFERENCES, TYPES_ARE_KEPT
from tests.parity.engines import durable_engine, jobflow_engine, towline_engine
from tests.parity.two import Seen, agree, names_of_programs, returns_a_flow

pytest.importorskip("jobflow")

PROGRAMS = names_of_programs()
ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def same(ours: Seen, theirs: Seen) -> None:
    assert agree(ours.value, theirs.value), (ours.value, theirs.value)
    assert ours.documents == theirs.documents
    assert ours.warned == theirs.warned


def test_there_are_programs_enough_and_every_difference_is_one_of_them() -> None:
    assert len(PROGRAMS) >= 120
    assert set(PROGRAMS) >= DIFFERENCES.keys() | TYPES_ARE_KEPT


@pytest.mark.parametrize("program", [name for name in PROGRAMS if name not in DIFFERENCES])
def test_the_same_program_comes_to_the_same(program: str, tmp_path: Path) -> None:
    theirs = jobflow_engine().perform(program)
    ours = towline_engine(tmp_path / "a").perform(program)
    if program in TYPES_ARE_KEPT:
        assert ours.value != theirs.value
    else:
        same(ours, theirs)
    same(towline_engine(tmp_path / "b", "jobflow").perform(program), theirs)


@pytest.mark.parametrize("program", DIFFERENCES)
def test_a_deliberate_difference_is_what_it_is_said_to_be(program: str, tmp_path: Path) -> None:
    section, holds = DIFFERENCES[program]
    ours, theirs = towline_engine(tmp_path).perform(program), jobflow_engine().perform(program)
    assert not agree(ours.value, theirs.value)
    assert holds(ours), ours
    page = (ROOT / "docs/COMPATIBILITY.md").read_text()
    assert f"### {section}\n" in page
    assert f"`{program}`" in page


@pytest.mark.parametrize("program", [name for name in PROGRAMS if returns_a_flow(name) and name not in DIFFERENCES])
def test_a_durable_run_has_the_same_outputs(program: str, tmp_path: Path) -> None:
    ours = durable_engine(tmp_path / "a").perform(program)
    expected = towline_engine(tmp_path / "b").perform(program)
    assert outputs(ours) == outputs(expected)


def outputs(seen: Seen) -> object:
    """What responses say of outputs, and nothing else."""
    said = seen.value
    if not isinstance(said, dict) or "dict" not in said:
        return said
    return [[uuid, [[n, r["response"].get("output")] for n, r in indices["dict"]]] for uuid, indices in said["dict"]]

"""The gate half way, and the chain around it."""

from __future__ import annotations

import threading
from pathlib import Path

import towline
from towline.benchmarks import chain_driver
from towline.benchmarks.chain_driver import GATE_OPEN, GATE_REACHED, gate


def test_the_gate_holds_until_it_is_opened(tmp_path: Path) -> None:
    through: list[int] = []
    waiting = threading.Thread(target=lambda: through.append(gate(str(tmp_path), 7)))
    waiting.start()
    while not (tmp_path / GATE_REACHED).exists():
        assert waiting.is_alive()
    assert through == []
    (tmp_path / GATE_OPEN).touch()
    waiting.join()
    assert through == [8]


def test_an_open_gate_is_a_job_like_any_other(tmp_path: Path) -> None:
    (tmp_path / GATE_OPEN).touch()
    jobs = chain_driver.jobs_of(9, str(tmp_path))
    assert [job.name for job in jobs] == ["level"] * 4 + ["gate"] + ["level"] * 4
    run = towline.run(jobs, store=str(tmp_path / "store"), local=True, progress=False)
    assert [run.output(job) for job in jobs] == list(range(1, 10))
    assert not (tmp_path / GATE_REACHED).exists()


def test_without_a_folder_there_is_no_gate() -> None:
    assert {job.name for job in chain_driver.jobs_of(9, None)} == {"level"}

"""The comparison with bare clients: its arithmetic, its order with peers that cost nothing, and once for real at toy size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.kit.gcs_servers import GcsServer
from tests.kit.measured import MACHINE
from towline.benchmarks import files
from towline.benchmarks.files import FilesReport, Load, Moved, Session
from towline.benchmarks.peers.base import WrongOutcome
from towline.stores import store as stores_store


def moved(peer: str, kind: Any, seconds: list[float], *, work: str = "write path", objects: int = 1) -> Moved:
    return Moved(place="here", work=work, peer=peer, kind=kind, objects=objects, size=2_000_000, seconds=seconds)


REPORT = FilesReport(
    machine=MACHINE,
    repeats=3,
    results=[
        moved("client", "bare", [1.0, 9.0, 1.0]),
        moved("careless", "unchecked", [0.5, 0.5, 0.5]),
        moved("ours", "ours", [1.0, 2.0, 2.0]),
        moved("client", "bare", [1.0], work="put small", objects=100),
        moved("ours", "ours", [1.0], work="put small", objects=100),
    ],
)


def test_rates_and_ratios_are_of_medians() -> None:
    bare, careless, ours, small, _ = REPORT.results
    assert (bare.rate, ours.rate, small.rate) == (2.0, 1.0, 100.0)
    assert (REPORT.ratio(ours), REPORT.ratio(careless), REPORT.ratio(ours, "unchecked")) == (0.5, 2.0, 0.25)
    assert REPORT.ratio(small, "unchecked") is None
    assert REPORT.missed() == ["here, write path: ours 0.50 x bare, the bar is 0.8 x"]


def test_the_table_says_all() -> None:
    lines = files.table(REPORT).splitlines()
    assert lines[4] == "| here | write path | ours | 1 MB/s | 0.50 | 0.25 | 1.00 2.00 2.00 |"
    assert lines[6] == "| here | put small | ours | 100 /s | 1.00 |  | 1.00 |"
    assert all(line.count("|") == lines[0].count("|") for line in lines)


class Pretender:
    """Keeps what it is given, and says what it was asked."""

    def __init__(self, name: str, said: list[str], *, wrong: bool = False) -> None:
        self.name, self._said, self._wrong = name, said, wrong

    async def put(self, contents: list[bytes]) -> list[bytes]:
        self._said.append(self.name)
        return list(contents)

    async def get(self, names: list[bytes]) -> list[bytes]:
        return names[1:] if self._wrong else names

    async def delete(self, names: list[bytes]) -> None:
        pass


async def test_the_order_is_turned_round_and_what_is_not_offered_is_passed_over(tmp_path: Path) -> None:
    said: list[str] = []
    peers: list[Any] = [Pretender("A", said), Pretender("B", said)]
    ticks = iter(range(1000))
    session = Session("here", Load.make(tmp_path, 10, 3), tmp_path, clock=lambda: float(next(ticks)))
    for repetition in range(3):
        await session.turn(peers, repetition)
    assert said == ["A", "B", "B", "A", "A", "B"]
    found = session.results({"A": "bare", "B": "ours"})
    assert [(one.work, one.peer, one.objects, one.seconds) for one in found] == [
        (work, peer, 3, [1.0, 1.0, 1.0]) for work in ("put small", "get small") for peer in "AB"
    ]


async def test_wrong_bytes_end_it(tmp_path: Path) -> None:
    peers: list[Any] = [Pretender("A", [], wrong=True)]
    with pytest.raises(WrongOutcome, match="A on here: get small"):
        await Session("here", Load.make(tmp_path, 10, 3), tmp_path).turn(peers, 0)


async def honest(objects: Any) -> None:
    """Instead of the probe, which takes a second."""


def test_for_real(gcs: GcsServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(stores_store, "probe", honest)
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", gcs.endpoint)
    monkeypatch.setenv(files.PLACES, f"the fake=gs://{gcs.new_bucket()}")
    out = tmp_path / "results" / "files.json"
    sizes = ["--mib", "9", "--small", "20", "--repeats", "2"]
    assert files.main([*sizes, "--out", str(out), "--folder", str(tmp_path)]) == 0
    report = msgspec.json.decode(out.read_bytes(), type=FilesReport)
    assert all(len(one.seconds) == 2 for one in report.results)
    assert {one.peer for one in report.results} == {"gcsfs", "AbstractJobStore", "engine's files", "objects"}
    assert len(report.results) == 2 * (3 + 2 + 4)
    assert "| the fake | read stream | AbstractJobStore |" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["results"]


def test_without_a_place_it_says_how(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv(files.PLACES, raising=False)
    assert files.main([]) == 2
    assert "--place" in capsys.readouterr().err

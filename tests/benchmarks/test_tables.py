"""What people see of a report: a durability beside every number, ratios rounded as one reads them."""

from __future__ import annotations

import msgspec
import pytest

from tests.kit.measured import AUTHORING, CHAIN, MACHINE, measured, report
from towline.benchmarks import tables

RESULTS = [
    measured("single", "towline", [1.5], jobs=1),
    measured("flat", "towline", [0.2, 0.3, 0.1], build_s=0.05),
    measured("flat", "Ray tasks", [1.0]),
]


def test_a_line_of_the_table() -> None:
    found = report(*RESULTS)
    assert tables.rows(found)[1] == (
        "flat", "1,000", "towline", "fsync before told, local disk", "0.20", "0.10 to 0.30", "5,000", "5.0", "0.05", "4.0",
        "3, 20",
    )  # fmt: skip
    assert tables.rows(found)[2] == (
        "flat", "1,000", "Ray tasks", "none", "1.00", "1.00 to 1.00", "1,000", "1.0", "", "1.0", ""
    )  # fmt: skip
    assert all(len(row) == len(tables.HEADER) for row in tables.rows(found))


def test_one_job_has_no_rate() -> None:
    row = tables.rows(report(*RESULTS, measured("single", "Ray tasks", [0.1], jobs=1)))[0]
    assert (row[6], row[7], row[9]) == ("", "", "")


@pytest.mark.parametrize(("ratio", "said"), [(None, ""), (0.456, "0.46"), (3.14, "3.1"), (23.4, "23")])
def test_multiples_for_people(ratio: float | None, said: str) -> None:
    assert tables.times(ratio) == said


def test_the_chain_is_told_fact_by_fact() -> None:
    facts = dict(tables.chain_rows(CHAIN))
    assert facts["ratio (at most 2)"] == "1.50"
    assert facts["time per job"] == "3000.0 µs"
    assert facts["leader's memory per job"] == "600 B"
    assert facts["outcomes that the restored leader had"] == "480"


def test_lines_of_the_authoring_works() -> None:
    found = tables.local_rows(AUTHORING)
    assert found[0] == (
        "run wide", "1,000", "towline", "fsync before told, local disk", "0.500", "0.400 to 0.600", "2,000", "4.0", "2.0", "5, 20"
    )  # fmt: skip
    assert found[1][7:] == ("1.0", "0.50", "")
    assert [line[9] for line in found[3:5]] == ["1 s", ""], "a bar in seconds is that of one size"
    assert found[5][6:8] == ("", "2.0")
    assert all(len(row) == len(tables.LOCAL_HEADER) for row in found)


def test_all_of_it_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    tables.show(report(*RESULTS, chain=CHAIN, authoring=AUTHORING))
    out = capsys.readouterr().out
    for words in (
        "5,000",
        "fsync before told, local disk",
        "ratio (at most 2)",
        "An Abacus",
        "towline 0.1.0",
        "median of 3",
        "x jobflow",
    ):
        assert words in out
    tables.show(report(chain=CHAIN))
    assert "building" not in capsys.readouterr().out


def test_a_run_that_was_favoured_says_so() -> None:
    assert "niceness" not in tables.machine_line(MACHINE)
    assert "run at niceness -15" in tables.machine_line(msgspec.structs.replace(MACHINE, niceness=-15))

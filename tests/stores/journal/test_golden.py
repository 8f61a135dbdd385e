"""Journals of every released format, in both modes, read on each run, continued, and written alike today."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.golden.journal.make import PAYLOADS, write
from tests.kit.journals import claim, payloads
from towline.stores.journal.verify import verify
from towline.stores.objects.local import LocalObjects

GOLDEN = Path(__file__).parents[2] / "golden" / "journal"
CASES = sorted(str(p.relative_to(GOLDEN)) for p in GOLDEN.glob("format*/*"))


@pytest.fixture(params=CASES)
def golden(request, tmp_path):
    shutil.copytree(GOLDEN / request.param, tmp_path / "s")
    return LocalObjects(tmp_path / "s", appendable="appended" in request.param)


def test_both_modes_are_there():
    assert CASES[:2] == ["format1/appended", "format1/linked"]


async def test_it_is_read(golden):
    assert await payloads(golden) == PAYLOADS
    report = await verify(golden)
    assert report.problems == []
    assert (report.records, report.leader) == (24, "golden-3")
    assert report.parts > 0


async def test_it_goes_on(golden):
    writer = await claim(golden)
    assert writer.epoch == 5
    await writer.commit([b"today"])
    assert await payloads(golden) == [*PAYLOADS, b"today"]


@pytest.mark.parametrize("mode", ["appended", "linked"])
async def test_the_same_bytes_are_written_today(tmp_path, mode):
    """A change of the bytes is a change of the format: give it a number and a golden journal of its own."""
    await write(tmp_path / "now", mode == "appended")
    old = GOLDEN / "format1" / mode
    kept = {p.relative_to(old): p.read_bytes() for p in old.rglob("*") if p.is_file()}
    for path, data in kept.items():
        assert (tmp_path / "now" / path).read_bytes() == data, path

"""A run whose whole state is a bucket: begun on one Ray, everything killed, resumed from elsewhere by the URL alone, moved home.

The store's servers are real processes on loopback; driver and command line run as a user runs them.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.kit.leaks import eventually
from tests.kit.servers import make_bucket

SCRIPT = """
import os, sys, time
from towline import Flow, job, run

@job
def begin(folder, n):
    with open(f"{folder}/begun", "a") as log:
        log.write(f"{n}\\n")
    return bytes([n % 256]) * 30_000

@job
def measure(folder, data):
    if data[0] == 7:
        open(f"{folder}/half", "w").close()
        while not os.path.exists(f"{folder}/go"):
            time.sleep(0.01)
    return len(data)

@job
def total(*sizes):
    return sum(sizes)

folder = sys.argv[1]
firsts = [begin(folder, n) for n in range(40)]
seconds = [measure(folder, one.output) for one in firsts]
flow = Flow([*firsts, *seconds, total(*(one.output for one in seconds))], name="in a bucket")
"""


class Place(NamedTuple):
    """A store's URL, and what makes every client find its server."""

    url: str
    environment: Mapping[str, str]


@pytest.fixture(params=["s3", "gs"])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    if request.param == "s3":
        moto = request.getfixturevalue("moto")
        yield Place(f"s3://{make_bucket(moto)}/runs/one", moto.environment())
    else:
        gcs = request.getfixturevalue("gcs")
        yield Place(f"gs://{gcs.new_bucket()}/runs/one", gcs.environment())


def environment(place: Place) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("TOWLINE_", "AWS_", "RAY_"))}
    return {**kept, **place.environment, "TOWLINE_LEASE_S": "4", "TOWLINE_PROGRESS": "0"}


def towline(place: Place, where: Path, *args: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from towline.cli.main import main; main()", *map(str, args)]
    return subprocess.run(command, cwd=where, env=environment(place), capture_output=True, text=True, timeout=300)


def everything(driver: int) -> list[int]:
    """A driver and all that it has started, and that these have started: Ray's processes, leader, workers, supervisors."""
    import psutil

    top = psutil.Process(driver)
    return [*(one.pid for one in top.children(recursive=True)), driver]


def status(place: Place, where: Path) -> Any:
    said = towline(place, where, "status", place.url, "--json")
    assert said.returncode == 0, said.stderr
    return json.loads(said.stdout)


@pytest.mark.ray
@pytest.mark.timeout(600)
def test_a_run_lives_in_its_bucket(place: Place, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    command = [sys.executable, "-c", "from towline.cli.main import main; main()", "run", str(script), "--store", place.url]
    driver = subprocess.Popen(
        [*command, "--workers", "2", "--", str(tmp_path)], cwd=first, env=environment(place), stderr=subprocess.PIPE, text=True
    )
    try:
        assert eventually((tmp_path / "half").exists, patience_s=120), driver.stderr
        family = everything(driver.pid)
        for pid in family:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
    finally:
        driver.kill()
        driver.communicate()
    assert eventually(lambda: not any(is_there(pid) for pid in family), patience_s=60)
    before = status(place, second)
    assert (before["state"], before["total"]) == ("interrupted", 81)
    (tmp_path / "go").touch()
    resumed = towline(place, second, "resume", place.url, "--workers", "2")
    assert resumed.returncode == 0, resumed.stderr
    after = status(place, second)
    assert (after["state"], after["counts"]["completed"]) == ("completed", 81)
    begun = (tmp_path / "begun").read_text().split()
    assert set(begun) == {str(n) for n in range(40)}

    home = tmp_path / "home"
    moved = towline(place, second, "store", "migrate", place.url, home)
    assert moved.returncode == 0, moved.stderr
    for store in (place.url, home):
        proved = towline(place, second, "store", "verify", store)
        assert (proved.returncode, proved.stdout.splitlines()[-1]) == (0, "sound"), proved.stdout
    read = (
        "import sys, towline; run = towline.connect(sys.argv[1]); print([run.output(j) for j in run.jobs() if j.name == 'total'])"
    )
    said = subprocess.run(
        [sys.executable, "-c", read, str(home)], env=environment(place), capture_output=True, text=True, timeout=60
    )
    assert said.stdout.strip() == "[1200000]", said.stderr

    assert towline(place, second, "store", "destroy", place.url, "--yes").returncode == 0
    gone = towline(place, second, "status", place.url)
    assert gone.returncode == 2
    assert "there is no store" in gone.stderr
    assert not [path for folder in (first, second) for path in folder.iterdir()]


def is_there(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False

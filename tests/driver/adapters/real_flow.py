"""A flow that users of quacc run, as it is: by jobflow's run_locally, and by the adapter with everything killed in the middle.

`python -m tests.driver.adapters.real_flow` needs quacc (`make real-flow` installs it into an environment of its own). The flow is
`quacc.recipes.emt.slabs.bulk_to_slabs_flow` on a few metals: slabs are cut from a crystal, relaxed and calculated by the EMT
potential of ASE; how many there are is only known when the first job of each metal has run.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tests.torture import processes

ROOT = Path(__file__).parents[3]
PATIENCE_S = 300.0
GONE_S = 60.0
RUNS_APART = ("dir_name", "nid", "completed_at", "_id", "_old_ids")
"""What differs between two runs of the same flow: where and when they ran, and digests of numbers to their last bit."""


def build(metals: list[str], small: bool = False) -> Any:
    """The flow; nothing in it knows of towline."""
    from ase.build import bulk
    from jobflow import Flow
    from quacc.recipes.emt.slabs import bulk_to_slabs_flow

    slabs = {"min_slab_size": 6.0, "min_length_width": 6.0} if small else None
    return Flow([bulk_to_slabs_flow(bulk(metal), make_slabs_kwargs=slabs) for metal in metals], name="slabs")


def jobstore(path: Path) -> Any:
    from jobflow import JobStore
    from maggma.stores import JSONStore

    return JobStore(JSONStore(str(path), read_only=False))


# ------------------------------------------------------------------------------------------------------- what is run


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("verb", nargs="?", default="show", choices=["show", "reference", "run", "resume"])
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--metals", default="Cu,Ag")
    parser.add_argument("--local", action="store_true", help="in one process, without Ray, and with smaller slabs")
    given = parser.parse_args()
    os.environ["QUACC_WORKFLOW_ENGINE"] = "jobflow"
    if given.verb == "show":
        with tempfile.TemporaryDirectory(prefix="tw-quacc-", dir="/tmp") as folder:
            show(Path(folder), given.metals, given.local)
        return 0
    folder, metals = given.folder, given.metals.split(",")
    if given.verb == "reference":
        from jobflow import run_locally

        run_locally(
            build(metals, given.local), store=jobstore(folder / "reference.json"), log=False, create_folders=True,
            ensure_success=True, root_dir=folder / "there",
        )  # fmt: skip
        return 0
    from towline.adapters import jobflow as adapter

    options: dict[str, Any] = {"local": True} if given.local else {"workers": 2}
    store, documents = folder / "store", jobstore(folder / "documents.json")
    if given.verb == "run":
        adapter.run(
            build(metals, given.local), store=store, jobstore=documents, root_dir=folder / "here", create_folders=True, **options
        )
    else:
        adapter.resume(store, jobstore=documents, **options)
    return 0


# ------------------------------------------------------------------------------------------------ run, kill, resume


def show(folder: Path, metals: str = "Cu,Ag", local: bool = False) -> dict[str, Any]:
    """The whole of it. AssertionError if the documents are not those of jobflow's own run, or a job ran again."""
    (folder / "t").mkdir()
    figures: dict[str, Any] = {"metals": metals}
    with timed(figures, "run_locally_s"):
        start(folder, "reference", metals, local).check()
    reference = read(folder / "reference.json")
    with timed(figures, "until_the_kill_s"):
        victim = start(folder, "run", metals, local)
        wait_for(lambda: committed(folder, victim) >= len(reference) // 3)
        kill_everything(folder, victim)
    before = at_rest(folder)
    exported = read(folder / "documents.json") if (folder / "documents.json").exists() else []
    assert 0 < len(before) < len(reference), (
        f"{len(before)} of {len(reference)} jobs were committed: it was no kill in the middle"
    )
    with timed(figures, "resume_s"):
        start(folder, "resume", metals, local).check()
    after = read(folder / "documents.json")
    assert len({(doc["uuid"], doc["index"]) for doc in after}) == len(after), "a document is there twice"
    found = {(doc["uuid"], doc["index"]): doc["completed_at"] for doc in after}
    again = [key for key, when in before.items() if found.get(key) != when]
    assert not again, f"{len(again)} jobs that were committed before the kill are gone, or ran again"
    compare(comparable(after), comparable(reference))
    figures |= {"documents": len(after), "committed_at_the_kill": len(before), "exported_at_the_kill": len(exported)}
    print(json.dumps(figures), flush=True)
    return figures


class Child:
    """A process of this module."""

    def __init__(self, process: subprocess.Popen[bytes], said: Path) -> None:
        self.process, self.said = process, said

    def check(self) -> None:
        """Wait for its end, which must be a good one."""
        assert self.process.wait(PATIENCE_S) == 0, self.tail()

    def tail(self) -> str:
        return self.said.read_text(errors="replace")[-3000:]


def start(folder: Path, verb: str, metals: str, local: bool = False) -> Child:
    said = folder / f"{verb}.txt"
    own = {key: value for key, value in os.environ.items() if not key.startswith(("TOWLINE_", "RAY_", "JOBFLOW_"))}
    environment = {**own, "TMPDIR": str(folder / "t"), "TOWLINE_PROGRESS": "0", "QUACC_WORKFLOW_ENGINE": "jobflow"}
    environment |= {"TOWLINE_LEASE_S": "6", "TOWLINE_TOUCH_S": "1"}
    arguments = [verb, "--folder", str(folder), "--metals", metals, *(["--local"] if local else [])]
    with said.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.driver.adapters.real_flow", *arguments],
            cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True,
        )  # fmt: skip
    return Child(process, said)


def committed(folder: Path, victim: Child) -> int:
    """Jobs that the run says have completed, which it only says of what is committed."""
    import towline

    assert victim.process.poll() is None, victim.tail()
    try:
        with towline.connect(folder / "store") as run:
            return run.counts().get("completed", 0)
    except (towline.TowlineError, ConnectionError):
        return 0  # it has not begun


def kill_everything(folder: Path, victim: Child) -> None:
    """Driver, leader, workers, Ray: all at once. The driver is stopped first, at a moment when it is not writing documents.

    A JSONStore is written in place; what a kill does to its file is no matter of towline's.
    """
    path = folder / "documents.json"

    def stopped_between_writes() -> bool:
        victim.process.send_signal(signal.SIGSTOP)
        try:
            return not path.exists() or isinstance(json.loads(path.read_bytes()), list)
        except ValueError:
            victim.process.send_signal(signal.SIGCONT)
            return False

    wait_for(stopped_between_writes)
    everything = processes.of(folder)
    for process in everything:
        processes.send(process, signal.SIGKILL)
    victim.process.wait(GONE_S)
    assert not processes.wait_gone(everything, GONE_S)


def at_rest(folder: Path) -> dict[tuple[str, int], str]:
    """When each committed job completed, by uuid and index, from the store alone."""
    import towline
    from towline.adapters.jobflow_view import document_in

    run = towline.connect(folder / "store")
    documents = [document_in(output) for output in run.outputs(run.jobs(["completed"]))]
    return {(doc["uuid"], doc["index"]): doc["completed_at"] for doc in documents if doc is not None}


def wait_for(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < until, "it did not come to pass"
        time.sleep(0.1)


@contextmanager
def timed(figures: dict[str, Any], name: str) -> Iterator[None]:
    begun = time.monotonic()
    yield
    figures[name] = round(time.monotonic() - begun, 1)


# ----------------------------------------------------------------------------------------------------------- comparing


def read(path: Path) -> list[dict[str, Any]]:
    documents: list[dict[str, Any]] = json.loads(path.read_bytes())
    return documents


def comparable(documents: list[dict[str, Any]]) -> list[Any]:
    """The documents without what differs between two runs: uuids, times, folders. References are resolved."""
    from jobflow import JobStore
    from maggma.stores import MemoryStore
    from monty.json import jsanitize

    # not the JSONStore itself: it takes only one document of each uuid out of its file
    store = JobStore(MemoryStore())
    store.connect()
    store.update(documents)
    told = []
    for document in documents:
        output = jsanitize(store.get_output(document["uuid"], which=document["index"], load=True), strict=True)
        rest = {key: value for key, value in document.items() if key not in ("uuid", "hosts", "output", "_id", "last_updated")}
        told.append(alike({**rest, "output": output, "depth": len(document["hosts"])}))
    return sorted(told, key=roughly)


def alike(value: Any) -> Any:
    """Without RUNS_APART; JSON inside texts is opened, for the numbers in it."""
    if isinstance(value, dict):
        return {key: alike(item) for key, item in value.items() if key not in RUNS_APART}
    if isinstance(value, list):
        return [alike(item) for item in value]
    if isinstance(value, str) and value.startswith(("{", "[")):
        with suppress(ValueError):
            return alike(json.loads(value))
    return value


def roughly(value: Any) -> str:
    """Something to sort by that the last bits of numbers do not change."""
    if isinstance(value, dict):
        return str([[key, roughly(value[key])] for key in sorted(value)])
    if isinstance(value, list):
        return str([roughly(item) for item in value])
    return f"{round(value, 1) + 0.0:.1f}" if isinstance(value, float) else repr(value)


def compare(one: Any, other: Any, where: str = "documents") -> None:
    """AssertionError unless they are the same but for the last bits of numbers: processes need not add up in the same order."""
    if isinstance(one, float) and isinstance(other, float):
        assert math.isclose(one, other, rel_tol=1e-6, abs_tol=1e-6), f"{where}: {one} is not {other}"
    elif isinstance(one, dict) and isinstance(other, dict):
        assert one.keys() == other.keys(), f"{where}: {sorted(one.keys() ^ other.keys())} are in one only"
        for key in one:
            compare(one[key], other[key], f"{where}.{key}")
    elif isinstance(one, list) and isinstance(other, list):
        assert len(one) == len(other), f"{where}: {len(one)} are not {len(other)}"
        for number, pair in enumerate(zip(one, other, strict=True)):
            compare(*pair, f"{where}[{number}]")
    else:
        assert one == other, f"{where}: {one!r} is not {other!r}"


if __name__ == "__main__":
    sys.exit(main())

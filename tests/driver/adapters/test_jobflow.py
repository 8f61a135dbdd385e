"""Flows of jobflow's own classes on jobflow's run_locally and on the adapter: the documents are the same.

Local runs in this process; one runs on Ray. What users of another package run is in `real_flow`.
"""

from __future__ import annotations

import copy
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("jobflow")

import jobflow
from jobflow import Flow, JobStore, run_locally
from maggma.stores import JSONStore, MemoryStore

import towline
from tests.kit import theirs
from towline import RunFailed, UsageError
from towline.adapters import jobflow as adapter

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def quiet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TOWLINE_PROGRESS", "0")
    monkeypatch.setenv("TOWLINE_LOCAL", "1")


def a_jobstore() -> JobStore:
    return JobStore(MemoryStore(), additional_stores={"data": MemoryStore(), "points": MemoryStore()})


def uuids_of(flow: Any) -> set[str]:
    parts = flow if isinstance(flow, list) else [flow]
    return {uuid for part in parts for uuid in (part.uuid, *getattr(part, "all_uuids", ()))}


def told(store: JobStore, known: set[str]) -> list[str]:
    """All that a JobStore holds, comparable between two runs: uuids made while they ran are all alike."""

    def alike(value: Any, key: str = "") -> Any:
        if isinstance(value, dict):
            return {name: alike(part, name) for name, part in value.items() if name != "_id"}
        if isinstance(value, list):
            return [alike(part, key) for part in value]
        if key in ("uuid", "hosts", "job_uuid"):
            return value if value in known else "new"
        return "-" if key in ("completed_at", "blob_uuid") else value

    stores = {"documents": store.docs_store, **store.additional_stores}
    return sorted(
        json.dumps([name, alike(doc)], default=str, sort_keys=True) for name, one in stores.items() for doc in one.query()
    )


@pytest.mark.parametrize("name", theirs.PROGRAMS)
def test_documents_are_those_of_run_locally(name: str) -> None:
    flow = theirs.PROGRAMS[name]()
    same = copy.deepcopy(flow)
    reference, own = a_jobstore(), a_jobstore()
    responses = run_locally(flow, log=False, store=reference)
    run = adapter.run(same, jobstore=own, raise_on_failure=False)
    # a list becomes a flow with a uuid of its own in each run; a store that is not there has kept the document in jobflow's
    known = uuids_of(flow)
    expected = told(reference, known)
    if name == "an additional store that is not there":
        expected = []
    assert told(own, known) == expected
    found = run.responses()
    outputs = {uuid: {index: said.output for index, said in of.items()} for uuid, of in responses.items() if uuid in known}
    assert {uuid: set(of) for uuid, of in outputs.items()} == {uuid: set(of) for uuid, of in found.items() if uuid in known}


def test_a_flow_s_output_is_resolved_as_jobflow_resolves_it() -> None:
    flow = theirs.makers()
    run = adapter.run(flow, jobstore=(store := a_jobstore()))
    later = flow.jobs[1]
    assert run.output(flow) == run.output(later) == run.output(later.output) == store.get_output(later.uuid) == 18
    point = theirs.make_point(3, 4)
    run = adapter.run(point, jobstore=store)
    assert run.output(point) == theirs.Point(3, 4)
    assert run.output(point.output.norm) == 5
    assert run.output(point, index=1) == theirs.Point(3, 4)
    assert run.responses()[point.uuid][1].output == theirs.Point(3, 4)
    with pytest.raises(UsageError, match="has no output"):
        run.output(later)
    with pytest.raises(UsageError, match="without an output"):
        run.output(Flow([theirs.add(1, 2)], name="bare"))


def test_the_user_s_objects_are_left_as_they_were() -> None:
    flow = theirs.chain()
    before = flow.as_dict()
    adapter.run(flow, jobstore=a_jobstore())
    assert flow.as_dict() == before


def test_failures_are_told_and_the_rest_is_written() -> None:
    bad, good = theirs.fail("too bad"), theirs.add(1, 2)
    store = a_jobstore()
    with pytest.raises(RunFailed, match="ValueError: too bad") as caught:
        adapter.run([bad, good], jobstore=store)
    assert [doc["uuid"] for doc in store.query()] == [good.uuid]
    assert isinstance(caught.value.run, adapter.JobflowRun)


def test_jobflow_s_own_refusals_come_first() -> None:
    outside = theirs.add(1, 2)
    with pytest.raises(ValueError, match="not found in the jobs array"):
        adapter.run(theirs.add(outside.output, 1), jobstore=a_jobstore())
    with pytest.raises(UsageError, match="made with jobflow, got Job"):
        adapter.run(towline.Job(sum, ([1],)), jobstore=a_jobstore())
    with pytest.raises(UsageError, match="jobstore must be a jobflow JobStore, not str"):
        adapter.run(outside, jobstore="documents")
    assert not Path(".towline").exists()


def test_jobs_may_refer_to_documents_of_earlier_runs() -> None:
    store = a_jobstore()
    first, second = theirs.store_key(4), theirs.grow("replace", 2, "flow")
    adapter.run([first, second], jobstore=store)
    sums = [theirs.total_of(first.output), theirs.give(second.output), theirs.unresolved(first.output)]
    run = adapter.run(sums, jobstore=store, allow_external_references=True)
    assert run.output(sums[0]) == 6
    assert run.output(sums[1]) == [1, 2]


def test_options_of_towline_stand_in_the_manager_config(tmp_path: Path) -> None:
    flaky = theirs.fail("again")
    flaky.config.manager_config = {"towline": {"retries": 2}}
    run = adapter.run(flaky, jobstore=a_jobstore(), raise_on_failure=False)
    assert run.failures()[0].attempts == 3
    wrong = theirs.add(1, 2)
    wrong.config.manager_config = {"towline": {"tries": 2}}
    with pytest.raises(UsageError, match="has no option 'tries'"):
        adapter.run(wrong, jobstore=a_jobstore())


def test_the_jobstore_of_the_settings_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    store = a_jobstore()
    monkeypatch.setattr(jobflow.SETTINGS, "JOB_STORE", store)
    run = adapter.run(theirs.chain())
    assert store.count() == 3
    assert run.jobstore is store


def test_folders_are_made_as_asked_and_empty_ones_go(tmp_path: Path) -> None:
    one, two = theirs.write("kept"), theirs.add(1, 2)
    run = adapter.run([one, two], jobstore=a_jobstore(), create_folders=True, root_dir="work")
    (folder,) = Path("work").iterdir()
    assert folder.name == run.output(one)
    assert (folder / "kept").exists()
    three = theirs.write("here")
    adapter.run(three, jobstore=a_jobstore(), root_dir="other")
    assert Path("other/here").exists()
    adapter.run(theirs.write("there"), jobstore=a_jobstore())
    assert Path("there").exists()


def test_submit_returns_at_once_and_wait_writes(tmp_path: Path) -> None:
    store = a_jobstore()
    flow = theirs.chain()
    with adapter.submit(flow, store="runs/x", jobstore=store) as run:
        assert run.wait() == "completed"
    assert store.count() == 3
    store.remove_docs({})
    assert (adapter.export("runs/x", jobstore=store), run.export()) == (3, 0)
    assert adapter.resume("runs/x", jobstore=store).export() == 0
    with pytest.raises(UsageError, match="already holds this flow"):
        adapter.run(flow, store="runs/x", jobstore=store)


def test_a_run_with_other_flows_in_its_store_writes_its_own() -> None:
    store = a_jobstore()
    towline.run(towline.Job(sum, ([1],)), store="runs/x")
    adapter.run(theirs.add(1, 2), store="runs/x", jobstore=a_jobstore())
    adapter.run(theirs.add(3, 4), store="runs/x", jobstore=store)
    assert store.count() == 1
    assert adapter.export("runs/x", jobstore=store) == 1


DRIVER = """
import sys
from jobflow import Flow, JobStore, Maker, Response, job
from maggma.stores import JSONStore
from tests.kit import theirs
from towline.adapters import jobflow as adapter

@job
def double(a):
    # names of __main__, among them one that another job is made of
    return Response(output=2 * a + OFFSET, addition=triple(a))

@job
def triple(a):
    return 3 * a

OFFSET = 1

if __name__ == "__main__":
    verb, folder = sys.argv[1:]
    data = JSONStore(folder + "/data.json", read_only=False)
    documents = JobStore(JSONStore(folder + "/documents.json", read_only=False), {"data": data})
    if verb == "run":
        ones = [theirs.add(n, 1) for n in range(5)]
        parts = theirs.store_key(4)
        deadly = theirs.die_once(folder + "/marker", ones[-1].output)
        deadly.config.manager_config = {"towline": {"release": "committed"}}
        after = [theirs.total_of(parts.output), double(deadly.output)]
        adapter.run(Flow([*ones, parts, deadly, *after]), store=folder + "/store", jobstore=documents, local=True)
    else:
        adapter.resume(folder + "/store", jobstore=documents, local=True)
"""


def drive(verb: str, folder: Path) -> subprocess.CompletedProcess[str]:
    script = folder / "driver.py"
    script.write_text(DRIVER)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TOWLINE_LEASE_S": "3", "TOWLINE_TOUCH_S": "0.5"}
    return subprocess.run(
        [sys.executable, str(script), verb, str(folder)], capture_output=True, text=True, env=environment, check=False
    )


def test_a_run_that_was_killed_is_resumed_and_its_documents_too(tmp_path: Path) -> None:
    killed = drive("run", tmp_path)
    assert killed.returncode == -9, killed.stderr
    before = {info.uuid for info in towline.connect(tmp_path / "store").jobs(["completed"])}
    assert before
    done = drive("resume", tmp_path)
    assert done.returncode == 0, done.stderr
    documents = json.loads((tmp_path / "documents.json").read_text())
    assert before < {doc["uuid"] for doc in documents}
    assert sorted((doc["name"], doc["index"]) for doc in documents) == sorted(
        [*[("add", 1)] * 5, ("store_key", 1), ("die_once", 1), ("total_of", 1), ("double", 1), ("triple", 1)]
    )
    by_name = {doc["name"]: doc["output"] for doc in documents}
    assert (by_name["die_once"], by_name["double"], by_name["triple"], by_name["total_of"]) == (5, 11, 15, 6)
    assert len(json.loads((tmp_path / "data.json").read_text())) == 1
    written = (tmp_path / "documents.json").read_bytes()
    assert drive("resume", tmp_path).returncode == 0
    assert (tmp_path / "documents.json").read_bytes() == written


@pytest.mark.ray
def test_on_ray_jobs_run_in_folders_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TOWLINE_LOCAL")
    # the workers do not stand where pytest does
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    flow = Flow([theirs.growing("replace", "flow"), theirs.parts_apart(), theirs.write("note"), theirs.write("note")])
    same = copy.deepcopy(flow)
    reference, own = a_jobstore(), a_jobstore()
    run_locally(flow, log=False, store=reference, create_folders=True, root_dir="there")
    run = adapter.run(same, jobstore=own, workers=2)
    assert run.counts() == {"completed": reference.count()}
    assert len(list(tmp_path.glob("job_*/note"))) == 2
    for store in (reference, own):
        store.remove_docs({"name": "write"})  # they put out where they ran
    assert told(own, uuids_of(flow)) == told(reference, uuids_of(flow))


def test_a_flow_of_quacc_is_killed_and_resumed() -> None:
    """A small one in one process; `make real-flow` does it on Ray, and makes the environment that quacc is in."""
    apart = ROOT / "build" / "real-flow" / "bin" / "python"
    python = apart if (apart.parents[1] / ".installed-real-flow").exists() else Path(sys.executable)
    if python != apart and importlib.util.find_spec("quacc") is None:
        pytest.skip("quacc is not installed: `make real-flow` does that")
    done = subprocess.run(
        [python, "-m", "tests.driver.adapters.real_flow", "--metals", "Cu", "--local"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout.splitlines()[-1])
    assert 0 < figures["committed_at_the_kill"] < figures["documents"]


def test_a_jobstore_that_forgets_is_made_whole_again(tmp_path: Path) -> None:
    """A JSONStore takes only one document of each uuid out of its file."""
    flow = theirs.tutorial_replace()
    adapter.run(flow, store="runs/x", jobstore=JobStore(JSONStore("documents.json", read_only=False)))
    written = len(json.loads(Path("documents.json").read_text()))
    again = JobStore(JSONStore("documents.json", read_only=False))
    again.connect()
    assert again.count() < written
    adapter.resume("runs/x", jobstore=again)
    assert again.count() == written

"""jobflow's flows as towline's: the same graph, and jobs that come out of their pickles as they went in."""

from __future__ import annotations

import pickle
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("jobflow")

from jobflow import Flow, JobConfig, OnMissing
from jobflow.core.flow import JobOrder

from tests.kit import theirs
from towline import EncodingError, UsageError
from towline.adapters.jobflow_bodies import execute
from towline.adapters.jobflow_flows import Terms, pickled, referred_to, translated, unpickled, with_their_own
from towline.engine.flows import Plan

ROOT = Path(__file__).parents[3]


def test_graph_names_and_places_are_the_same() -> None:
    inner = Flow([one := theirs.add(1, 2), two := theirs.add(one.output, 3)], name="inner", order=JobOrder.LINEAR)
    flow = Flow([three := theirs.add(two.output, one.output), inner], name="outer")
    three.metadata, three.index = {"tag": 1}, 4
    made = translated(flow, Terms())
    assert (made.name, made.uuid, [type(member).__name__ for member in made.jobs]) == ("outer", flow.uuid, ["Job", "Flow"])
    assert (made.jobs[1].name, made.jobs[1].uuid, made.jobs[1].order.value) == ("inner", inner.uuid, "linear")
    jobs = {job.uuid: job for job in made.every_job()}
    assert [(jobs[job.uuid].name, jobs[job.uuid].index, jobs[job.uuid].metadata) for job in (one, two, three)] == [
        ("add", 1, {}),
        ("add", 1, {}),
        ("add", 4, {"tag": 1}),
    ]
    assert [jobs[job.uuid].hosts for job in (one, two, three)] == [one.hosts, two.hosts, three.hosts]
    assert {job.uuid: set(parents) for job, parents in Plan(made).walk()} == {
        one.uuid: set(),
        two.uuid: {one.uuid},
        three.uuid: {one.uuid, two.uuid},
    }
    assert {job.function for job in jobs.values()} == {execute}


def test_hosts_that_towline_adds_are_left_out() -> None:
    flow = Flow([job := theirs.add(1, 2)])
    flow.add_hosts_uuids(["middle", "outer"])
    assert job.hosts == [flow.uuid, "middle", "outer"]
    made = translated(flow, Terms(), inside=["middle", "outer"])
    (mine,) = made.jobs
    assert mine.hosts == [flow.uuid]
    made.add_hosts_uuids(["middle", "outer"])
    assert mine.hosts == job.hosts
    assert translated(flow, Terms()).jobs[0].hosts == job.hosts


@pytest.mark.parametrize("missing", list(OnMissing))
@pytest.mark.parametrize("resolve", [True, False])
def test_what_the_graph_must_know_of_the_config(missing: OnMissing, resolve: bool) -> None:
    job = theirs.add(1, 2)
    job.config = JobConfig(resolve_references=resolve, on_missing_references=missing, manager_config={"a": 1})
    (mine,) = translated(Flow(job), Terms()).jobs
    assert (mine.config.resolve_references, str(mine.config.on_missing_references)) == (resolve, missing.value)


def test_options_are_checked() -> None:
    job = theirs.add(1, 2)
    job.config.manager_config = {"towline": {"retries": 3, "cores": 2}}
    flow = Flow(job)
    (mine,) = translated(flow, Terms()).jobs
    assert (mine.options.retries, mine.options.requirements) == (3, {"cores": 2.0})
    job.config.manager_config = {"towline": {"data": "big"}}
    with pytest.raises(UsageError, match=rf"job 'add' \({job.uuid}\): manager_config\['towline'\] has no option 'data'"):
        translated(flow, Terms())


@pytest.mark.parametrize("name", theirs.PROGRAMS)
def test_jobs_come_back_as_they_were(name: str) -> None:
    made = theirs.PROGRAMS[name]()
    flow = made if hasattr(made, "iterflow") else Flow(made)
    for job, _ in flow.iterflow():
        again = unpickled(pickled(job))
        assert again.as_dict() == job.as_dict()
        assert getattr(again.function, "__func__", again.function) is getattr(job.function, "__func__", job.function)


def test_a_function_under_job_goes_by_its_name() -> None:
    assert b"theirs:add" in pickled(theirs.add(1, 2))
    assert len(pickled(theirs.add(1, 2))) < 2000


def test_what_cannot_be_pickled_is_named() -> None:
    point = theirs.Point(1, 2)
    point.lock = threading.Lock()  # type: ignore[attr-defined]  # that is what is wrong with it
    with pytest.raises(EncodingError, match=r"job 'give' \(.*\) cannot be sent to a worker \(TypeError: .*lock"):
        pickled(theirs.give(point))


def test_functions_of_a_script_go_by_value(tmp_path: Path) -> None:
    script = """
import sys
from jobflow import job
from towline.adapters.jobflow_flows import pickled

@job
def other(a):
    return a

@job(data="x")
def mine(a):
    return other(a), mine, FACTOR

FACTOR = 3
open(sys.argv[1], "wb").write(pickled(mine(2)))
"""
    (tmp_path / "script.py").write_text(script)
    subprocess.run([sys.executable, tmp_path / "script.py", tmp_path / "job"], check=True, cwd=ROOT)
    job = unpickled((tmp_path / "job").read_bytes())
    called, itself, factor = job.function(2)
    assert (job.name, job._kwargs, factor) == ("mine", {"data": "x"}, 3)
    assert (called.name, itself(1).name) == ("other", "mine")


def test_documents_from_outside_go_with_the_jobs_that_need_them() -> None:
    pointing = theirs.give(0)
    pointing.set_uuid("b")
    given: dict[str, Any] = {
        "a": [{"uuid": "a", "index": 1, "output": {"x": pointing.output.as_dict()}}],
        "b": [{"uuid": "b", "index": 1, "output": 2}],
        "c": [{"uuid": "c", "index": 1, "output": 3}],
    }
    assert referred_to(given["a"]) == ["b"]
    assert set(with_their_own(["a", "z"], given)) == {"a", "b"}
    outside = theirs.give(0)
    outside.set_uuid("a")
    (mine,) = translated(Flow(theirs.add(outside.output["x"], 1)), Terms(given=given)).jobs
    assert (mine.function_kwargs["inputs"], set(mine.function_kwargs["given"])) == ({}, {"a", "b"})


def test_terms_travel_as_plain_data() -> None:
    terms = Terms(root="/x", folders=True, stores=["data"])
    assert Terms(**pickle.loads(pickle.dumps(terms.told()))) == terms
    assert Terms().told() == {}

"""A run with a JobStore: kept where its documents are, or its documents brought there; parts in the additional stores."""

from __future__ import annotations

import jobflow
import pytest
from maggma.stores import MemoryStore

from tests.kit.documents import count, double, total, with_big
from towline import CURRENT_JOB, Flow, JobStore, RunFailed, job, resume, run, run_locally
from towline.documents import home_of
from towline.engine.errors import UsageError
from towline.stores.documents import saving


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def chain(x):
    first = with_big(x)
    return first, total(first.output), count(first.output)


QUIET = {"local": True, "progress": False}


def own(place):
    return JobStore(place, {"data": place})


def test_the_run_is_kept_in_the_jobstores_place(store_dir):
    store = own(store_dir)
    jobs = chain(2)
    ran = run(Flow(list(jobs)), store=store, **QUIET)
    assert ran.store == str(store_dir)
    assert store.get_output(jobs[1].uuid, load=True) == 6
    assert store.get_output(jobs[2].uuid) == 5
    assert saving.is_stub(store.get_output(jobs[1].uuid)), "data=True lays the whole output aside"
    document = store.query_one({"uuid": jobs[0].uuid})
    assert saving.is_stub(document["output"]["big"])
    assert store.additional_stores["data"].count({"job_uuid": jobs[0].uuid}) == 1


@pytest.mark.parametrize("docs", [MemoryStore, lambda: jobflow.JobStore(MemoryStore())])
def test_documents_are_brought_to_a_store_that_lies_elsewhere(docs):
    store = JobStore(docs(), {"data": MemoryStore("data")})
    jobs = chain(3)
    ran = run(Flow(list(jobs), name="brought"), store=store, **QUIET)
    assert ran.store == ".towline/brought"
    assert ran.output(jobs[0]) == {"small": (3,), "big": [3, 3, 3]}, "the run itself keeps it whole"
    assert store.count() == 3
    assert saving.is_stub(store.query_one({"uuid": jobs[0].uuid})["output"]["big"])
    assert store.get_output(jobs[1].uuid, load=True) == 9


def test_a_jobstore_of_jobflows_own_will_do():
    theirs = jobflow.JobStore(MemoryStore(), {"data": MemoryStore("data")})
    jobs = chain(1)
    responses = run_locally(Flow(list(jobs)), store=theirs, log=False)
    assert responses[jobs[1].uuid][1].output == 3
    assert theirs.get_output(jobs[0].uuid, load=True) == {"small": [1], "big": [1, 1, 1]}
    written = theirs.docs_store.query_one({"uuid": jobs[0].uuid})
    told = {name: written[name] for name in written if name.startswith("@")}
    assert told == {"@module": "jobflow.core.schemas", "@class": "JobStoreDocument", "@version": jobflow.__version__}


@pytest.mark.parametrize("said", ["to the run", "to the store"])
def test_documents_as_jobflow_writes_them_in_a_store_that_lies_elsewhere(said):
    store = JobStore(MemoryStore(), compat="jobflow" if said == "to the store" else "")
    run(Flow([double(1)]), store=store, compat="jobflow" if said == "to the run" else None, **QUIET)
    assert store.query_one()["@class"] == "JobStoreDocument"


def test_run_locally_lays_parts_aside_and_tells_whole_responses(store_dir):
    store = own(store_dir)
    jobs = chain(2)
    responses = run_locally(Flow(list(jobs)), store=store, log=False)
    assert responses[jobs[0].uuid][1].output == {"small": (2,), "big": [2, 2, 2]}
    assert store.count() == 3
    assert saving.is_stub(store.query_one({"uuid": jobs[0].uuid})["output"]["big"])


def test_a_store_that_is_not_known_fails_the_job(store_dir):
    with pytest.raises(RunFailed, match="Unrecognised additional store name: data"):
        run(Flow([with_big(1)]), store=JobStore(store_dir), **QUIET)


def test_without_a_jobstore_outputs_are_kept_whole(store_dir):
    jobs = chain(2)
    ran = run(Flow(list(jobs)), store=store_dir, **QUIET)
    assert ran.outputs(jobs) == [{"small": (2,), "big": [2, 2, 2]}, 6, 5]


def test_parts_are_not_handed_to_a_job_as_stubs(store_dir):
    """A later run that was not given the JobStore says so; given it, it goes on."""
    first = with_big(2)
    run(Flow([first]), store=own(store_dir), **QUIET)
    with pytest.raises(RunFailed, match="a part of the input lies in the additional store 'data'"):
        run(Flow([count(first.output)]), store=store_dir, **QUIET)
    again = count(first.output)
    assert run(Flow([again]), store=own(store_dir), **QUIET).output(again) == 5
    broken = own(store_dir)
    broken.additional_stores["data"].remove_docs({})
    with pytest.raises(RunFailed, match="a part of the input cannot be had"):
        run(Flow([count(first.output)]), store=broken, **QUIET)


def test_resume_takes_a_jobstore(store_dir):
    store = own(store_dir)
    run(Flow([with_big(1)]), store=store, **QUIET)
    assert resume(store, local=True, progress=False).state == "completed"


@job(config=None)
def seen():
    return CURRENT_JOB.store.name


def test_a_job_is_shown_the_store_of_its_run(store_dir):
    shown = seen()
    shown.config.expose_store = True
    ran = run(Flow([shown, with_big(1)]), store=store_dir, **QUIET)
    assert ran.output(shown) == f"JobStore-towline://{store_dir}"
    other = seen()
    other.config.expose_store = True
    store = own(store_dir)
    assert run(Flow([other]), store=store, **QUIET).output(other) == store.name


def test_what_is_no_store():
    with pytest.raises(UsageError, match="store must be a path, a URL or a JobStore, not int"):
        home_of(5)
    assert home_of(None) == (None, None)
    assert home_of("x") == ("x", None)


@pytest.mark.ray
def test_workers_elsewhere_use_the_additional_stores(store_dir):
    store = own(store_dir)
    jobs = chain(4)
    run(Flow([*jobs, double(1)]), store=store, workers=1, progress=False)
    assert store.get_output(jobs[1].uuid, load=True) == 12
    assert saving.is_stub(store.query_one({"uuid": jobs[0].uuid})["output"]["big"])

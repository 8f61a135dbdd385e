"""Documents on their way: each once, whatever breaks between."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("jobflow")

from jobflow import Flow, JobStore
from maggma.stores import MemoryStore

import towline
from tests.kit import theirs
from towline.adapters import jobflow as adapter
from towline.adapters import jobflow_export
from towline.adapters.jobflow_export import Exporter, ExportError


@pytest.fixture(autouse=True)
def quiet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TOWLINE_PROGRESS", "0")
    monkeypatch.setenv("TOWLINE_LOCAL", "1")


class Broken(Exception):
    """A database that is away."""


class Database(MemoryStore):  # type: ignore[misc]  # maggma has no types
    """Counts the documents that it is given; breaks when `budget` writes have been made."""

    def __init__(self, budget: int = 10_000) -> None:
        super().__init__()
        self.budget = budget
        self.given: list[tuple[Any, Any]] = []

    def update(self, docs: Any, key: Any = None) -> None:
        if self.budget <= 0:
            raise Broken("it is away")
        self.budget -= 1
        self.given += [(doc.get("uuid") or doc["job_uuid"], doc.get("index")) for doc in docs]
        super().update(docs, key)


def databases(documents: int = 10_000, parts: int = 10_000) -> JobStore:
    store = JobStore(Database(documents), additional_stores={"data": Database(parts)})
    store.connect()
    return store


def finished(*jobs: Any) -> towline.engine.model.Any:
    """A run at rest of these jobs, whose documents went nowhere that anyone looks."""
    return adapter.run(Flow(list(jobs)), store="runs/x", jobstore=databases())


def test_each_document_is_written_once() -> None:
    run = finished(*(theirs.add(n, 1) for n in range(5)), theirs.store_key(3))
    store = databases()
    assert [Exporter(store, "runs/x").export(run) for _ in range(3)] == [6, 0, 0]
    assert len(store.docs_store.given) == store.count() == 6
    assert len(store.additional_stores["data"].given) == 1
    once = Exporter(store, "runs/x")
    assert [once.export(run), once.export(run)] == [0, 0]


def test_in_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobflow_export, "TOGETHER", 2)
    run = finished(*(theirs.add(n, 1) for n in range(5)))
    store = databases(documents=2)
    with pytest.raises(Broken):
        Exporter(store, "runs/x").export(run)
    assert store.count() == 4
    store.docs_store.budget = 10
    assert Exporter(store, "runs/x").export(run) == 1
    assert len(store.docs_store.given) == store.count() == 5


def test_parts_that_are_missing_are_written_again_and_none_is_left_over() -> None:
    jobs = [theirs.store_key(3), theirs.store_all(2)]
    run = finished(*jobs)
    store = databases(parts=1)
    with pytest.raises(Broken):
        Exporter(store, "runs/x").export(run)
    assert store.count() == 2
    parts = store.additional_stores["data"]
    assert parts.count() == 1  # a document stands there whose part does not
    parts.budget = 10
    assert Exporter(store, "runs/x").export(run) == 1
    assert parts.count() == store.count() == 2
    assert [store.get_output(job.uuid, load=True) for job in jobs] == [{"matrix": [0, 1, 2], "count": 3}, [0, 1]]


def test_a_newer_outcome_takes_the_place_of_the_older() -> None:
    job = theirs.store_key(3)
    run = finished(job)
    store = databases()
    Exporter(store, "runs/x").export(run)
    old = store.query_one({"uuid": job.uuid})
    store.docs_store.update([{**old, "completed_at": "an earlier run"}], ["uuid", "index"])
    assert Exporter(store, "runs/x").export(run) == 1
    assert store.count() == store.additional_stores["data"].count() == 1


def test_other_jobs_of_the_store_are_passed_over() -> None:
    towline.run(towline.Job(sum, ([1, 2],)), store="runs/x")
    run = finished(theirs.add(1, 2))
    assert Exporter(store := databases(), "runs/x").export(towline.connect("runs/x")) == 1
    assert store.count() == 1
    assert run.counts() == {"completed": 1}


def test_while_a_run_goes_on_what_breaks_is_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    run = finished(theirs.add(1, 2))
    store = databases(documents=0)
    now = [0.0]
    exporter = Exporter(store, "runs/x", clock=lambda: now[0])
    exporter.beside(run, False)
    assert not caplog.records  # too early
    now[0] = 2.0
    with caplog.at_level(logging.WARNING, "towline"):
        exporter.beside(run, False)
    assert "could not be written to JobStore-" in caplog.text
    assert "this is tried again" in caplog.text
    now[0] = 3.0
    store.docs_store.budget = 1
    exporter.beside(run, False)
    assert store.count() == 0  # not yet
    now[0] = 4.0
    exporter.beside(run, False)
    assert store.count() == 1


def test_at_the_end_it_is_an_error_that_says_how_to_go_on() -> None:
    store = databases(documents=0)
    with pytest.raises(ExportError, match=r"Broken: it is away.*adapters\.jobflow\.export\('.*runs/x', jobstore=") as caught:
        adapter.run([theirs.add(1, 2), theirs.add(2, 2)], store="runs/x", jobstore=store)
    assert isinstance(caught.value.__cause__, Broken)
    store.docs_store.budget = 1
    assert adapter.resume("runs/x", jobstore=store).counts() == {"completed": 2}
    assert store.count() == 2


def test_a_run_s_documents_come_while_it_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobflow_export, "EVERY_S", 0.0)
    monkeypatch.setattr(jobflow_export, "SHARE", 0)
    store = databases()
    first = theirs.add(1, 2)
    seen = theirs.look_up(first.uuid, first.output)
    seen.config.manager_config = {"towline": {"release": "committed"}}
    written: list[int] = []
    counting = Exporter.beside

    def beside(self: Exporter, run: Any, ended: bool) -> None:
        counting(self, run, ended)
        written.append(store.count())

    monkeypatch.setattr(Exporter, "beside", beside)
    adapter.run([first, seen], jobstore=store)
    assert written == [0, 1, 2]

"""What a job sees of the run that it is part of, and what becomes of what it writes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("jobflow")

from jobflow import JobStore, OnMissing, OutputReference
from maggma.stores import MemoryStore

from tests.kit import theirs
from towline.adapters import jobflow_view as views
from towline.adapters.jobflow_view import Documents, view_of, wrapped


def document(uuid: str, index: int = 1, output: Any = None) -> dict[str, Any]:
    return {"uuid": uuid, "index": index, "output": output, "metadata": {"n": index}, "name": f"{uuid}{index}"}


class Run:
    """Outputs of a run by uuid and index, and what was asked of them."""

    def __init__(self, *documents: dict[str, Any]) -> None:
        self.documents = documents
        self.asked: list[tuple[str, int]] = []

    def fetch(self, uuid: str, index: int) -> Any:
        self.asked.append((uuid, index))
        found = [doc for doc in self.documents if doc["uuid"] == uuid and index in (0, doc["index"])]
        return wrapped(found[-1], {}) if found else None


@pytest.fixture
def home() -> Iterator[JobStore]:
    store = JobStore(MemoryStore())
    store.connect()
    store.update([document("old", output=5), document("a", output="an old run's")])
    token = views.HOME.set(store)
    yield store
    views.HOME.reset(token)


def test_inputs_come_first_then_what_was_handed_over_then_the_run() -> None:
    run = Run(document("c", output=3))
    view = view_of(Documents({"a": wrapped(document("a", output=1), {})}, {"b": [document("b", output=2)]}, run.fetch))
    assert [view.get_output(uuid) for uuid in "abc"] == [1, 2, 3]
    assert run.asked == [("c", 0)]
    assert view.query_one({"uuid": "d"}) is None
    with pytest.raises(ValueError, match=r"UUID: d has no outputs\."):
        view.get_output("d")


def test_a_missing_parent_is_missing() -> None:
    view = view_of(Documents({"a": None}, {}, Run().fetch))
    reference = OutputReference("a", (("i", "x"),))
    assert reference.resolve(view, on_missing=OnMissing.NONE) is None
    assert reference.resolve(view, on_missing=OnMissing.PASS) is reference
    with pytest.raises(ValueError, match="Could not resolve reference - a not in store"):
        reference.resolve(view)


def test_all_indices_can_be_asked_for() -> None:
    run = Run(*(document("a", index, f"try {index}") for index in (1, 2, 3)))
    view = view_of(Documents({}, {}, run.fetch))
    assert view.get_output("a") == "try 3"
    assert run.asked == [("a", 0)]
    assert view.get_output("a", which=2) == "try 2"
    assert view.get_output("a", which="first") == "try 1"
    assert view.get_output("a", which="all") == ["try 1", "try 2", "try 3"]
    assert view.count({"uuid": "a"}) == 3
    assert [doc["name"] for doc in view.query({"uuid": {"$in": ["a", "b"]}, "metadata.n": {"$gt": 1}}, sort={"index": -1})] == [
        "a3",
        "a2",
    ]
    assert list(view.query({"uuid": "a"}, ["metadata.n"], skip=1, limit=1)) == [{"metadata": {"n": 2}, "uuid": "a", "index": 2}]


def test_references_inside_outputs_are_followed() -> None:
    deep = OutputReference("b", (("i", "x"),)).as_dict()
    view = view_of(Documents({}, {}, Run(document("a", output={"at": deep}), document("b", output={"x": 7})).fetch))
    assert view.get_output("a", load=True) == {"at": 7}
    assert OutputReference("a", (("i", "at"),)).resolve(view) == 7


def test_what_is_read_is_the_reader_s_own() -> None:
    kept = document("a", output={"list": [1]})
    view = view_of(Documents({"a": wrapped(kept, {})}, {}, Run().fetch))
    view.query_one({"uuid": "a"})["output"]["list"].append(2)
    assert kept["output"] == {"list": [1]}


def test_other_runs_are_asked_of_the_jobstore_where_there_is_one(home: JobStore) -> None:
    view = view_of(Documents({"a": wrapped(document("a", output="this run's"), {})}, {}, Run().fetch))
    assert view.get_output("a") == "this run's"
    assert view.get_output("old") == 5
    assert {doc["uuid"] for doc in view.query({"output": 5})} == {"old"}


def test_without_a_jobstore_there_is_nothing_else() -> None:
    view = view_of(Documents({}, {}, Run().fetch))
    assert list(view.query({"output": 5})) == []


def test_the_settings_name_the_jobstore_for_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    import jobflow

    store = JobStore(MemoryStore())
    store.connect()
    store.update(document("old", output=6))
    monkeypatch.setattr(jobflow.SETTINGS, "JOB_STORE", store)
    views._by_settings.cache_clear()
    assert view_of(Documents({}, {}, Run().fetch), views.HOME_BY_SETTINGS).get_output("old") == 6
    views._by_settings.cache_clear()


def test_the_document_is_caught_whole_with_what_belongs_elsewhere() -> None:
    view = view_of(Documents({}, {}, Run().fetch), stores=["data"])
    view.update(document("a", output={"at": theirs.Point(1, 2)}), key=["uuid", "index"], save={"data": theirs.Point})
    caught, save = view.caught
    assert caught["output"]["at"]["x"] == 1
    assert save == {"data": theirs.Point}


def test_a_store_that_is_not_there_matters_only_if_it_is_needed() -> None:
    def caught(stores: list[str] | None, save: dict[str, Any]) -> Any:
        view = view_of(Documents({}, {}, Run().fetch), stores=stores)
        view.update(document("a", output={"big": 1}), save=save)
        return view.caught

    with pytest.raises(ValueError, match="Unrecognised additional store name: nowhere"):
        caught(["data"], {"nowhere": "big"})
    assert caught(["data"], {"nowhere": "small"})
    assert caught(None, {"nowhere": "big"})


def test_further_documents_go_to_the_jobstore(home: JobStore) -> None:
    view = view_of(Documents({}, {}, Run().fetch))
    view.update(document("me"))
    view.update(document("mine", output="more"))
    assert home.query_one({"uuid": "mine"})["output"] == "more"
    assert home.query_one({"uuid": "me"}) is None


def test_further_documents_need_a_jobstore() -> None:
    view = view_of(Documents({}, {}, Run().fetch))
    with pytest.raises(RuntimeError, match="only where the JobStore of the run can be reached"):
        view.update([document("mine")])


def test_other_outputs_are_no_documents() -> None:
    assert views.document_in({"uuid": "a"}) is None
    assert views.document_in(None) is None
    assert views.document_in(wrapped(document("a"), {})) == document("a")

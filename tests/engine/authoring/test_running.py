"""`Job.run(store)`: one job against a document store."""

from __future__ import annotations

from typing import Any

import pytest

from tests.kit.samples import AddMaker, Document, Mson, Plain, add, fail, give
from towline.engine.authoring.current import CURRENT_JOB
from towline.engine.authoring.decorator import job
from towline.engine.authoring.job import Job
from towline.engine.authoring.reference import OnMissing, OutputReference


class Shelf:
    """A document store as small as can be."""

    def __init__(self, **outputs: Any) -> None:
        self.outputs = outputs
        self.documents: list[dict[str, Any]] = []
        self.saved: list[Any] = []

    def query_one(self, criteria: Any, properties: Any, sort: Any) -> dict[str, Any] | None:
        return {"index": 1} if criteria["uuid"] in self.outputs else None

    def get_output(self, uuid: str, which: str = "last", load: bool = False, on_missing: Any = None) -> Any:
        return self.outputs[uuid]

    def update(self, document: dict[str, Any], key: list[str], save: Any) -> None:
        assert key == ["uuid", "index"]
        self.documents.append(document)
        self.saved.append(save)


def test_inputs_come_from_the_store_and_the_document_goes_into_it() -> None:
    store = Shelf(u={"a": [3]})
    made = add(OutputReference("u").a[0], b=4)
    made.metadata = {"m": 1}
    response = made.run(store)
    assert response.output == 7
    (document,) = store.documents
    assert document.pop("completed_at")
    assert document == {"uuid": made.uuid, "index": 1, "output": 7, "metadata": {"m": 1}, "hosts": [], "name": "add"}


def test_a_makers_method_and_its_schema() -> None:
    assert AddMaker(number=2).make(3).run(Shelf()).output == 5
    made = Job(give.original, ({"energy": 1.0},), output_schema=Document)  # type: ignore[attr-defined]  # a JobFunction
    assert made.run(Shelf()).output == Document(energy=1.0)


def test_objects_are_documents_and_additional_stores_are_named() -> None:
    store = Shelf()
    Job(give.original, (Mson(1),), data=True, more="a").run(store)  # type: ignore[attr-defined]  # a JobFunction
    assert store.documents[0]["output"]["@class"] == "Mson"
    assert store.saved == [{"data": "output", "more": "a"}]


def test_what_no_document_holds_is_refused() -> None:
    with pytest.raises(RuntimeError, match="Job output contained an object that is not MSONable"):
        give(Plain(1)).run(Shelf())


def test_missing_inputs() -> None:
    with pytest.raises(
        ValueError, match=r"Could not resolve reference - lost not in store or index=None, cache=\{'lost': \{\}\}"
    ):
        give(OutputReference("lost")).run(Shelf())
    made = give([OutputReference("lost")])
    made.config.on_missing_references = OnMissing.NONE
    assert made.run(Shelf()).output == [None]


def test_the_running_job_is_known_and_forgotten() -> None:
    seen: list[Any] = []

    @job
    def look() -> None:
        seen.extend([CURRENT_JOB.job, CURRENT_JOB.store])

    made, store = look(), Shelf()
    made.config.expose_store = True
    made.run(store)
    assert seen == [made, store]
    with pytest.raises(ValueError, match="no"):
        fail().run(store)
    assert CURRENT_JOB.job is None

"""One job's body, called as a worker calls it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("jobflow")

from jobflow import CURRENT_JOB

from tests.kit import theirs
from towline import UsageError
from towline.adapters.jobflow_bodies import execute
from towline.adapters.jobflow_flows import pickled
from towline.adapters.jobflow_view import MARK, wrapped
from towline.engine.authoring.current import RUNNING, Running


@contextlib.contextmanager
def running(one: Running) -> Iterator[None]:
    token = RUNNING.set(one)
    try:
        yield
    finally:
        RUNNING.reset(token)


def call(job: Any, inputs: dict[str, Any] | None = None, **terms: Any) -> Any:
    return execute(pickled(job), inputs=inputs or {}, given={}, terms=terms)


def test_the_document_is_the_output() -> None:
    parent, job = theirs.add(1, 2), theirs.store_key(2)
    child = theirs.add(parent.output, job.output["count"])
    job.metadata = {"tag": 1}
    said = call(job, stores=["data"])
    assert said.output[MARK] == 1
    assert said.output["save"] == {"data": "matrix"}
    document = said.output["document"]
    assert {name: document[name] for name in ("uuid", "index", "name", "metadata", "hosts", "output")} == {
        "uuid": job.uuid,
        "index": 1,
        "name": "store_key",
        "metadata": {"tag": 1},
        "hosts": [],
        "output": {"matrix": [0, 1], "count": 2},
    }
    inputs = {job.uuid: said.output, parent.uuid: call(parent).output}
    assert call(child, inputs).output["document"]["output"] == 5


def test_what_a_response_asks_for_is_made_towline_s() -> None:
    job = theirs.grow("replace", 2, "flow")
    job.hosts = ["outer"]
    said = call(job)
    assert (said.detour, said.addition, said.stop_children, said.stop_jobflow) == (None, None, False, False)
    heir = said.replace.jobs[-1]
    assert (heir.uuid, heir.index, heir.name, len(said.replace.jobs)) == (job.uuid, 2, "store_inputs", 3)
    assert heir.hosts == [said.replace.uuid]  # what lies around the running job is added by towline
    assert call(theirs.stop("stop_children")).stop_children
    assert call(theirs.stop("stop_jobflow")).stop_jobflow


def test_later_jobs_are_under_the_same_terms(tmp_path: Path) -> None:
    said = call(theirs.grow("detour", 1, "job"), root=str(tmp_path), folders=True, stores=["data"])
    (job,) = said.detour.jobs
    assert job.function_kwargs["terms"] == {"root": str(tmp_path), "folders": True, "stores": ["data"]}


def test_the_current_job_is_known_and_forgotten() -> None:
    said = call(theirs.who())
    assert said.output["document"]["output"] == ["who", 1, {}, {}, True]
    with pytest.raises(ValueError, match="oops"):
        call(theirs.fail("oops"))
    assert CURRENT_JOB.job is None


def test_what_is_no_input_is_fetched_from_the_run() -> None:
    one = theirs.add(1, 2)

    class Fetching(Running):
        def output_of(self, uuid: str, index: int = 0) -> Any:
            return wrapped({"uuid": uuid, "index": 1, "output": 42}, {}) if uuid == one.uuid else None

    with running(Fetching()):
        said = call(theirs.look_up(one.uuid))
    assert said.output["document"]["output"] == [42, 1, 1]


def test_pickles_are_refused_where_they_are_refused() -> None:
    class Strict(Running):
        @property
        def allow_pickle(self) -> bool:
            return False

    with running(Strict()), pytest.raises(UsageError, match="travel as pickles"):
        call(theirs.add(1, 2))


def test_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "new" / "root"
    name = call(theirs.write("a"), root=str(root), folders=True).output["document"]["output"]
    assert name.startswith("job_")
    call(theirs.add(1, 2), root=str(root), folders=True)
    with pytest.raises(ValueError, match="x"):
        call(theirs.fail("x"), root=str(root), folders=True)
    assert [folder.name for folder in root.iterdir()] == [name]
    call(theirs.write("b"), root=str(root))
    call(theirs.write("c"))
    assert [(root / name / "a").exists(), (root / "b").exists(), (tmp_path / "c").exists()] == [True] * 3
    assert Path.cwd() == tmp_path

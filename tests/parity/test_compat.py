"""`compat="jobflow"`: who says it, and whom it reaches. What it does to values, the programs of `values.py` show."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import towline
from tests.kit.samples import Plain, add, give
from towline import Flow, Job, Response, UsageError, job, run, run_locally


@job
def kind(value: Any, beside: Any = None) -> str:
    return type(beside).__name__


@job
def makes(value: Any) -> Any:
    first = add(value, 1)
    return Response(output=1, detour=Flow([first, kind(first.output, (1, 2))]))


def flow() -> tuple[Flow, Job]:
    first = add(1, 1)
    last = kind(first.output, (1, 2))
    return Flow([first, last]), last


def test_nobody_says_it(tmp_path: Path) -> None:
    made, last = flow()
    assert run(made, store=tmp_path / "s", local=True, progress=False).output(last) == "tuple"


def test_the_call_says_it(tmp_path: Path) -> None:
    made, last = flow()
    ran = run(made, store=tmp_path / "s", local=True, progress=False, compat="jobflow")
    assert ran.output(last) == "list"
    made, last = flow()
    assert run_locally(made, store=tmp_path / "t", log=False, compat="jobflow")[last.uuid][1].output == "list"


def test_the_environment_says_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOWLINE_COMPAT", "jobflow")
    made, last = flow()
    assert run_locally(made, store=tmp_path / "s", log=False)[last.uuid][1].output == "list"


def test_jobs_that_are_added_are_run_so_too(tmp_path: Path) -> None:
    ran = run(Flow([makes(1)]), store=tmp_path / "s", local=True, progress=False, compat="jobflow")
    (added,) = (info for info in ran.jobs() if info.name == "kind")
    assert ran.output(added) == "list"


def test_outputs_keep_their_types_in_the_store(tmp_path: Path) -> None:
    made = give((1, {2: 3}))
    assert run(made, store=tmp_path / "s", local=True, progress=False, compat="jobflow").output(made) == (1, {2: 3})


def test_what_jobflow_could_not_store_is_refused(tmp_path: Path) -> None:
    made = give(1)
    made.function_args = (Plain(1),)
    with pytest.raises(RuntimeError, match="Job output contained an object that is not MSONable"):
        run_locally(made, store=tmp_path / "s", log=False, compat="jobflow", raise_immediately=True)


def test_there_is_no_other(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="compat must be 'jobflow' or left out, not 'toil'"):
        run(add(1), store=tmp_path / "s", local=True, compat="toil")
    with pytest.raises(UsageError, match="compat must be 'jobflow'"):
        run_locally(add(1), store=tmp_path / "s", compat="toil")


def test_a_jobstore_may_be_given_for_the_documents(tmp_path: Path) -> None:
    made, last = flow()
    store = towline.JobStore(tmp_path / "s")
    assert run_locally(made, store=store, log=False)[last.uuid][1].output == "tuple"
    assert store.get_output(last.uuid) == "tuple"
    assert store.count({"name": "kind"}) == 1
    store.close()

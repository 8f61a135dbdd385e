"""Leased jobs are called as their authors meant, and what comes of them is put into words."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import numpy as np
import pytest

from tests.kit.inline import Inline, columns_of
from tests.kit.samples import AddMaker, Document, Plain, add, fail, give
from towline.actors.execute.python import Executor, Outcome
from towline.engine import codec, model
from towline.engine.authoring.current import CURRENT_JOB
from towline.engine.authoring.decorator import job
from towline.engine.authoring.flow import Flow
from towline.engine.authoring.job import Job
from towline.engine.authoring.response import Response
from towline.engine.errors import TowlineError
from towline.engine.ids import pack_uuid


def leased(executor: Executor, made: Job, **changes: Any) -> model.LeasedJob:
    """One job, ready to run."""
    columns = columns_of(made)
    executor.add_specs(list(enumerate(columns.chunk.specs)), columns.chunk.functions)
    given: dict[str, Any] = {"row": 0, "counter": 1, "spec": 0, "args": columns.args[0], "uuid": pack_uuid(made.uuid)}
    return model.LeasedJob(**given | changes)


def run(made: Job, *inputs: bytes | model.Input, **options: Any) -> Outcome:
    executor = Executor(lambda uuid, index: None, **options)
    return executor.run(leased(executor, made), inputs)


def test_a_plain_job_gives_its_value() -> None:
    assert run(add(1, b=2)) == Outcome(codec.encode(3))
    assert run(Job(max, ([1, 5],))) == Outcome(codec.encode(5))
    assert run(Job("-".join, (["a", "b"],))) == Outcome(codec.encode("a-b"))


@pytest.mark.parametrize("value", [None, (1, {2: "x"}), {1}, Document(energy=1), 2**80, Plain((1,)), Response])
def test_values_keep_their_types(value: Any) -> None:
    assert codec.decode(run(give(value)).output) == value


def test_inputs_are_put_where_their_references_were() -> None:
    one = add(1)
    made = give({"k": (one.output, [one.output.x])})
    outcome = run(made, codec.encode({"x": (1, 2)}))
    assert codec.decode(outcome.output) == {"k": ({"x": (1, 2)}, [(1, 2)])}


def test_methods_run_on_their_own_object() -> None:
    assert codec.decode(run(AddMaker(number=4).make(1)).output) == 5
    assert codec.decode(run(Job(Plain((1,)).get)).output) == (1,)
    assert codec.decode(run(Job(Plain.make, (3,))).output) == Plain(3)


def test_functions_by_value() -> None:
    k = 5

    @job
    def closure(a: int) -> int:
        return a + k

    assert codec.decode(run(closure(1)).output) == 6


def test_a_job_gets_copies_of_its_own() -> None:
    @job
    def spoil(value: list[int]) -> list[int]:
        value.append(1)
        return value

    executor = Executor(lambda uuid, index: None)
    made = leased(executor, spoil([]))
    parent = add(1)
    child = leased(executor, spoil(parent.output), spec=0)
    data = codec.encode([7])
    for _ in range(2):
        assert codec.decode(executor.run(made, []).output) == [1]
        assert codec.decode(executor.run(child, [data]).output) == [7, 1]


# ------------------------------------------------------------------------------------------------------ async


def test_async_bodies_run_to_their_end_and_leave_no_tasks() -> None:
    tasks = []

    @job
    async def body(a: int) -> int:
        tasks.append(asyncio.create_task(asyncio.sleep(3600)))
        await asyncio.sleep(0)
        assert CURRENT_JOB.job is not None
        return a + 1

    executor = Executor(lambda uuid, index: None)
    executor._functions.load = lambda record: body.original  # type: ignore[attr-defined,method-assign]  # not a copy: it must see `tasks`
    made = leased(executor, body(1))
    for _ in range(2):
        assert codec.decode(executor.run(made, []).output) == 2
    assert all(task.cancelled() for task in tasks)
    assert len(tasks) == 2


def test_async_bodies_in_several_threads() -> None:
    @job
    async def body(a: int) -> int:
        await asyncio.sleep(0)
        return a

    executor = Executor(lambda uuid, index: None)
    made = leased(executor, body(1))
    outcomes: list[Outcome] = []
    threads = [threading.Thread(target=lambda: outcomes.append(executor.run(made, []))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [codec.decode(outcome.output) for outcome in outcomes] == [1, 1, 1]


def test_an_async_failure() -> None:
    @job
    async def body() -> None:
        raise KeyError("x")

    failure = run(body()).failure
    assert failure is not None
    assert failure.message == "KeyError: 'x'"
    assert "asyncio" not in failure.traceback
    assert "in body" in failure.traceback


# ------------------------------------------------------------------------------------------------- CURRENT_JOB


def test_the_running_job_is_known_to_its_body() -> None:
    seen: list[Any] = []

    @job(metadata={"m": 1}, priority=3, data="key")
    def look(a: int, b: int) -> None:
        seen.append(CURRENT_JOB.job)

    executor = Executor(lambda uuid, index: None, store=lambda: "the store")
    executor._functions.load = lambda record: look.original  # type: ignore[attr-defined,method-assign]  # not a copy: it must see `seen`
    made = look(1, b=2)
    made.update_metadata({"n": 2})
    flow = Flow([made])
    executor.run(leased(executor, flow, index=3, uuid=pack_uuid(made.uuid)), [])
    (job_seen,) = seen
    assert (job_seen.uuid, job_seen.index, job_seen.name) == (made.uuid, 3, made.name)
    assert (job_seen.function_args, job_seen.function_kwargs) == ((1,), {"b": 2})
    assert (job_seen.metadata, job_seen.hosts) == ({"m": 1, "n": 2}, [flow.uuid])
    assert (job_seen.options.priority, job_seen._kwargs) == (3, {"data": "key"})
    assert job_seen.config == made.config
    assert CURRENT_JOB.job is None


def test_a_makers_job_knows_its_maker() -> None:
    seen: list[Any] = []
    executor = Executor(lambda uuid, index: None)

    def make(self: Any, a: int) -> None:
        seen.append(CURRENT_JOB.job)

    executor._functions.load = lambda record: make  # type: ignore[method-assign]  # it must see `seen`
    executor.run(leased(executor, AddMaker(number=7).make(1)), [])
    assert seen[0].maker == AddMaker(number=7)
    assert seen[0].function_args == (1,)


def test_the_store_is_shown_if_the_config_says_so() -> None:
    @job
    def look() -> Any:
        return CURRENT_JOB.store

    hidden, shown = look(), look()
    shown.config.expose_store = True
    assert codec.decode(run(hidden, store=lambda: "s").output) is None
    assert codec.decode(run(shown, store=lambda: "s").output) == "s"


def test_the_running_job_is_forgotten_when_a_body_raises() -> None:
    assert run(fail()).failure is not None
    assert CURRENT_JOB.job is None


# ---------------------------------------------------------------------------------------------------- outcomes


def test_responses_are_taken_apart() -> None:
    @job
    def respond() -> Any:
        return Response(output=(1,), stored_data={2: (3,)}, stop_children=True)

    outcome = run(respond())
    assert codec.decode(outcome.output) == (1,)
    assert codec.decode(outcome.stored_data) == {2: (3,)}
    assert outcome.growth == model.Growth(stop_children=True)


def test_schemas_are_applied() -> None:
    made = Job(give.original, ({"energy": 1},), output_schema=Document)  # type: ignore[attr-defined]  # a JobFunction
    assert codec.decode(run(made).output) == Document(energy=1)
    wrong = run(Job(give.original, (3,), output_schema=Document)).failure  # type: ignore[attr-defined]  # as above
    assert wrong is not None
    assert (wrong.kind, wrong.retry) == ("schema", False)
    assert wrong.message.endswith("Expected output to be Document or dict but got output type of int.")


def test_large_outputs_go_to_files_and_come_back() -> None:
    inline = Inline()
    big = give(np.arange(100_000))
    text = give("x" * 20_000)
    total = Job(len, (text.output,))
    part = give({"a": [big.output, big.output[5]]})
    inline.run(Flow([big, text, total, part]))
    assert len(inline.contents) == 3
    assert inline.output(total) == 20_000
    assert inline.output(part)["a"][1] == 5
    np.testing.assert_array_equal(inline.output(part)["a"][0], np.arange(100_000))


def test_without_a_place_for_files_a_large_output_is_the_machines_fault() -> None:
    with pytest.raises(TowlineError, match="no place for files"):
        run(give("x" * 20_000))


def test_an_output_without_encoding_is_a_failure_that_names_the_place() -> None:
    @job
    def locked() -> Any:
        return {"a": [1, threading.Lock()]}

    failure = run(locked()).failure
    assert failure is not None
    assert failure.message.startswith("EncodingError: output['a'][1] cannot be stored")
    assert failure.retry is False


def test_outputs_that_are_references_stay_references() -> None:
    one = add(1)

    @job
    def point() -> Any:
        return {"to": one.output.x}

    assert codec.decode(run(point()).output) == {"to": one.output.x}


def test_pickles_can_be_refused() -> None:
    failure = run(give(Plain(1)), allow_pickle=False).failure
    assert failure is not None
    assert "pickles are refused" in failure.message


# ----------------------------------------------------------------------------------------------- what goes wrong


def test_a_function_that_is_gone_is_not_found() -> None:
    executor = Executor(lambda uuid, index: None)
    made = leased(executor, add(1))
    executor._records = {key: model.Function(key, "no_such_module:f") for key in executor._records}
    failure = executor.run(made, []).failure
    assert failure is not None
    assert (failure.kind, failure.retry) == ("not_found", False)
    assert failure.message.startswith("ImportError: the function no_such_module:f of job 'add' cannot be loaded (Module")


def test_what_was_never_handed_over_is_the_machines_fault() -> None:
    executor = Executor(lambda uuid, index: None)
    made = leased(executor, add(1))
    executor._records.clear()
    with pytest.raises(TowlineError, match="never handed over"):
        executor.run(made, [])
    with pytest.raises(TowlineError, match="spec 9"):
        executor.run(leased(executor, add(1), spec=9), [])


def test_a_body_cannot_end_the_worker_but_an_interrupt_can() -> None:
    @job
    def leave() -> None:
        raise SystemExit(3)

    @job
    def interrupt() -> None:
        raise KeyboardInterrupt

    failure = run(leave()).failure
    assert failure is not None
    assert failure.message == "SystemExit: 3"
    with pytest.raises(KeyboardInterrupt):
        run(interrupt())
    assert CURRENT_JOB.job is None


def test_the_exception_itself_is_there_for_callers_in_this_process() -> None:
    error = run(fail("no")).error
    assert isinstance(error, ValueError)
    assert str(error) == "no"
    assert run(add(1)).error is None


def test_jobs_can_be_named_by_their_spec() -> None:
    executor = Executor(lambda uuid, index: None)
    assert executor.name_of(leased(executor, add(1)).spec) == "add"


def test_an_error_of_towlines_own_inside_a_body_is_the_jobs() -> None:
    @job
    def nested() -> None:
        raise TowlineError("mine")

    failure = run(nested()).failure
    assert failure is not None
    assert failure.message == "TowlineError: mine"

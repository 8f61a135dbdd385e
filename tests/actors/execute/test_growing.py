"""What a Response asks of the graph: heirs, hosts, updates, configs, by jobflow's rules."""

from __future__ import annotations

from typing import Any

import pytest

from tests.kit.inline import Columns, Inline
from tests.kit.samples import AddMaker, Box, Document, OuterMaker, PairMaker, add, fail, give
from towline.engine import codec
from towline.engine.authoring.config import JobConfig
from towline.engine.authoring.current import CURRENT_JOB
from towline.engine.authoring.decorator import job
from towline.engine.authoring.flow import Flow
from towline.engine.authoring.job import Job
from towline.engine.authoring.replacing import prepare_replace
from towline.engine.authoring.response import Response
from towline.engine.ids import NO_ROW


@job
def respond(make: Any) -> Any:
    """Does what the test says (the function arrives by value)."""
    return make()


def grown(made: Job, kind: str) -> Columns:
    """Run the one job, and look at what it adds."""
    outcome = Inline().run(Flow([made], uuid="flow")).outcomes[made.uuid, 1]
    assert outcome.failure is None, outcome.failure
    chunk = getattr(outcome.growth, kind)
    assert chunk is not None
    return Columns(chunk)


def test_a_job_in_place_of_a_job() -> None:
    made = respond(lambda: add(1, 2))
    child = add(made.output, 1)
    inline = Inline().run(Flow([made, child]))
    growth = inline.outcomes[made.uuid, 1].growth
    assert growth is not None
    assert growth.heir == 0
    columns = Columns(growth.replace)  # type: ignore[arg-type]  # it is there
    assert (columns.uuids, columns.indices) == ([made.uuid], [2])
    assert inline.output(child) == 4
    assert codec.decode(inline.outcomes[made.uuid, 1].output) is None


def test_replacement_inherits_metadata_and_schema() -> None:
    current = Job(len, uuid="u", index=4, metadata={"a": 1, "b": 1}, output_schema=Document)
    new = Job(len, metadata={"b": 2, "c": 2})
    flow = prepare_replace(new, current)
    assert (new.uuid, new.index, new.metadata, new.output_schema) == ("u", 5, {"a": 1, "b": 1, "c": 2}, Document)
    assert flow.output == new.output


@pytest.mark.parametrize(
    ("make", "value"),
    [
        (lambda a, b: [a, b], [3, 30]),
        (lambda a, b: (a, b), (3, 30)),
        (lambda a, b: {"x": a, "y": b}, {"x": 3, "y": 30}),
        (lambda a, b: Flow([a, b], output={"n": (b.output,)}), {"n": (30,)}),
        (lambda a, b: Response(replace=Flow([b, Flow([a], output=a.output)], output=a.output)), 3),
    ],
)
def test_a_flow_in_place_of_a_job(make: Any, value: Any) -> None:
    made = respond(lambda: make(add(1, 2), add(10, 20)))
    child = give(made.output)
    inline = Inline().run(Flow([made, child]))
    assert inline.output(child) == value
    columns = Columns(inline.outcomes[made.uuid, 1].growth.replace)  # type: ignore[union-attr,arg-type]  # it is there
    assert columns.uuids.count(made.uuid) == 1
    assert sorted(columns.indices) == [1, 1, 2]
    assert inline.outcomes[made.uuid, 1].growth.heir == columns.uuids.index(made.uuid)  # type: ignore[union-attr]  # as above


def test_a_flow_without_output_leaves_the_original_one() -> None:
    made = respond(lambda: Response(output=7, replace=Flow([add(1)])))
    child = give(made.output)
    inline = Inline().run(Flow([made, child]))
    assert inline.outcomes[made.uuid, 1].growth.heir == NO_ROW  # type: ignore[union-attr]  # it is there
    assert inline.output(child) == 7


def test_chained_replacements_count_up() -> None:
    @job
    def again(n: int) -> Any:
        return again(n - 1) if n else "done"

    made = again(3)
    inline = Inline().run(made)
    assert [index for uuid, index in inline.outcomes if uuid == made.uuid] == [1, 2, 3, 4]
    assert inline.output(made) == "done"


def test_an_error_inside_a_replacement_is_reported_there() -> None:
    made = respond(lambda: Flow([bad := fail("inner"), add(1)], output=bad.output))
    child = give(made.output)
    inline = Inline().run(Flow([made, child]))
    failures = [outcome.failure.message for outcome in inline.outcomes.values() if outcome.failure]
    assert failures == ["ValueError: inner"]
    assert made.uuid not in inline.outputs
    assert child.uuid not in inline.outputs


def test_makers_make_jobs_that_run() -> None:
    outer = OuterMaker(inner=AddMaker(number=5)).make(1)
    pair = respond(lambda: PairMaker().make(1))
    inline = Inline().run(Flow([outer, pair]))
    assert inline.output(outer) == 6
    assert inline.output(pair) == 21


def test_detours_and_additions_come_in_this_order() -> None:
    made = respond(
        lambda: Response(output=1, addition=Job(give.original, (3,), name="a"), detour=[Job(give.original, (2,), name="d")])  # type: ignore[attr-defined]  # JobFunctions
    )
    inline = Inline().run(made)
    growth = inline.outcomes[made.uuid, 1].growth
    assert growth is not None
    assert [chunk.specs[0].name for chunk in (growth.detour, growth.addition) if chunk] == ["d", "a"]
    assert growth.replace is None
    assert [inline.output(uuid) for uuid in inline.order] == [1, 2, 3]


def test_stops() -> None:
    stop = respond(lambda: Response(output=1, stop_children=True))
    child, other = give(stop.output), give(2)
    inline = Inline().run(Flow([stop, child, other]))
    assert child.uuid not in inline.outputs
    assert inline.output(other) == 2
    end = respond(lambda: Response(stop_jobflow=True))
    assert len(Inline().run(Flow([end, give(1)])).outcomes) == 1


@pytest.mark.parametrize("kind", ["replace", "detour", "addition"])
def test_new_jobs_learn_where_they_lie_and_what_to_pass_on(kind: str) -> None:
    def make() -> Any:
        return Response(**{kind: Flow([add(1), Flow([give(2)])], uuid="new")})

    made = respond(make)
    made.update_metadata({"seen": True}, name_filter="giv")
    made.update_config({"expose_store": True}, function_filter=add)
    made.append_name("!")
    columns = grown(made, kind)
    one, two = columns.chunk.specs
    assert (one.name, two.name) == ("add!", "give!")
    assert one.hosts == ["new", "flow"]
    assert two.hosts[1:] == ["new", "flow"]
    assert not one.metadata
    assert codec.decode(two.metadata) == {"seen": True}
    assert codec.decode(one.config)["expose_store"] is True
    assert "expose_store" not in codec.decode(two.config)
    for spec in (one, two):
        config = codec.decode(spec.config)
        assert [len(config[f"{what}_updates"]) for what in ("metadata", "config", "name")] == [1, 1, 1]


@pytest.mark.parametrize(
    ("config", "passed"),
    [
        (JobConfig(manager_config={"q": 1}), {"q": 1}),
        (JobConfig(manager_config={"q": 1}, pass_manager_config=False), None),
        (JobConfig(manager_config={"q": 1}, pass_manager_config=False, response_manager_config={"r": 2}), {"r": 2}),
    ],
)
def test_manager_configs_are_passed_on(config: JobConfig, passed: Any) -> None:
    made = respond(lambda: Response(detour=add(1)))
    made.config = config
    (spec,) = grown(made, "detour").chunk.specs
    assert (codec.decode(spec.config).get("manager") if spec.config else None) == passed


def test_an_heir_keeps_its_stores() -> None:
    made = Job(lambda: Flow([one := add(1)], output=one.output), data="key")
    columns = grown(made, "replace")
    heir = columns.chunk.specs[columns.spec_of[columns.uuids.index(made.uuid)]]
    assert codec.decode(bytes(heir.options.stores["data"])) == "key"


def test_new_jobs_may_refer_to_any_job_of_the_graph() -> None:
    one = add(1)

    @job
    def use(value: int) -> Any:
        return Response(output=5, addition=give([one.output, CURRENT_JOB.job.output]))  # type: ignore[union-attr]  # it runs

    made = use(one.output)
    inline = Inline().run(Flow([one, made]))
    assert inline.output(inline.order[-1]) == [6, 5]


def test_functions_by_value_keep_their_key_when_they_come_back() -> None:
    @job
    def again(n: int) -> Any:
        return Response(addition=Job(CURRENT_JOB.job.function, (0,))) if n else Box(n)  # type: ignore[union-attr]  # it runs

    made = again(1)
    inline = Inline().run(made)
    growth = inline.outcomes[made.uuid, 1].growth
    assert growth is not None
    assert growth.addition is not None
    (record,) = growth.addition.functions
    assert record is inline.executor._records[record.key]


def test_jobs_that_do_not_fit_together_are_a_failure() -> None:
    made = respond(_cycle)
    failure = Inline().run(made).failure(made)
    assert failure.message.startswith("SubmissionError: Job connectivity contains cycles")


def _cycle() -> Any:
    loop = add(1)
    loop.function_args = (loop.output,)
    return Response(detour=loop)

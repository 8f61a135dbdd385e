"""Flows: membership, hosts, outputs, order, arithmetic, and `@flow`."""

from __future__ import annotations

import operator
import warnings
from typing import Any

import pytest

from tests.kit.samples import AddMaker, PairMaker, add, give
from towline.engine.authoring.decorator import job
from towline.engine.authoring.flow import DecoratedFlow, Flow, JobOrder, flow, get_flow
from towline.engine.authoring.job import Job
from towline.engine.authoring.reference import OutputReference


def pair() -> tuple[Job, Job]:
    one = add(1)
    return one, add(one.output)


def test_defaults_are_those_of_jobflow() -> None:
    one, two = pair()
    made = Flow([one, two])
    assert (made.name, made.order, made.output, made.hosts, made.host) == ("Flow", JobOrder.AUTO, None, [], None)
    assert made.jobs == (one, two)
    assert list(made) == [one, two]
    assert (len(made), made[0], made[-1], made[0:1], one in made) == (2, one, two, (one,), True)
    assert Flow(one.__class__(len)).jobs[0].host is not None
    assert JobOrder.LINEAR == "linear"


def test_hosts_are_told_from_the_inside_out() -> None:
    one, two = pair()
    inner = Flow([one])
    middle = Flow([inner, two])
    outer = Flow([middle])
    assert one.hosts == [inner.uuid, middle.uuid, outer.uuid]
    assert two.hosts == [middle.uuid, outer.uuid]
    assert inner.hosts == [middle.uuid, outer.uuid]
    late = add(3)
    inner.add_jobs(late)
    assert late.hosts == one.hosts
    outer.add_hosts_uuids("world")
    assert one.hosts == [inner.uuid, middle.uuid, outer.uuid, "world"]
    outer.add_hosts_uuids(["first"], prepend=True)
    assert two.hosts[0] == "first"
    inner.add_hosts_uuids()
    assert one.hosts[-1] == inner.uuid


def test_neighbours_share_their_hosts_until_one_differs() -> None:
    one, two = pair()
    made = Flow([one, two])
    Flow([made])
    assert one._hosts is two._hosts
    one.hosts.append("x")
    assert "x" not in two.hosts


def test_uuids_of_all_and_of_jobs() -> None:
    one, two = pair()
    inner = Flow([one])
    outer = Flow([inner, two])
    assert outer.job_uuids == (one.uuid, two.uuid)
    assert outer.all_uuids == (one.uuid, inner.uuid, two.uuid)


def test_a_job_belongs_to_one_flow() -> None:
    one, _ = pair()
    made = Flow([one])
    with pytest.raises(ValueError, match=rf"Job add \({one.uuid}\) already belongs to another flow: {made.uuid}."):
        Flow([one])
    with pytest.raises(ValueError, match=rf"multiple jobs/flows with the same uuid \({one.uuid}\)"):
        made.add_jobs(one)
    twin = add(2)
    twin.set_uuid(one.uuid)
    with pytest.raises(ValueError, match="same uuid"):
        Flow([Flow([add(1)]), made]).add_jobs(twin)


def test_a_flow_cannot_contain_itself() -> None:
    inner = Flow([add(1)])
    outer = Flow([inner])
    with pytest.raises(ValueError, match=rf"circular dependency: Flow \({outer.uuid}\) contains the current Flow"):
        inner.add_jobs(outer)
    with pytest.raises(ValueError, match="circular dependency"):
        outer.add_jobs(outer)


def test_adding_one_by_one_is_linear() -> None:
    made = Flow([])
    seen = 0

    class Counting(set):  # type: ignore[type-arg]  # of uuids
        def update(self, *others: Any) -> None:
            nonlocal seen
            seen += sum(map(len, others))
            super().update(*others)

    made._known = Counting()
    for n in range(300):
        made.add_jobs(Flow([add(n)]))
    assert seen == 600  # the flow and its job
    assert len(made.job_uuids) == 300


def test_an_output_must_come_from_the_jobs() -> None:
    one, two = pair()
    assert Flow([one, two], output={"x": [two.output.y]}).output == {"x": [two.output.y]}
    with pytest.raises(ValueError, match="jobs array does not contain all jobs needed for flow output"):
        Flow([add(1)], output=OutputReference("elsewhere"))
    with pytest.warns(UserWarning, match="contains a Flow or Job as an output"):
        Flow([three := add(3)], output=three)


def test_what_is_refused_leaves_the_flow_as_it_was() -> None:
    one, two, inner = add(1), add(2), Flow([add(3)])
    made = Flow([one])
    twin = add(4)
    twin.set_uuid(two.uuid)
    for refused in ([two, inner, one], [two, inner, inner], [inner, two, twin]):
        with pytest.raises(ValueError, match="same uuid"):
            made.add_jobs(refused)
        assert list(made) == [one]
        assert (two.hosts, inner.hosts, inner.jobs[0].hosts) == ([], [], [inner.uuid])
    made.add_jobs([two, inner])
    assert (two.host, inner.host, len(made)) == (made.uuid, made.uuid, 3)


def test_members_can_be_removed_unless_the_output_needs_them() -> None:
    one, two = pair()
    three = add(3)
    made = Flow([one, Flow([two]), three], output=two.output)
    made.remove_jobs([0, 2])
    assert made.job_uuids == (two.uuid,)
    with pytest.raises(ValueError, match="referenced in the output"):
        made.remove_jobs(0)
    for bad in (1, -1):
        with pytest.raises(ValueError, match="Only indices between 0 and the number of the jobs are accepted"):
            made.remove_jobs(bad)


def test_members_can_be_set() -> None:
    one, two = pair()
    made = Flow([one])
    made[0] = two
    assert made.jobs == (two,)
    made[1:] = [one]
    assert made.jobs == (two, one)
    with pytest.raises(TypeError, match="Flow can only contain Job or Flow objects, not str"):
        made[0] = "x"


def test_flows_can_be_added_to_and_taken_from() -> None:
    one, two = pair()
    made = Flow([one])
    more = made + two
    assert more.job_uuids == (one.uuid, two.uuid)
    assert made.job_uuids == (one.uuid,)
    assert (more - two).job_uuids == (one.uuid,)
    more_still = more + [add(1)]  # noqa: RUF005 - the operator is the test
    assert more_still.jobs[0].uuid == one.uuid
    with pytest.raises(ValueError, match="not found in flow"):
        made - add(5)
    with pytest.raises(TypeError):
        operator.add(made, 5)


def test_equality_is_by_uuid() -> None:
    assert Flow([], uuid="a") == Flow([], uuid="a", name="x")
    assert Flow([]) != Flow([])
    assert len({Flow([], uuid="a"), Flow([], uuid="a")}) == 1
    assert Flow([]) != 5


def test_a_flow_shows_its_members() -> None:
    one, two = pair()
    made = Flow([one, Flow([two], name="in", uuid="i")], name="out", uuid="o")
    assert repr(made).splitlines() == [
        "Flow(name='out', uuid='o')",
        f"1. Job(name='add', uuid='{one.uuid}')",
        "2. Flow(name='in', uuid='i')",
        f"  2.1. Job(name='add', uuid='{two.uuid}')",
    ]


def test_iterflow_gives_parents_first() -> None:
    one, two = pair()
    assert list(Flow([two, one]).iterflow()) == [(one, []), (two, [one.uuid])]
    loop = add(1)
    loop.function_args = (loop.output,)
    with pytest.raises(ValueError, match="Job connectivity contains cycles"):
        list(Flow([loop]).iterflow())


def test_updates_reach_all_jobs() -> None:
    one, two = pair()
    made = Flow([one, Flow([two, AddMaker().make(1)])])
    made.update_kwargs({"b": 2}, function_filter=add)
    made.update_maker_kwargs({"number": 3})
    made.append_name("!")
    made.update_metadata({"t": 1}, name_filter="add")
    made.update_config({"expose_store": True})
    third = list(made.walk())[-1]
    assert isinstance(third, Job)
    assert (one.function_kwargs, two.function_kwargs, third.function_kwargs) == ({"b": 2}, {"b": 2}, {})
    assert third.maker.number == 3  # type: ignore[union-attr]  # an AddMaker
    assert [member.name for member in made.walk()] == ["add!", "Flow!", "add!", "add!"]
    assert (made.name, made.metadata, made.metadata_updates[0]["update"]) == ("Flow!", {"t": 1}, {"t": 1})
    assert all(j.metadata == {"t": 1} and j.config.expose_store for j in made.walk() if isinstance(j, Job))
    made.update_metadata({"u": 1}, callback_filter=lambda member: isinstance(member, Job), dynamic=False)
    assert made.metadata == {"t": 1}
    assert one.metadata == {"t": 1, "u": 1}


def test_get_flow_makes_a_flow_and_checks_it() -> None:
    one, two = pair()
    assert get_flow([one, two]).jobs == (one, two)
    made = Flow([add(1)])
    assert get_flow(made) is made
    with pytest.raises(ValueError, match="The following jobs were not found in the jobs array"):
        get_flow(add(OutputReference("x")))
    assert len(get_flow(add(OutputReference("x")), allow_external_references=True)) == 1


def test_a_flow_function_collects_its_jobs() -> None:
    @flow
    def work(a: int) -> Any:
        one = add(a)
        inner = Flow([give(1)])
        two = add(one)
        return {"x": [two], "n": inner.jobs[0].output}

    made = work(1)
    assert isinstance(made, DecoratedFlow)
    assert made.name.endswith("work")
    assert [type(member) for member in made] == [Job, Flow, Job]
    one, inner, two = made
    assert two.function_args == (one.output,)  # type: ignore[union-attr]  # Jobs
    assert made.output == {"x": [two.output], "n": inner.jobs[0].output}  # type: ignore[union-attr]  # a Flow
    assert add(1).host is None


def test_a_flow_function_that_makes_a_maker_bears_its_name() -> None:
    class Decorated(PairMaker):
        @flow
        def make(self, a: int) -> Any:
            return self.inner.make(a).output

    assert Decorated(name="mine").make(1).name == "mine"


def test_a_flow_function_that_raises_leaves_nothing_behind() -> None:
    @flow
    def broken() -> None:
        raise KeyError("x")

    with pytest.raises(KeyError):
        broken()
    made = Flow([add(1)])
    assert made.host is None


def test_no_warnings_where_nothing_is_wrong() -> None:
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        one, two = pair()
        Flow([one, two], output=[two.output])
        assert said == []
        Flow([add(1)], output=[one])  # so that silence above means something
        assert len(said) == 1


def test_methods_under_job_work_in_flows() -> None:
    class Local:
        @job
        def work(self, a: int) -> int:
            return a

    assert [name for name, _ in ((made.name, parents) for made, parents in Flow([Local().work(1)]).iterflow())]


def test_adding_is_linear_in_what_is_added(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted, not timed: each member is looked at a fixed number of times, however many there are already."""
    looked = [0]
    check = Flow._check

    def counted(self: Flow, member: Any, *known: set[str]) -> None:
        looked[0] += 1
        check(self, member, *known)

    monkeypatch.setattr(Flow, "_check", counted)
    monkeypatch.setattr(Flow, "all_uuids", property(lambda self: pytest.fail("all members were walked")))
    flow = Flow([])
    for _ in range(500):
        flow.add_jobs(add(1))
    assert looked == [500]


@pytest.mark.parametrize(
    ("given", "hint"),
    [
        (add, r"JobFunction is neither; call it: add\(\.\.\.\)"),
        ([add], r"JobFunction is neither; call it: add\(\.\.\.\)"),
        (3, "int is neither$"),
        ([add(1).output], "OutputReference is neither; hand in the job itself"),
    ],
)
def test_what_is_no_job_is_refused(given: Any, hint: str) -> None:
    with pytest.raises(TypeError, match="a flow is made of Jobs and Flows, and " + hint):
        Flow(given)

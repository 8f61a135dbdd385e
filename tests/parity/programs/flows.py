"""Programs about flows: membership, output, order, graph, operators (facts 13 and 16)."""

import json

from jobflow import Flow, Job, JobOrder, Maker, OutputReference, flow, job
from jobflow.core.flow import DecoratedFlow, flow_build_context, get_flow


@job
def add(a, b=5):
    return a + b


@job
def give(value):
    return value


def edges_of(graph):
    return sorted((a, b, str(data["properties"])) for a, b, data in graph.edges(data=True))


def flow_defaults(run):
    made = Flow([])
    return [made.name, made.order, made.hosts, made.host, made.output, made.jobs, made.metadata, made.metadata_updates, len(made)]


def one_job_is_enough(run):
    return len(Flow(add(1)).jobs)


def flow_arguments(run):
    made = Flow([add(1)], None, "name", JobOrder.LINEAR, "u", ["h"], {"m": 1}, [{"update": {}}])
    return [made.name, made.order, made.uuid, made.hosts, made.metadata, made.jobs[0].hosts]


def job_of_another_flow(run):
    one = add(1)
    Flow([one], uuid="f", name="F")
    Flow([one])


def flow_of_another_flow(run):
    inner = Flow([add(1)], name="inner")
    Flow([inner])
    Flow([inner])


def duplicate_job(run):
    one = add(1)
    Flow([one, one])


def duplicate_uuid_in_nested_flow(run):
    Flow([Flow([Job(len, uuid="u")]), Job(len, uuid="u")])


def circular_flow(run):
    inner = Flow([add(1)], uuid="in")
    outer = Flow([inner], uuid="out")
    inner.add_jobs(outer)


def output_of_a_missing_job(run):
    Flow([add(1)], output=add(2).output)


def output_set_later(run):
    one = add(1)
    made = Flow([one])
    made.output = {"a": [one.output]}
    return made.output


def output_set_to_a_missing_job(run):
    Flow([add(1)]).output = OutputReference("lost")


def job_as_output_warns(run):
    one = add(1)
    return Flow([one], output=one).name


def job_as_argument_warns(run):
    return add(add(1)).name


def job_deep_in_an_argument_warns(run):
    return give({"a": [add(1)]}).name


def flow_equality_is_uuid(run):
    one = Flow([], uuid="a")
    return [one == Flow([], uuid="a", name="other"), Flow([]) == Flow([]), one == 5, hash(one) == hash("a")]


def job_equality(run):
    one, same, other = Job(len, uuid="u"), Job(len, uuid="u"), Job(len, uuid="u", name="other")
    return [one == same, one == other, one == 5, hash(one) == hash(same)]


def hosts_of_nested_flows(run):
    one, two = add(1), add(2)
    inner = Flow([one], uuid="in")
    outer = Flow([inner, two], uuid="out")
    return [one.hosts, two.hosts, inner.hosts, outer.hosts, one.host, outer.host]


def hosts_of_later_members(run):
    inner = Flow([], uuid="in")
    Flow([inner], uuid="out")
    one = add(1)
    inner.add_jobs(one)
    return one.hosts


def adds_hosts(run):
    one = add(1)
    made = Flow([one], uuid="f")
    made.add_hosts_uuids("x")
    made.add_hosts_uuids(["y", "z"], prepend=True)
    one.add_hosts_uuids("w")
    made.add_hosts_uuids()
    return [one.hosts, made.hosts]


def all_uuids_and_job_uuids(run):
    inner = Flow([Job(len, uuid="a"), Job(len, uuid="b")], uuid="in")
    outer = Flow([inner, Job(len, uuid="c")], uuid="out")
    return [outer.job_uuids, outer.all_uuids, inner.all_uuids]


def add_jobs_later(run):
    made = Flow([add(1)])
    made.add_jobs(add(2))
    made.add_jobs([add(3), Flow([add(4)])])
    return [len(made), len(made.job_uuids)]


def add_jobs_twice(run):
    one = add(1)
    made = Flow([one])
    made.add_jobs(one)


def remove_jobs(run):
    made = Flow([add(1), add(2), add(3)])
    made.remove_jobs(1)
    made.remove_jobs([0])
    return [job.function_args for job in made.jobs]


def remove_jobs_out_of_range(run):
    Flow([add(1)]).remove_jobs(1)


def remove_jobs_negative(run):
    Flow([add(1)]).remove_jobs([-1])


def remove_jobs_of_the_output(run):
    one = add(1)
    Flow([one], output=one.output).remove_jobs(0)


def items_and_slices(run):
    made = Flow([add(1), add(2), add(3)])
    return [made[0].function_args, [job.function_args for job in made[1:]], made[-1] in made, add(1) in made, len(list(made))]


def set_item(run):
    made = Flow([add(1), add(2)])
    made[0] = add(7)
    made[1:] = [add(8), add(9)]
    return [job.function_args for job in made]


def set_item_refuses(run):
    Flow([add(1)])[0] = 5


def set_items_refuses(run):
    Flow([add(1)])[0] = [add(1), 5]


def plus(run):
    made = Flow([add(1)], uuid="f")
    more = made + add(2)
    most = more + [add(3), add(4)]  # noqa: RUF005 - a flow, not a list
    return [len(made), len(more), len(most), most.uuid]


def plus_refuses(run):
    return Flow([add(1)]) + 5


def minus(run):
    one, two = add(1), add(2)
    made = Flow([one, two])
    return [len(made - one), len(made), (made - one)[0].function_args]


def minus_refuses(run):
    return Flow([], name="f", uuid="u") - Job(len, uuid="j", name="n")


def shown_as_text(run):
    inner = Flow([Job(len, uuid="a", name="n")], uuid="in", name="inner")
    return repr(Flow([inner, Job(len, uuid="b", name="m")], uuid="out"))


def job_shown_as_text(run):
    return repr(Job(len, uuid="a", name="n"))


def linear_order(run):
    return Flow([add(1), add(2), add(3)], order=JobOrder.LINEAR)


def linear_edges(run):
    made = Flow([Job(len, uuid=name) for name in "abc"], order=JobOrder.LINEAR)
    return edges_of(made.graph)


def linear_edges_of_nested_flows(run):
    one, two = (Flow([Job(len, uuid=f"{side}{n}") for n in range(2)]) for side in "xy")
    return edges_of(Flow([one, two, Job(len, uuid="z")], order=JobOrder.LINEAR).graph)


def linear_inside_auto(run):
    inner = Flow([Job(len, uuid="a"), Job(len, uuid="b")], order="linear")
    return edges_of(Flow([inner, Job(len, ([OutputReference("b")],), uuid="c")]).graph)


def graph_of_a_flow(run):
    a = Job(len, uuid="a", name="first")
    b = Job(len, (a.output["k"], a.output.x), uuid="b")
    c = Job(len, (a.output, b.output.y), uuid="c")
    graph = Flow([a, b, c]).graph
    nodes = sorted((name, data["label"], data["job"].uuid) for name, data in graph.nodes(data=True))
    shown = sorted((x, y, sorted(p) if isinstance(p, list) else p) for x, y, p in graph.edges(data="properties"))
    return [nodes, shown]


def graph_of_a_job(run):
    graph = Job(len, (OutputReference("a")["k"],), uuid="b", name="n").graph
    return [edges_of(graph), graph.nodes["b"]["label"], sorted(graph.nodes)]


def graph_with_external_jobs(run):
    graph = Flow([Job(len, (OutputReference("a"),), uuid="b")]).graph
    return sorted((name, data["label"]) for name, data in graph.nodes(data=True))


def iterates_parents_first(run):
    a, c = Job(len, uuid="a"), Job(len, uuid="c")
    b = Job(len, (c.output,), uuid="b")
    c.function_args = (a.output,)
    return [(job.uuid, parents) for job, parents in Flow([b, c, a]).iterflow()]


def iterates_linear(run):
    return [(job.uuid, parents) for job, parents in Flow([Job(len, uuid=n) for n in "abc"], order=JobOrder.LINEAR).iterflow()]


def iterates_without_external_parents(run):
    return [(job.uuid, parents) for job, parents in Flow([Job(len, (OutputReference("x"),), uuid="a")]).iterflow()]


def cycle_is_refused(run):
    a, b = Job(len, uuid="a"), Job(len, uuid="b")
    a.function_args, b.function_args = (b.output,), (a.output,)
    return list(Flow([a, b]).iterflow())


def cycle_does_not_run(run):
    a, b = Job(len, uuid="a"), Job(len, uuid="b")
    a.function_args, b.function_args = (b.output,), (a.output,)
    return run(Flow([a, b]))


def cycle_by_linear_order(run):
    a, b = Job(len, uuid="a"), Job(len, uuid="b")
    a.function_args = (b.output,)
    return list(Flow([a, b], order=JobOrder.LINEAR).iterflow())


def gets_a_flow_of_a_job(run):
    made = get_flow(add(1))
    return [type(made).__name__, len(made), get_flow(made) is made, len(get_flow([add(1), add(2)]))]


def get_flow_refuses_missing_jobs(run):
    get_flow(Flow([add(OutputReference("lost"))]))


def get_flow_allows_external_jobs(run):
    return len(get_flow(Flow([add(OutputReference("lost"))]), allow_external_references=True))


def decorated_flow(run):
    @flow
    def build(n):
        first = add(n, 1)
        second = add(first.output, 2)
        return second.output

    made = build(5)
    return [made.name.rpartition(".")[2], isinstance(made, (DecoratedFlow, Flow)), len(made), made.args, made.kwargs, made]


def decorated_flow_runs(run):
    @flow
    def build(n):
        return add(add(n, 1).output, 2).output

    return build(5)


def decorated_flow_takes_jobs_as_arguments(run):
    @flow
    def build(n):
        first = add(n, 1)
        return add(first, 2)

    return build(5)


def decorated_flow_with_structure(run):
    @flow
    def build():
        return {"a": add(1, 1), "b": [add(2, 2).output]}

    return build()


def decorated_flow_with_inner_flow(run):
    @flow
    def build():
        first = add(1, 1)
        inner = Flow([first], output=first.output)
        return give(inner.output).output

    made = build()
    return [len(made), len(made.job_uuids), run(made)]


def decorated_flow_inside_another(run):
    @flow
    def inner(n):
        return add(n, 1).output

    @flow
    def outer():
        first = inner(1)
        return add(first.output, 10).output

    return outer()


def decorated_flow_of_a_maker(run):
    class Builder(Maker):
        name = "builder"

        @flow
        def make(self, n):
            return add(n, 1).output

    return Builder().make(1).name


def collects_jobs(run):
    made = []
    with flow_build_context(made):
        add(1)
        Flow([add(2)])
    add(3)
    return len(made)


def job_order_is_text(run):
    return [JobOrder.LINEAR == "linear", str(JobOrder.AUTO), JobOrder("auto") == JobOrder.AUTO, JobOrder.AUTO.as_dict()]


def flow_as_dict(run):
    one = add(1, 2)
    return json.loads(json.dumps(Flow([one, add(one.output, 3)], output=one.output, name="n", metadata={"a": 1}).as_dict()))


def flow_from_dict(run):
    one = add(1, 2)
    made = Flow([one, add(one.output, 3)], output=one.output, name="n")
    again = Flow.from_dict(made.as_dict())
    return [again == made, again.name, again.job_uuids == made.job_uuids, run(again)]

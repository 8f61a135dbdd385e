"""Programs about what a job may return, and what follows from it (facts 6 to 10)."""

from jobflow import CURRENT_JOB, Flow, Job, JobConfig, JobOrder, Response, job
from jobflow.core.job import apply_schema, pass_manager_config, prepare_replace, store_inputs
from pydantic import BaseModel


class Model(BaseModel):
    n: int


class Other(BaseModel):
    n: int


@job
def add(a, b=5):
    return a + b


@job
def give(value):
    return value


@job
def fail():
    raise ValueError("no")


@job
def look():
    current = CURRENT_JOB.job
    return {"name": current.name, "index": current.index, "metadata": current.metadata, "hosts": current.hosts,
            "manager": current.config.manager_config}  # fmt: skip


@job
def returns_job():
    return add(1, 2)


@job
def returns_list():
    return [add(1, 2), add(3, 4)]


@job
def returns_tuple():
    return add(1, 2), add(3, 4)


@job
def returns_dict():
    return {"x": add(1, 2), "y": add(3, 4)}


@job
def returns_flow():
    first = add(1, 2)
    second = add(first.output, 10)
    return Flow([first, second], output=second.output)


@job
def returns_flow_without_output():
    return Response(output="original", replace=Flow([add(1, 2)]))


@job
def detours():
    return Response(output=1, detour=add(5, 6))


@job
def adds():
    return Response(output=1, addition=add(5, 6))


@job
def counts_down(n):
    return Response(output=n, replace=counts_down(n - 1)) if n else "done"


@job(output_schema=Model)
def modelled(value):
    return value


def job_replaces(run):
    first = returns_job()
    return Flow([first, add(first.output, 1)])


def list_replaces(run):
    first = returns_list()
    return Flow([first, give(first.output)])


def tuple_replaces(run):
    first = returns_tuple()
    return Flow([first, give(first.output[1])])


def dict_replaces(run):
    first = returns_dict()
    return Flow([first, add(first.output["x"], first.output["y"])])


def flow_replaces(run):
    first = returns_flow()
    return Flow([first, add(first.output, 1)])


def flow_without_output_replaces(run):
    first = returns_flow_without_output()
    return Flow([first, give(first.output)])


def empty_containers_are_values(run):
    return Flow([give([]), give({}), give(())])


def mixed_list_is_no_replacement(run):
    result = Response.from_job_returns([1, "a"])
    return [result.output, result.replace]


def response_in_a_list(run):
    return Response.from_job_returns([Response(output=1)])


def response_in_a_dict(run):
    return Response.from_job_returns({"a": Response(output=1)})


def response_in_a_container_fails_the_job(run):
    @job
    def wrong():
        return [Response(output=1), 2]

    return run(Flow([wrong()]), raise_immediately=True)


def from_job_returns_replaces(run):
    result = Response.from_job_returns(add(1, 2))
    return [result.output, result.replace.name]


def from_job_returns_keeps_a_response(run):
    given = Response(output=1, stored_data={"a": 1})
    return [Response.from_job_returns(given) is given, given]


def response_defaults(run):
    return vars(Response())


def response_equality(run):
    return [Response(output=1) == Response(output=1), Response(output=1) == Response(output=2)]


def replaced_job_keeps_uuid(run):
    first = counts_down(0)
    return Flow([first])


def chained_replaces(run):
    first = counts_down(3)
    return Flow([first, give(first.output)])


def metadata_is_merged_into_the_replacement(run):
    @job
    def replaces():
        new = look()
        new.metadata = {"a": "new", "b": "new"}
        return Response(replace=new)

    first = replaces()
    first.metadata = {"a": "old", "c": "old"}
    return Flow([first])


def metadata_of_a_replacing_flow(run):
    @job
    def replaces():
        new = look()
        return Flow([new], output=new.output)

    first = replaces()
    first.metadata = {"a": "old"}
    return Flow([first])


def schema_is_inherited_by_the_replacement(run):
    @job(output_schema=Model)
    def replaces():
        return Response(replace=give({"n": 3}))

    first = replaces()
    return Flow([first, give(first.output.n)])


def schema_of_the_replacement_stays(run):
    @job(output_schema=Model)
    def replaces():
        new = give({"n": 3})
        new.output_schema = Other
        return Response(replace=new)

    return Flow([replaces()])


def hosts_of_new_jobs(run):
    @job
    def replaces():
        new = look()
        return Response(replace=Flow([new], output=new.output), detour=look(), addition=[look()])

    inner = Flow([replaces()], name="inner")
    return Flow([inner], name="outer")


def replace_detour_and_addition(run):
    @job
    def all_three():
        return Response(output=0, replace=add(1, 1), detour=add(2, 2), addition=add(3, 3))

    first = all_three()
    return Flow([first, give(first.output)])


def detour_runs(run):
    first = detours()
    return Flow([first, add(first.output, 1)])


def addition_runs(run):
    first = adds()
    return Flow([first, add(first.output, 1)])


def addition_of_a_list(run):
    @job
    def many():
        return Response(addition=[add(1, 1), add(2, 2)])

    return Flow([many()])


def detour_of_a_flow(run):
    @job
    def many():
        first = add(1, 1)
        return Response(output="x", detour=Flow([first, add(first.output, 1)]))

    return Flow([many()])


def new_jobs_make_new_jobs(run):
    @job
    def outer():
        return Response(output=1, addition=detours())

    return Flow([outer()])


def metadata_updates_reach_new_jobs(run):
    @job
    def all_three():
        return Response(replace=look(), detour=look(), addition=look())

    first = all_three()
    first.update_metadata({"tag": 1})
    return Flow([first])


def metadata_updates_with_filter_reach_new_jobs(run):
    @job
    def makes():
        return Response(detour=[look(), add(1, 2)])

    first = makes()
    first.update_metadata({"tag": 1}, name_filter="look")
    return Flow([first])


def metadata_updates_not_dynamic(run):
    @job
    def makes():
        return Response(detour=look())

    first = makes()
    first.update_metadata({"tag": 1}, dynamic=False)
    return Flow([first])


def metadata_updates_go_on(run):
    @job
    def makes(n):
        return Response(detour=makes(n - 1)) if n else CURRENT_JOB.job.metadata

    first = makes(2)
    first.update_metadata({"tag": 1})
    return Flow([first])


def config_updates_reach_new_jobs(run):
    @job
    def makes():
        return Response(replace=look(), detour=look(), addition=look())

    first = makes()
    first.update_config({"manager_config": {"w": 1}})
    return Flow([first])


def config_updates_with_attributes(run):
    @job
    def makes():
        return Response(detour=look())

    first = makes()
    first.config.pass_manager_config = False
    first.update_config(JobConfig(manager_config={"w": 1}, expose_store=True), attributes="manager_config")
    return Flow([first])


def name_updates_reach_new_jobs(run):
    @job
    def makes():
        new = look()
        return Response(replace=Flow([new], output=new.output), detour=look(), addition=look())

    first = makes()
    first.append_name(" x")
    first.append_name("y ", prepend=True)
    return Flow([first])


def name_updates_not_dynamic(run):
    @job
    def makes():
        return Response(detour=look())

    first = makes()
    first.append_name(" x", dynamic=False)
    return Flow([first])


def manager_config_is_passed(run):
    @job
    def makes():
        return Response(replace=look(), detour=look(), addition=look())

    first = makes()
    first.config.manager_config = {"w": 1}
    return Flow([first])


def manager_config_is_not_passed(run):
    @job
    def makes():
        return Response(replace=look(), detour=look())

    first = makes()
    first.config = JobConfig(manager_config={"w": 1}, pass_manager_config=False)
    return Flow([first])


def response_manager_config_wins(run):
    @job
    def makes():
        return Response(replace=look(), detour=look())

    first = makes()
    first.config = JobConfig(manager_config={"w": 1}, pass_manager_config=False, response_manager_config={"v": 2})
    return Flow([first])


def stop_children(run):
    @job
    def stops():
        return Response(output=1, stop_children=True)

    first = stops()
    child = add(first.output, 1)
    return Flow([first, child, add(child.output, 1), add(7, 7)])


def stop_children_runs_its_detour(run):
    @job
    def stops():
        return Response(output=1, stop_children=True, detour=add(1, 1))

    first = stops()
    return Flow([first, add(first.output, 1)])


def stop_children_of_a_linear_flow(run):
    @job
    def stops():
        return Response(output=1, stop_children=True)

    return Flow([stops(), add(1, 1), add(2, 2)], order=JobOrder.LINEAR)


def stop_jobflow(run):
    @job
    def stops():
        return Response(output=1, stop_jobflow=True)

    return Flow([add(1, 1), stops(), add(2, 2), add(3, 3)], order=JobOrder.LINEAR)


def stop_jobflow_skips_its_detour(run):
    @job
    def stops():
        return Response(output=1, stop_jobflow=True, detour=add(1, 1))

    return Flow([stops()])


def stored_data_is_told(run):
    @job
    def stores():
        return Response(output=1, stored_data={"a": [1, 2]})

    return Flow([stores()])


def output_is_schema(run):
    return Flow([modelled({"n": 1}), modelled(Model(n=2))])


def schema_refuses_other_types(run):
    return run(Flow([modelled(1)]), raise_immediately=True)


def schema_refuses_nothing(run):
    return run(Flow([modelled(None)]), raise_immediately=True)


def schema_is_not_asked_when_replaced(run):
    @job(output_schema=Model)
    def replaces():
        return Response(output="no model", replace=give({"n": 1}))

    return Flow([replaces()])


def schema_of_a_response(run):
    @job(output_schema=Model)
    def responds():
        return Response(output={"n": 4})

    return Flow([responds()])


def apply_schema_makes_models(run):
    return [apply_schema({"n": 1}, Model).n, apply_schema(5, None), apply_schema(Model(n=2), Model).n]


def apply_schema_refuses(run):
    return apply_schema([1], Model)


def apply_schema_refuses_nothing(run):
    return apply_schema(None, Model)


def prepares_a_job(run):
    current = Job(len, uuid="u", index=4, metadata={"a": 1, "b": 1}, output_schema=Model)
    flow = prepare_replace(add(1, 2), current)
    (new,) = flow.jobs
    return [new.uuid, new.index, new.metadata, new.output_schema.__name__, flow.output.uuid, flow.name]


def prepares_a_flow(run):
    current = Job(len, uuid="u", index=4, metadata={"a": 1})
    inner = add(1, 2)
    flow = prepare_replace(Flow([inner], output=inner.output), current)
    new = flow.jobs[-1]
    told = [len(flow.jobs), new.name, new.uuid, new.index, new.metadata]
    return [*told, new.function_args[0].uuid == inner.uuid, new.host == flow.uuid]


def prepares_a_flow_without_output(run):
    return len(prepare_replace(Flow([add(1, 2)]), Job(len)).jobs)


def prepares_lists_tuples_and_dicts(run):
    made = [prepare_replace(kind, Job(len, uuid="u")) for kind in ([add(1), add(2)], (add(1), add(2)), {"x": add(1)})]
    return [[len(flow.jobs), type(flow.output).__name__] for flow in made]


def passes_manager_config(run):
    one, two, three = add(1), add(2), add(3)
    pass_manager_config([one, Flow([two]), [three]], {"w": 1})
    return [job.config.manager_config for job in (one, two, three)]


def passes_manager_config_refuses(run):
    pass_manager_config(5, {"w": 1})


def stores_inputs(run):
    return Flow([store_inputs({"a": 1})])

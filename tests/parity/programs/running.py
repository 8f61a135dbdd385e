"""Programs about run_locally: options, failures, order (facts 11 and 12)."""

from jobflow import Flow, JobOrder, Response, job
from jobflow.managers.local import run_locally


@job
def add(a, b=5):
    return a + b


@job
def give(value):
    return value


@job
def fail(text="no"):
    raise ValueError(text)


@job
def where():
    import os

    return os.getcwd()


def returns_responses_by_uuid_and_index(run):
    one = add(1, 2)
    responses = run(Flow([one]))
    return [list(responses) == [one.uuid], list(responses[one.uuid]), type(responses[one.uuid][1]).__name__, responses]


def runs_a_single_job(run):
    return run(add(1, 2))


def runs_a_list(run):
    return run([add(1, 2), add(3, 4)])


def runs_nothing(run):
    return run([give(None)])


def failed_jobs_are_absent(run):
    return run([fail(), add(1, 2)])


def failures_do_not_stop_others(run):
    return run(Flow([add(1, 1), fail(), add(2, 2)]))


def linear_flow_behind_a_failure(run):
    return run(Flow([fail(), add(1, 1), add(2, 2)], order=JobOrder.LINEAR))


def success_is_insisted_on(run):
    return run([fail(), add(1, 2)], ensure_success=True)


def success_was_had(run):
    return run([add(1, 2)], ensure_success=True)


def success_after_a_stop(run):
    @job
    def stops():
        return Response(output=1, stop_children=True)

    first = stops()
    return run(Flow([first, add(first.output)]), ensure_success=True)


def success_of_a_failing_replacement(run):
    @job
    def replaces():
        return fail()

    return run(Flow([replaces()]), ensure_success=True)


def success_of_a_failing_detour(run):
    @job
    def makes():
        return Response(output=1, detour=fail())

    return run(Flow([makes()]), ensure_success=True)


def first_exception_is_let_out(run):
    return run([add(1, 2), fail("first"), fail("second")], raise_immediately=True)


def raise_immediately_without_failure(run):
    return run([add(1, 2)], raise_immediately=True)


def failing_replacement(run):
    @job
    def replaces():
        return fail()

    first = replaces()
    return run(Flow([first, give(first.output)]))


def failing_detour(run):
    @job
    def makes():
        return Response(output=1, detour=fail())

    first = makes()
    return run(Flow([first, give(first.output)]))


def failing_addition(run):
    @job
    def makes():
        return Response(output=1, addition=fail())

    first = makes()
    return run(Flow([first, give(first.output)]))


def error_of_unstorable_kind(run):
    class Odd(Exception):
        def __init__(self, one, two):
            super().__init__(f"{one} and {two}")

    @job
    def odd():
        raise Odd(1, 2)

    return run(odd(), raise_immediately=True)


def folders(run):
    import re
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as place:
        root = Path(place).resolve()
        responses = run([where(), where()], create_folders=True, root_dir=place)
        found = [(Path(r.output), r.job_dir) for indices in responses.values() for r in indices.values()]
        name = re.compile(r"job_\d{4}-\d\d-\d\d-\d\d-\d\d-\d\d-\d{6}-\d{5}")
        told = [[path.parent == root, path == given, bool(name.fullmatch(path.name))] for path, given in found]
        return [told, len(list(root.iterdir()))]


def root_folder(run):
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as place:
        (indices,) = run(where(), root_dir=place + "/new").values()
        return [indices[1].output == str(Path(place).resolve() / "new"), str(indices[1].job_dir) == indices[1].output]


def folder_of_the_caller(run):
    from pathlib import Path

    (indices,) = run(where()).values()
    return [indices[1].output == str(Path.cwd()), indices[1].job_dir == Path.cwd()]


def works_where_it_was_called(run):
    import os

    before = os.getcwd()
    run([where(), fail()], create_folders=True, root_dir=before + "/somewhere")
    return os.getcwd() == before


def external_references_are_refused(run):
    return run(add(add(1).output))


def is_run_locally(run):
    return run_locally.__name__


def wide_and_deep(run):
    wide = [add(n, n) for n in range(20)]
    total = give([one.output for one in wide])
    chain = [total]
    for _ in range(10):
        chain.append(give(chain[-1].output))
    return Flow([*wide, *chain])


def diamond(run):
    top = add(1, 1)
    left, right = add(top.output, 1), add(top.output, 2)
    return Flow([top, left, right, add(left.output, right.output)])


def order_of_members_does_not_matter(run):
    first = add(1, 1)
    second = add(first.output, 1)
    return Flow([second, first])


def nested_flows(run):
    a = add(1, 1)
    inner = Flow([a], output=a.output, name="inner")
    b = add(inner.output, 1)
    middle = Flow([inner, b], output=[a.output, b.output], name="middle")
    return Flow([middle, give(middle.output)], name="outer")


def failing_job_in_a_replacing_flow(run):
    @job
    def replaces():
        good, bad = add(1, 2), fail()
        return Flow([good, bad], output=[good.output, bad.output])

    first = replaces()
    return run(Flow([first, give(first.output)]))


def unknown_additional_store(run):
    @job(data=True)
    def stores():
        return 1

    return run(stores(), raise_immediately=True)


def detour_that_refers_to_an_earlier_job(run):
    @job
    def makes(reference):
        return Response(output=1, detour=add(reference, 1))

    first = add(1, 2)
    second = makes(first.output)
    second.config.resolve_references = False
    return run(Flow([first, second], order=JobOrder.LINEAR))

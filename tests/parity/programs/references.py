"""Programs about references and their resolution (facts 1 to 6)."""

from jobflow import Flow, Job, JobConfig, OnMissing, OutputReference, Response, job
from jobflow.core.reference import (
    ResolvedReference,
    find_and_get_references,
    find_and_resolve_references,
    resolve_references,
    validate_schema_access,
)
from pydantic import BaseModel, Field


class Inner(BaseModel):
    n: int = 0


class Model(BaseModel):
    energy: float = Field(0.0, description="eV")
    inner: Inner = Inner()
    names: list[str] = Field(default_factory=list)

    @property
    def double(self):
        return 2 * self.energy

    def method(self):
        return 1


@job
def add(a, b=5):
    return a + b


@job
def give(value):
    return value


@job
def pair(value, other=None):
    return [value, other]


@job
def fail():
    raise ValueError("no")


@job
def kind_of(value):
    return type(value).__name__


@job(output_schema=Model)
def modelled(**fields):
    return Model(**fields)


@job
def nested():
    return {"a": {"b": [1, 2, {"c": "deep"}]}, "list": [10, 20]}


def attribute_and_index_make_references(run):
    ref = OutputReference("123", (("a", "x"), ("i", 1)))
    return [ref.attributes, ref.b.attributes, ref["k"].attributes, ref[0][1].c.uuid]


def shown_as_python_would_write_it(run):
    ref = OutputReference("123").a["b"][0].c
    return [repr(ref), str(OutputReference("123")), ref.attributes_formatted]


def unknown_attribute_type(run):
    return OutputReference("123", (("x", "y"),))


def dunder_is_no_reference(run):
    return [hasattr(OutputReference("1"), name) for name in ("__len__", "__foo__", "args", "kwargs", "schema", "arg", "_x")]


def not_iterable(run):
    return list(OutputReference("123"))


def no_item_assignment(run):
    OutputReference("123")["a"] = 1


def no_attribute_assignment(run):
    OutputReference("123").value = 1


def equality_is_uuid_and_attributes(run):
    one, two = OutputReference("1").a, OutputReference("1").a
    return [one == two, one == OutputReference("1").b, one == OutputReference("1")["a"], one == OutputReference("2").a, one == 1,
            hash(one) == hash(two)]  # fmt: skip


def set_uuid_in_place_and_not(run):
    ref = OutputReference("1").a
    other = ref.set_uuid("2", inplace=False)
    same = ref.set_uuid("3")
    return [ref.uuid, other.uuid, other.attributes, same is ref]


def reference_as_dict(run):
    return OutputReference("1", (("a", "x"), ("i", 0)), Model).as_dict()


def reference_from_dict(run):
    return OutputReference.from_dict(OutputReference("1", (("a", "x"), ("i", 0))).as_dict())


def plain_value(run):
    first = add(1, 2)
    return Flow([first, add(first.output, 3)])


def index_into_dict(run):
    first = nested()
    return Flow([first, give(first.output["a"]["b"][2]["c"])])


def attribute_on_dict_falls_back_to_key(run):
    first = nested()
    return Flow([first, give(first.output.a.b[0])])


def negative_index(run):
    first = nested()
    return Flow([first, give(first.output["list"][-1])])


def reference_inside_containers(run):
    first = add(1, 2)
    return Flow([first, give({"k": [first.output, {"x": first.output}], "plain": 1})])


def reference_in_keyword(run):
    first = add(1, 2)
    return Flow([first, add(1, b=first.output)])


def one_output_many_times(run):
    first = nested()
    return Flow([first, pair([first.output["list"]] * 3, first.output["list"][0])])


def job_item_is_reference(run):
    first = nested()
    return Flow([first, give(first["list"])])


def missing_key_fails_the_child(run):
    first = nested()
    return Flow([first, give(first.output["nothing"]), add(1, 1)])


def flow_output_as_input(run):
    first = add(1, 2)
    inner = Flow([first], output=first.output)
    return Flow([inner, add(inner.output, 5)])


def flow_output_structure_as_input(run):
    first, second = add(1, 2), add(3, 4)
    inner = Flow([first, second], output={"a": first.output, "b": [second.output]})
    return Flow([inner, give(inner.output)])


def unresolved_on_purpose(run):
    first = add(1, 2)
    second = kind_of(first.output)
    second.config.resolve_references = False
    return Flow([first, second])


def both_value_and_reference(run):
    first = nested()

    @job(config=JobConfig(resolve_references="both"))
    def look(value):
        return [type(value).__name__, value.value, value.reference.uuid == value.uuid, [list(step) for step in value.attributes]]

    return Flow([first, look(first.output["list"])])


def resolve_references_is_checked(run):
    return JobConfig(resolve_references="yes")


def resolve_references_refuses_numbers(run):
    return JobConfig(resolve_references=2)


def on_missing_error(run):
    lost = add(1, 2)
    return run(Flow([add(lost.output, 1), add(1, 1)]), allow_external_references=True)


def on_missing_error_raised(run):
    return run(Flow([add(OutputReference("lost"), 1)]), allow_external_references=True, raise_immediately=True)


def on_missing_none(run):
    child = give([OutputReference("lost"), 1])
    child.config.on_missing_references = OnMissing.NONE
    return run(Flow([child]), allow_external_references=True)


def on_missing_none_by_update(run):
    child = give(OutputReference("lost"))
    child.update_config({"on_missing_references": OnMissing.NONE})
    return run(Flow([child]), allow_external_references=True)


def on_missing_pass(run):
    child = kind_of(OutputReference("lost"))
    child.config.on_missing_references = OnMissing.PASS
    return run(Flow([child]), allow_external_references=True)


def external_references_are_refused(run):
    return run(Flow([add(OutputReference("lost"), 1)]))


def failed_parent_blocks_the_child(run):
    first = fail()
    second = give(first.output)
    return Flow([first, second, give(second.output), add(1, 2)])


def failed_parent_and_none(run):
    first = fail()
    second = give(first.output)
    second.config.on_missing_references = OnMissing.NONE
    return Flow([first, second])


def failed_parent_and_none_further_down(run):
    first = fail()
    second = give(first.output)
    second.config.on_missing_references = OnMissing.NONE
    return Flow([first, second, pair(second.output, 1)])


def failed_parent_and_pass(run):
    first = fail()
    second = kind_of(first.output)
    second.config.on_missing_references = OnMissing.PASS
    return Flow([first, second])


def one_failed_parent_of_two(run):
    first, good = fail(), add(1, 2)
    both = pair(first.output, good.output)
    both.config.on_missing_references = OnMissing.NONE
    return Flow([first, good, both, pair(first.output, good.output)])


def returned_reference_to_an_addition(run):
    @job
    def adds():
        new = add(4, 5)
        return Response(output=new.output, addition=new)

    first = adds()
    return Flow([first])


def returned_reference_is_followed(run):
    @job
    def adds():
        new = nested()
        return Response(output={"further": new.output["list"]}, detour=new)

    first = adds()
    return Flow([first, give(first.output["further"][0])])


def reference_to_itself(run):
    made = add(1, 2)

    @job
    def loop():
        return made_ref

    first = loop()
    made_ref = first.output
    return run(Flow([first, give(first.output), made]))


def schema_checks_access(run):
    return modelled(energy=1.0).output.nothing


def schema_checks_index(run):
    return modelled(energy=1.0).output["nothing"]


def schema_knows_properties(run):
    first = modelled(energy=1.0)
    return [first.output.double.attributes, first.output.energy.attributes, first.output["names"].attributes]


def schema_refuses_methods(run):
    return modelled(energy=1.0).output.method


def schema_of_inner_model(run):
    inner = modelled(energy=1.0).output.inner
    return [inner.output_schema.__name__, inner.n.output_schema]


def schema_of_inner_model_checks(run):
    return modelled(energy=1.0).output.inner.nothing


def schema_values_reach_children(run):
    first = modelled(energy=2.5, inner={"n": 3}, names=["a"])
    return Flow([first, pair(first.output.energy, first.output.inner.n), give(first.output.names[0])])


def schema_property_is_computed(run):
    first = modelled(energy=2.5)
    return Flow([first, give(first.output.double)])


def validate_access(run):
    return [validate_schema_access(Model, name) for name in ("energy", "inner", "double")]


def validate_access_refuses(run):
    return validate_schema_access(Model, "nothing")


def finds_references(run):
    ref = OutputReference("1")
    found = find_and_get_references({"a": [ref.x, {"b": ref.y}], "c": (ref.z, 1)})
    return sorted(map(repr, found))


def finds_references_in_documents(run):
    ref = OutputReference("1").x
    found = find_and_get_references({"a": ref.as_dict()})
    return [found == (ref,), find_and_get_references(1), find_and_get_references(ref) == (ref,)]


class Shelf:
    """As much of a store as resolving needs."""

    def __init__(self, **outputs):
        self.outputs = outputs
        self.questions = 0

    def query_one(self, criteria=None, properties=None, sort=None, load=None):
        self.questions += 1
        return {"index": 1} if criteria["uuid"] in self.outputs else None

    def get_output(self, uuid, which="last", load=False, cache=None, on_missing=OnMissing.ERROR):
        return self.outputs[uuid]


def resolves_with_a_store(run):
    shelf = Shelf(u={"a": [1, 2]})
    ref = OutputReference("u")
    return [ref.resolve(shelf), ref.a[1].resolve(shelf), ref["a"].resolve(shelf)]


def resolves_into_a_cache(run):
    shelf, cache = Shelf(u=5), {}
    OutputReference("u").resolve(shelf, cache=cache)
    return [cache, OutputReference("u").resolve(shelf, cache={"u": {1: "from the cache"}})]


def resolve_error(run):
    return OutputReference("lost").a.resolve(Shelf())


def resolve_none_and_pass(run):
    ref = OutputReference("lost").a
    return [ref.resolve(Shelf(), on_missing=OnMissing.NONE), repr(ref.resolve(Shelf(), on_missing=OnMissing.PASS))]


def resolve_makes_objects_of_documents(run):
    document = Inner(n=4)
    stored = {"@module": Inner.__module__, "@class": "Inner", "@version": None, **document.model_dump()}
    shelf = Shelf(u=stored)
    ref = OutputReference("u")
    return [ref.resolve(shelf).n, ref.resolve(shelf, deserialize=False)["n"]]


def resolve_many(run):
    shelf = Shelf(u={"a": 1}, v=2)
    u, v = OutputReference("u"), OutputReference("v")
    return sorted((repr(ref), value) for ref, value in resolve_references([u.a, u, v], shelf).items())


def find_and_resolve(run):
    shelf = Shelf(u={"a": 1}, v=2)
    u, v = OutputReference("u"), OutputReference("v")
    return find_and_resolve_references({"x": [u.a, {"y": v}], "z": 3}, shelf)


def find_and_resolve_leaves_the_rest(run):
    value = {"a": (1, 2)}
    return [find_and_resolve_references(value, Shelf()) is value, find_and_resolve_references(5, Shelf())]


def find_and_resolve_missing(run):
    return find_and_resolve_references([OutputReference("lost")], Shelf())


def find_and_resolve_wrapped(run):
    found = find_and_resolve_references([OutputReference("u").a], Shelf(u={"a": 1}), wrap_resolved=True)
    return [type(found[0]).__name__, found[0].value, repr(found[0].reference)]


def resolved_reference_as_data(run):
    made = ResolvedReference("u", (("a", "x"),), 5)
    return [made.uuid, made.value, repr(made.reference), made == ResolvedReference("u", (("a", "x"),), 5)]


def input_references(run):
    ref = OutputReference("1")
    made = Job(len, (ref.a, [ref.b]), {"k": ref.a, "j": OutputReference("2")})
    grouped = {uuid: sorted(map(repr, refs)) for uuid, refs in made.input_references_grouped.items()}
    return [sorted(map(repr, made.input_references)), sorted(set(made.input_uuids)), grouped, "1" in made, "3" in made]


def on_missing_is_text(run):
    return [OnMissing.ERROR == "error", str(OnMissing.NONE), OnMissing("pass") == OnMissing.PASS, OnMissing.PASS.as_dict()]


def reference_as_dictionary_key(run):
    first = add(1, 2)
    return run(Flow([first, give({first.output: 1})]))

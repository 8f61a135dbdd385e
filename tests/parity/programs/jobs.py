"""Programs about jobs, their updates, makers and the dict mod language (facts 13 to 15)."""

import json
import os.path
from dataclasses import dataclass, field
from enum import Enum

import numpy as np
from jobflow import CURRENT_JOB, Flow, Job, JobConfig, Maker, Response, job
from jobflow.core.maker import recursive_call


@job
def add(a, number=5):
    return a + number


@job
def give(value):
    return value


def plain(a, b=1):
    return a + b


class Holder:
    @job
    @staticmethod
    def static(a):
        return a + 1

    @classmethod
    @job
    def of_class(cls, a):
        return [cls.__name__, a]

    @staticmethod
    def bare(a):
        return a + 2


@dataclass
class AddMaker(Maker):
    name: str = "add"
    number: float = 10
    options: dict = field(default_factory=dict)

    @job
    def make(self, a):
        return a + self.number


@dataclass
class SubMaker(AddMaker):
    name: str = "sub"


@dataclass
class RestartMaker(Maker):
    name: str = "restart"
    add_maker: Maker = field(default_factory=AddMaker)

    @job
    def make(self, a):
        return Response(replace=self.add_maker.make(a))


@dataclass
class ListMaker(Maker):
    name: str = "list"
    makers: list = field(default_factory=lambda: [AddMaker(), SubMaker()])
    named: dict = field(default_factory=lambda: {"x": AddMaker(name="deep")})

    @job
    def make(self, a):
        return a


@dataclass
class FlowMaker(Maker):
    name: str = "double"
    add_maker: Maker = field(default_factory=AddMaker)

    def make(self, a):
        first = self.add_maker.make(a)
        second = self.add_maker.make(first.output)
        return Flow([first, second], output=second.output, name=self.name)


class Mode(Enum):
    FAST = "fast"


def job_defaults(run):
    made = Job(plain, (1,), {"b": 2})
    return [made.function_args, made.function_kwargs, made.index, made.name, made.metadata, made.config, made.hosts, made.host,
            made.maker, made.output_schema, made.metadata_updates, made.config_updates, made.name_updates]  # fmt: skip


def job_arguments(run):
    config = JobConfig(expose_store=True)
    made = Job(plain, (1,), {}, None, "u", 3, "name", {"m": 1}, config, ["h"], [{"update": {}}], [{"config": {}}])
    return [made.uuid, made.index, made.name, made.metadata, made.config, made.hosts, made.metadata_updates, made.config_updates]


def job_keywords_of_the_decorator(run):
    @job(name="other", metadata={"a": 1}, config=JobConfig(manager_config={"w": 1}))
    def named(a):
        return a

    return Flow([named(1)])


def decorator_settings_are_not_shared(run):
    @job(metadata={"a": []})
    def made(a):
        return a

    one, two = made(1), made(2)
    one.metadata["a"].append(1)
    return [one.metadata, two.metadata]


def decorated_function_keeps_its_name(run):
    return [add.__name__, add.__doc__, add.original(1, 2), callable(add)]


def builtin_function(run):
    return Flow([Job(sum, ([1, 2, 3],))])


def library_function(run):
    made = Job(os.path.join, ("a", "b"))
    return [made.name, run(made)]


def two_whole_stores_are_refused(run):
    return Job(plain, (1,), data=True, more=True)


def additional_stores_are_kept(run):
    return Job(plain, (1,), data="key", more=["a", "b"])._kwargs


def static_method(run):
    return Flow([Holder.static(1), Holder().static(5)])


def bare_static_method(run):
    return Flow([Job(Holder.bare, (1,))])


def job_as_dict(run):
    made = add(1, number=2)
    made.metadata = {"mode": Mode.FAST, "t": (1, 2)}
    return made.as_dict()


def job_from_dict(run):
    made = add(1, number=2)
    made.metadata = {"a": 1}
    again = Job.from_dict(made.as_dict())
    return [again.uuid == made.uuid, again.name, tuple(again.function_args),
            again.function_kwargs, again.metadata, again.config, run(again)]  # fmt: skip


def maker_job_as_dict(run):
    made = AddMaker(number=3).make(4)
    again = Job.from_dict(made.as_dict())
    return [made.as_dict(), again.maker, run(again)]


def config_as_dict(run):
    return [JobConfig(manager_config={"a": 1}).as_dict(), JobConfig.from_dict(JobConfig(expose_store=True).as_dict())]


def set_uuid(run):
    made = add(1)
    output = made.output
    made.set_uuid("new")
    return [made.uuid, made.output.uuid, output.uuid]


def updates_kwargs(run):
    made = add(1)
    made.update_kwargs({"number": 7})
    return Flow([made])


def updates_kwargs_by_name(run):
    one, two = add(1), give(value=2)
    Flow([one, two]).update_kwargs({"number": 9}, name_filter="ad")
    return [one.function_kwargs, two.function_kwargs]


def updates_kwargs_by_function(run):
    one, two = add(1), give(value=2)
    Flow([Flow([one]), two]).update_kwargs({"number": 9}, function_filter=one.function)
    return [one.function_kwargs, two.function_kwargs]


def updates_kwargs_by_dict_mod(run):
    made = give(value={"a": {"b": 1}})
    made.update_kwargs({"_set": {"value->a->b": 2, "value->c": 3}}, dict_mod=True)
    return made.function_kwargs


def dict_mod_actions(run):
    made = Job(plain, (), {"l": [1, 2, 2, 3], "n": 1, "d": {"x": 1}, "old": 5})
    mods = [{"_push": {"l": 4}}, {"_push_all": {"l": [5, 6]}}, {"_inc": {"n": 4}}, {"_pull": {"l": 2}}, {"_unset": {"d->x": 0}}]
    mods += [{"_rename": {"old": "new"}}, {"_add_to_set": {"l": 9}}, {"_add_to_set": {"l": 9}}, {"_pull_all": {"l": [5, 6]}}]
    mods += [{"_pop": {"l": -1}}, {"_pop": {"l": 1}}]
    for mod in mods:
        made.update_kwargs(mod, dict_mod=True)
    return made.function_kwargs


def dict_mod_unknown_action(run):
    add(1).update_kwargs({"_nothing": {"a": 1}}, dict_mod=True)


def dict_mod_on_no_list(run):
    add(1, number=2).update_kwargs({"_add_to_set": {"number": 1}}, dict_mod=True)


def updates_metadata(run):
    made = add(1)
    made.update_metadata({"a": 1})
    made.update_metadata({"_set": {"b->c": 2}}, dict_mod=True, dynamic=False)
    return [made.metadata, len(made.metadata_updates)]


def updates_metadata_by_filters(run):
    one, two = add(1), give(2)
    made = Flow([one, two])
    made.update_metadata({"a": 1}, name_filter="add")
    made.update_metadata({"b": 1}, function_filter=give)
    made.update_metadata({"c": 1}, callback_filter=lambda item: isinstance(item, Job) and item.name == "add")
    return [one.metadata, two.metadata, made.metadata, len(one.metadata_updates), len(made.metadata_updates)]


def updates_config(run):
    made = add(1)
    made.update_config(JobConfig(expose_store=True))
    made.update_config({"manager_config": {"w": 1}})
    made.update_config({"manager_config": {"v": 1}, "expose_store": False}, attributes="manager_config")
    return [made.config, len(made.config_updates)]


def updates_config_by_dict_mod(run):
    made = add(1)
    made.update_config({"_set": {"manager_config->w->x": 1}}, dict_mod=True)
    return made.config


def updates_config_by_filters(run):
    one, two = add(1), give(2)
    made = Flow([one, two])
    made.update_config({"manager_config": {"a": 1}}, name_filter="give")
    made.update_config({"expose_store": True}, function_filter=add)
    return [one.config, two.config]


def update_config_refuses_mod_and_attributes(run):
    add(1).update_config({"_set": {}}, attributes="manager_config", dict_mod=True)


def update_config_refuses_mod_of_a_config(run):
    add(1).update_config(JobConfig(), dict_mod=True)


def update_config_refuses_keys_that_are_not_given(run):
    add(1).update_config({"expose_store": True}, attributes=["manager_config"])


def update_config_refuses_unknown_attributes(run):
    add(1).update_config(JobConfig(), attributes="nothing")


def appends_names(run):
    one = add(1)
    made = Flow([one, Flow([add(2)], name="inner")], name="outer")
    made.append_name(" x")
    made.append_name("y ", prepend=True, dynamic=False)
    return [made.name, one.name, made[1].name, made[1][0].name, one.name_updates]


def makers_job(run):
    made = AddMaker(number=3).make(4)
    return [made.name, made.maker, made.function_args, run(made)]


def maker_is_copied_for_each_job(run):
    maker = AddMaker()
    one = maker.make(1)
    maker.number = 100
    two = maker.make(1)
    one.maker.options["a"] = 1
    return [one.maker.number, two.maker.number, maker.options, run(Flow([one, two]))]


def name_of_a_makers_job(run):
    made = AddMaker().make(1)
    made.name = "renamed"
    return [made.name, made.maker.name, AddMaker(name="own").make(1).name]


def maker_of_flows(run):
    return FlowMaker().make(1)


def maker_without_make(run):
    return Maker().make()


def maker_without_name(run):
    return Maker().name


def maker_updates(run):
    maker = AddMaker()
    update = {"number": 5}
    named, classed = maker.update_kwargs(update, name_filter="nothing"), maker.update_kwargs(update, class_filter=SubMaker)
    return [maker.update_kwargs(update), maker, named, classed, SubMaker().update_kwargs(update, class_filter=AddMaker)]


def maker_updates_by_dict_mod(run):
    return AddMaker().update_kwargs({"_set": {"options->a->b": 1}, "_inc": {"number": 1}}, dict_mod=True)


@dataclass
class InputGenerator:
    incar: dict = field(default_factory=dict)
    kpoints: tuple = (1, 2)


@dataclass
class VaspMaker(Maker):
    name: str = "vasp"
    generator: InputGenerator = field(default_factory=InputGenerator)
    mode: Mode = Mode.FAST
    mesh: object = None

    @job
    def make(self, a):
        return [a, self.generator.incar, list(self.generator.kpoints)]


def maker_updates_inside_an_input_generator(run):
    made = VaspMaker().make(1)
    made.update_maker_kwargs({"_set": {"generator->incar->ENCUT": 600}, "_inc": {"generator->incar->NSW": 1}}, dict_mod=True)
    made.update_maker_kwargs({"_set": {"generator->kpoints": [2]}}, class_filter=VaspMaker, dict_mod=True)
    return Flow([made])


def maker_updates_inside_an_input_generator_unknown(run):
    VaspMaker().update_kwargs({"_set": {"generator->nothing": 600}}, dict_mod=True)


def maker_with_an_input_generator_beside_a_reference(run):
    first = give(1)
    return Flow([first, use_maker(first.output, VaspMaker())])


@job
def use_maker(a, maker):
    return Response(replace=maker.make(a))


def maker_of_many_kinds_as_dict(run):
    maker = VaspMaker(mesh=np.arange(2), mode=Mode.FAST)
    again = VaspMaker.from_dict(json.loads(maker.to_json()))
    plain = maker.as_dict()
    return [type(plain["mesh"]).__name__, plain["mode"].value, plain["generator"]["@class"], json.loads(maker.to_json())["mesh"],
            again.mode.value, again.generator.incar, again.mesh.tolist(), plain["generator"]["kpoints"]]  # fmt: skip


def maker_as_json_that_cannot_be(run):
    return VaspMaker(mesh=1j).to_json()


def maker_updates_nested(run):
    maker = RestartMaker()
    return [maker.update_kwargs({"number": 5}, class_filter=AddMaker),
            maker.update_kwargs({"number": 5}, class_filter=AddMaker, nested=False),
            maker.update_kwargs({"number": 5}, name_filter="add")]  # fmt: skip


def maker_updates_inside_lists(run):
    return ListMaker().update_kwargs({"number": 5}, class_filter=AddMaker)


def maker_update_of_an_unknown_setting(run):
    return AddMaker().update_kwargs({"nothing": 5})


def updates_makers_of_jobs(run):
    one, two, three = AddMaker().make(1), RestartMaker().make(1), give(AddMaker())
    made = Flow([one, two, three])
    made.update_maker_kwargs({"number": 7}, class_filter=AddMaker)
    return [one.maker, two.maker, three.function_args]


def updates_makers_of_jobs_not_nested(run):
    one, two, three = AddMaker().make(1), RestartMaker().make(1), give(AddMaker())
    Flow([one, two, three]).update_maker_kwargs({"number": 7}, class_filter=AddMaker, nested=False)
    return [one.maker, two.maker, three.function_args]


def updated_maker_runs(run):
    made = RestartMaker().make(1)
    made.update_maker_kwargs({"number": 100}, class_filter=AddMaker)
    return Flow([made])


def updates_makers_by_name(run):
    one = RestartMaker().make(1)
    one.update_maker_kwargs({"name": "new"}, name_filter="add")
    return [one.maker, one.name]


def maker_as_dict(run):
    return [RestartMaker().as_dict(), RestartMaker.from_dict(RestartMaker().as_dict()) == RestartMaker()]


def calls_recursively(run):
    def renamed(maker):
        return type(maker)(name=maker.name + "!")

    return recursive_call(RestartMaker(), renamed, class_filter=AddMaker)


def call_must_return_a_maker(run):
    return recursive_call(RestartMaker(), lambda maker: 5, class_filter=AddMaker)


def current_job_inside(run):
    @job(metadata={"a": 1})
    def look(value):
        current = CURRENT_JOB.job
        return [current.name, current.uuid, current.index, current.metadata, current.function_args, CURRENT_JOB.store is None]

    first = add(1)
    return Flow([first, look(first.output)])


def current_job_outside(run):
    run(add(1))
    return [CURRENT_JOB.job, CURRENT_JOB.store]


def current_store_if_exposed(run):
    @job(config=JobConfig(expose_store=True))
    def look():
        return CURRENT_JOB.store is not None

    return Flow([look()])


def current_state_is_set_and_reset(run):
    CURRENT_JOB.job = "something"
    seen = CURRENT_JOB.job
    CURRENT_JOB.reset()
    return [seen, CURRENT_JOB.job]


def missing_argument_fails_the_job(run):
    return run(Flow([Job(plain, ()), add(1)]))


def updates_kwargs_by_decorated_function(run):
    one = add(1)
    one.update_kwargs({"number": 9}, function_filter=add)
    return one.function_kwargs


def current_job_after_a_failure(run):
    @job
    def fail():
        raise ValueError("no")

    run(fail())
    seen = CURRENT_JOB.job is None
    CURRENT_JOB.reset()
    return seen

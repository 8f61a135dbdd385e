"""Programs whose values lose their types in jobflow when a reference is near (fact 4), and those that keep them."""

import datetime
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from uuid import UUID

import numpy as np
from jobflow import Flow, Maker, job
from monty.json import MSONable
from pydantic import BaseModel


class Mode(Enum):
    FAST = "fast"


class Structure(MSONable):
    def __init__(self, sites, extra=None):
        self.sites = sites
        self.extra = extra


@dataclass
class Point(MSONable):
    x: float
    y: float = 0.0


class Model(BaseModel):
    n: int = 0
    tag: str = ""


@dataclass
class Settings(Maker):
    name: str = "settings"
    n: int = 1

    @job
    def make(self, a, b):
        return [self.n, type(a).__name__, type(b).__name__]


@job
def one():
    return 1


@job
def kinds(*values, **named):
    return [type(value).__name__ for value in values] + [f"{name}: {type(value).__name__}" for name, value in named.items()]


@job
def inside(value, near=None):
    return [type(item).__name__ for item in value] if isinstance(value, (list, tuple)) else [type(k).__name__ for k in value]


@job
def hand(value):
    return value


@job
def plain_sum(value):
    return float(sum(value))


def twice(value):
    return 2 * value


def beside(run, *values, **named):
    first = one()
    return run(Flow([first, kinds(first.output, *values, **named)]))


def tuple_without_reference(run):
    return Flow([kinds((1, 2), {1: 2}, {1, 2} and [1])])


def tuple_beside_a_reference(run):
    return beside(run, (1, 2))


def int_keys_beside_a_reference(run):
    first = one()
    return Flow([first, inside({1: 2, 3: 4}, first.output)])


def int_keys_in_other_keywords(run):
    first = one()
    return Flow([first, inside({1: 2}, near=first.output)])


def keywords_are_apart_from_arguments(run):
    first = one()
    return Flow([first, kinds((1,), x=first.output, y=(2,)), kinds(first.output, (1,), y=(2,))])


def array_beside_a_reference(run):
    return beside(run, np.arange(3))


def scalar_of_numpy_beside_a_reference(run):
    return beside(run, np.float64(1.5))


def enum_beside_a_reference(run):
    return beside(run, Mode.FAST)


def date_beside_a_reference(run):
    return beside(run, datetime.datetime(2024, 1, 1))


def path_beside_a_reference(run):
    return beside(run, Path("/tmp"), UUID(int=1))


def mson_beside_a_reference(run):
    return beside(run, Structure([1, 2]), Point(1.0))


def model_beside_a_reference(run):
    return beside(run, Model(n=3))


def maker_beside_a_reference(run):
    return beside(run, Settings())


def maker_method_beside_a_reference(run):
    first = one()
    return Flow([first, Settings(n=3).make(first.output, (1, 2))])


def function_beside_a_reference(run):
    return beside(run, twice, len)


def bytes_beside_a_reference(run):
    return beside(run, b"abc", None, True, 1.5, "text")


def tuple_as_output(run):
    first = hand((1, 2))
    return Flow([first, kinds(first.output)])


def int_keys_as_output(run):
    first = hand({1: "a"})
    return Flow([first, inside(first.output)])


def array_as_output(run):
    first = hand(np.array([1.0, 2.0]))
    return Flow([first, kinds(first.output), plain_sum(first.output)])


def enum_as_output(run):
    first = hand(Mode.FAST)
    return Flow([first, kinds(first.output)])


def date_as_output(run):
    first = hand(datetime.datetime(2024, 1, 1))
    return Flow([first, kinds(first.output)])


def mson_as_output(run):
    first = hand(Structure([1, Point(2.0)], {"a": [1]}))
    return Flow([first, kinds(first.output), inside(first.output.sites), kinds(first.output.extra["a"])])


def model_as_output(run):
    first = hand(Model(n=3, tag="x"))
    return Flow([first, kinds(first.output), hand(first.output.n)])


def maker_as_output(run):
    first = hand(Settings(n=7))
    return Flow([first, kinds(first.output), hand(first.output.n)])


def objects_deep_inside(run):
    first = hand({"a": [{"b": Point(1.0)}, (Mode.FAST,)]})
    return Flow([first, kinds(first.output["a"][0]["b"], first.output["a"][1]), kinds(first.output)])


def output_that_no_document_holds(run):
    class Odd:
        pass

    @job
    def odd():
        return Odd()

    return run(odd(), raise_immediately=True)


def complex_numbers(run):
    return Flow([kinds(np.array([1 + 2j]))])

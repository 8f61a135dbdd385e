"""One source, two engines: loads the programs once as they stand, for jobflow, and once with `jobflow` read as `towline`.

A program is a function with the one parameter `run`. What it returns is compared: a Job or Flow is run first, an exception
counts as its type and text. `run(flow, **options)` is run_locally of that engine, with a fresh store.
"""

from __future__ import annotations

import json
import re
import sys
import types
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel

PROGRAMS = Path(__file__).parent / "programs"
JOBFLOW, TOWLINE = "jobflow", "towline"


@cache
def load(engine: str, name: str) -> types.ModuleType:
    """A file of programs, for one engine, as a module that can be imported by its own name."""
    path = PROGRAMS / f"{name}.py"
    source = path.read_text()
    if engine == TOWLINE:
        source = re.sub(r"\bfrom jobflow(\.[a-z_.]+)? import\b", "from towline import", source)
    module = types.ModuleType(f"parity_{engine}_{name}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module
    exec(compile(source, str(path), "exec", dont_inherit=True), module.__dict__)
    return module


def names_of_programs() -> list[str]:
    """`file.function` of every program."""
    return [
        f"{path.stem}.{name}"
        for path in sorted(PROGRAMS.glob("*.py"))
        for name in re.findall(r"^def ([a-z]\w*)\(run\)", path.read_text(), re.M)
    ]


@contextmanager
def counted_uuids() -> Iterator[None]:
    """Both engines name their jobs 1, 2, 3, ... in the order of their making."""
    import jobflow.core.flow
    import jobflow.core.job

    from towline.engine.authoring import decorator, flow, job

    number = iter(range(1, 10**6))

    def counted() -> str:
        return f"00000000-0000-4000-8000-{next(number):012d}"

    places: list[tuple[Any, str]] = [(jobflow.core.flow, "suid"), (jobflow.core.job, "suid")]
    places += [(module, "new_uuid") for module in (decorator, flow, job)]
    before = [getattr(module, name) for module, name in places]
    for module, name in places:
        setattr(module, name, counted)
    try:
        yield
    finally:
        for (module, name), old in zip(places, before, strict=True):
            setattr(module, name, old)


@dataclass
class Seen:
    """What a program came to."""

    value: Any = None
    documents: list[Any] = field(default_factory=list)
    warned: list[str] = field(default_factory=list)


@dataclass
class Engine:
    """One side of the comparison."""

    name: str
    runner: Callable[..., Any]
    """run(flow, **options) -> responses, documents, and what a reference stands for at the end."""

    def perform(self, program: str) -> Seen:
        """Run one program and make what it comes to comparable."""
        file, _, name = program.partition(".")
        body = getattr(load(self.name, file), name)
        seen = Seen()
        resolve: list[Callable[[Any], Any]] = []

        def run(flow: Any, **options: Any) -> Any:
            responses, documents, value_of = self.runner(flow, **options)
            resolve.append(value_of)
            seen.documents = documents
            return responses

        with counted_uuids(), warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                value = body(run)
                if type(value).__name__ in ("Job", "Flow", "DecoratedFlow"):
                    value = run(value)
            except Exception as error:
                value = {"raised": name_of_kind(type(error)), "text": told(error)}
        value_of = resolve[-1] if resolve else None
        seen.value = value if isinstance(value, dict) and value.keys() == {"raised", "text"} else comparable(value, value_of)
        seen.documents = comparable(seen.documents, value_of)
        seen.warned = sorted({str(w.message) for w in caught if w.category is UserWarning and "connected" not in str(w.message)})
        return seen


def name_of_kind(kind: type) -> str:
    """An exception's name; towline's own are known by the builtin that they extend, which is what programs catch."""
    own = kind.__module__.startswith("towline.")
    return next(base.__name__ for base in kind.__mro__ if not own or base.__module__ == "builtins")


_LINES = re.compile(r"\n.*", re.S)


def told(error: Exception) -> str:
    """The text of an error, its first line, with quotes and paths of modules made alike."""
    return re.sub(r"\b(parity_)?(jobflow|towline)(_\w+)?(\.[a-z_]+)*\.", "", _LINES.sub("", str(error)))


def agree(ours: Any, theirs: Any) -> bool:
    """The same; an error of ours may go on where theirs ends."""
    if isinstance(ours, dict) and isinstance(theirs, dict) and {"raised", "text"} == ours.keys() == theirs.keys():
        return ours["raised"] == theirs["raised"] and ours["text"].startswith(theirs["text"])
    return bool(ours == theirs)


def comparable(value: Any, value_of: Callable[[Any], Any] | None = None) -> Any:
    """A value as plain data, alike for both engines: classes by their names, references as their values if there are any."""
    kind = type(value).__name__

    def go(item: Any) -> Any:
        return comparable(item, value_of)

    if kind == "OutputReference":
        known = value_of(value) if value_of is not None else value
        return {"ref": value.uuid, "attributes": go(list(value.attributes))} if known is value else go(known)
    if kind in ("Flow", "DecoratedFlow"):
        members = [go(member) for member in value]
        return {"flow": value.name, "hosts": list(value.hosts), "order": str(value.order), "members": members}
    if kind == "Job":
        # jobflow's store_inputs leaves references as they are, towline's resolves them (docs/COMPATIBILITY.md)
        config = None if "store_inputs" in value.name else go(value.config)
        where = {"uuid": value.uuid, "index": value.index, "hosts": list(value.hosts)}
        what = {"args": go(value.function_args), "kwargs": go(value.function_kwargs), "metadata": go(value.metadata)}
        return {"job": value.name, **where, **what, "config": config}
    if kind == "Response":
        shown = {name: go(item) for name, item in vars(value).items() if name != "job_dir"}
        return {"response": {name: item for name, item in shown.items() if item not in (None, False)}}
    if kind in ("OnMissing", "JobOrder"):
        return str(value)
    if isinstance(value, Enum):
        return {"enum": kind, "value": str(value)}
    if isinstance(value, dict):
        if "@module" in value and not value["@module"].startswith("tests."):
            value = {name: item for name, item in value.items() if name not in ("@module", "@version")}
        pairs = [[go(key), go(item)] for key, item in value.items()]
        return {"dict": sorted(pairs, key=lambda pair: json.dumps(pair, default=str, sort_keys=True))}
    if isinstance(value, set | frozenset):
        return {kind: sorted(map(str, value))}
    if isinstance(value, list | tuple):
        return {kind: [go(item) for item in value]}
    if isinstance(value, type):
        return {"class": kind and value.__name__}
    if callable(value) and hasattr(value, "__qualname__"):
        return {"function": value.__qualname__}
    if isinstance(value, BaseModel):
        return {kind: go(dict(value))}
    if kind in ("ndarray", "DataFrame", "Series", "Table"):
        plain = {"ndarray": "tolist", "Table": "to_pylist"}.get(kind, "to_dict")
        return {kind: go(getattr(value, plain)()), "dtype": str(getattr(value, "dtype", ""))}
    if value is None or isinstance(value, bool | int | float | str | bytes | complex):
        return _alike(value) if isinstance(value, str) else value
    if hasattr(value, "__dict__"):
        return {kind: go({name: item for name, item in vars(value).items() if not name.startswith("__")})}
    return {kind: str(value)}


def _alike(text: str) -> str:
    """Names of modules and of folders, which are not the same twice, made alike."""
    return "/a folder" if text.startswith("/") else re.sub(r"\bparity_(jobflow|towline)_", "parity_", text)


def returns_a_flow(program: str) -> bool:
    """Does a program leave running to the suite?"""
    file, _, name = program.partition(".")
    body = re.search(rf"^def {name}\(run\):\n(.*?)(?=^\S|\Z)", (PROGRAMS / f"{file}.py").read_text(), re.M | re.S)
    assert body is not None
    return (
        re.search(r"\n    return (Flow\([^\n]*\)|build\(.*\))\s*\Z", "\n" + body[1].rstrip()) is not None
        and "run(" not in body[1]
    )

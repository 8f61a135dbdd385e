"""Values as the plain data that monty writes, and back: what documents hold, and what arguments go through in jobflow.

`sanitize` loses types on purpose: a tuple becomes a list, an int key text, an array nested lists, an Enum its value. Objects with
`as_dict` and pydantic models become dicts that name their class (`@module`, `@class`, `@version`), and `revive` makes them again.
The bytes of towline's own records never take this road; documents, `as_dict` and `compat="jobflow"` do.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import sys
import types
from collections.abc import Callable
from enum import Enum
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any
from uuid import UUID

_SCALARS = (int, float, bool, str, type(None))


def sanitize(value: Any) -> Any:
    """A value as documents hold it (monty: strict, Enums as values, dates and bytes as they are).

    AttributeError for an object without `as_dict`, TypeError for a method of one, as monty raises them.
    """
    kind = type(value)
    if kind in _SCALARS:
        return value
    if isinstance(value, dict):
        return {str(key): sanitize(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [sanitize(item) for item in value]
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, bytes | dt.datetime):
        return value
    if isinstance(value, UUID | Path):
        return str(value)
    array = _array(value)
    if array is not None:
        return array()
    if isinstance(value, int | float):
        return value
    if callable(value) and not hasattr(type(value), "as_dict"):
        try:
            return callable_dict(value)
        except TypeError:
            pass
    if isinstance(value, str):
        return value
    return sanitize(_class_dict(value) if _is_model(value) else value.as_dict())


def unfolded(value: Any) -> Any:
    """A value in which objects with `as_dict`, and dataclasses, are dicts that name their class; all else is as it was."""
    if isinstance(value, list | tuple):
        return [unfolded(item) for item in value]
    if isinstance(value, dict):
        return {key: unfolded(item) for key, item in value.items()}
    if isinstance(value, type):
        return value
    if hasattr(value, "as_dict"):
        return value.as_dict()
    if dataclasses.is_dataclass(value):
        return {**_fields(value), "@module": type(value).__module__, "@class": type(value).__qualname__}
    return value


def written(value: Any) -> Any:
    """What stands in a JSON text for a value that is no JSON, as monty's encoder writes it: the default of `json.dumps`."""
    numpy, pandas = sys.modules.get("numpy"), sys.modules.get("pandas")
    if isinstance(value, dt.datetime):
        return {"@module": "datetime", "@class": "datetime", "string": str(value)}
    if isinstance(value, UUID):
        return {"@module": "uuid", "@class": "UUID", "string": str(value)}
    if isinstance(value, Path):
        return {"@module": "pathlib", "@class": "Path", "string": str(value)}
    if numpy is not None and isinstance(value, numpy.ndarray):
        parts = [value.real.tolist(), value.imag.tolist()] if numpy.iscomplexobj(value) else value.tolist()
        return {"@module": "numpy", "@class": "array", "dtype": str(value.dtype), "data": parts}
    if numpy is not None and isinstance(value, numpy.generic):
        return value.item()
    if pandas is not None and isinstance(value, pandas.DataFrame | pandas.Series):
        return {"@module": "pandas", "@class": type(value).__name__, "data": value.to_json(default_handler=written)}
    if isinstance(value, Enum):
        return {"value": value.value, **named(type(value))}
    if callable(value) and not hasattr(type(value), "as_dict"):
        return callable_dict(value)
    if dataclasses.is_dataclass(value) and not hasattr(value, "as_dict"):
        return {**_fields(value), **named(type(value))}
    return _class_dict(value)


def _fields(value: Any) -> dict[str, Any]:
    """A dataclass as monty has it: those inside it lose their classes."""
    return dataclasses.asdict(value)


def _array(value: Any) -> Callable[[], Any] | None:
    """How to unfold a value of numpy, pandas or torch; a package that is not loaded has no values."""
    numpy, pandas = sys.modules.get("numpy"), sys.modules.get("pandas")
    if numpy is not None and isinstance(value, numpy.generic):
        return lambda: value.item()
    if numpy is not None and isinstance(value, numpy.ndarray):
        return lambda: sanitize(value.tolist())
    if pandas is not None and isinstance(value, pandas.DataFrame | pandas.Series):
        return lambda: value.to_dict()
    return None


def _is_model(value: Any) -> bool:
    pydantic = sys.modules.get("pydantic")
    return pydantic is not None and isinstance(value, pydantic.BaseModel)


def _class_dict(value: Any) -> dict[str, Any]:
    """An object's own fields, with its class: what monty's encoder makes of models and dataclasses."""
    if _is_model(value):
        fields = value.model_dump()
    elif hasattr(value, "as_dict"):
        fields = value.as_dict()
    else:
        raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")
    return {**fields, **{name: known for name, known in named(type(value)).items() if name not in fields}}


def named(kind: type) -> dict[str, Any]:
    """`@module`, `@class` and `@version` of a class."""
    module = kind.__module__
    return {"@module": module, "@class": kind.__qualname__, "@version": _version(module.partition(".")[0])}


@cache
def _version(package: str) -> str | None:
    try:
        return str(import_module(package).__version__)
    except (AttributeError, ImportError):
        return None


def callable_dict(function: Any) -> dict[str, Any]:
    """A function, class or method by its name. TypeError for a method of an object that has no `as_dict`."""
    owner = None if isinstance(function, types.BuiltinFunctionType) else getattr(function, "__self__", None)
    bound: Any = None
    if owner is not None:
        try:
            bound = callable_dict(owner) if isinstance(owner, type) else _class_dict(owner)
        except TypeError as error:
            raise TypeError("Only bound methods of classes or MSONable instances are supported.") from error
    qualname = getattr(function, "__qualname__", None) or function.__name__
    return {"@module": function.__module__, "@callable": qualname, "@bound": bound}


def revive(data: Any) -> Any:
    """The objects behind such data; dicts that name no class that there is stay dicts."""
    if isinstance(data, list):
        return [revive(item) for item in data]
    if not isinstance(data, dict):
        return data
    if "@module" in data:
        if "@class" in data:
            found = _made(data["@module"], data["@class"], data)
        else:
            found = _called(data) if "@callable" in data else _NONE
        if found is not _NONE:
            return found
    return {revive(key): revive(item) for key, item in data.items()}


_NONE = object()


def _called(data: dict[str, Any]) -> Any:
    steps = data["@callable"].split(".")
    try:
        if data.get("@bound") is not None:
            found, steps = revive(data["@bound"]), steps[1:]
        else:
            found = import_module(data["@module"])
        for step in steps:
            found = getattr(found, step)
    except AttributeError:
        return _NONE
    return found


def _made(module: str, name: str, data: dict[str, Any]) -> Any:
    reader = _READERS.get((module, name))
    if reader is not None:
        return reader(data)
    try:
        found: Any = import_module(module)
        for step in name.split("."):
            found = getattr(found, step)
    except (ModuleNotFoundError, AttributeError):
        return _NONE
    own = {key: value for key, value in data.items() if not key.startswith("@")}
    if hasattr(found, "from_dict"):
        return found.from_dict(own)
    if isinstance(found, type) and issubclass(found, Enum):
        return found(data["value"])
    if hasattr(found, "__dataclass_fields__") or hasattr(found, "model_fields"):
        return found(**{key: revive(value) for key, value in own.items()})
    return _NONE


def _array_of(data: dict[str, Any]) -> Any:
    import numpy as np

    if data["dtype"].startswith("complex"):
        real, imaginary = data["data"]
        return (np.array(real) + 1j * np.array(imaginary)).astype(data["dtype"])
    return np.array(data["data"], dtype=data["dtype"])


def _frame_of(data: dict[str, Any]) -> Any:
    import json

    import pandas as pd

    return getattr(pd, data["@class"])(revive(json.loads(data["data"])))


_READERS: dict[tuple[str, str], Callable[[dict[str, Any]], Any]] = {
    ("datetime", "datetime"): lambda data: dt.datetime.fromisoformat(data["string"]),
    ("uuid", "UUID"): lambda data: UUID(data["string"]),
    ("pathlib", "Path"): lambda data: Path(data["string"]),
    ("numpy", "array"): _array_of,
    ("pandas", "DataFrame"): _frame_of,
    ("pandas", "Series"): _frame_of,
}
"""Classes that monty writes in ways of its own."""

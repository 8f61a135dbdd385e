"""Functions on their way to another process: by import path where there is one, by value where not, each under a content hash.

A method bound to an object travels as the method of its class; the object becomes the first argument, which the codec writes
like any other. The path of a function under `@job` leads to the `@job`, so loading goes one step further, to the function.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from hashlib import blake2b
from types import FunctionType
from typing import Any

from towline.engine.codec.names import find, name_of
from towline.engine.errors import EncodingError
from towline.engine.model import Function

AnyFunction = Callable[..., Any]


def bound_object(function: AnyFunction) -> Any:
    """The object that a method is bound to; None for plain functions, class methods and functions of modules."""
    owner = getattr(function, "__self__", None)
    if owner is None or isinstance(owner, type | types.ModuleType):
        return None
    return owner if isinstance(function, types.MethodType | types.BuiltinMethodType) else None


def bare(function: AnyFunction) -> AnyFunction:
    """The function under `@job`; a class method stays bound to its class."""
    if isinstance(function, types.MethodType):
        return types.MethodType(getattr(function.__func__, "original", function.__func__), function.__self__)
    original = getattr(function, "original", function)
    return original if callable(original) else function


class Functions:
    """Functions and their records, each worked out once. Held for one submission, or for the life of a worker."""

    def __init__(self) -> None:
        self._records: dict[Any, tuple[Any, Function]] = {}

    def describe(self, function: AnyFunction) -> Function:
        """The record of a function; EncodingError if it can neither be imported nor pickled."""
        if type(function) is FunctionType:
            key: Any = id(function)
            held: Any = function
            owner = None
        else:
            bound = bound_object(function)
            owner = None if bound is None else type(bound)
            # every bound method is an object of its own: what stays is the function and the class
            held = (getattr(function, "__func__", function), owner or getattr(function, "__self__", None))
            key = (id(held[0]), id(held[1]))
        known = self._records.get(key)
        if known is None:
            # what is held beside the record keeps its id from being used again
            known = self._records[key] = (held, _describe(function, owner))
        return known[1]

    def load(self, record: Function) -> AnyFunction:
        """The function of a record, remembered under it: jobs that it is used for later need no new record."""
        function = load(record)
        if type(function) is FunctionType:
            self._records.setdefault(id(function), (function, record))
        return function


def load(record: Function) -> AnyFunction:
    """The function of a record; whatever importing or unpickling raises."""
    if record.pickled:
        import pickle

        found = pickle.loads(record.pickled)  # noqa: S301 - the store's owner submitted it
    else:
        found = find(record.path)
    return bare(found)


def _describe(function: AnyFunction, owner: type | None) -> Function:
    path = _path(function, owner)
    if path is not None:
        return Function(_key(path, b""), path)
    plain = bare(getattr(function, "__func__", function) if owner is not None else function)
    shown = f"{getattr(plain, '__module__', None) or '?'}:{getattr(plain, '__qualname__', type(plain).__name__)}"
    pickled = _pickled(plain, shown)
    return Function(_key(shown, pickled), shown, pickled)


def _path(function: AnyFunction, owner: type | None) -> str | None:
    """Where to import it from, or None. For methods: the class that the object is of, whoever defines the method."""
    if owner is None and isinstance(getattr(function, "__self__", None), type):
        holder: type = function.__self__  # type: ignore[attr-defined]  # asked for in the line above
    elif owner is None:
        return name_of(function, unwrap=True)
    else:
        holder = owner
    name = name_of(holder)
    attribute = getattr(function, "__name__", None)
    found = getattr(holder, attribute, None) if attribute else None
    if name is None or found is None:
        return None
    same = found == function if owner is None else bare(found) == bare(getattr(function, "__func__", found))
    return f"{name}.{attribute}" if same else None


def _key(path: str, pickled: bytes) -> str:
    return blake2b(path.encode() + b"\0" + pickled, digest_size=16).hexdigest()


def _pickled(function: AnyFunction, shown: str) -> bytes:
    import cloudpickle

    try:
        pickled: bytes = cloudpickle.dumps(function, protocol=5)
    except Exception as error:
        raise EncodingError(
            f"the function {shown} cannot be sent to a worker ({type(error).__name__}: {error}); "
            "put it into a module, or let it use nothing that cannot be pickled"
        ) from error
    return pickled

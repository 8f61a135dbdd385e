"""What the table of exact types does not know: how a type that is met for the first time will be written.

The first rule that fits wins: standard library, arrays, what another process can import (enums, named tuples, classes whose
state is known attribute by attribute, pydantic models, as_dict/from_dict, functions and classes by name), then cloudpickle.
A class that cannot be imported elsewhere is always pickled, by value.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import io
import pathlib
import types
from collections import Counter, OrderedDict, defaultdict, deque
from decimal import Decimal
from fractions import Fraction
from typing import Any
from uuid import UUID

from towline.engine.authoring.reference import OutputReference
from towline.engine.authoring.updates import Updatable
from towline.engine.codec import names
from towline.engine.codec.packing import HANDLERS, Handler, Packer
from towline.engine.codec.reading import Reader, refuse_pickle
from towline.engine.codec.wire import PLAIN, Code, Ext, Unencodable, ext, pack

_KNOWN_MOST = 4096
_CALLABLES = (types.FunctionType, types.BuiltinFunctionType, types.MethodDescriptorType, type)


def handler_for(kind: type) -> Handler:
    """The handler of a type, looked up once."""
    handler = _choose(kind)
    # classes that come and go (by value, in a long-lived worker) must not be kept for ever
    if len(HANDLERS) > _KNOWN_MOST:
        for known in [known for known in HANDLERS if names.name_of(known) is None]:
            del HANDLERS[known]
    HANDLERS[kind] = handler
    return handler


def _choose(kind: type) -> Handler:
    from towline.engine.authoring.decorator import JobFunction

    if kind in _STANDARD:
        return _STANDARD[kind]
    root = kind.__module__.partition(".")[0]
    if root in ("numpy", "pandas", "pyarrow"):
        from towline.engine.codec import arrays

        found = arrays.handler_for(kind, root)
        if found is not None:
            return found
    if issubclass(kind, pathlib.PurePath) and kind.__module__.partition(".")[0] == "pathlib":
        return lambda value, packer: ext(Code.PATH, [kind.__name__, str(value)])
    if issubclass(kind, (*_CALLABLES, JobFunction)) or kind is types.MethodType:
        return _method if kind is types.MethodType else _named
    if names.name_of(kind) is None:
        return pickled
    return _of_class(kind)


def _of_class(kind: type) -> Handler:
    """How an instance of an importable class is written."""
    if issubclass(kind, OutputReference):
        return lambda value, packer: packer.reference(value)
    if issubclass(kind, enum.Enum):
        return lambda value, packer: _enum(value, packer)
    if issubclass(kind, tuple) and hasattr(kind, "_fields") and hasattr(kind, "_make"):
        return lambda value, packer: ext(Code.NAMEDTUPLE, [packer.wire(kind), packer.items(value)])
    if getattr(kind, "__pydantic_fields__", None) is not None and hasattr(kind, "__pydantic_serializer__"):
        return _model if hasattr(kind, "model_fields") else _state_of(_dataclass_state)
    if hasattr(kind, "__struct_fields__") and hasattr(kind, "__struct_config__"):
        return _state_of(lambda value: {name: getattr(value, name) for name in kind.__struct_fields__})
    if _default_pickling(kind):
        if dataclasses.is_dataclass(kind):
            return _state_of(_dataclass_state)
        if hasattr(kind, "__attrs_attrs__"):
            return _state_of(_attrs_state)
    if issubclass(kind, Updatable):
        # a Job or a Flow: their dicts name functions, which need not be importable
        return pickled
    if callable(getattr(kind, "as_dict", None)) and callable(getattr(kind, "from_dict", None)):
        return _mson
    base = _json_base(kind)
    if base is not None:
        return lambda value, packer: _jsonlike(value, packer, base)
    return pickled


def _default_pickling(kind: type) -> bool:
    """Is the state of an instance what its attributes say, and nothing that the class computes itself?"""
    if not _inherits(kind, object, "__reduce__", "__reduce_ex__") or _layout(kind) is not object:
        # a layout of C (an exception, a dict) holds state that no attribute shows
        return False
    own = [getattr(kind, name, None) for name in ("__getstate__", "__setstate__")]
    generated = ("dataclasses", "attr._make")
    return all(
        method is None or method is getattr(object, "__getstate__", None) or getattr(method, "__module__", "") in generated
        for method in own
    )


def _inherits(kind: type, base: type, *methods: str) -> bool:
    return all(getattr(kind, name, None) is getattr(base, name, None) for name in methods)


def _layout(kind: type) -> type:
    return next(base for base in kind.__mro__ if not base.__flags__ & 1 << 9)


def _dataclass_state(value: Any) -> dict[str, Any]:
    state = dict(getattr(value, "__dict__", ()))
    for field in dataclasses.fields(value):
        if field.name not in state and hasattr(value, field.name):
            state[field.name] = getattr(value, field.name)
    return state


def _attrs_state(value: Any) -> dict[str, Any]:
    state = dict(getattr(value, "__dict__", ()))
    for field in type(value).__attrs_attrs__:
        if hasattr(value, field.name):
            state[field.name] = getattr(value, field.name)
    return state


def _state_of(state: Any) -> Handler:
    return lambda value, packer: ext(Code.STATE, [packer.wire(type(value)), packer.fields(state(value))])


def read_object_state(payload: list[Any], reader: Reader) -> Any:
    """An object from its attributes; those that the class has gained since take their defaults."""
    cls, state = payload
    if hasattr(cls, "__struct_fields__"):
        return cls(**state)
    made = object.__new__(cls)
    if dataclasses.is_dataclass(cls):
        for field in dataclasses.fields(cls):
            if field.name not in state and field.default_factory is not dataclasses.MISSING:
                state[field.name] = field.default_factory()
            elif field.name not in state and field.default is not dataclasses.MISSING:
                state[field.name] = field.default
    for name, value in state.items():
        object.__setattr__(made, name, value)
    return made


def _enum(value: Any, packer: Packer) -> Ext:
    # by name, since values change when members are added; only flags that are combined have none
    name = None if isinstance(value, enum.Flag) else value.name
    return ext(Code.ENUM, [packer.wire(type(value)), packer.wire(value.value) if name is None else name])


def _model(value: Any, packer: Packer) -> Ext:
    state = value.__getstate__()
    fields = {**state, "__dict__": packer.fields(state["__dict__"])}
    wired = {name: part if name == "__dict__" else packer.wire(part) for name, part in fields.items()}
    return ext(Code.MODEL, [packer.wire(type(value)), wired])


def read_object_model(payload: list[Any], reader: Reader) -> Any:
    """A pydantic model as it was, not validated again."""
    cls, state = payload
    made = cls.__new__(cls)
    made.__setstate__(state)
    return made


def _mson(value: Any, packer: Packer) -> Any:
    try:
        content = value.as_dict()
    except Exception as error:
        raise Unencodable(f"{type(value).__name__}.as_dict() failed: {type(error).__name__}: {error}") from error
    if not isinstance(content, dict):
        return pickled(value, packer)
    return ext(Code.MSON, [packer.wire(type(value)), packer.wire(_with_references(content))])


def _with_references(content: Any) -> Any:
    """as_dict has turned references inside into dicts as well: turn them back."""
    if isinstance(content, dict):
        if content.get("@class") == "OutputReference" and "uuid" in content:
            return OutputReference.from_dict(content)
        return {key: _with_references(item) for key, item in content.items()}
    if type(content) in (list, tuple):
        return type(content)(_with_references(item) for item in content)
    return content


def _json_base(kind: type) -> type | None:
    """The builtin that this subclass extends without attributes of its own."""
    base = next((base for base in _BUILTIN if issubclass(kind, base)), None)
    if base is None or not _inherits(kind, base, "__new__", "__init__", "__reduce__", "__reduce_ex__"):
        return None
    return base


_BUILTIN = (str, int, float, bytes, list, tuple, dict, set, frozenset)


def _jsonlike(value: Any, packer: Packer, base: type) -> Any:
    if getattr(value, "__dict__", None):
        return pickled(value, packer)
    return ext(Code.JSONLIKE, [packer.wire(type(value)), packer.wire(base(value))])


def _named(value: Any, packer: Packer) -> Any:
    """A function or class: by name where it has one, else by value."""
    name = names.name_of(value)
    return pickled(value, packer) if name is None else Ext(Code.NAME, name.encode())


def _method(value: Any, packer: Packer) -> Any:
    owner = value.__self__
    if getattr(owner, value.__name__, None) != value:
        return pickled(value, packer)
    return ext(Code.METHOD, [packer.wire(owner), value.__name__])


def pickled(value: Any, packer: Packer) -> Ext:
    """Last resort: cloudpickle, in which references stay references."""
    if not packer.allow_pickle:
        raise Unencodable(f"a {type(value).__name__} can only be pickled, and pickles are refused here")
    import cloudpickle

    class Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # untyped base
        def persistent_id(self, obj: Any) -> bytes | None:
            return pack(packer.reference(obj)) if type(obj) is OutputReference else None

        def reducer_override(self, obj: Any) -> Any:
            if packer.class_token is not None and isinstance(obj, type) and obj.__module__ == "__main__":
                # by value it bears a mark that is another in each process
                return (str, (packer.class_token(obj),)) if "<locals>" not in obj.__qualname__ else super().reducer_override(obj)
            return reduced(obj) if _is_told_by_its_state(obj) else super().reducer_override(obj)

    file = io.BytesIO()
    buffers: list[Any] = []
    outside = packer.buffers
    try:
        Pickler(file, protocol=5, buffer_callback=None if outside is None else lambda b: buffers.append(b.raw())).dump(value)
    except RecursionError:
        raise
    except Exception as error:
        why = f"a {type(value).__name__} cannot be pickled ({type(error).__name__}: {error}); give its class as_dict and "
        raise Unencodable(why + "from_dict, or pass plain data instead") from error
    return ext(Code.PICKLE, [packer.buffer(file.getvalue()), [packer.buffer(buffer) for buffer in buffers]])


_OWN_STATE = (OSError, UnicodeError, SyntaxError, ImportError, StopIteration, SystemExit, AttributeError, NameError)
"""Exceptions that keep more than `args` and `__dict__`."""


def _is_told_by_its_state(value: Any) -> bool:
    """Is it an exception of a class with an `__init__` of its own, which pickle would call with what is not its arguments?"""
    kind = type(value)
    if not isinstance(value, BaseException) or isinstance(value, (*_OWN_STATE, BaseExceptionGroup)):
        return False
    own = (getattr(kind, name) for name in ("__new__", "__reduce__", "__reduce_ex__", "__getstate__"))
    return isinstance(kind.__init__, types.FunctionType) and not any(isinstance(method, types.FunctionType) for method in own)


def reduced(error: BaseException) -> Any:
    """How pickle makes this exception again without calling its class."""
    return blank_exception, (type(error), error.args), error.__dict__ or None


def blank_exception(kind: type[BaseException], args: tuple[Any, ...]) -> BaseException:
    """An exception of these `args` whose `__init__` was not called; its name stands in pickles."""
    return kind.__new__(kind, *args)


def read_object_pickle(payload: list[Any], reader: Reader) -> Any:
    """What `pickled` wrote; refused unless the reader allows it."""
    if not reader.allow_pickle:
        raise refuse_pickle()
    import pickle

    class Unpickler(pickle.Unpickler):
        def persistent_load(self, pid: Any) -> Any:
            return reader.value(pid)

    data, buffers = payload
    return Unpickler(io.BytesIO(data), buffers=buffers).load()


def _datetime(value: Any, packer: Packer) -> Any:
    zone = _zone(value.tzinfo)
    if zone is Ellipsis:
        return pickled(value, packer)
    code = Code.DATETIME if isinstance(value, dt.datetime) else Code.TIME
    return ext(code, [value.replace(tzinfo=None, fold=0).isoformat(), zone, value.fold])


def _zone(zone: Any) -> Any:
    """The zone as plain data; Ellipsis for one that only a pickle can hold."""
    if zone is None:
        return None
    if zone is dt.UTC:
        return "utc"
    if type(zone) is dt.timezone:
        name = zone.tzname(None)
        seconds = zone.utcoffset(None).total_seconds()
        return ["offset", seconds, None if name == dt.timezone(zone.utcoffset(None)).tzname(None) else name]
    key = getattr(zone, "key", None)
    return ["zone", key] if type(zone).__module__ == "zoneinfo" and key else Ellipsis


def _timedelta(value: Any, packer: Packer) -> Any:
    return ext(Code.TIMEDELTA, [value.days, value.seconds, value.microseconds])


def _collection(value: Any, packer: Packer) -> Any:
    kind = type(value).__name__
    if kind == "deque":
        return ext(Code.COLLECTION, [kind, packer.items(value), value.maxlen])
    factory = packer.wire(value.default_factory) if kind == "defaultdict" else None
    return ext(Code.COLLECTION, [kind, packer.wire(dict(value)), factory])


def _triple(code: int) -> Handler:
    return lambda value, packer: ext(code, packer.items([value.start, value.stop, value.step]))


_STANDARD: dict[type, Handler] = {
    dt.datetime: _datetime,
    dt.time: _datetime,
    dt.date: lambda value, packer: Ext(Code.DATE, value.isoformat().encode()),
    dt.timedelta: _timedelta,
    Decimal: lambda value, packer: Ext(Code.DECIMAL, str(value).encode()),
    UUID: lambda value, packer: Ext(Code.UUID, value.bytes),
    Fraction: lambda value, packer: ext(Code.FRACTION, packer.items([value.numerator, value.denominator])),
    range: _triple(Code.RANGE),
    slice: _triple(Code.SLICE),
    OrderedDict: _collection,
    defaultdict: _collection,
    Counter: _collection,
    deque: _collection,
}

assert not PLAIN & _STANDARD.keys()

"""Bytes to values: msgpack, with one function for each extension.

A `Reader` says what references become, whether pickles are allowed, and where large buffers lie. Values with no extension
inside never meet it. What is read is private to the caller, but for the buffers of a `join`, which are read-only views.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Sequence
from decimal import Decimal
from enum import Flag
from fractions import Fraction
from typing import Any, NamedTuple
from uuid import UUID

import msgspec

from towline.engine.authoring.reference import OutputReference
from towline.engine.codec import names
from towline.engine.codec.wire import Code
from towline.engine.errors import CorruptionError, TowlineError, UsageError


class Content(NamedTuple):
    """A large value taken apart: what `split` gives and `join` takes."""

    header: bytes
    buffers: Sequence[Any]


InputOf = Callable[[int, list[tuple[str, Any]], str | None], Any]
"""Number of the parent, path, uuid where it was written: what stands for that input."""

FreeOf = Callable[[OutputReference], Any]
"""What stands for a reference that is a value."""


class Reader:
    """How one value is read."""

    __slots__ = ("allow_pickle", "buffers", "free", "input_of")

    def __init__(
        self,
        *,
        input_of: InputOf | None = None,
        free: FreeOf | None = None,
        allow_pickle: bool = True,
        buffers: Sequence[Any] = (),
    ) -> None:
        self.input_of = input_of
        self.free = free
        self.allow_pickle = allow_pickle
        self.buffers = buffers

    def value(self, data: Any) -> Any:
        """The value that these bytes hold."""
        return msgspec.msgpack.decode(data, ext_hook=self.extension)

    def extension(self, code: int, data: memoryview) -> Any:
        """msgspec's hook: the value behind one extension."""
        try:
            read = READERS[code]
        except KeyError:
            raise CorruptionError(
                f"a stored value has the unknown extension {code}; it was written by a newer towline, or is damaged"
            ) from None
        return read(data, self)


def decode(
    data: Any,
    *,
    input_of: InputOf | None = None,
    free: FreeOf | None = None,
    allow_pickle: bool = True,
) -> Any:
    """The value behind these bytes.

    References to parents become what `input_of` says, other references what `free` says (by default the reference itself).
    CorruptionError if the bytes are no value; UsageError for a pickle when `allow_pickle` is False; whatever importing and
    rebuilding the objects raises.
    """
    if input_of is None and free is None and allow_pickle:
        try:
            return _decode_trusting(data)
        except msgspec.DecodeError:
            pass  # again below, for the message
    return _read(Reader(input_of=input_of, free=free, allow_pickle=allow_pickle), data)


def join(header: Any, buffers: Sequence[Any], *, free: FreeOf | None = None, allow_pickle: bool = True) -> Any:
    """The value that `split` took apart. Arrays and tables lie on the buffers themselves: read-only, and nothing is copied."""
    return _read(Reader(free=free, allow_pickle=allow_pickle, buffers=buffers), header)


def stub_token(data: Any) -> bytes | None:
    """The token that `stub` wrote, or None if these bytes are a value."""
    # a stub is one extension and nothing else: fixext, ext 8 or ext 16 with our number at its known place
    place = _FIRST.get(data[0] if data else 0)
    if place is None or len(data) <= place or data[place] != Code.FILE:
        return None
    return bytes(msgspec.msgpack.decode(data).data)


# first byte of a msgpack extension to the offset of its number
_FIRST = {0xD4: 1, 0xD5: 1, 0xD6: 1, 0xD7: 1, 0xD8: 1, 0xC7: 2, 0xC8: 3, 0xC9: 5}


def _read(reader: Reader, data: Any) -> Any:
    try:
        return msgspec.msgpack.decode(data, ext_hook=reader.extension)
    except msgspec.DecodeError as error:
        raise CorruptionError(f"these bytes are no stored value: {error}") from error


def _input(data: memoryview, reader: Reader) -> Any:
    number, *rest = msgspec.msgpack.decode(data, ext_hook=reader.extension)
    if reader.input_of is None:
        raise TowlineError("a stored value refers to an input, but is read where there are no inputs")
    return reader.input_of(number, _steps(rest[0]) if rest else [], rest[1] if len(rest) > 1 else None)


def _reference(data: memoryview, reader: Reader) -> Any:
    uuid, path, schema = reader.value(data)
    ref = OutputReference(uuid, tuple(_steps(path)), schema)
    return ref if reader.free is None else reader.free(ref)


def _steps(path: list[Any]) -> list[tuple[str, Any]]:
    return list(zip(path[::2], path[1::2], strict=True))


def _pairs(data: memoryview, reader: Reader) -> dict[Any, Any]:
    flat = reader.value(data)
    return dict(zip(flat[::2], flat[1::2], strict=True))


def _datetime(data: memoryview, reader: Reader) -> dt.datetime:
    text, zone, fold = reader.value(data)
    return dt.datetime.fromisoformat(text).replace(tzinfo=_zone(zone), fold=fold)


def _time(data: memoryview, reader: Reader) -> dt.time:
    text, zone, fold = reader.value(data)
    return dt.time.fromisoformat(text).replace(tzinfo=_zone(zone), fold=fold)


def _zone(zone: Any) -> dt.tzinfo | None:
    match zone:
        case None:
            return None
        case "utc":
            return dt.UTC
        case ["offset", seconds, None]:
            return dt.timezone(dt.timedelta(seconds=seconds))
        case ["offset", seconds, str(name)]:
            return dt.timezone(dt.timedelta(seconds=seconds), name)
        case ["zone", key]:
            from zoneinfo import ZoneInfo

            return ZoneInfo(key)
        case _:
            raise CorruptionError(f"a stored time has the unknown zone {zone!r}")


def _path(data: memoryview, reader: Reader) -> Any:
    import pathlib

    name, text = reader.value(data)
    if name not in ("PurePosixPath", "PureWindowsPath", "PosixPath", "WindowsPath"):
        raise CorruptionError(f"a stored path is of the unknown class {name!r}")
    # a WindowsPath cannot be made on Linux, nor the other way round
    made = pathlib.Path if name in ("PosixPath", "WindowsPath") else getattr(pathlib, name)
    return made(text)


def _enum(data: memoryview, reader: Reader) -> Any:
    cls, value = reader.value(data)
    return cls[value] if isinstance(value, str) and not issubclass(cls, Flag) else cls(value)


def _namedtuple(data: memoryview, reader: Reader) -> Any:
    cls, items = reader.value(data)
    return cls._make(items)


def _mson(data: memoryview, reader: Reader) -> Any:
    cls, content = reader.value(data)
    return cls.from_dict(content)


def _method(data: memoryview, reader: Reader) -> Any:
    owner, name = reader.value(data)
    return getattr(owner, name)


def _jsonlike(data: memoryview, reader: Reader) -> Any:
    cls, value = reader.value(data)
    return cls(value)


def _collection(data: memoryview, reader: Reader) -> Any:
    kind, content, extra = reader.value(data)
    match kind:
        case "OrderedDict":
            return OrderedDict(content)
        case "defaultdict":
            return defaultdict(extra, content)
        case "Counter":
            return Counter(content)
        case "deque":
            return deque(content, extra)
        case _:
            raise CorruptionError(f"a stored value is of the unknown collection {kind!r}")


def _file(data: memoryview, reader: Reader) -> Any:
    raise TowlineError("a stored value is a file, but is read where there are no files")


def _buffer(data: memoryview, reader: Reader) -> Any:
    number, *as_bytes = reader.value(data)
    view = memoryview(reader.buffers[number]).cast("B")
    return bytes(view) if as_bytes else view


def _late(name: str) -> Callable[[memoryview, Reader], Any]:
    """A reader in a module that is only loaded when it is needed."""

    def read(data: memoryview, reader: Reader) -> Any:
        from towline.engine.codec import arrays, others

        return getattr(others if name.startswith("read_object") else arrays, name)(reader.value(data), reader)

    return read


READERS: dict[int, Callable[[memoryview, Reader], Any]] = {
    Code.INPUT: _input,
    Code.REFERENCE: _reference,
    Code.TUPLE: lambda data, reader: tuple(reader.value(data)),
    Code.SET: lambda data, reader: set(reader.value(data)),
    Code.FROZENSET: lambda data, reader: frozenset(reader.value(data)),
    Code.PAIRS: _pairs,
    Code.BIGINT: lambda data, reader: int.from_bytes(data, "little", signed=True),
    Code.COMPLEX: lambda data, reader: complex(*reader.value(data)),
    Code.TEXT: lambda data, reader: bytes(data).decode("utf-8", "surrogatepass"),
    Code.BYTEARRAY: lambda data, reader: bytearray(data),
    Code.DATETIME: _datetime,
    Code.DATE: lambda data, reader: dt.date.fromisoformat(bytes(data).decode()),
    Code.TIME: _time,
    Code.TIMEDELTA: lambda data, reader: dt.timedelta(*reader.value(data)),
    Code.DECIMAL: lambda data, reader: Decimal(bytes(data).decode()),
    Code.UUID: lambda data, reader: UUID(bytes=bytes(data)),
    Code.PATH: _path,
    Code.FRACTION: lambda data, reader: Fraction(*reader.value(data)),
    Code.RANGE: lambda data, reader: range(*reader.value(data)),
    Code.SLICE: lambda data, reader: slice(*reader.value(data)),
    Code.ENUM: _enum,
    Code.NAMEDTUPLE: _namedtuple,
    Code.STATE: _late("read_object_state"),
    Code.MODEL: _late("read_object_model"),
    Code.MSON: _mson,
    Code.NAME: lambda data, reader: names.find(bytes(data).decode()),
    Code.COLLECTION: _collection,
    Code.NDARRAY: _late("read_ndarray"),
    Code.SCALAR: _late("read_scalar"),
    Code.ARROW: _late("read_arrow"),
    Code.FRAME: _late("read_frame"),
    Code.PICKLE: _late("read_object_pickle"),
    Code.METHOD: _method,
    Code.BUFFER: _buffer,
    Code.FILE: _file,
    Code.JSONLIKE: _jsonlike,
}


_decode_trusting = msgspec.msgpack.Decoder(ext_hook=Reader().extension).decode


def refuse_pickle() -> UsageError:
    """What a reader that allows no pickles says."""
    return UsageError("a stored value is a pickle, and pickles are refused here; read it with allow_pickle=True if you trust it")

"""The table of extensions, and what both directions share. A number, once given, keeps its meaning for ever.

The payload of an extension is msgpack of its own (which may hold further extensions) unless its line says otherwise.
Integers inside raw payloads are little-endian.
"""

from __future__ import annotations

from typing import Any

import msgspec


class Code:
    """Extension numbers."""

    INPUT = 1
    """[number of the parent, path, uuid or nil]: the output of one of the job's own parents."""
    REFERENCE = 2
    """[uuid, path, schema or nil]: a reference that is a value, resolved by whoever reads it."""
    TUPLE = 3
    """The items."""
    SET = 4
    """The items, sorted by their bytes."""
    FROZENSET = 5
    """As SET."""
    PAIRS = 6
    """[k1, v1, k2, v2, ...]: a dict whose keys msgpack has no word for."""
    BIGINT = 7
    """Raw: two's complement."""
    COMPLEX = 8
    """[real, imaginary]."""
    TEXT = 9
    """Raw: UTF-8 with lone surrogates let through."""
    BYTEARRAY = 10
    """Raw."""
    DATETIME = 11
    """[ISO text without zone, zone, fold]; zone is nil, "utc", ["offset", seconds, name or nil] or ["zone", key]."""
    DATE = 12
    """Raw: ISO text."""
    TIME = 13
    """As DATETIME."""
    TIMEDELTA = 14
    """[days, seconds, microseconds]."""
    DECIMAL = 15
    """Raw: text."""
    UUID = 16
    """Raw: 16 bytes."""
    PATH = 17
    """[class name in pathlib, text]."""
    FRACTION = 18
    """[numerator, denominator]."""
    RANGE = 19
    """[start, stop, step]."""
    SLICE = 20
    """[start, stop, step]."""
    ENUM = 21
    """[class, name]; [class, value] for flags."""
    NAMEDTUPLE = 22
    """[class, items]."""
    STATE = 23
    """[class, {attribute: value}]: dataclasses, attrs classes and msgspec Structs, rebuilt without their constructor."""
    MODEL = 24
    """[class, state]: a pydantic model, as its own pickling support takes it apart."""
    MSON = 25
    """[class, dict]: anything with as_dict and from_dict."""
    NAME = 26
    """Raw: `module:qualname` of a function or class."""
    COLLECTION = 27
    """[kind, content, extra]: OrderedDict, defaultdict, Counter, deque."""
    NDARRAY = 28
    """[dtype as numpy.lib.format describes it, shape, "C" or "F", bytes]."""
    SCALAR = 29
    """[dtype, bytes]: a numpy scalar."""
    ARROW = 30
    """[kind, Arrow IPC stream]; for a tensor [kind, Arrow IPC tensor message, names of its dimensions]."""
    FRAME = 31
    """[kind, name, Arrow IPC stream]: a pandas object that Arrow holds without loss."""
    PICKLE = 32
    """[pickle, [buffers]]: cloudpickle, protocol 5; persistent ids are the msgpack of a reference."""
    METHOD = 33
    """[object, name]: a bound method."""
    BUFFER = 34
    """[number], a view of the bytes beside the header; or [number, true], a copy of them as bytes."""
    FILE = 35
    """Raw: the file layer's token for content that is a file."""
    JSONLIKE = 36
    """[class, value]: a subclass of str, int, float, bytes, list, tuple, dict or set, without attributes of its own."""


Ext = msgspec.msgpack.Ext

PLAIN = frozenset({type(None), bool, int, float, str, bytes})
"""Types that msgpack keeps as they are (but for very long ints and lone surrogates)."""

BESIDE_FROM = 16 * 1024
"""Buffers from this many bytes on lie beside the header when a value is split."""


class Unencodable(Exception):
    """A part of a value has no encoding. `steps` grows while the error travels outwards, innermost step first."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why
        self.steps: list[str] = []

    def at(self, step: str) -> Unencodable:
        """The same error, one container further out."""
        self.steps.append(step)
        return self

    def sentence(self, root: str) -> str:
        """What the caller is told: where, and why."""
        return f"{root}{''.join(reversed(self.steps))} cannot be stored: {self.why}"


pack = msgspec.msgpack.Encoder().encode
"""Plain msgpack, for trees that `packing` has prepared."""


def ext(code: int, payload: Any) -> Ext:
    """An extension whose payload is msgpack."""
    return Ext(code, pack(payload))

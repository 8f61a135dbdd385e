"""Values to bytes: a tree of what msgpack knows, with extensions where it knows nothing.

Most values need no tree at all: a glance at the types inside a list tells that msgspec may have it as it is. Everything else
is dispatched on its exact type; a type that is met for the first time is looked up once (`others`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from towline.engine.authoring.reference import OutputReference
from towline.engine.codec.wire import BESIDE_FROM, PLAIN, Code, Ext, Unencodable, ext, pack
from towline.engine.errors import EncodingError

_INT_MIN, _INT_MAX = -(2**63), 2**64 - 1
_PLAIN_INPUTS = [ext(Code.INPUT, [number]) for number in range(256)]

_SIMPLE = PLAIN | {OutputReference}

Handler = Callable[[Any, "Packer"], Any]


class Packer:
    """One value on its way to bytes: how references are written, what was found, and where large buffers go."""

    __slots__ = ("allow_pickle", "buffers", "careful", "class_token", "free", "named", "numbers", "references")

    def __init__(self, *, numbers: dict[str, int] | None = None, named: bool = False, allow_pickle: bool = True) -> None:
        self.numbers = numbers
        """uuid to number of the parent, filled as references are met; None: references are written as values."""
        self.named = named
        """Write the uuid beside the number."""
        self.free: Collection[str] = ()
        """uuids whose references are written as values all the same."""
        self.references: dict[OutputReference, None] = {}
        """Those met, in order."""
        self.buffers: list[Any] | None = None
        """Where large buffers are put; None: inline."""
        self.careful = False
        """Trust no shortcut: some int is too long or some text no UTF-8."""
        self.allow_pickle = allow_pickle
        self.class_token: Callable[[type], str] | None = None
        """What stands for a class of the main program in a pickle that is only hashed; None: the class, by value."""

    def bytes_of(self, value: Any) -> bytes:
        """The whole value, at the second try with care."""
        try:
            return pack(self.wire(value))
        except (OverflowError, UnicodeEncodeError):
            if self.buffers is not None:
                self.buffers.clear()
            self.careful = True
            return pack(self.wire(value))

    def wire(self, value: Any) -> Any:
        """What msgspec is to write for this value."""
        kind = type(value)
        if kind in PLAIN:
            if kind is bytes and self.buffers is not None and len(value) >= BESIDE_FROM:
                self.buffers.append(value)
                return ext(Code.BUFFER, [len(self.buffers) - 1, True])
            return self._careful(value) if self.careful else value
        handler = HANDLERS.get(kind)
        if handler is None:
            from towline.engine.codec import others

            handler = others.handler_for(kind)
        return handler(value, self)

    def items(self, values: Sequence[Any] | Iterable[Any]) -> list[Any]:
        """Each value in turn; an error learns its place."""
        out: list[Any] = []
        try:
            for value in values:
                out.append(value if type(value) in PLAIN and not self.careful else self.wire(value))
        except Unencodable as error:
            raise error.at(f"[{len(out)}]") from None
        return out

    def fields(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The attributes of an object; an error learns its place."""
        out: dict[str, Any] = {}
        name = ""
        try:
            for name, value in values.items():
                out[name] = self.wire(value)
        except Unencodable as error:
            raise error.at(f".{name}") from None
        return out

    def buffer(self, data: Any) -> Any:
        """Bytes, here or beside the header. `data` has the buffer protocol and is contiguous."""
        view = memoryview(data).cast("B") if not isinstance(data, bytes) else data
        if self.buffers is None or len(view) < BESIDE_FROM:
            return view
        self.buffers.append(data)
        return ext(Code.BUFFER, [len(self.buffers) - 1])

    def reference(self, ref: OutputReference) -> Ext:
        """A reference, as a parent's number or as a value."""
        self.references[ref] = None
        if self.numbers is None or ref.uuid in self.free:
            schema = None if ref.output_schema is None else self.wire(ref.output_schema)
            return ext(Code.REFERENCE, [ref.uuid, self._path(ref), schema])
        number = self.numbers.setdefault(ref.uuid, len(self.numbers))
        if not self.named:
            return ext(Code.INPUT, [number, self._path(ref)]) if ref.attributes else ext(Code.INPUT, [number])
        return ext(Code.INPUT, [number, self._path(ref), ref.uuid])

    def _path(self, ref: OutputReference) -> list[Any]:
        return [self.wire(part) for step in ref.attributes for part in step]

    @staticmethod
    def _careful(value: Any) -> Any:
        if type(value) is int and not _INT_MIN <= value <= _INT_MAX:
            return Ext(Code.BIGINT, value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True))
        if type(value) is str and not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError:
                return Ext(Code.TEXT, value.encode("utf-8", "surrogatepass"))
        return value


def _list(value: list[Any], packer: Packer) -> Any:
    if not packer.careful and PLAIN.issuperset(map(type, value)):
        return value
    return packer.items(value)


def _tuple(value: tuple[Any, ...], packer: Packer) -> Ext:
    return ext(Code.TUPLE, _list(value, packer))  # type: ignore[arg-type]  # msgspec writes both as an array


def _dict(value: dict[Any, Any], packer: Packer) -> Any:
    if packer.careful or not PLAIN.issuperset(map(type, value)):
        return _pairs(value, packer)
    if PLAIN.issuperset(map(type, value.values())):
        return value
    out: dict[Any, Any] = {}
    key: Any = None
    try:
        for key, item in value.items():
            out[key] = packer.wire(item)
    except Unencodable as error:
        raise error.at(f"[{key!r}]") from None
    return out


def _pairs(value: dict[Any, Any], packer: Packer) -> Any:
    pairs: list[Any] = []
    for key, item in value.items():
        met = len(packer.references)
        try:
            pairs.append(packer.wire(key))
            if isinstance(key, OutputReference) or len(packer.references) > met:
                raise Unencodable("a reference cannot be part of a dictionary key; build the dictionary in a job instead")
            pairs.append(packer.wire(item))
        except Unencodable as error:
            raise error.at(f"[{key!r}]") from None
    if PLAIN.issuperset(map(type, pairs[::2])):
        return dict(zip(pairs[::2], pairs[1::2], strict=True))
    return ext(Code.PAIRS, pairs)


def _set(value: Any, packer: Packer) -> Ext:
    from msgspec import Raw

    # sorted, so that equal sets have equal bytes whatever the hash seed
    items = sorted(pack(item) for item in packer.items(value))
    return ext(Code.FROZENSET if type(value) is frozenset else Code.SET, [Raw(item) for item in items])


HANDLERS: dict[type, Handler] = {
    list: _list,
    tuple: _tuple,
    dict: _dict,
    set: _set,
    frozenset: _set,
    OutputReference: lambda value, packer: packer.reference(value),
    complex: lambda value, packer: ext(Code.COMPLEX, [value.real, value.imag]),
    bytearray: lambda value, packer: Ext(Code.BYTEARRAY, bytes(value)),
}
"""Exact type to handler; `others` adds what it has looked up."""


def encode(value: Any, *, allow_pickle: bool = True, root: str = "value") -> bytes:
    """A value's bytes; references are written as values. EncodingError names the place of what has no encoding."""
    if type(value) in PLAIN:
        try:
            return pack(value)
        except (OverflowError, UnicodeEncodeError):
            pass
    return _told(Packer(allow_pickle=allow_pickle), value, root)


def encode_call(
    args: Sequence[Any],
    kwargs: dict[str, Any],
    *,
    numbers: dict[str, int] | None = None,
    named: bool = False,
    allow_pickle: bool = True,
    free: Collection[str] = (),
    met: list[OutputReference] | None = None,
) -> bytes:
    """The arguments of a job as `[args, kwargs]`.

    With `numbers` each reference becomes the number of its parent: new uuids are numbered on from `len(numbers)`, in the
    order in which they are met. `named` keeps the uuid beside the number; references to `free` uuids stay values. The
    references are added to `met`.
    """
    if PLAIN.issuperset(map(type, args)) and (not kwargs or PLAIN.issuperset(map(type, kwargs.values()))):
        try:
            return pack((args, kwargs))
        except (OverflowError, UnicodeEncodeError):
            pass
    elif numbers is not None and not named and met is None and not free and not kwargs and _SIMPLE.issuperset(map(type, args)):
        try:
            return pack(([_input(arg, numbers) if type(arg) is OutputReference else arg for arg in args], kwargs))
        except (OverflowError, UnicodeEncodeError):
            pass
    packer = Packer(numbers=numbers, named=named, allow_pickle=allow_pickle)
    packer.free = free
    data = _call(packer, args, kwargs)
    if met is not None:
        met.extend(packer.references)
    return data


def _input(ref: OutputReference, numbers: dict[str, int]) -> Ext:
    """A reference as its parent's number, without a Packer (the usual case of a chain)."""
    number = numbers.setdefault(ref.uuid, len(numbers))
    if not ref.attributes:
        return _PLAIN_INPUTS[number] if number < len(_PLAIN_INPUTS) else ext(Code.INPUT, [number])
    steps = [part for step in ref.attributes for part in step]
    return ext(Code.INPUT, [number, steps if PLAIN.issuperset(map(type, steps)) else Packer().items(steps)])


def encode_call_noting(args: Sequence[Any], kwargs: dict[str, Any]) -> tuple[bytes, list[OutputReference]]:
    """The arguments with references as values, and the references that were met."""
    packer = Packer()
    data = _call(packer, args, kwargs)
    return data, list(packer.references)


def split(
    value: Any, *, allow_pickle: bool = True, root: str = "value", class_token: Callable[[type], str] | None = None
) -> tuple[bytes, list[Any]]:
    """A header and the large buffers beside it (objects with the buffer protocol, not copied).

    Without any buffer the header is exactly what `encode` gives. With `class_token` it can only be hashed: see `Packer`.
    """
    packer = Packer(allow_pickle=allow_pickle)
    packer.class_token = class_token
    packer.buffers = []
    return _told(packer, value, root), packer.buffers


def encode_content(value: Any, limit: int, *, allow_pickle: bool = True, root: str = "value") -> Any:
    """The bytes of a value if they are at most `limit`, else (header, buffers) as by `split`."""
    header, buffers = split(value, allow_pickle=allow_pickle, root=root)
    return header if not buffers and len(header) <= limit else (header, buffers)


def stub(token: bytes) -> bytes:
    """What stands in a record for a value whose content is the file that `token` names."""
    return pack(Ext(Code.FILE, token))


def references_in(value: Any) -> list[OutputReference]:
    """The references inside a value, each once, in the order in which they are met."""
    if isinstance(value, OutputReference):
        return [value]
    if type(value) in PLAIN:
        return []
    packer = Packer()
    _told(packer, value, "value")
    return list(packer.references)


def _call(packer: Packer, args: Sequence[Any], kwargs: dict[str, Any]) -> bytes:
    try:
        return _guarded(packer, [list(args), kwargs])
    except Unencodable as error:
        # the outermost step tells args from kwargs
        root = "args" if error.steps.pop() == "[0]" else "kwargs"
        raise EncodingError(error.sentence(root)) from error.__cause__


def _told(packer: Packer, value: Any, root: str) -> bytes:
    try:
        return _guarded(packer, value)
    except Unencodable as error:
        raise EncodingError(error.sentence(root)) from error.__cause__


def _guarded(packer: Packer, value: Any) -> bytes:
    try:
        return packer.bytes_of(value)
    except RecursionError:
        raise EncodingError("the value is nested too deeply, or contains itself; store it flat") from None

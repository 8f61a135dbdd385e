"""What a function does, as a hash: its code, what it closes over, and the code and constants of ours that it names.

Code is taken as Python has compiled it, so that comments and layout do not count, what was edited in a file but not loaded does
not either, and a function that travelled by value has the hash that it had at home; it also makes the hash one of a Python
version. Followed are names that the code mentions: functions, classes, constants and modules that somebody works on, that is,
neither the standard library nor installed packages, of which the name alone counts. What no walk can see (files, environment, an
attribute looked up by text, the classes of arguments) is what a version given by hand is for.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Iterator
from functools import partial
from hashlib import blake2b
from pathlib import PurePath
from typing import Any

import msgspec

from towline.engine.codec.wire import PLAIN
from towline.engine.errors import EncodingError

_INSTALLED = {"site-packages", "dist-packages"}
_OF_A_CLASS = (types.FunctionType, staticmethod, classmethod, property)

_DEEPEST = 40
"""What lies further from the function than so many steps does not count (the end of a long linked list)."""

Token = list[Any]


def fingerprint(function: Callable[..., Any], owner: type | None = None) -> str:
    """32 hex digits; `owner` is the class whose method it is, if it is one: the whole class counts then."""
    walk = _Walk(_package(function))
    walk.token((sys.implementation.cache_tag, function, owner))
    shapes, mentions = [], []
    for thing in walk.found:  # grows meanwhile
        shapes.append(msgspec.msgpack.encode(walk.described(thing)))
        mentions.append(walk.mentioned())
    # One hash a thing, of its own shape and of the hashes of what it mentions, again and again: so things that are alike have one
    # hash, however many copies of them a journey has made. The number of rounds is part of the hash.
    hashes = [b""] * len(shapes)
    for _ in range(_DEEPEST):
        hashes = [_hash(shape, *(hashes[at] for at in at_all)) for shape, at_all in zip(shapes, mentions, strict=True)]
    return hashes[0].hex()


def _hash(*parts: bytes) -> bytes:
    return blake2b(msgspec.msgpack.encode(parts), digest_size=16).digest()


def _package(thing: Any) -> str:
    return str(getattr(thing, "__module__", None) or "").partition(".")[0]


class _Walk:
    """Things that were met, in order; each is described once, and mentions others by their numbers, which stand aside."""

    def __init__(self, home: str) -> None:
        self.found: list[Any] = []
        self._home = home
        self._numbers: dict[int, int] = {}
        """By identity: `found` keeps the things alive."""
        self._mentions: list[int] = []

    def mentioned(self) -> list[int]:
        """The numbers of what was mentioned since this was asked last."""
        mentions, self._mentions = self._mentions, []
        return mentions

    def token(self, thing: Any) -> Token:
        """What stands for a thing where it is mentioned."""
        if type(thing) in PLAIN:
            return [type(thing).__name__, repr(thing)]
        number = self._numbers.get(id(thing))
        if number is None:
            number = self._numbers[id(thing)] = len(self.found)
            self.found.append(thing)
        self._mentions.append(number)
        return ["see"]

    def tokens(self, things: Any) -> list[Token]:
        """The same for many."""
        return [self.token(thing) for thing in things]

    def described(self, thing: Any) -> Token:
        """A thing by what it is made of."""
        match thing:
            case types.FunctionType():
                return self._function(thing) if self._is_ours(thing) else _named(thing)
            case type():
                return self._class(thing) if self._is_ours(thing) else _named(thing)
            case types.MethodType():
                return ["method", *self.tokens((thing.__func__, thing.__self__))]
            case types.ModuleType():
                return ["module", thing.__name__]
            case partial():
                return ["partial", *self.tokens((thing.func, thing.args, thing.keywords))]
            case staticmethod() | classmethod():
                return [type(thing).__name__, self.token(thing.__func__)]
            case property():
                return ["property", *self.tokens((thing.fget, thing.fset, thing.fdel))]
            case list() | tuple():
                return [type(thing).__name__, *self.tokens(thing)]
            case dict():
                return ["dict", *(self.tokens(pair) for pair in thing.items())]
        wrapped = getattr(thing, "__wrapped__", None)
        return ["wrapped", self.token(wrapped)] if callable(wrapped) else self._object(thing)

    def _function(self, function: types.FunctionType) -> Token:
        code = function.__code__
        return [
            "function",
            self._code(code),
            self.token(function.__defaults__),
            self.token(function.__kwdefaults__),
            [self.token(_content(cell)) for cell in function.__closure__ or ()],
            [[name, self.token(value)] for name, value in self._meant(set(_names(code)), function.__globals__)],
        ]

    def _meant(self, names: set[str], given: dict[str, Any]) -> Iterator[tuple[str, Any]]:
        """What these names mean: globals, and what lies under them in modules of ours."""
        inside, seen = [("", given)], {id(given)}
        for path, space in inside:
            for name in sorted(names & space.keys()):
                value = space[name]
                yield path + name, value
                if isinstance(value, types.ModuleType) and id(vars(value)) not in seen and self._is_ours(value):
                    seen.add(id(vars(value)))
                    inside.append((f"{path}{name}.", vars(value)))

    def _code(self, code: types.CodeType) -> Token:
        return [
            code.co_code, code.co_exceptiontable, code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars,
            code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags,
            [self._constant(constant) for constant in code.co_consts],
        ]  # fmt: skip

    def _constant(self, constant: Any) -> Any:
        if isinstance(constant, types.CodeType):
            return self._code(constant)
        if isinstance(constant, tuple):
            return ["tuple", *map(self._constant, constant)]
        if isinstance(constant, frozenset):
            return ["frozenset", *sorted(map(repr, constant))]  # their order is that of the hash seed
        return [type(constant).__name__, repr(constant)]

    def _class(self, kind: type) -> Token:
        members: list[Any] = []
        for name, value in sorted(vars(kind).items()):
            if isinstance(value, _OF_A_CLASS) or not (name.startswith("__") and name.endswith("__")):
                members.append([name, self.token(value)])
        return ["class", *_named(kind), self.tokens(kind.__bases__), members]

    def _object(self, thing: Any) -> Token:
        from towline.engine import codec

        kind = type(thing)
        try:
            return ["value", codec.encode(thing, allow_pickle=False), self.token(kind) if self._is_ours(kind) else []]
        except EncodingError:
            attributes = getattr(thing, "__dict__", None)
        if not self._is_ours(kind) or not isinstance(attributes, dict):
            return _named(thing if hasattr(thing, "__qualname__") else kind)
        return ["object", self.token(kind), *(self.tokens(pair) for pair in sorted(attributes.items()))]

    def _is_ours(self, thing: Any) -> bool:
        """Does somebody work on this code, rather than install it?"""
        module = thing.__name__ if isinstance(thing, types.ModuleType) else str(getattr(thing, "__module__", None) or "")
        package = module.partition(".")[0]
        if package in (self._home, "__main__"):
            return True
        file = getattr(sys.modules.get(module), "__file__", None)
        if file is None or package in sys.stdlib_module_names or package == "towline":
            return False
        return _INSTALLED.isdisjoint(PurePath(file).parts)


def _names(code: types.CodeType) -> Iterator[str]:
    """All names that the code, or code inside it, looks up."""
    inside = [code]
    for part in inside:
        yield from part.co_names
        inside += [constant for constant in part.co_consts if isinstance(constant, types.CodeType)]


def _content(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # it is empty
        return "(empty)"


def _named(thing: Any) -> Token:
    return ["named", str(getattr(thing, "__module__", "")), str(getattr(thing, "__qualname__", type(thing).__name__))]

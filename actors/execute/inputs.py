"""The inputs of one job: each parent's output decoded once, when a reference to it is first met, and followed to its end.

An output may itself hold references (a job may return one to a job that it added): those are fetched and resolved in the same
way, however deep; a reference that leads back to itself is an error.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from towline.actors.execute.failures import OfTheMachine, Unresolved
from towline.engine import codec, model
from towline.engine.authoring.reference import OnMissing, OutputReference, ResolvedReference, follow, unresolved
from towline.engine.codec import mson
from towline.engine.errors import TowlineError, UsageError


class Sources(NamedTuple):
    """Where values come from that a lease does not bring."""

    fetch: Callable[[str, int], bytes | None]
    load_content: Callable[[bytes], tuple[bytes, Sequence[Any]]] | None
    allow_pickle: bool
    whole: Callable[[Any], Any] = lambda value: value
    """Puts parts of an output back that lie elsewhere."""


_BEING_READ = object()


class Inputs:
    """What the references of one job's arguments become."""

    __slots__ = ("_both", "_compat", "_fetched", "_given", "_on_missing", "_sources", "_values")

    def __init__(
        self,
        sources: Sources,
        given: Sequence[bytes | model.Input],
        on_missing: str,
        resolve: bool | str,
        compat: str = "",
    ) -> None:
        self._sources = sources
        self._compat = compat
        self._given = given
        self._on_missing = on_missing
        self._both = resolve == "both"
        self._values: dict[int, Any] = {}
        self._fetched: dict[str, Any] | None = None
        """Values of references inside outputs: rare, so made when needed."""

    def read(self, args: bytes) -> list[Any]:
        """`[args, kwargs]` with every reference replaced. Raises Unresolved, RuntimeError for a cycle of references."""
        arguments: list[Any] = codec.decode(args, input_of=self._input, allow_pickle=self._sources.allow_pickle)
        return arguments

    def read_as_jobflow(self, args: bytes, bound: bool) -> list[Any]:
        """The same as jobflow hands them over: with a reference anywhere in args, or in kwargs, all beside it loses its type.

        `bound`: the first argument is the object that a method is bound to, which jobflow leaves alone.
        """
        numbers: dict[str, int] = {}

        def reference(number: int, path: list[tuple[str, Any]], uuid: str | None) -> OutputReference:
            numbers[str(uuid)] = number
            return OutputReference(str(uuid), tuple(path))

        positional, named = codec.decode(args, input_of=reference, allow_pickle=self._sources.allow_pickle)
        owner, rest = (positional[:1], positional[1:]) if bound else ([], positional)
        return [[*owner, *self._round_trip(rest, numbers)], self._round_trip(named, numbers)]

    def _round_trip(self, part: Any, numbers: dict[str, int]) -> Any:
        if not codec.references_in(part):
            return part

        def filled(data: Any) -> Any:
            if isinstance(data, list):
                return [filled(item) for item in data]
            if not isinstance(data, dict):
                return data
            if data.get("@class") != "OutputReference":
                return {key: filled(item) for key, item in data.items()}
            ref = OutputReference.from_dict(data)
            return self._input(numbers[ref.uuid], list(ref.attributes), ref.uuid)

        return mson.revive(filled(mson.sanitize(part)))

    def _input(self, number: int, path: list[tuple[str, Any]], uuid: str | None) -> Any:
        given = self._given[number]
        if isinstance(given, model.Input):
            value = self._missing(given.uuid, path)
        else:
            if number not in self._values:
                value = self._read(given)
                self._values[number] = mson.revive(mson.sanitize(value)) if self._compat else value
            value = self._values[number]
            if path:
                value = _followed(value, path, uuid or f"input {number}")
        return ResolvedReference(uuid or "", tuple(path), value) if self._both else value

    def _missing(self, uuid: str, path: Sequence[tuple[str, Any]]) -> Any:
        if self._on_missing == OnMissing.NONE:
            return None
        if self._on_missing == OnMissing.PASS:
            return OutputReference(uuid, tuple(path))
        raise Unresolved(unresolved(uuid))

    def _free(self, ref: OutputReference) -> Any:
        """What a reference inside an output stands for."""
        uuid = ref.uuid
        if self._fetched is None:
            self._fetched = {}
        if uuid not in self._fetched:
            data = self._fetch(uuid)
            if data is None:
                return self._missing(uuid, ref.attributes)
            self._fetched[uuid] = _BEING_READ
            self._fetched[uuid] = self._read(data)
        value = self._fetched[uuid]
        if value is _BEING_READ:
            raise RuntimeError(f"Reference cycle detected - {uuid} refers to itself")
        return _followed(value, ref.attributes, uuid)

    def output_of(self, uuid: str, index: int) -> Any:
        """The output of a job that is no parent; None if it has none. `index` 0 is the newest."""
        data = self._fetch(uuid, index)
        return None if data is None else self._read(data)

    def _fetch(self, uuid: str, index: int = 0) -> bytes | None:
        try:
            return self._sources.fetch(uuid, index)
        except (LookupError, UsageError):
            return None  # no such job in this store
        except TowlineError as error:
            raise OfTheMachine(error) from error

    def _read(self, data: bytes) -> Any:
        allow_pickle = self._sources.allow_pickle
        if codec.stub_token(data) is None:
            return self._whole(data, codec.decode(data, free=self._free, allow_pickle=allow_pickle))
        if self._sources.load_content is None:
            raise OfTheMachine(UsageError("an input is a file, and this worker cannot read files"))
        try:
            header, buffers = self._sources.load_content(data)
        except TowlineError as error:
            raise OfTheMachine(error) from error
        return self._whole(header, codec.join(header, buffers, free=self._free, allow_pickle=allow_pickle))

    def _whole(self, data: bytes, value: Any) -> Any:
        """The value behind these bytes; what has no such word in it has no stub either."""
        return self._sources.whole(value) if b"blob_uuid" in data else value


def _followed(value: Any, path: Sequence[tuple[str, Any]], source: str) -> Any:
    try:
        return follow(value, path) if path else value
    except Exception as error:
        shown = repr(OutputReference(source, tuple(path)))
        raise Unresolved(f"Could not resolve reference - {shown}: {type(error).__name__}: {error}") from error

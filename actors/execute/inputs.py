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
from towline.engine.errors import TowlineError, UsageError


class Sources(NamedTuple):
    """Where values come from that a lease does not bring."""

    fetch: Callable[[str, int], bytes | None]
    load_content: Callable[[bytes], tuple[bytes, Sequence[Any]]] | None
    allow_pickle: bool


_BEING_READ = object()


class Inputs:
    """What the references of one job's arguments become."""

    __slots__ = ("_both", "_fetched", "_given", "_on_missing", "_sources", "_values")

    def __init__(self, sources: Sources, given: Sequence[bytes | model.Input], on_missing: str, resolve: bool | str) -> None:
        self._sources = sources
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

    def _input(self, number: int, path: list[tuple[str, Any]], uuid: str | None) -> Any:
        given = self._given[number]
        if isinstance(given, model.Input):
            value = self._missing(given.uuid, path)
        else:
            if number not in self._values:
                self._values[number] = self._read(given)
            value = self._values[number]
            if path:
                value = _followed(value, path, uuid or f"input {number}")
        return ResolvedReference(uuid or "", tuple(path), value) if self._both else value

    def _missing(self, uuid: str, path: Sequence[tuple[str, Any]]) -> Any:
        if self._on_missing == OnMissing.NONE:
            return None
        if self._on_missing == OnMissing.PASS:
            return OutputReference(uuid, tuple(path))
        raise Unresolved(unresolved(uuid, None))

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

    def _fetch(self, uuid: str) -> bytes | None:
        try:
            return self._sources.fetch(uuid, 0)
        except LookupError:
            return None
        except TowlineError as error:
            raise OfTheMachine(error) from error

    def _read(self, data: bytes) -> Any:
        allow_pickle = self._sources.allow_pickle
        if codec.stub_token(data) is None:
            return codec.decode(data, free=self._free, allow_pickle=allow_pickle)
        if self._sources.load_content is None:
            raise OfTheMachine(UsageError("an input is a file, and this worker cannot read files"))
        try:
            header, buffers = self._sources.load_content(data)
        except TowlineError as error:
            raise OfTheMachine(error) from error
        return codec.join(header, buffers, free=self._free, allow_pickle=allow_pickle)


def _followed(value: Any, path: Sequence[tuple[str, Any]], source: str) -> Any:
    try:
        return follow(value, path) if path else value
    except Exception as error:
        shown = repr(OutputReference(source, tuple(path)))
        raise Unresolved(f"Could not resolve reference - {shown}: {type(error).__name__}: {error}") from error

"""References to outputs that do not exist yet: a uuid and the path that will be followed inside the output.

A reference is a value: equality and hash are those of its uuid and its attributes. Attribute access and indexing make new
references, checked against the output's pydantic schema where one is known. Finding the references inside arguments is
the codec's work, since it alone knows what it would write.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from towline.engine.authoring.plaindata import PlainData

if TYPE_CHECKING:
    from pydantic import BaseModel

Attributes = tuple[tuple[str, Any], ...]
"""Steps into an output: ("a", name) for an attribute, ("i", key) for an index."""

_WITHHELD = frozenset({"args", "kwargs", "schema"})
"""Names that serialisers probe for: answering with a reference would mislead them (spec, References 2)."""


class OnMissing(StrEnum):
    """What to do when a reference cannot be resolved."""

    ERROR = "error"
    """Fail the job."""
    NONE = "none"
    """Put None in its place."""
    PASS = "pass"  # noqa: S105 - jobflow's word for it, not a password
    """Hand the reference itself to the job."""

    def as_dict(self) -> str:
        """The value, as jobflow writes it."""
        return self.value


class Outputs(Protocol):
    """What resolving outside a run needs of a store (a JobStore has it)."""

    def query_one(self, criteria: dict[str, Any], properties: list[str], sort: dict[str, int]) -> dict[str, Any] | None: ...

    def get_output(self, uuid: str, *, which: str, load: bool, on_missing: OnMissing) -> Any: ...


class OutputReference:
    """The output of the job `uuid`, or what lies at `attributes` inside it. Immutable but for `set_uuid`."""

    __slots__ = ("attributes", "output_schema", "uuid")

    uuid: str
    attributes: Attributes
    output_schema: type[BaseModel] | None

    def __init__(self, uuid: str, attributes: Attributes = (), output_schema: type[BaseModel] | None = None) -> None:
        for kind, step in attributes:
            if kind not in ("a", "i"):
                raise ValueError(f"Unrecognised attribute type '{kind}' for attribute '{step}'")
        _set_uuid(self, uuid)
        _set_attributes(self, attributes)
        _set_schema(self, output_schema)

    def resolve(
        self,
        store: Outputs,
        cache: dict[str, Any] | None = None,
        on_missing: OnMissing = OnMissing.ERROR,
        deserialize: bool = True,
    ) -> Any:
        """The referenced value as `store` has it now (its highest index).

        ValueError if there is none, unless `on_missing` says otherwise; without `deserialize` objects stay the dicts that
        documents hold.
        """
        cache = {} if cache is None else cache
        index = _read(store, self.uuid, cache, on_missing)
        known = cache[self.uuid]
        if index is None or index not in known:
            if on_missing == OnMissing.ERROR:
                raise ValueError(unresolved(self.uuid, index, cache))
            return None if on_missing == OnMissing.NONE else self
        if deserialize:
            from towline.engine.codec import mson

            known[index] = mson.revive(known[index])
        return follow(known[index], self.attributes)

    def set_uuid(self, uuid: str, inplace: bool = True) -> OutputReference:
        """This reference with another uuid: changed in place, or a changed copy."""
        if not inplace:
            return OutputReference(uuid, self.attributes, self.output_schema)
        _set_uuid(self, uuid)
        return self

    def __getitem__(self, item: Any) -> OutputReference:
        return OutputReference(self.uuid, (*self.attributes, ("i", item)), self._schema_of(item))

    def __getattr__(self, item: str) -> OutputReference:
        if item in _WITHHELD or item.startswith("__"):
            raise AttributeError(item)
        return OutputReference(self.uuid, (*self.attributes, ("a", item)), self._schema_of(item))

    def _schema_of(self, item: Any) -> type[BaseModel] | None:
        if self.output_schema is None:
            return None
        return validate_schema_access(self.output_schema, item)[1]

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in OutputReference.__slots__:
            raise TypeError("OutputReference objects are immutable")
        object.__setattr__(self, name, value)

    def __setitem__(self, index: Any, value: Any) -> NoReturn:
        raise TypeError("OutputReference objects are immutable")

    def __iter__(self) -> NoReturn:
        raise TypeError("OutputReference objects are not iterable")

    def __repr__(self) -> str:
        return f"OutputReference({', '.join([str(self.uuid), *self.attributes_formatted])})"

    def __hash__(self) -> int:
        # by text, because an index may be unhashable (a list of keys, say)
        return hash(repr(self))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, OutputReference):
            return False
        return self.uuid == other.uuid and tuple(map(tuple, self.attributes)) == tuple(map(tuple, other.attributes))

    def __reduce__(self) -> tuple[Any, ...]:
        return OutputReference, (self.uuid, self.attributes, self.output_schema)

    @property
    def attributes_formatted(self) -> list[str]:
        """The steps as Python would write them: `.name` or `[key]`."""
        return [f".{step}" if kind == "a" else f"[{step!r}]" for kind, step in self.attributes]

    def as_dict(self) -> dict[str, Any]:
        """The reference as plain data, in the shape that monty reads."""
        schema = self.output_schema
        return {
            "@module": type(self).__module__,
            "@class": "OutputReference",
            "@version": None,
            "uuid": self.uuid,
            "attributes": self.attributes,
            "output_schema": None
            if schema is None
            else {"@module": schema.__module__, "@callable": schema.__qualname__, "@bound": None},
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> OutputReference:
        """The reference that `as_dict` wrote."""
        schema = data.get("output_schema")
        if isinstance(schema, dict):
            from towline.engine.codec.names import find

            schema = find(f"{schema['@module']}:{schema['@callable']}")
        return cls(data["uuid"], tuple((kind, step) for kind, step in data.get("attributes", ())), schema)


# the slots' own setters: __setattr__ would cost most of the time that making a reference takes
_slots = vars(OutputReference)
_set_uuid = _slots["uuid"].__set__
_set_attributes = _slots["attributes"].__set__
_set_schema = _slots["output_schema"].__set__


@dataclass
class ResolvedReference(PlainData):
    """A reference together with its value: what a job with `resolve_references="both"` is handed."""

    uuid: str
    attributes: Attributes
    value: Any

    @property
    def reference(self) -> OutputReference:
        """The reference that was resolved."""
        return OutputReference(self.uuid, self.attributes)

    def _told(self) -> dict[str, Any]:
        return {"uuid": self.uuid, "attributes": self.attributes, "value": self.value}


def unresolved(uuid: str, index: int | None = None, cache: dict[str, Any] | None = None) -> str:
    """jobflow's sentence for a reference without a value."""
    place = f" ({index})" if index is not None else ""
    known = {uuid: {}} if cache is None else cache
    return f"Could not resolve reference - {uuid}{place} not in store or {index=}, cache={known}"


def follow(data: Any, attributes: Iterable[Sequence[Any]]) -> Any:
    """What lies at the end of the path. On a dict attribute access falls back to the key (spec, References 1)."""
    for kind, step in attributes:
        data = data[step] if kind == "i" or isinstance(data, dict) else getattr(data, step)
    return data


def resolve_references(
    references: Sequence[OutputReference],
    store: Outputs,
    cache: dict[str, Any] | None = None,
    on_missing: OnMissing = OnMissing.ERROR,
    deserialize: bool = True,
) -> dict[OutputReference, Any]:
    """The values of many references; each output is read once."""
    cache = {} if cache is None else cache
    seen = _Remembered(store)
    seen.read_together([ref.uuid for ref in references], cache)
    return {ref: ref.resolve(seen, cache, on_missing, deserialize) for ref in references}


class _Remembered:
    """A store that is asked once for the newest index of a uuid."""

    def __init__(self, store: Outputs) -> None:
        self._found: dict[str, Any] = {}
        self._store = store
        self.get_output = store.get_output

    def read_together(self, uuids: Sequence[str], cache: dict[str, Any]) -> None:
        """Fill the cache in one pass, where the store can do that; outputs that hold references are read one by one."""
        get_outputs = getattr(self._store, "get_outputs", None)
        wanted = [uuid for uuid in dict.fromkeys(uuids) if not cache.get(uuid)]
        if get_outputs is None or len(wanted) < 2:
            return
        for uuid, (index, output) in get_outputs(wanted, load=True).items():
            self._found[uuid] = {"index": index}
            if not find_and_get_references(output):
                cache.setdefault(uuid, {})[index] = output

    def query_one(self, criteria: dict[str, Any], properties: list[str], sort: dict[str, int]) -> dict[str, Any] | None:
        uuid = criteria["uuid"]
        if uuid not in self._found:
            self._found[uuid] = self._store.query_one(criteria, properties, sort=sort)
        found: dict[str, Any] | None = self._found[uuid]
        return found


def _read(store: Outputs, uuid: str, cache: dict[str, Any], on_missing: OnMissing) -> int | None:
    """The newest index of an output, which is then in `cache` if it could be read; None if there is none."""
    known = cache.setdefault(uuid, {})
    found = store.query_one({"uuid": uuid}, ["index"], sort={"index": -1})
    if found is None:
        return None
    index: int = found["index"]
    if index not in known:
        # an output that refers to something missing counts as missing itself
        with contextlib.suppress(ValueError):
            known[index] = store.get_output(uuid, which="last", load=True, on_missing=on_missing)
    return index


def find_and_get_references(arg: Any) -> tuple[OutputReference, ...]:
    """Every reference inside a value, in the order in which they appear, each once.

    The dicts that stand for references in documents are found, too.
    """
    from towline.engine.codec import references_in

    return tuple(references_in(_from_documents(arg)))


def _from_documents(value: Any) -> Any:
    """The value with references in the place of the dicts that documents hold for them; itself if there are none."""
    if isinstance(value, dict):
        if value.get("@class") == "OutputReference":
            return OutputReference.from_dict(value)
        made: Any = {key: _from_documents(item) for key, item in value.items()}
        return made if any(made[key] is not value[key] for key in value) else value
    if type(value) in (list, tuple):
        made = [_from_documents(item) for item in value]
        return type(value)(made) if any(new is not old for new, old in zip(made, value, strict=True)) else value
    return value


def find_and_resolve_references(
    arg: Any,
    store: Outputs,
    cache: dict[str, Any] | None = None,
    on_missing: OnMissing = OnMissing.ERROR,
    deserialize: bool = True,
    wrap_resolved: bool = False,
) -> Any:
    """A private copy of `arg` with every reference replaced by its value (or by a ResolvedReference around it)."""
    from towline.engine import codec

    cache = {} if cache is None else cache

    def value_of(ref: OutputReference) -> Any:
        value = resolved[ref]
        return ResolvedReference(ref.uuid, ref.attributes, value) if wrap_resolved else value

    arg = _from_documents(arg)
    references = codec.references_in(arg)
    if not references:
        return arg
    resolved = resolve_references(references, store, cache, on_missing, deserialize)
    return codec.decode(codec.encode(arg), free=value_of)


def validate_schema_access(schema: type[BaseModel], item: Any) -> tuple[bool, type[BaseModel] | None]:
    """(True, the nested model behind `item` if it is one); AttributeError if the schema has no such field or property."""
    field = schema.model_fields.get(item) if isinstance(item, str) else None
    if field is None:
        if isinstance(item, str) and has_property_like(schema, item):
            return True, None
        field = _by_alias(schema, item)
        if field is None:
            raise AttributeError(f"{schema.__name__} does not have attribute '{item}'.")
    return True, _model(field.annotation)


def _by_alias(schema: type[BaseModel], item: Any) -> Any:
    return next((field for field in schema.model_fields.values() if item in (field.alias, field.validation_alias)), None)


def _model(annotation: Any) -> type[BaseModel] | None:
    from pydantic import BaseModel

    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def has_property_like(obj_type: type, name: str) -> bool:
    """Has the class an attribute that its instances compute, as a property does?"""
    attribute = getattr(obj_type, name, None)
    return isinstance(attribute, property) or (not callable(attribute) and hasattr(attribute, "__get__"))

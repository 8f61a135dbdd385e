"""What every document store can do once it can query: the methods that jobflow's JobStore has from maggma's Store.

Whatever has `query` (as maggma spells it), `key` and `last_updated_field` may mix this in.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Self

from towline.engine.errors import TowlineError
from towline.stores.documents import criteria as language
from towline.stores.documents.criteria import Document

Properties = Mapping[str, Any] | Sequence[str] | None


class StoreError(TowlineError):
    """A document store cannot answer, because of what its documents are."""


ISO_FORMAT = "isoformat"
"""Documents say when they were updated last as text; maggma's other way is "datetime"."""


class StoreVerbs:
    """Everything that follows from `query`."""

    key: str
    """The field that documents are found by."""
    last_updated_field: str
    last_updated_type: Any
    """The value of a DateTimeFormat of maggma's, or one of these: "datetime" or "isoformat"."""

    def query(
        self,
        criteria: Mapping[str, Any] | None = None,
        properties: Properties = None,
        sort: Mapping[str, Any] | None = None,
        skip: int = 0,
        limit: int = 0,
        **options: Any,
    ) -> Iterator[Document]:
        """The documents that are meant."""
        raise NotImplementedError

    def ensure_index(self, key: str, unique: bool = False) -> bool:
        """Is there an index on this field?"""
        raise NotImplementedError

    def connect(self, force_reset: bool = False) -> None:
        """Make ready."""
        raise NotImplementedError

    def close(self) -> None:
        """Let go of what is open."""
        raise NotImplementedError

    def query_one(
        self,
        criteria: Mapping[str, Any] | None = None,
        properties: Properties = None,
        sort: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Document | None:
        """The first document that is meant, or None."""
        return next(iter(self.query(criteria, properties, sort, limit=1, **options)), None)

    def groupby(
        self,
        keys: Sequence[str] | str,
        criteria: Mapping[str, Any] | None = None,
        properties: Properties = None,
        sort: Mapping[str, Any] | None = None,
        skip: int = 0,
        limit: int = 0,
        **options: Any,
    ) -> Iterator[tuple[Document, list[Document]]]:
        """(the values of `keys`, the documents that have them) for all documents that have all of these fields."""
        paths = [keys] if isinstance(keys, str) else list(keys)
        if properties is not None:
            properties = {**_as_projection(properties), **dict.fromkeys(paths, 1)}
        groups: dict[str, tuple[list[Any], list[Document]]] = {}
        for document in self.query(criteria, properties, sort, skip, limit, **options):
            if all(language.has(document, path) for path in paths):
                values = [language.get(document, path) for path in paths]
                groups.setdefault(repr(values), (values, []))[1].append(document)
        for values, documents in _in_order(list(groups.values())):
            said: Document = {}
            for path, value in zip(paths, values, strict=True):
                language.put(said, path, value)
            yield said, documents

    def distinct(self, field: str, criteria: Mapping[str, Any] | None = None, all_exist: bool = False) -> list[Any]:
        """All values that a field has. `all_exist` is there for maggma's sake."""
        return [language.get(said, field) for said, _ in self.groupby(field, criteria, [field])]

    @property
    def last_updated(self) -> dt.datetime:
        """When the newest document was updated; `datetime.min` if there is none. StoreError if it does not say."""
        field = self.last_updated_field
        newest = self.query_one(properties=[field], sort={field: -1})
        if newest is not None and not language.has(newest, field):
            raise StoreError(
                f"No field '{field}' in store document. Please ensure Store.last_updated_field is a datetime field in your store "
                "that represents the time of last update to each document."
            )
        value = None if newest is None else language.get(newest, field)
        return dt.datetime.min if value is None else self._lu_func[0](value)

    @property
    def _lu_func(self) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
        """From what a document says to a datetime, and back: other stores ask for it by this name."""
        kind = getattr(self.last_updated_type, "value", self.last_updated_type)
        return (_from_text, _to_text) if kind == ISO_FORMAT else (_same, _same)

    def newer_in(self, target: Any, criteria: Mapping[str, Any] | None = None, exhaustive: bool = False) -> list[Any]:
        """Keys of the documents that are newer in `target` than here: than the newest one here, or each by itself."""
        if not exhaustive:
            newer = {self.last_updated_field: {"$gt": self._lu_func[1](self.last_updated)}}
            found: list[Any] = target.distinct(field=self.key, criteria=newer)
            return found
        here, there = _dates(self, None, dt.datetime.max), _dates(target, criteria, dt.datetime.min)
        return [key for key, date in there.items() if key not in here or date > here[key]]

    def updated_keys(self, target: Any, criteria: Mapping[str, Any] | None = None) -> list[Any]:
        """The old name of `newer_in`."""
        return self.newer_in(target, criteria)

    def lu_filter(self, targets: Any) -> dict[str, Any]:
        """Criteria for what is newer here than anything in `targets`."""
        stores = list(targets) if isinstance(targets, list | tuple) else [targets]
        return {self.last_updated_field: {"$gt": self._lu_func[1](max(store.last_updated for store in stores))}}

    def __enter__(self) -> Self:
        self.connect()
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _as_projection(properties: Mapping[str, Any] | Sequence[str]) -> dict[str, Any]:
    return dict(properties) if isinstance(properties, Mapping) else dict.fromkeys(properties, 1)


def _in_order(groups: list[tuple[list[Any], list[Document]]]) -> list[tuple[list[Any], list[Document]]]:
    """Groups by their values, as Python orders them; where it cannot, as MongoDB does."""
    try:
        return sorted(groups, key=lambda group: group[0])
    except TypeError:
        from mongomock_ng.filtering import BsonComparable

        return sorted(groups, key=lambda group: [BsonComparable(value) for value in group[0]])


def _dates(store: Any, criteria: Mapping[str, Any] | None, unknown: dt.datetime) -> dict[Any, Any]:
    asked = {store.key: 1, store.last_updated_field: 1, "_id": 0}
    documents = store.query(criteria=criteria, properties=asked)
    read = store._lu_func[0]
    return {one[store.key]: read(one.get(store.last_updated_field, unknown)) for one in documents}


def _same(value: Any) -> Any:
    return value


def _from_text(value: Any) -> Any:
    return dt.datetime.fromisoformat(value) if isinstance(value, str) else value


def _to_text(value: Any) -> Any:
    # stores keep milliseconds: what is of the same one is not newer
    return (value + dt.timedelta(milliseconds=1)).isoformat(timespec="milliseconds") if isinstance(value, dt.datetime) else value

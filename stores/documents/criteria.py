"""Which documents are meant: MongoDB's query language over plain dictionaries, and the part of it that needs no output.

The language itself (comparisons, arrays, regular expressions, order of types) is mongomock's, which maggma's MemoryStore uses as
well; it is loaded when the first criteria come that need it. What is here decides how little of a document has to be read:
`Split` tells the clauses that only concern the job table from those that look inside outputs.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

Document = dict[str, Any]
Criteria = Mapping[str, Any]

_JOINING = ("$and", "$or", "$nor")
_MISSING = object()


# ---------------------------------------------------------------------------------------------------------- matching


def matches(criteria: Criteria | None, document: Document) -> bool:
    """Is this document meant? Raises what mongomock raises for criteria that are none (mostly its OperationFailure)."""
    if not criteria:
        return True
    from mongomock_ng.filtering import filter_applies

    return bool(filter_applies(criteria, document))


def fields_of(criteria: Criteria) -> set[str]:
    """The top-level fields that criteria look at; `*` for what cannot be told (`$expr`, `$where`)."""
    found: set[str] = set()
    for key, value in criteria.items():
        if key in _JOINING and isinstance(value, list | tuple):
            for part in value:
                found |= fields_of(part) if isinstance(part, Mapping) else {"*"}
        else:
            found.add("*" if key.startswith("$") else key.partition(".")[0])
    return found


def clauses_of(criteria: Criteria | None) -> list[dict[str, Any]]:
    """Criteria as clauses of one key each, all of which must hold."""
    flat: list[dict[str, Any]] = []
    for key, value in (criteria or {}).items():
        if key == "$and" and isinstance(value, list | tuple) and value and all(isinstance(part, Mapping) for part in value):
            for part in value:
                flat += clauses_of(part)
        else:
            flat.append({key: value})
    return flat


def joined(clauses: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The clauses as criteria again."""
    if len({key for clause in clauses for key in clause}) == len(clauses):
        return {key: value for clause in clauses for key, value in clause.items()}
    return {"$and": list(clauses)}


def one_of(clause: dict[str, Any]) -> list[Any] | None:
    """The values of which the field of this clause must have one (`{f: v}`, `$eq`, `$in`), if it says that and no more.

    Only texts and whole numbers: these are equal to nothing but themselves (1 and 1.0 and True aside, which callers mind).
    """
    ((_, wanted),) = clause.items()
    if isinstance(wanted, Mapping):
        if len(wanted) != 1:
            return None
        ((operator, wanted),) = wanted.items()
        if operator == "$in" and isinstance(wanted, list | tuple | set | frozenset):
            values = list(wanted)
            return values if all(type(value) is str for value in values) else None
        if operator != "$eq":
            return None
    return [wanted] if type(wanted) is str else None


class Split(NamedTuple):
    """Criteria by what they need to be answered."""

    keys: list[str] | None
    """The documents whose key field is one of these, each once; None: any."""
    header: list[dict[str, Any]]
    """Clauses about the job table's fields."""
    rest: list[dict[str, Any]]
    """Clauses for which the output must be read."""


def split(criteria: Criteria | None, key: str, header: Iterable[str]) -> Split:
    """`key` is the field that documents are found by, `header` the fields that need no output."""
    known = set(header)
    keys: list[str] | None = None
    split = Split(None, [], [])
    for clause in clauses_of(criteria):
        values = one_of(clause) if key in clause else None
        if values is not None:
            wanted = dict.fromkeys(values)
            keys = list(wanted) if keys is None else [value for value in keys if value in wanted]
        elif fields_of(clause) <= known:
            split.header.append(clause)
        else:
            split.rest.append(clause)
    return split._replace(keys=keys)


# ----------------------------------------------------------------------------------------------------------- sorting


def sort_keys(sort: Mapping[str, Any] | Sequence[tuple[str, Any]] | None) -> list[tuple[str, bool]]:
    """(path, descending?) in order. A direction is 1, -1 or an Enum of one (maggma's Sort)."""
    pairs = list(sort.items() if isinstance(sort, Mapping) else sort or ())
    keys = []
    for path, direction in pairs:
        way = getattr(direction, "value", direction)
        if way not in (1, -1):
            raise ValueError(f"sort[{path!r}] must be 1 (ascending) or -1 (descending), not {direction!r}")
        keys.append((path, way == -1))
    return keys


def sorted_by(keys: Sequence[tuple[str, bool]], documents: list[Any], of: Any = lambda item: item) -> list[Any]:
    """The items in order, `of(item)` being the document of each: MongoDB's order of types, stable."""
    for path, descending in reversed(keys):
        values = [get(of(item), path) for item in documents]
        if len({type(value) for value in values}) == 1 and isinstance(values[0], str | int):
            plain = dict(zip(map(id, documents), values, strict=True))
            documents = sorted(documents, key=lambda item: plain[id(item)], reverse=descending)
        else:
            from mongomock_ng.filtering import resolve_sort_key

            documents = sorted(documents, key=lambda item: resolve_sort_key(path, of(item)), reverse=descending)
    return documents


# --------------------------------------------------------------------------------------------------------- projecting

Projection = dict[str, Any]


def projection(properties: Mapping[str, Any] | Iterable[str] | None, always: Sequence[str] = ()) -> Projection | None:
    """What `properties` ask for: a list of paths, or MongoDB's projection; None: everything. `always` comes along."""
    if not properties:
        return None
    if not isinstance(properties, Mapping):
        if isinstance(properties, str):
            properties = [properties]
        return dict.fromkeys([*properties, *always], 1)
    asked = dict(properties)
    ways = {bool(way) for path, way in asked.items() if path != "_id" and not isinstance(way, Mapping)}
    if len(ways) > 1:
        raise ValueError("properties cannot both include and exclude fields")
    if ways != {False}:
        for path in always:
            asked[path] = 1
    return asked


def fields_read(wanted: Projection | None) -> set[str] | None:
    """The top-level fields that a projection shows; None: all, or all but some."""
    if wanted is None:
        return None
    shown = {path.partition(".")[0] for path, way in wanted.items() if path != "_id" and (isinstance(way, Mapping) or way)}
    including = any(not isinstance(way, Mapping) and way for path, way in wanted.items() if path != "_id")
    return shown if including else None


def project(document: Document, wanted: Projection | None) -> Document:
    """The part of a document that is asked for. Shares nothing that the caller could change with other documents."""
    if wanted is None:
        return document
    operators = {path: way for path, way in wanted.items() if isinstance(way, Mapping)}
    plain = {path: way for path, way in wanted.items() if path not in operators and path != "_id"}
    including = bool(plain) and all(plain.values())
    if plain:
        shown = _project(document, _tree(plain), including)
    else:
        shown = {} if wanted.get("_id") and not operators else dict(document)
    if "_id" in document and wanted.get("_id", 1):
        shown["_id"] = document["_id"]
    elif "_id" in shown:
        del shown["_id"]
    for path, way in operators.items():
        _apply(shown, document, path, way)
    return shown


def _tree(paths: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted paths as nested dictionaries; True where one ends. ValueError where one path is inside another."""
    tree: dict[str, Any] = {}
    for path in paths:
        *steps, last = path.split(".")
        at = tree
        for step in steps:
            at = at.setdefault(step, {})
            if at is True:
                raise ValueError(f"properties name {path!r} and what it lies in")
        if isinstance(at.get(last), dict):
            raise ValueError(f"properties name {path!r} and what lies in it")
        at[last] = True
    return tree


def _project(document: Document, tree: dict[str, Any], including: bool) -> Document:
    shown: Document = {}
    for key, value in document.items():
        below = tree.get(key)
        if isinstance(below, dict):
            if isinstance(value, dict):
                shown[key] = _project(value, below, including)
            elif isinstance(value, list):
                shown[key] = _project_all(value, below, including)
            elif not including:
                shown[key] = value
        elif (below is True) is including:
            shown[key] = value
    return shown


def _project_all(values: list[Any], tree: dict[str, Any], including: bool) -> list[Any]:
    """Dictionaries in a list are projected each; other items have no fields, so there is nothing to include or exclude."""
    shown: list[Any] = []
    for value in values:
        if isinstance(value, dict):
            shown.append(_project(value, tree, including))
        elif isinstance(value, list):
            shown.append(_project_all(value, tree, including))
        elif not including:
            shown.append(value)
    return shown


def _apply(shown: Document, document: Document, field: str, operators: Mapping[str, Any]) -> None:
    """`$slice` and `$elemMatch` of a projection, on a list in a top-level field."""
    unknown = operators.keys() - {"$slice", "$elemMatch"}
    if unknown:
        raise ValueError(f"properties[{field!r}] has the unknown operator {unknown.pop()}: $slice and $elemMatch there are")
    values = document.get(field)
    if not isinstance(values, list):
        if "$elemMatch" in operators:
            shown.pop(field, None)
        return
    if "$slice" in operators:
        values = values[_slice(operators["$slice"], len(values))]
    if "$elemMatch" in operators:
        values = [item for item in values if isinstance(item, dict) and matches(operators["$elemMatch"], item)][:1]
        if not values:
            shown.pop(field, None)
            return
    shown[field] = values


def _slice(asked: Any, length: int) -> slice:
    if isinstance(asked, list | tuple):
        skip, limit = asked
        start = max(0, length + skip) if skip < 0 else skip
        return slice(start, start + limit)
    return slice(max(0, length + asked), length) if asked < 0 else slice(0, asked)


# -------------------------------------------------------------------------------------------------------------- paths


def get(document: Any, path: str, default: Any = None) -> Any:
    """What lies at a dotted path, through dictionaries and lists; `default` if nothing does."""
    at = document
    for step in path.split("."):
        at = _step(at, step)
        if at is _MISSING:
            return default
    return at


def has(document: Any, path: str) -> bool:
    """Does anything lie at a dotted path?"""
    return get(document, path, _MISSING) is not _MISSING


def put(document: Document, path: str, value: Any) -> None:
    """Lay a value at a dotted path, through dictionaries that are made on the way."""
    *steps, last = path.split(".")
    for step in steps:
        document = document.setdefault(step, {})
    document[last] = value


def _step(at: Any, step: str) -> Any:
    if isinstance(at, dict):
        return at.get(step, _MISSING)
    if isinstance(at, list) and step.lstrip("-").isdigit() and -len(at) <= int(step) < len(at):
        return at[int(step)]
    return _MISSING


def own(document: Document) -> Document:
    """A copy that shares nothing."""
    return copy.deepcopy(document)

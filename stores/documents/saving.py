"""Parts of documents that lie in additional stores: which ones (`save`, `load`), and the stubs that stand for them.

A stub is `{"@class", "@module", "blob_uuid", "store"}`, and what is kept in the additional store is a document of its own:
`{"@class", "@module", "blob_uuid", "data", "job_uuid", "job_index"}`. All of it works on plain data, as documents hold it. Of
matches inside one another the outermost is kept, and nothing is looked for inside a stub.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from enum import Enum
from typing import Any, NamedTuple
from uuid import uuid4

Path = tuple[Any, ...]
"""Keys and positions from the document's root."""

BLOB = "blob_uuid"
_MISSING = object()


class Stub(NamedTuple):
    """A part that lies elsewhere, and where in the document it belongs."""

    path: Path
    blob: str
    store: str
    kind: tuple[str, str]
    """(module, class) of the part, or empty texts."""


# ------------------------------------------------------------------------------------------------- what is meant by it


def save_keys(save: Any) -> dict[str, list[Any]]:
    """`save` by store: keys (texts), classes, and paths (tuples). No saving: none. True is the caller's to replace."""
    if save is None or isinstance(save, bool):
        return {}
    keys = {}
    for store, wanted in save.items():
        if wanted is False or wanted is None:
            continue
        several = wanted if isinstance(wanted, list | tuple) else [wanted]
        keys[store] = [_key(one) for one in several]
    return keys


def _key(wanted: Any) -> Any:
    if isinstance(wanted, Enum):
        return wanted.value
    if wanted is True:
        return "output"
    if isinstance(wanted, list | tuple):
        return tuple(_key(step) for step in wanted)
    return wanted


def load_keys(load: Any) -> bool | dict[str, Any]:
    """`load` by store: True, or a list of keys and (module, class)."""
    if load is None or isinstance(load, bool):
        return bool(load)
    return {
        store: wanted if isinstance(wanted, bool) else [_loaded(one) for one in _several(wanted)]
        for store, wanted in load.items()
    }


def _several(wanted: Any) -> Sequence[Any]:
    return wanted if isinstance(wanted, list | tuple) else [wanted]


def _loaded(wanted: Any) -> Any:
    if isinstance(wanted, Enum):
        return wanted.value
    return (wanted.__module__, wanted.__name__) if isinstance(wanted, type) else wanted


def is_loaded(stub: Stub, load: bool | dict[str, Any]) -> bool:
    """Is the part behind this stub to be put back? By its store, the key that it lies under, or its class."""
    if isinstance(load, bool):
        return load
    wanted = load.get(stub.store, False)
    if isinstance(wanted, bool):
        return wanted
    last = stub.path[-1] if stub.path else None
    return any(one == stub.kind if isinstance(one, tuple) else one == last for one in wanted)


# ------------------------------------------------------------------------------------------------------------- finding


def found(data: Any, key: Any) -> Iterator[Path]:
    """The paths at which `key` (a text or a class) is met; inside a match nothing more is looked for. No recursion."""
    named = (key.__module__, key.__name__) if isinstance(key, type) else None
    todo: list[tuple[Path, Any]] = [((), data)]
    while todo:
        path, at = todo.pop()
        if isinstance(at, dict):
            if is_stub(at):
                continue
            if named is not None and (at.get("@module"), at.get("@class")) == named:
                yield path
                continue
            if named is None and key in at:
                yield (*path, key)
                continue
            todo += [((*path, step), value) for step, value in at.items()]
        elif isinstance(at, list | tuple):
            todo += [((*path, step), value) for step, value in enumerate(at)]


def is_stub(value: Any) -> bool:
    """Does it stand for a part that lies elsewhere?"""
    return isinstance(value, dict) and isinstance(value.get(BLOB), str) and isinstance(value.get("store"), str)


def stubs(data: Any) -> list[Stub]:
    """The stubs inside a value. No recursion."""
    known: list[Stub] = []
    todo: list[tuple[Path, Any]] = [((), data)]
    while todo:
        path, at = todo.pop()
        if isinstance(at, dict):
            if is_stub(at):
                known.append(Stub(path, at[BLOB], at["store"], (str(at.get("@module", "")), str(at.get("@class", "")))))
            else:
                todo += [((*path, step), value) for step, value in at.items()]
        elif isinstance(at, list | tuple):
            todo += [((*path, step), value) for step, value in enumerate(at)]
    return known


def outermost(paths: Iterable[Path]) -> list[Path]:
    """Those of these paths that lie inside no other, each once."""
    kept: list[Path] = []
    known: set[Path] = set()
    for path in sorted(set(paths), key=len):
        if not any(path[:length] in known for length in range(len(path))):
            kept.append(path)
            known.add(path)
    return kept


def at(data: Any, path: Path, default: Any = None) -> Any:
    """What lies at a path; `default` if nothing does."""
    for step in path:
        try:
            data = data[step]
        except (KeyError, IndexError, TypeError):
            return default
    return data


def placed(data: Any, path: Path, value: Any) -> Any:
    """The value with another one at a path inside it: changed in place, or the new one itself."""
    if not path:
        return value
    at(data, path[:-1])[path[-1]] = value
    return data


# ------------------------------------------------------------------------------------------------------- taking apart


def take_apart(
    document: dict[str, Any],
    save: Mapping[str, Sequence[Any]],
    uuid: str,
    index: int,
    new_blob: Callable[[str, Path], str] = lambda store, path: str(uuid4()),
) -> dict[str, list[dict[str, Any]]]:
    """Put stubs into the document (in place) for what `save` names; give what each additional store is to keep.

    The keys of one store are looked for before the next store's. `new_blob(store, path)` names a part.
    """
    kept: dict[str, list[dict[str, Any]]] = {}
    for store, keys in save.items():
        paths: list[Path] = []
        for key in keys:
            paths += [key] if isinstance(key, tuple) else found(document, key)
        for path in outermost(paths):
            data = at(document, path, _MISSING)
            if data is _MISSING or data is None or is_stub(data) or not path:
                continue
            described = isinstance(data, dict) and "@class" in data and "@module" in data
            stub = {
                "@class": data["@class"] if described else "",
                "@module": data["@module"] if described else "",
                BLOB: new_blob(store, path),
            }
            placed(document, path, {**stub, "store": store})
            kept.setdefault(store, []).append({**stub, "data": data, "job_uuid": uuid, "job_index": index})
    return kept


def put_together(documents: Sequence[Any], load: bool | dict[str, Any], stores: Mapping[str, Any]) -> list[Any]:
    """The values with the parts that `load` names in the place of their stubs; one query for each store.

    ValueError for a store that is not among `stores`, KeyError for a part that its store has not.
    """
    wanted = [(number, stub) for number, value in enumerate(documents) for stub in stubs(value) if is_loaded(stub, load)]
    by_store: dict[str, list[str]] = {}
    for _, stub in wanted:
        by_store.setdefault(stub.store, []).append(stub.blob)
    parts = {name: _parts(store_named(stores, name), name, blobs) for name, blobs in by_store.items()}
    whole = list(documents)
    for number, stub in wanted:
        whole[number] = placed(whole[number], stub.path, parts[stub.store][stub.blob])
    return whole


def _parts(store: Any, name: str, blobs: Sequence[str]) -> dict[str, Any]:
    criteria = {BLOB: {"$in": list(dict.fromkeys(blobs))}}
    known = {part[BLOB]: part["data"] for part in store.query(criteria=criteria, properties=[BLOB, "data"])}
    missing = next((blob for blob in blobs if blob not in known), None)
    if missing is not None:
        raise KeyError(f"the additional store {name!r} does not hold the part {missing} that a document refers to")
    return known


def store_named(stores: Mapping[str, Any], name: str) -> Any:
    """The additional store of this name (which a defaultdict may make). ValueError, in jobflow's words."""
    try:
        store = stores[name]
    except KeyError:
        store = None
    if store is None:
        raise ValueError(f"Unrecognised additional store name: {name}")
    return store

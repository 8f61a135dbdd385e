"""A JobStore from a file or a dictionary that describes it, as jobflow's settings name one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from towline.engine.codec import mson
from towline.engine.errors import UsageError
from towline.stores.documents.place import DocumentStore

if TYPE_CHECKING:
    from towline.stores.documents.store import JobStore

S = TypeVar("S", bound="JobStore")

NOT_ONE = "Unrecognised database file format."
"""jobflow's sentence for a description without documents."""


def from_file(cls: type[S], db_file: str | Path, **kwargs: Any) -> S:
    """See `JobStore.from_file`. ValueError if the file describes no store; OSError as `open` raises it."""
    described = _read(Path(db_file))
    if not isinstance(described, Mapping):
        raise ValueError(NOT_ONE)
    if "@class" not in described:
        return from_dict_spec(cls, described, **kwargs)
    made = mson.revive(dict(described))
    if isinstance(made, cls):
        return made
    if not hasattr(made, "docs_store"):
        raise ValueError(f"{NOT_ONE} It holds a {described['@class']} of {described.get('@module')}.")
    return cls(made.docs_store, made.additional_stores, made.save, made.load)  # jobflow's own


def _read(path: Path) -> Any:
    text = path.read_text()
    if ".json" in path.name.lower():
        return json.loads(text)
    try:
        import yaml
    except ImportError:
        pass
    else:
        return yaml.safe_load(text)
    try:
        from ruamel.yaml import YAML
    except ImportError as error:
        raise UsageError(f"{path} is YAML, and nothing here reads that: pip install pyyaml, or write it as .json") from error
    return YAML(typ="safe").load(text)


def from_dict_spec(cls: type[S], spec: Mapping[str, Any], **kwargs: Any) -> S:
    """See `JobStore.from_dict_spec`. ValueError for a type that is not known; the description is not changed."""
    if "docs_store" not in spec:
        raise ValueError(NOT_ONE)
    docs_store = _made(spec["docs_store"])
    additional = {name: _made(info) for name, info in (spec.get("additional_stores") or {}).items()}
    return cls(docs_store, additional, **kwargs)


def _made(info: Any) -> Any:
    """A store from its description; a text is a locator."""
    if not isinstance(info, Mapping):
        return info
    told = {name: _made(value) if isinstance(value, Mapping) and "type" in value else value for name, value in info.items()}
    if "type" not in told:
        raise ValueError(f"{NOT_ONE} A store's description has no type.")
    return _kind(told.pop("type"))(**told)


def _kind(name: str) -> Any:
    if name in ("DocumentStore", "towline"):
        return DocumentStore
    known = _of_maggma()
    if name not in known:
        raise ValueError(f"{name!r} is no kind of store: there are DocumentStore, {', '.join(sorted(known))}")
    return known[name]


def _of_maggma() -> dict[str, Any]:
    """maggma's stores by name, those of other packages that are loaded among them."""
    try:
        from maggma.core import Store
        from maggma.stores.ssh_tunnel import SSHTunnel
    except ImportError as error:
        raise UsageError(f"this store needs maggma ({error}): pip install 'towline[maggma]'") from error
    import maggma.stores  # noqa: F401 - its classes are found once they are loaded

    found: dict[str, Any] = {SSHTunnel.__name__: SSHTunnel}
    todo = [Store]
    while todo:
        kinds = todo.pop().__subclasses__()
        found |= {kind.__name__: kind for kind in kinds}
        todo += kinds
    return found

"""`JobStore`: documents and additional stores as one, with jobflow's names, arguments and answers.

The documents' store is a towline store (given as a locator), another document store, or any maggma Store; so is each additional
one. Reading references goes by whole sets: however many outputs are wanted, each store is asked once.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Self

from towline.engine.authoring.reference import OnMissing, find_and_get_references, find_and_resolve_references
from towline.engine.codec import mson
from towline.engine.errors import UsageError
from towline.stores.documents import criteria as language
from towline.stores.documents import saving
from towline.stores.documents.criteria import Document
from towline.stores.documents.place import DocumentStore, check_compat
from towline.stores.documents.saving import load_keys, put_together, save_keys, store_named, take_apart
from towline.stores.documents.verbs import Properties, StoreVerbs

LOADED_TOGETHER = 256
"""Documents whose parts are fetched with one query."""
REMOVED_TOGETHER = 10_000
"""Documents whose parts are removed with one query: an additional store looks through all that it has for it."""


class JobStore(StoreVerbs):
    """Documents of jobs: `JobStore("runs/first")` is what the runs of that store have committed, and what `update` wrote."""

    def __init__(
        self,
        docs_store: Any,
        additional_stores: Mapping[str, Any] | None = None,
        save: Any = None,
        load: Any = False,
        *,
        compat: str = "",
    ) -> None:
        """As jobflow's; stores may also be named by their locators.

        docs_store         a locator, a DocumentStore, or a maggma Store
        additional_stores  name to the same
        save               store name to what of an output is kept there: a key, an Enum, a class, a list of these and of paths
        load               True, or store name to True or such keys and classes: what queries put back
        compat             "jobflow": the documents of runs as jobflow writes them
        """
        self.docs_store = _store(docs_store, "docs_store", compat=compat)
        self.compat = check_compat(compat or getattr(self.docs_store, "compat", ""))
        if isinstance(self.docs_store, DocumentStore):
            self.docs_store.compat = self.compat
        self.additional_stores: Any = {} if additional_stores is None else additional_stores
        if any(isinstance(store, str | os.PathLike) for store in dict(self.additional_stores).values()):
            self.additional_stores = {
                name: _store(store, f"additional_stores[{name!r}]", collection=name)
                for name, store in self.additional_stores.items()
            }
        self.docs_store.key = "uuid"
        for store in self.additional_stores.values():
            store.key = saving.BLOB
            if hasattr(store, "searchable_fields"):
                store.searchable_fields.extend(["job_uuid", "job_index"])
        self.save = {} if save is None or save is False else save
        self.load = False if load is None else load
        self.key = self.docs_store.key
        self.last_updated_field = self.docs_store.last_updated_field
        self.last_updated_type = self.docs_store.last_updated_type

    @property
    def name(self) -> str:
        """Where the documents are."""
        return f"JobStore-{self.docs_store.name}"

    @property
    def _collection(self) -> Any:
        return self.docs_store._collection

    @property
    def run_store(self) -> str | None:
        """The locator of the towline store whose runs' documents these are; None: documents lie elsewhere."""
        return self.docs_store.url if isinstance(self.docs_store, DocumentStore) else None

    def connect(self, force_reset: bool = False) -> None:
        """Connect to all stores."""
        for store in self._stores():
            store.connect(force_reset=force_reset)

    def close(self) -> None:
        """Close all connections."""
        for store in self._stores():
            store.close()

    def _stores(self) -> Iterator[Any]:
        yield self.docs_store
        yield from self.additional_stores.values()

    # ------------------------------------------------------------------------------------------------------- reading

    def count(self, criteria: Mapping[str, Any] | None = None) -> int:
        """How many documents are meant."""
        counted: int = self.docs_store.count(criteria=criteria)
        return counted

    def query(  # type: ignore[override]  # `load` has a place among the arguments, as in jobflow
        self,
        criteria: Mapping[str, Any] | None = None,
        properties: Properties = None,
        sort: Mapping[str, Any] | None = None,
        skip: int = 0,
        limit: int = 0,
        load: Any = None,
    ) -> Iterator[Document]:
        """The documents that are meant, one by one; `uuid` and `index` are always shown.

        ValueError if a part that is to be loaded lies in a store that this one does not know.
        """
        asked = load_keys(self.load if load is None else load)
        if properties is not None:
            properties = language.projection(properties, ["uuid", "index"]) or properties
        documents = self.docs_store.query(criteria=criteria, properties=properties, sort=sort, skip=skip, limit=limit)
        if not asked:
            yield from documents
            return
        # one at first: who wants only the first document must not wait for the parts of others
        together, documents = 1, iter(documents)
        while batch := list(islice(documents, together)):
            yield from put_together(batch, asked, self.additional_stores)
            together = min(LOADED_TOGETHER, 4 * together)

    def query_one(  # type: ignore[override]  # as `query`
        self,
        criteria: Mapping[str, Any] | None = None,
        properties: Properties = None,
        sort: Mapping[str, Any] | None = None,
        load: Any = None,
    ) -> Document | None:
        """The first document that is meant, or None."""
        return next(self.query(criteria, properties, sort, limit=1, load=load), None)

    def groupby(  # type: ignore[override]  # as `query`
        self,
        keys: Sequence[str] | str,
        criteria: Mapping[str, Any] | None = None,
        properties: Properties = None,
        sort: Mapping[str, Any] | None = None,
        skip: int = 0,
        limit: int = 0,
        load: Any = None,
    ) -> Iterator[tuple[Document, list[Document]]]:
        """(the values of `keys`, the documents that have them)."""
        return super().groupby(keys, criteria, properties, sort, skip, limit, load=load)

    def get_output(
        self,
        uuid: str,
        which: str | int = "last",
        load: Any = False,
        cache: dict[str, Any] | None = None,
        on_missing: OnMissing = OnMissing.ERROR,
    ) -> Any:
        """The output of a job, as its document holds it, with the references inside resolved.

        which  "last" or "first" index, "all" (a list, lowest index first), or an index.

        ValueError if there is none; RuntimeError if it refers to itself.
        """
        criteria: dict[str, Any] = {"uuid": uuid}
        one = isinstance(which, int) or which in ("last", "first")
        if isinstance(which, int):
            criteria["index"] = which
        order = {"index": -1 if which == "last" else 1}
        documents = list(self.query(criteria, ["output"], order, limit=1 if one else 0, load=load))
        if not documents:
            place = f" (index: {which})" if isinstance(which, int) else ""
            raise ValueError(f"UUID: {uuid}{place} has no outputs.")
        outputs = [document.get("output") for document in documents]
        output = outputs[0] if one else outputs
        if any(reference.uuid == uuid for reference in find_and_get_references(output)):
            raise RuntimeError("Reference cycle detected - aborting.")
        return find_and_resolve_references(output, self, cache=cache, on_missing=on_missing)

    def get_outputs(self, uuids: Sequence[str], load: Any = False) -> dict[str, tuple[int, Any]]:
        """uuid to (index, output) of the newest documents, read in one pass: as stored, references inside unresolved.

        uuids without a document are left out.
        """
        wanted = list(dict.fromkeys(uuids))
        if hasattr(self.docs_store, "newest"):
            newest = self.docs_store.newest(wanted)
        else:
            newest = _newest(self.docs_store.query({"uuid": {"$in": wanted}}, ["uuid", "index", "output"]))
        outputs = [document.get("output") for document in newest.values()]
        asked = load_keys(load)
        if asked:
            outputs = put_together(outputs, asked, self.additional_stores)
        return {uuid: (newest[uuid]["index"], output) for uuid, output in zip(newest, outputs, strict=True)}

    # ------------------------------------------------------------------------------------------------------- writing

    def update(self, docs: Any, key: Sequence[str] | str | None = None, save: Any = None) -> None:
        """Write documents, each in the place of the one that agrees with it in `key` (by default uuid and index).

        What `save` names (None or True: what this store's own `save` does) goes to the additional stores, before the documents,
        so that no document refers to what is not there. ValueError for a store that is not known; then nothing is written.
        """
        keys = save_keys(self.save if save is None or save is True else save)
        documents = [mson.sanitize(document) for document in (docs if isinstance(docs, list) else [docs])]
        kept: dict[str, list[Document]] = {}
        for document in documents if keys else ():
            for store, parts in take_apart(document, keys, document["uuid"], document["index"]).items():
                kept.setdefault(store, []).extend(parts)
        stores = {store: store_named(self.additional_stores, store) for store in kept}
        for store, parts in kept.items():
            stores[store].update(parts, key=saving.BLOB)
        self.docs_store.update(documents, key=["uuid", "index"] if key is None else key)

    def remove_docs(self, criteria: Mapping[str, Any]) -> None:
        """Remove the documents that are meant, and their parts in the additional stores."""
        stores = list(self.additional_stores.values())
        gone: dict[int, list[str]] = {}
        for document in self.query(criteria, ["uuid", "index"], load=False) if stores else ():
            gone.setdefault(document["index"], []).append(document["uuid"])
        for index, uuids in gone.items():
            for begin in range(0, len(uuids), REMOVED_TOGETHER):
                together = {"$in": uuids[begin : begin + REMOVED_TOGETHER]}
                for store in stores:
                    store.remove_docs({"job_index": index, "job_uuid": together})
        self.docs_store.remove_docs(criteria)

    def copy_from(self, place: str | os.PathLike[str]) -> int:
        """Bring the documents of another towline store's runs here; returns how many were missing. StoreMissing."""
        from towline.stores.documents.delivery import Delivery

        return Delivery(self, os.fspath(place), self.compat).deliver()

    def ensure_index(self, key: str, unique: bool = False) -> bool:
        """Is there an index on this field of the documents?"""
        there: bool = self.docs_store.ensure_index(key, unique=unique)
        return there

    # --------------------------------------------------------------------------------------------------- for a run

    def keep_parts(
        self, output: Any, save: Mapping[str, Any], uuid: str, index: int, attempt: tuple[int, int] = (0, 0), again: bool = False
    ) -> Any:
        """The output of a running job with what `save` names in the additional stores, and stubs in its place.

        An output of which nothing is saved is returned as it is, with its types; any other as plain data. With `again`, parts
        that earlier attempts of the job left are removed. ValueError for a store that is not known.
        """
        keys = save_keys({name: "output" if wanted is True else wanted for name, wanted in save.items()})
        if not keys:
            return output
        document = {"output": mson.sanitize(output)}
        number = attempt[0] << 32 | attempt[1]
        kept = take_apart(document, keys, uuid, index)
        stores = {store: store_named(self.additional_stores, store) for store in kept}
        for store, parts in kept.items():
            stores[store].update([{**part, "attempt": number} for part in parts], key=saving.BLOB)
            if again:
                stores[store].remove_docs({"job_uuid": uuid, "job_index": index, "attempt": {"$lt": number}})
        return document["output"] if kept else output

    def whole(self, value: Any) -> Any:
        """A value with all of its parts back, as the objects that they were. Itself if it has no stub."""
        if not saving.stubs(value):
            return value
        return mson.revive(put_together([value], True, self.additional_stores)[0])

    # ------------------------------------------------------------------------------------------------- as plain data

    @classmethod
    def from_file(cls, db_file: str | Path, **kwargs: Any) -> Self:
        """The store that a JSON or YAML file describes: as `from_dict_spec` has it, or as monty wrote one."""
        from towline.stores.documents import files

        return files.from_file(cls, db_file, **kwargs)

    @classmethod
    def from_dict_spec(cls, spec: Mapping[str, Any], **kwargs: Any) -> Self:
        """The store that `{"docs_store": {"type": ..., ...}, "additional_stores": {name: {"type": ..., ...}}}` describes.

        A type is the name of a maggma Store (extra `towline[maggma]`), or "DocumentStore" with a `place`.
        """
        from towline.stores.documents import files

        return files.from_dict_spec(cls, spec, **kwargs)

    def as_dict(self) -> dict[str, Any]:
        """Plain data, in the shape that monty reads."""
        stores = {name: store.as_dict() for name, store in self.additional_stores.items()}
        told = {"docs_store": self.docs_store.as_dict(), "additional_stores": stores}
        rules = {"save": mson.sanitize(self.save), "load": mson.sanitize(self.load), "compat": self.compat}
        return {**mson.named(type(self)), **told, **rules}

    @classmethod
    def from_dict(cls, d: dict[str, Any]) -> Self:
        """What `as_dict` wrote."""
        return cls(**{name: mson.revive(value) for name, value in d.items() if not name.startswith("@")})

    def __repr__(self) -> str:
        return f"<{self.name}>"


def _store(given: Any, what: str, **options: Any) -> Any:
    """A document store from a locator, or the store itself. UsageError for anything else."""
    if isinstance(given, str | os.PathLike):
        return DocumentStore(given, **options)
    if not (hasattr(given, "query") and hasattr(given, "update")):
        raise UsageError(f"{what} must be a locator or a document store (a maggma Store will do), not {type(given).__name__}")
    return given


def _newest(documents: Any) -> dict[str, Document]:
    found: dict[str, Document] = {}
    for document in documents:
        known = found.get(document["uuid"])
        if known is None or known["index"] < document["index"]:
            found[document["uuid"]] = document
    return found

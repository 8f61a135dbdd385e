"""The documents of a store's runs: one for each committed outcome (R5), put together when somebody asks for it.

Nothing is written for them: the journal has it all. What a document says besides its output stands in the job table's columns,
and name, hosts and metadata in the specs that many jobs share; so criteria about these are answered once for each distinct spec,
state and index, and then for all rows at once. Outputs are read last, only those that are wanted, in one pass over the journal.
"""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from towline.engine import codec, model
from towline.engine.codec import mson
from towline.engine.graph import NIL, Graph
from towline.engine.image import ledger_from
from towline.engine.ledger import Ledger, slice_of
from towline.engine.states import JobState
from towline.stores import files, snapshots
from towline.stores.documents import criteria as language
from towline.stores.documents.criteria import Document
from towline.stores.errors import SegmentGone
from towline.stores.journal.reader import JournalReader
from towline.stores.objects.base import NotFound
from towline.stores.store import Store

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Mask = NDArray[Any]

OF_SPEC = frozenset({"name", "hosts", "metadata"})
HEADER = OF_SPEC | {"uuid", "index", "completed_at", "state"}
"""What a document says without its output. `state` is there only if criteria or properties name it."""
DENSE = 4
"""Records are read in one stream if at least one in so many of them is wanted, else one by one."""
AT_ONCE = 16
"""Files that are read at the same time."""
_LOOKS = 8


class Outcomes:
    """A reader's hold on the runs of a store. Lives in one event loop, and one caller at a time uses it."""

    def __init__(self, store: Store, *, compat: str = "") -> None:
        """`compat="jobflow"`: documents as jobflow writes them, down to the module that their class is in."""
        self._store = store
        self._compat = compat
        self._reader: JournalReader | None = None
        self._ledger = Ledger()
        self.passes = 0
        """Times that outputs were read, however many at once; for tests and the curious."""

    # --------------------------------------------------------------------------------------------------- what is there

    async def refresh(self) -> None:
        """See all that was committed before this call."""
        for _ in range(_LOOKS):
            try:
                if self._reader is None:
                    self._reader = await JournalReader.open(self._store.objects)
                    await self._restore(self._reader)
                else:
                    await self._reader.refresh()
                await snapshots.fold(self._reader, self._ledger.next_seq, None, self._apply)
                self._reader.let_go()
                return
            except (SegmentGone, NotFound):
                self._reader, self._ledger = None, Ledger()
        raise SegmentGone(f"{self._store.url}: its journal is being tidied faster than it can be read; try again")

    async def _restore(self, reader: JournalReader) -> None:
        made = await snapshots.believed(self._store.objects, reader)
        if made is not None:
            image = await snapshots.read(self._store.objects, made)
            self._ledger = await asyncio.to_thread(ledger_from, image)

    def _apply(self, seq: int, payload: bytes) -> None:
        self._ledger.apply(seq, payload, model.decode_record(payload))

    @property
    def graph(self) -> Graph:
        """The jobs."""
        return self._ledger.graph

    def attempt(self, row: int) -> list[int]:
        """Which attempt the outcome of a row is of."""
        return [self.graph.epoch[row], self.graph.counter[row]]

    def rows_of(self, uuid: str, index: int = 0) -> list[int]:
        """The rows of the documents with this uuid (and index), lowest index first."""
        newest = self.graph.find(uuid)
        if newest == NIL:
            return []
        wanted = [index] if index else range(1, self.graph.index[newest] + 1)
        rows = [self.graph.find(uuid, number) for number in wanted]
        return [row for row in rows if row != NIL and self._is_document(row)]

    def _is_document(self, row: int) -> bool:
        return self.graph.state[row] == JobState.COMPLETED and self.graph.out_length[row] > 0

    # -------------------------------------------------------------------------------------------------------- choosing

    def rows(self, keys: Sequence[str] | None, header: Sequence[dict[str, Any]]) -> list[int]:
        """The rows whose document these clauses mean, in the order of the store. `keys`: uuids, None for any.

        Where a clause asks for a state, jobs without an outcome are meant, too.
        """
        any_state = any("state" in language.fields_of(clause) for clause in header)
        columns = [clause for clause in header if _is_of_columns(language.fields_of(clause))]
        rest = [clause for clause in header if not _is_of_columns(language.fields_of(clause))]
        if keys is not None:
            found = sorted({row for uuid in keys for row in (self._all_of(uuid) if any_state else self.rows_of(uuid))})
            rest = [*columns, *rest]
        else:
            found = self._chosen(columns, any_state)
        if not rest:
            return found
        whole = language.joined(rest)
        return [row for row in found if language.matches(whole, self.header(row, with_state=True))]

    def _all_of(self, uuid: str) -> list[int]:
        newest = self.graph.find(uuid)
        numbers = range(1, self.graph.index[newest] + 1) if newest != NIL else ()
        return [row for number in numbers if (row := self.graph.find(uuid, number)) != NIL]

    def _chosen(self, clauses: Sequence[dict[str, Any]], any_state: bool) -> list[int]:
        """All rows at once, by tables of the few values that their columns have."""
        import numpy as np

        graph, size = self.graph, self.graph.size
        state = np.frombuffer(bytes(graph.state), "u1", size)
        if any_state:
            mask = np.ones(size, bool)
        else:
            mask = (state == JobState.COMPLETED) & (np.frombuffer(graph.out_length.tobytes(), "<u4", size) > 0)
        for clause in clauses:
            fields = language.fields_of(clause)
            if fields <= OF_SPEC:
                table = [language.matches(clause, self._of_spec(number)) for number in range(len(self._ledger.specs))]
                mask &= np.array(table or [False])[np.frombuffer(graph.spec.tobytes(), "<u4", size)]
            elif fields == {"state"}:
                table = [language.matches(clause, {"state": one.label}) for one in JobState]
                mask &= np.array(table)[state]
            else:
                mask &= self._by_index(clause)
        return [int(row) for row in np.flatnonzero(mask)]

    def _by_index(self, clause: dict[str, Any]) -> Mask:
        import numpy as np

        values, places = np.unique(np.frombuffer(self.graph.index.tobytes(), "<u2", self.graph.size), return_inverse=True)
        table = np.array([language.matches(clause, {"index": int(value)}) for value in values] or [False])
        found: Mask = table[places]
        return found

    # ------------------------------------------------------------------------------------------------------- documents

    def _of_spec(self, number: int) -> Document:
        """What all jobs of a spec have in common; made anew each time, because the caller may keep and change it."""
        spec = self._ledger.specs[number]
        metadata = mson.sanitize(codec.decode(spec.metadata)) if spec.metadata else {}
        return {"metadata": metadata, "hosts": list(spec.hosts), "name": spec.name}

    def saves_of(self, row: int) -> dict[str, Any]:
        """What the job of a row keeps in which additional store."""
        stores = self._ledger.specs[self.graph.spec[row]].options.stores
        return {name: codec.decode(bytes(saved)) for name, saved in stores.items()}

    def header(self, row: int, *, with_state: bool = False) -> Document:
        """A document without its output."""
        graph = self.graph
        ended = graph.began[row] + graph.elapsed[row]
        # local time without a zone, as jobflow writes it
        completed = dt.datetime.fromtimestamp(ended).isoformat() if self._is_document(row) else None
        header = {"uuid": graph.uuid(row), "index": graph.index[row], "completed_at": completed, **self._of_spec(graph.spec[row])}
        if with_state:
            header["state"] = JobState(graph.state[row]).label
        return header

    async def documents(self, rows: Sequence[int], *, output: bool = True, with_state: bool = False) -> list[Document]:
        """The documents of these rows, in this order; the outputs of all of them are read in one pass."""
        outputs = await self.outputs(rows) if output else {}
        found = []
        for row in rows:
            header = self.header(row, with_state=with_state)
            document = {"uuid": header.pop("uuid"), "index": header.pop("index")}
            if output:
                document["output"] = outputs.get(row)
            document |= header
            found.append(_as_of_jobflow(document) if self._compat == "jobflow" else document)
        return found

    # --------------------------------------------------------------------------------------------------------- outputs

    async def outputs(self, rows: Iterable[int]) -> dict[int, Any]:
        """The outputs of these rows as documents hold them: plain data, large ones read from their files."""
        places = {row: place for row in rows if self._is_document(row) and (place := self.graph.output(row)) is not None}
        if not places:
            return {}
        self.passes += 1
        data = await self._read(places)
        return await self._values(data)

    async def _read(self, places: dict[int, model.Location]) -> dict[int, bytes]:
        """Bytes by row. The journal is read once from the first record that is wanted to the last one, if most are wanted."""
        by_seq: dict[int, list[tuple[int, model.Location]]] = {}
        for row, place in places.items():
            by_seq.setdefault(place.seq, []).append((row, place))
        wanted = sorted(by_seq)
        found: dict[int, bytes] = {}
        assert self._reader is not None

        def take(seq: int, payload: bytes) -> None:
            found.update((row, slice_of(payload, place)) for row, place in by_seq[seq])

        if len(wanted) > 1 and wanted[-1] - wanted[0] < DENSE * len(wanted):
            records = self._reader.records(wanted[0])
            try:
                async for seq, payload in records:
                    if seq > wanted[-1]:
                        break
                    if seq in by_seq:
                        take(seq, payload)
            finally:
                await records.aclose()
            return found
        for seq in wanted:
            if len(by_seq[seq]) == 1:
                ((row, place),) = by_seq[seq]
                found[row] = await self._reader.read(place)
            else:
                take(seq, await self._reader.payload(seq))
        return found

    async def _values(self, data: dict[int, bytes]) -> dict[int, Any]:
        large = {row: said for row, said in data.items() if codec.stub_token(said) is not None}
        small = {row: said for row, said in data.items() if row not in large}
        found = await asyncio.to_thread(_each, small, codec.decode)
        turns = asyncio.Semaphore(AT_ONCE)

        async def load(row: int, said: bytes) -> None:
            async with turns:
                value = await files.load_async(self._store.files, said)
            found[row] = await asyncio.to_thread(_plain, value)

        if large:
            async with asyncio.TaskGroup() as group:
                for row, said in large.items():
                    group.create_task(load(row, said))
        return found


def _is_of_columns(fields: set[str]) -> bool:
    """Can a clause about these fields be answered for all rows at once?"""
    return fields <= OF_SPEC or fields in ({"state"}, {"index"})


def _each(data: dict[int, bytes], decode: Callable[[bytes], Any]) -> dict[int, Any]:
    return {row: _plain(decode(said)) for row, said in data.items()}


def _plain(value: Any) -> Any:
    """The value as jobflow's documents have it. What has no such form (only a pickle can hold it) stays what it is."""
    try:
        return mson.sanitize(value)
    except (AttributeError, TypeError):
        return value


def _as_of_jobflow(document: Document) -> Document:
    kind = {"@module": "jobflow.core.schemas", "@class": "JobStoreDocument", "@version": _version_of_jobflow()}
    return {**_renamed(document), **kind}


@cache
def _version_of_jobflow() -> str | None:
    """Of the one that is installed, which is not loaded for it."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("jobflow")
    except PackageNotFoundError:
        return None


def _renamed(value: Any) -> Any:
    """References as jobflow's, so that it finds them."""
    if isinstance(value, dict):
        made = {key: _renamed(item) for key, item in value.items()}
        if made.get("@class") == "OutputReference":
            made["@module"] = "jobflow.core.reference"
        return made
    return [_renamed(item) for item in value] if isinstance(value, list) else value

"""A snapshot as a table: the image comes back byte for byte, and people can read it with what they have."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.kit.book import Book, chunk, story, uuid_of
from towline.engine.errors import CorruptionError
from towline.engine.graph import EDGE_COLUMNS, ROW_COLUMNS
from towline.engine.image import Image, image_of
from towline.engine.ledger import Ledger
from towline.engine.states import JobState
from towline.stores import table
from towline.stores.errors import NewerFormat


def there_and_back(image: Image) -> Image:
    """Through the bytes of an Arrow file, as a snapshot goes."""
    batch = table.to_batch(image)
    batch.validate(full=True)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return table.from_batch(pa.ipc.open_file(sink.getvalue()).get_batch(0), "x")


def test_a_run_with_everything_in_it_comes_back():
    image = image_of(story().ledger)
    assert there_and_back(image) == image


def test_every_prefix_of_a_run_comes_back():
    book = story()
    ledger = Ledger()
    from towline.engine import model

    assert there_and_back(image_of(ledger)) == image_of(ledger)
    for seq, payload in enumerate(book.payloads):
        ledger.apply(seq, payload, model.decode_record(payload))
        assert there_and_back(image_of(ledger)) == image_of(ledger)


@st.composite
def flows(draw):
    """Submissions with any parents among earlier jobs, canonical and other uuids, empty and large arguments."""
    book = Book()
    book.lead()
    number = 0
    for flow in range(draw(st.integers(0, 3))):
        n = draw(st.integers(1, 12))
        odd = draw(st.booleans())
        uuids = [f"job {number + i}" if odd and i % 2 else uuid_of(number + i) for i in range(n)]
        parents = [draw(st.lists(st.integers(0, i - 1), max_size=3, unique=True)) if i else [] for i in range(n)]
        args = [(draw(st.binary(max_size=50)),) for _ in range(n)]
        names = draw(st.lists(st.sampled_from(["a", "b", "ä"]), min_size=1, max_size=4))
        row = book.add(chunk(f"flow-{flow}", uuids, parents, args=args, names=names))
        free = [i for i in range(n) if not parents[i]]
        book.complete([row + i for i in free])
        number += n
    return book


@given(flows())
@settings(max_examples=25, deadline=None)
def test_any_flow_comes_back(book):
    image = image_of(book.ledger)
    assert there_and_back(image) == image


def test_every_column_of_the_engine_stands_in_it():
    names = set(table.to_batch(image_of(story().ledger)).schema.names)
    assert set(ROW_COLUMNS) <= names
    assert {"parents", "edges", "uuid_bytes", "arguments"} <= names
    assert set(ROW_COLUMNS.values()) | set(EDGE_COLUMNS.values()) <= set(table.DTYPES)


def test_what_people_see():
    book = story()
    rows = {row["row"]: row for row in table.to_batch(image_of(book.ledger)).to_pylist()}
    graph = book.ledger.graph
    assert [row["uuid"] for row in rows.values()] == [graph.uuid(row) for row in rows]
    assert [row["state"] for row in rows.values()] == [JobState(state).label for state in graph.state]
    assert (rows[0]["name"], rows[1]["name"], rows[0]["function"]) == ("add", "times", "jobs:add")
    assert (rows[0]["flow"], rows[8]["flow"]) == ("flow-a", "flow-b")
    assert rows[3]["parents"] == [1, 2]
    assert rows[12]["parents"] == [11, 13, 14]
    assert rows[0]["requirements"] == '{"cores":0.0}'
    assert (rows[0]["ended_at"] - rows[0]["began_at"]).total_seconds() == 0.5
    assert rows[0]["created_at"].year == 2023
    assert rows[4]["began_at"] is None


def test_text_uuids_are_the_same_however_they_are_made():
    image = image_of(story().ledger)
    assert table.to_batch(image).schema.field("uuid").type == pa.large_string()
    book = Book()
    book.lead()
    uuids = [uuid_of(0xFEDCBA987654 + i, 0x12AB34CD) for i in range(5)]
    book.add(chunk("f", uuids))
    assert table.to_batch(image_of(book.ledger)).column("uuid").to_pylist() == uuids


def test_pandas_reads_it():
    frame = pa.Table.from_batches([table.to_batch(image_of(story().ledger))]).to_pandas()
    assert frame["state"].value_counts()["completed"] == 5
    assert list(frame["uuid"][:1]) == [uuid_of(0)]


def test_tables_that_are_no_snapshot():
    batch = table.to_batch(image_of(story().ledger))
    with pytest.raises(CorruptionError, match="no snapshot"):
        table.from_batch(batch.replace_schema_metadata({}), "k")
    with pytest.raises(CorruptionError, match="rows instead of"):
        table.from_batch(batch.slice(1), "k")
    newer = batch.replace_schema_metadata({**batch.schema.metadata, table.META: b'{"format":2,"seq":0,"rows":0,"edges":0}'})
    with pytest.raises(NewerFormat, match="format 2"):
        table.from_batch(newer, "k")

"""The table's words: every one goes to bytes and back, and what an older towline wrote still reads."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import msgspec
import pytest

from towline.engine.errors import CorruptionError
from towline.stores.jobstore import records as r
from towline.stores.jobstore.description import Stored

ENTRY = r.FileEntry("id", "blobs/aa/x", 3, 8 << 20, b"\0" * 4, True, "job", True, False, "name")
SAMPLES = [
    r.Began("w", b"c", "0.1", 1.5),
    r.ConfigWritten(b"c"),
    r.RootSet("j"),
    r.JobPut("j", 3, b"body"),
    r.JobDeleted("j"),
    r.FilePut(ENTRY, r.ANY),
    r.FileDeleted("f"),
    r.SharedPut(ENTRY),
    r.SharedDeleted("n"),
    r.Condemned(["b"]),
    r.Swept(["b"]),
    r.LogWritten(b"text"),
    r.LogWritten(blob=ENTRY),
    r.LogsRead([1, 2], True),
    r.LogsDropped(9),
    r.Snapshotted(4, 2, "k", "d", 5),
    r.Destroyed(2.0),
]


def test_there_is_a_sample_of_every_word():
    assert {type(s) for s in SAMPLES} == set(get_args(r.Change))


@pytest.mark.parametrize("change", SAMPLES, ids=lambda c: type(c).__name__)
def test_bytes_and_back(change):
    assert r.decode(r.encode(change), "segment") == change


def test_tags_are_all_different():
    tags = [t.__struct_config__.tag for t in get_args(r.Change)]
    assert len(set(tags)) == len(tags)


@pytest.mark.parametrize("change", SAMPLES, ids=lambda c: type(c).__name__)
def test_fields_behind_the_first_version_may_be_missing(change):
    """A field with a default may be absent: it was added later, or will be in an older reader's place."""
    fields = msgspec.structs.fields(change)
    needed = [f for f in fields if f.required]
    old = msgspec.msgpack.encode([type(change).__struct_config__.tag, *(getattr(change, f.name) for f in needed)])
    assert isinstance(r.decode(old, "segment"), type(change))


def test_garbage_is_corruption_that_names_the_segment():
    with pytest.raises(CorruptionError, match="segment 7"):
        r.decode(b"\x91\xa5never", "segment 7")


def test_the_format_page_names_every_word_and_field_in_order():
    page = (Path(__file__).parents[3] / "docs" / "FORMAT.md").read_text()
    rows = [[s.__struct_config__.tag, *(f.name for f in msgspec.structs.fields(s))] for s in get_args(r.Change)]
    rows += [[s.__name__, *(f.name for f in msgspec.structs.fields(s))] for s in (r.FileEntry, Stored)]
    for name, *fields in rows:
        shown = name if name[0].isupper() else f"`{name}`"
        assert f"| {shown} | {', '.join(f'`{field}`' for field in fields)} |" in page

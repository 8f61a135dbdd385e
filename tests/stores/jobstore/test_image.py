"""Snapshots of the table as bytes: equal states have equal ones, and what is not right is refused."""

from __future__ import annotations

import pytest

from towline.engine.errors import CorruptionError
from towline.stores.errors import NewerFormat
from towline.stores.jobstore import image
from towline.stores.jobstore import records as r
from towline.stores.jobstore.links import Position
from towline.stores.jobstore.state import State
from towline.stores.objects.memory import MemoryObjects

ENTRY = r.FileEntry("f", "b1", 1, owner="a", cleanup=True)
CHANGES = [
    r.Began("w", b"config"), r.JobPut("b", 0, b"x"), r.JobPut("a", 0, b"y"), r.FilePut(ENTRY),
    r.SharedPut(r.FileEntry("s", "b2", 1)), r.SharedPut(r.FileEntry("s", "b3", 1)), r.LogWritten(b"1"),
    r.LogWritten(b"2"), r.LogsRead([6]), r.Condemned(["b9"]),
    r.RootSet("a"), r.Snapshotted(3, 1, "key", "digest"),
]  # fmt: skip
POSITION = Position(4, 100, b"d" * 32, b"c" * 32, len(CHANGES))


def state(changes=CHANGES):
    state = State()
    for seq, change in enumerate(changes):
        state.apply(seq, change)
    return state


def test_a_state_comes_back_whole():
    found, position = image.decode(image.encode(state(), POSITION), "object")
    assert found.facts() == state().facts()
    assert position == POSITION


def test_equal_states_have_equal_bytes():
    other = state([r.Began("w", b"config"), r.JobPut("a", 0, b"y"), r.JobPut("b", 0, b"x")])
    same = state([r.Began("w", b"config"), r.JobPut("b", 0, b"x"), r.JobPut("a", 0, b"y")])
    other.jobs["a"], other.jobs["b"] = same.jobs["a"], same.jobs["b"]
    assert image.encode(other, POSITION) == image.encode(same, POSITION)


def test_what_is_no_snapshot_is_refused():
    data = image.encode(state(), POSITION)
    with pytest.raises(CorruptionError, match="no snapshot"):
        image.decode(b"something else", "object")
    with pytest.raises(CorruptionError, match="cannot be read"):
        image.decode(data[:-5], "object")
    with pytest.raises(NewerFormat):
        image.decode(data[:8] + (2).to_bytes(4, "little") + data[12:], "object")


async def test_write_and_fetch():
    objects = MemoryObjects()
    named = await image.write(objects, state(), POSITION)
    assert await image.listed(objects) == [named.key]
    found = await image.fetch(objects, named.key)
    assert (found.digest, found.position) == (named.digest, POSITION)
    assert named == await image.write(objects, state(), POSITION)


async def test_a_snapshot_that_is_not_what_its_name_says():
    objects = MemoryObjects()
    named = await image.write(objects, state(), POSITION)
    data = await objects.get(named.key)
    await objects.put(named.key, data[:-1] + b"\x05")
    with pytest.raises(CorruptionError, match="its name"):
        await image.fetch(objects, named.key)
    digest = image.digest_of(data)
    other = f"snapshots/{7:020d}-{digest[:16]}.state"
    await objects.put(other, data)
    with pytest.raises(CorruptionError, match="up to"):
        await image.fetch(objects, other)

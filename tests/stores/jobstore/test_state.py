"""The fold of the table's records: what may follow, what then holds, and that a fork leaves the state alone."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from towline.stores.jobstore import records as r
from towline.stores.jobstore.errors import (
    ConcurrentFileModificationException,
    JobStoreExistsException,
    NoSuchFileException,
    NoSuchJobException,
    NoSuchJobStoreException,
)
from towline.stores.jobstore.state import Layer, State


def entry(name, blob, owner="", cleanup=False):
    return r.FileEntry(name, blob, 1, owner=owner, cleanup=cleanup)


def folded(*changes):
    """The state after these, each of which must be allowed."""
    state = State()
    for seq, change in enumerate(changes):
        assert state.check(change) is None, change
        state.apply(seq, change)
    return state


def test_versions_are_record_numbers():
    state = folded(r.Began("w", b""), r.JobPut("a", 0, b"1"), r.JobPut("b", 0, b"x"), r.JobPut("a", 1, b"2"))
    assert state.job("a") == (3, b"2")
    assert list(state.jobs) == ["a", "b"]


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (r.JobPut("a", 0, b""), ConcurrentFileModificationException),
        (r.JobPut("a", 9, b""), ConcurrentFileModificationException),
        (r.JobPut("none", 1, b""), NoSuchJobException),
        (r.FilePut(entry("f", "new")), ConcurrentFileModificationException),
        (r.FilePut(entry("none", "new"), r.ANY), NoSuchFileException),
        (r.FilePut(entry("f", "new"), 9), ConcurrentFileModificationException),
        (r.FilePut(entry("g", "condemned")), ConcurrentFileModificationException),
        (r.FilePut(entry("g", "old")), ConcurrentFileModificationException),
        (r.SharedPut(entry("s", "new"), 0), ConcurrentFileModificationException),
        (r.SharedPut(entry("s", "condemned")), ConcurrentFileModificationException),
        (r.LogWritten(blob=entry("", "condemned")), ConcurrentFileModificationException),
        (r.LogsRead([99]), ConcurrentFileModificationException),
        (r.LogsRead([7], undone=True), ConcurrentFileModificationException),
        (r.Began("again", b""), JobStoreExistsException),
    ],
)
def test_what_may_not_follow(change, error):
    state = folded(
        r.Began("w", b""), r.JobPut("a", 0, b""), r.FilePut(entry("f", "old")), r.FilePut(entry("f", "now"), 2),
        r.Condemned(["condemned"]), r.SharedPut(entry("s", "s1")), r.SharedPut(entry("s", "s2")), r.LogWritten(b"m"),
    )  # fmt: skip
    before = state.facts()
    assert isinstance(state.check(change), error)
    assert state.facts() == before


def test_a_deleted_job_takes_its_cleanup_files_with_it():
    state = folded(
        r.JobPut("a", 0, b""), r.FilePut(entry("f", "b1", "a", True)), r.FilePut(entry("g", "b2", "a")),
        r.FilePut(entry("h", "b3", "b", True)), r.JobDeleted("a"),
    )  # fmt: skip
    assert set(state.files) == {"g", "h"}
    assert set(state.doomed) == {"b1"}
    assert [f.entry.id for f in state.files_of("a")] == ["g"]


def test_logs_are_read_once_given_back_and_dropped():
    state = folded(r.LogWritten(b"0"), r.LogWritten(blob=entry("", "b")), r.LogsRead([0, 1]), r.LogsRead([1], undone=True))
    assert list(state.unread) == [1]
    state.apply(4, r.LogsDropped(2))
    assert (state.logs, state.unread, set(state.doomed)) == ({}, {}, {"b"})


def test_after_destroyed_nothing_follows():
    state = folded(r.Began("w", b""), r.Destroyed())
    assert isinstance(state.check(r.RootSet("x")), NoSuchJobStoreException)


def test_blobs_in_use():
    state = folded(r.FilePut(entry("f", "b1")), r.SharedPut(entry("s", "b2")), r.LogWritten(blob=entry("", "b3")))
    state.apply(3, r.FileDeleted("f"))
    assert state.blobs() == {"b2", "b3"}


names = st.sampled_from(["a", "b", "c"])
blobs = st.sampled_from([f"blob{i}" for i in range(6)])
expected = st.sampled_from([r.ANY, 0, 1, 2, 3, 4])
entries = st.builds(entry, names, blobs, st.sampled_from(["", "a", "b"]), st.booleans())
changes = st.lists(
    st.one_of(
        st.builds(r.JobPut, names, expected, st.binary(max_size=2)),
        st.builds(r.JobDeleted, names),
        st.builds(r.FilePut, entries, expected),
        st.builds(r.FileDeleted, names),
        st.builds(r.SharedPut, entries, expected),
        st.builds(r.SharedDeleted, names),
        st.builds(r.Condemned, st.lists(blobs, max_size=2)),
        st.builds(r.Swept, st.lists(blobs, max_size=2)),
        st.builds(r.LogWritten, st.binary(max_size=2)),
        st.builds(r.LogsRead, st.lists(st.integers(0, 9), max_size=2, unique=True), st.booleans()),
        st.builds(r.LogsDropped, st.integers(0, 9)),
        st.builds(r.RootSet, names),
    ),
    max_size=14,
)


@settings(max_examples=150, deadline=None)
@given(changes, st.integers(0, 14), st.integers(0, 14))
def test_a_fork_goes_on_like_the_state_itself_and_leaves_it_alone(stream, at, deeper):
    """One fold over everything, one that forks in the middle (twice): the same verdicts, the same facts."""
    plain, state, depth = State(), State(), 0
    frozen = None
    for seq, change in enumerate(stream):
        for when in (at, deeper):
            if seq == when and depth < 2:
                frozen = frozen or (state, state.facts())
                state, depth = state.fork(), depth + 1
        refusal = plain.check(change)
        assert type(state.check(change)) is type(refusal)
        assert {owner: sorted(f.entry.id for f in state.files_of(owner)) for owner in "ab"} == {
            owner: sorted(f.entry.id for f in plain.files_of(owner)) for owner in "ab"
        }
        if refusal is None:
            plain.apply(seq, change)
            state.apply(seq, change)
    if frozen is not None:
        assert frozen[0].facts() == frozen[1]
    ours, theirs = state.facts(), plain.facts()
    assert ours | {"owned": None} == theirs | {"owned": None}


class Counted(str):
    """A text that counts how often any of its kind was compared."""

    compared = 0

    def __eq__(self, other):
        Counted.compared += 1
        return str.__eq__(self, other)

    __hash__ = str.__hash__


def test_on_a_fork_too_a_deleted_job_costs_its_own_files_only():
    state, jobs = State(), [f"j{i}" for i in range(200)]
    fork = state.fork().fork()
    for seq, job in enumerate(jobs):
        fork.apply(seq, r.FilePut(entry(f"f-{job}", f"b-{job}", Counted(job), True)))
    Counted.compared = 0
    for seq, job in enumerate(jobs):
        fork.apply(len(jobs) + seq, r.JobDeleted(Counted(job)))
    assert not fork.files
    assert Counted.compared < 10 * len(jobs)


def test_a_layer_is_a_mapping():
    base = {"a": 1, "b": 2}
    layer = Layer(base)
    layer["c"] = 3
    del layer["a"]
    layer["b"] = 4
    assert dict(layer) == {"b": 4, "c": 3}
    assert ("a" in layer, len(layer), base) == (False, 2, {"a": 1, "b": 2})
    with pytest.raises(KeyError):
        del layer["a"]


def test_a_copy_goes_its_own_way():
    state = folded(r.FilePut(entry("f", "b", "a", True)))
    copy = state.copy()
    copy.apply(1, r.FileDeleted("f"))
    assert [f.entry.id for f in state.files_of("a")] == ["f"]
    assert copy.files_of("a") == []

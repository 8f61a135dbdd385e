"""What the records mean. The random walks are in test_core_stateful; here stand the cases that have a name."""

from __future__ import annotations

from array import array

import pytest

from tests.kit.builders import chunk, failure, led, plain, spec, u32, uuid_of
from towline.engine import model
from towline.engine.errors import CorruptionError, SubmissionError
from towline.engine.ledger import Applied, BrokenInvariant, Ledger, rows_bytes, slice_of
from towline.engine.model import EXTERNAL
from towline.engine.states import EdgeKind, JobState, Missing, edge_byte

S = JobState
NONE = edge_byte(EdgeKind.DATA, Missing.NONE)
PASS = edge_byte(EdgeKind.DATA, Missing.PASS)
HARD = edge_byte(EdgeKind.DATA, Missing.ERROR)


class Pen:
    """Writes records into a ledger, one after the other, and keeps them."""

    def __init__(self, *chunks: model.Chunk) -> None:
        self.ledger = Ledger()
        self.log: list[bytes] = []
        self.counter = 0
        for one in chunks:
            self.write(model.Added(self.ledger.graph.size, 1.0, one))

    def write(self, record: model.Record) -> Applied:
        payload = model.encode(record)
        self.log.append(payload)
        return self.ledger.apply(len(self.log) - 1, payload, record)

    def complete(self, *rows: int, outputs: list[bytes] | None = None) -> Applied:
        pairs = [(row, 50 + row) for row in rows]
        return self.write(model.Completed("w", 3, 2.0, plain(pairs, outputs or [])))

    def end(self, row: int, state: JobState = S.COMPLETED, **what: object) -> Applied:
        ending = model.Ending(row, 60 + row, **what)  # type: ignore[arg-type]  # as given
        attempts = 0 if state is S.COMPLETED else 1
        return self.write(model.Ended("w", 3, 2.0, ending, int(state), attempts, until=99.0, row=self.ledger.graph.size))

    def fall(self, row: int, state: JobState = S.FAILED) -> Applied:
        return self.end(row, state, failure=failure())

    def grow(self, row: int, **what: object) -> Applied:
        return self.end(row, output=b"\xc0", growth=model.Growth(**what))  # type: ignore[arg-type]  # as given

    def states(self) -> list[str]:
        return [S(state).label for state in self.ledger.graph.state]

    def pending(self) -> list[int]:
        return list(self.ledger.graph.pending)


# ---------------------------------------------------------------------------------------------------------- outcomes


def test_added_jobs_without_parents_are_free() -> None:
    pen = Pen()
    applied = pen.write(model.Added(0, 1.0, chunk([[], [0], []])))
    assert (applied.free, applied.added) == ([0, 2], True)
    assert pen.ledger.counts[S.WAITING] == 3


def test_completed_jobs_free_their_children_in_order() -> None:
    pen = Pen(chunk([[], [], [0], [0, 1], [0], [0]]))
    assert pen.complete(0).free == [2, 4, 5]
    assert pen.complete(1).free == [3]
    assert pen.ledger.counts[S.COMPLETED] == 2


def test_an_output_is_found_in_its_record() -> None:
    pen = Pen(chunk(3))
    pen.complete(2, 0, outputs=[b"two", b"zero!"])
    pen.end(1, output=b"one, with more", stored_data=b"x")
    found = []
    for row in range(3):
        place = pen.ledger.graph.output(row)
        assert place is not None
        found.append(slice_of(pen.log[place.seq], place))
    assert found == [b"zero!", b"one, with more", b"two"]
    assert pen.ledger.stored_at == {1: 2}
    assert (pen.ledger.graph.epoch[2], pen.ledger.graph.counter[2]) == (3, 52)


def test_the_same_job_twice_is_a_broken_promise() -> None:
    pen = Pen(chunk(2))
    pen.complete(0)
    with pytest.raises(BrokenInvariant, match="P3"):
        pen.complete(1, 0)
    with pytest.raises(BrokenInvariant, match=rf"job {uuid_of(0)} \(row 0, attempt 3.60, .*completed to completed"):
        pen.end(0)


def test_records_come_in_order() -> None:
    with pytest.raises(CorruptionError, match="record 1 of the journal follows record -1"):
        Ledger().apply(1, b"", model.Beat(0.0))


def test_a_failure_that_is_retried_waits_for_its_time() -> None:
    pen = Pen(chunk(1))
    applied = pen.fall(0, S.DELAYED)
    assert (applied.delayed, applied.free) == ([0], [])
    assert pen.states() == ["delayed"]
    assert pen.ledger.until == {0: 99.0}
    assert pen.ledger.failed_at == {0: 1}
    assert pen.ledger.graph.attempts[0] == 1
    pen.complete(0)
    assert pen.ledger.until == {}


def test_deaths_are_counted_and_charges_are_not() -> None:
    pen = Pen(chunk(1))
    pen.fall(0, S.DELAYED)
    assert pen.ledger.deaths == {}
    lost = model.Ending(0, 61, failure=failure("lost"))
    pen.write(model.Ended("w", 3, 2.0, lost, int(S.DELAYED), 1))
    pen.write(model.Ended("w", 3, 2.0, model.Ending(0, 62, failure=failure("upload")), int(S.DELAYED), 1))
    assert pen.ledger.deaths == {0: 2}


@pytest.mark.parametrize(("byte", "free"), [(HARD, []), (NONE, [1]), (PASS, [1])])
def test_children_of_a_failed_job(byte: int, free: list[int]) -> None:
    pen = Pen(chunk([[], [0]], edges=[byte]))
    assert pen.fall(0).free == free
    assert pen.states() == ["failed", "waiting"]


@pytest.mark.parametrize(("byte", "free"), [(HARD, []), (NONE, [1]), (PASS, [1])])
def test_children_of_a_stopped_job(byte: int, free: list[int]) -> None:
    pen = Pen(chunk([[], [0]], edges=[byte]))
    assert pen.write(model.Steered("stop", u32([0]), int(S.STOPPED), 1.0)).free == free
    assert pen.states() == ["stopped", "waiting"]


# ------------------------------------------------------------------------------------------------------------ growth


def test_children_wait_for_the_job_that_took_over() -> None:
    pen = Pen(chunk([[], [0], [0]]))
    heir = chunk([[], [0]], uuids=[uuid_of(7), uuid_of(0)], indices=[1, 2])
    applied = pen.grow(0, replace=heir, heir=1)
    assert (applied.free, applied.added) == ([3], True)
    assert pen.complete(3).free == [4]
    assert pen.complete(4).free == [1, 2]
    assert pen.ledger.graph.find(uuid_of(0)) == 4
    assert pen.ledger.graph.find(uuid_of(0), 1) == 0


@pytest.mark.parametrize("how", ["detour", "replace"])
def test_children_wait_for_the_leaves_of_a_detour(how: str) -> None:
    pen = Pen(chunk([[], [0]]))
    assert pen.grow(0, **{how: chunk([[], [0], [0]], first=7)}).free == [2]
    assert pen.complete(2).free == [3, 4]
    assert pen.complete(3).free == []
    assert pen.complete(4).free == [1]


def test_an_addition_keeps_nobody_waiting() -> None:
    pen = Pen(chunk([[], [0]]))
    assert pen.grow(0, addition=chunk([[], [0]], first=7)).free == [1, 2]


@pytest.mark.parametrize("how", ["detour", "replace", "addition"])
def test_what_a_job_adds_may_take_its_own_output(how: str) -> None:
    """The edge is satisfied when it is made, and must not be counted off once more."""
    pen = Pen(chunk([[], [0]]))
    part = chunk([[EXTERNAL], []], first=7, externals=[(uuid_of(0), 0)])
    assert 2 in pen.grow(0, **{how: part}).free
    assert pen.pending()[2:] == [0, 0]


def test_the_job_that_takes_over_may_take_the_old_output() -> None:
    pen = Pen(chunk([[], [0]]))
    heir = chunk([[EXTERNAL], [EXTERNAL]], uuids=[uuid_of(0), uuid_of(7)], indices=[2, 1], externals=[(uuid_of(0), 0)])
    assert pen.grow(0, replace=heir, heir=0).free == [2, 3]
    assert pen.complete(2).free == [1]
    assert pen.pending() == [0, 0, 0, 0]


def test_all_parts_of_a_response_at_once() -> None:
    pen = Pen(chunk([[], [0]]))
    heir = chunk(1, uuids=[uuid_of(0)], indices=[2])
    aside = chunk([[EXTERNAL]], first=9, externals=[(uuid_of(0), 2)])
    pen.grow(0, replace=heir, heir=0, detour=chunk(1, first=8), addition=aside)
    assert pen.pending() == [0, 2, 0, 0, 1]
    assert pen.complete(2).free == [4]
    assert pen.complete(3).free == [1]


def test_stop_children_stops_descendants_and_nobody_else() -> None:
    pen = Pen(chunk([[], [0], [1], [], [3, 2]]))
    pen.grow(0, stop_children=True)
    assert pen.states() == ["completed", "stopped", "stopped", "waiting", "stopped"]


def test_stop_jobflow_stops_the_rest_of_the_flow() -> None:
    pen = Pen(chunk([[], [0], []]), chunk(1, flow="other", first=50))
    pen.complete(2)
    pen.grow(0, addition=chunk(1, first=9), stop_jobflow=True)
    assert pen.states() == ["completed", "stopped", "completed", "waiting", "stopped"]


@pytest.mark.parametrize("held", [True, False])
def test_a_stop_means_the_same_whether_the_job_was_held_or_not(held: bool) -> None:
    """A replay does not know who held what: what follows from a stop must not depend on it."""
    other = chunk([[EXTERNAL]], flow="o", first=9, externals=[(uuid_of(1), 1)], edges=[NONE])
    pen = Pen(chunk([[], [], [1]], edges=[NONE]), other)
    if held:
        pen.ledger.become(1, S.LEASED)
    applied = pen.grow(0, stop_jobflow=True)
    assert applied.free == [3]
    assert pen.pending() == [0, 0, 0, 0]
    if held:
        assert pen.states()[1] == "leased"
        assert pen.ledger.stopping == {1}
    else:
        assert pen.states()[1] == "stopped"
    pen.complete(1)
    assert pen.pending() == [0, 0, 0, 0], "an excused child is not counted off twice"
    assert pen.states() == ["completed", "completed", "stopped", "waiting"]
    assert pen.ledger.stopping == set()


@pytest.mark.parametrize("held", [True, False])
@pytest.mark.parametrize(("state", "follows"), [(S.DELAYED, "stopped"), (S.FAILED, "failed")])
def test_a_stopped_job_that_fails_is_not_retried(held: bool, state: JobState, follows: str) -> None:
    pen = Pen(chunk([[], [], [1]], edges=[NONE]))
    if held:
        pen.ledger.become(1, S.LEASED)
    pen.grow(0, stop_jobflow=True)
    applied = pen.fall(1, state)
    assert (applied.delayed, applied.free) == ([], [])
    assert pen.states()[1] == follows
    assert pen.pending() == [0, 0, 0]
    assert pen.ledger.until == {}


# ------------------------------------------------------------------------------------------------------- small tables


def test_the_roster() -> None:
    pen = Pen(chunk(3))
    joined = model.Joined("w1", "h", "b", "p", 1, 1.0, 2, 1.0, 1.0)
    pen.write(joined)
    assert pen.ledger.roster == {"w1": joined}
    pen.write(model.Left("w1", "gone", 1.0, suspects=[2, 0]))
    assert (pen.ledger.roster, pen.ledger.left, pen.ledger.suspects) == ({}, {"w1"}, {0, 2})
    pen.complete(0)
    pen.fall(2)
    assert pen.ledger.suspects == set(), "who has ended is no suspect"


def test_leaders_and_marks() -> None:
    pen = Pen()
    assert pen.ledger.closed
    pen.write(model.Opened("store", "0", 1.0))
    pen.write(led(4))
    assert (pen.ledger.store, pen.ledger.closed) == ("store", False)
    assert pen.ledger.led == led(4)
    mark = model.Snapshotted(1, "k", "d", 1.0)
    pen.write(mark)
    pen.write(model.Beat(1.0))
    pen.write(model.Closed(2.0))
    assert pen.ledger.closed
    assert pen.ledger.snapshot == mark
    pen.write(model.Logged(1, [model.Log(0, 1, b"a", b""), model.Log(2, 1, b"b", b"")]))
    pen.write(model.Logged(1, [model.Log(0, 2, b"a", b"")]))
    assert pen.ledger.logs_at == {0: [5, 6], 2: [5]}


def test_a_stopped_run_is_remembered() -> None:
    pen = Pen(chunk(1))
    pen.write(model.Steered("stop", rows_bytes([0]), int(S.STOPPED), 1.0, run="stopped"))
    assert pen.ledger.run_stopped
    assert pen.states() == ["stopped"]


def test_equal_specs_are_one_and_functions_are_kept_by_hash() -> None:
    pen = Pen(chunk(2, specs=[spec("a"), spec("b")], spec_of=[0, 1]), chunk(1, flow="g", first=9, specs=[spec("b")]))
    assert len(pen.ledger.specs) == 2
    assert list(pen.ledger.graph.spec) == [0, 1, 1]
    assert list(pen.ledger.functions) == ["key"]


def test_rows_bytes_are_a_column() -> None:
    assert array("I", rows_bytes([1, 2**32 - 1])).tolist() == [1, 2**32 - 1]


# ---------------------------------------------------------------------------------------------------------- refusals

REFUSED = {
    "no first piece": (chunk(1, flow="new", base=3, first=50), "begins with job 3; its first jobs are not in this store"),
    "again": (chunk(2, total=4, first=50), "flow flow (a flow) is already in this store; to go on with it use resume"),
    "a gap": (chunk(1, base=3, total=4), "flow flow has 2 jobs here; a piece from 3 on cannot follow"),
    "another total": (chunk(1, base=2, total=5), "a piece from 2 on cannot follow"),
    "too many": (chunk(3, base=2, total=4), "flow flow announced 4 jobs and brings more"),
    "no function": (chunk(1, base=2, total=4, specs=[spec("x", "no")]), "job x of flow flow names a function that was not sent"),
    "a bad chunk": (chunk([[9]], base=2, total=4), "has a parent that does not come before it"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_a_piece_that_cannot_be_taken(name: str) -> None:
    bad, sentence = REFUSED[name]
    ledger = Pen(chunk(2, total=4)).ledger
    with pytest.raises(SubmissionError) as caught:
        ledger.check_chunk(bad)
    assert sentence in str(caught.value)


def test_the_piece_that_follows_is_taken() -> None:
    pen = Pen(chunk(2, total=4))
    assert [flow.uuid for flow in pen.ledger.open_flows()] == ["flow"]
    follows = chunk([[0], [2]], base=2, total=4, functions=[])
    pen.ledger.check_chunk(follows)
    pen.write(model.Added(2, 1.0, follows))
    assert pen.ledger.open_flows() == []


def test_a_piece_that_is_handed_in_again_is_known() -> None:
    first, second = chunk([[], [0]], total=4), chunk(2, base=2, total=4)
    pen = Pen(first)
    assert pen.ledger.holds_chunk(first) == 0
    assert pen.ledger.holds_chunk(second) is None
    pen.grow(0, replace=chunk(1, uuids=[uuid_of(0)], indices=[2]), heir=0)
    pen.write(model.Added(3, 1.0, second))
    assert pen.ledger.holds_chunk(first) == 0, "though its first job has been replaced"
    assert pen.ledger.holds_chunk(second) == 3
    for other in (chunk(3, total=4), chunk(1), chunk(2, uuids=[uuid_of(0), uuid_of(9)]), chunk(2, flow="o"), chunk(0)):
        assert pen.ledger.holds_chunk(other) is None


GROWTHS = {
    "here already": model.Growth(addition=chunk(1)),
    "twice in one response": model.Growth(replace=chunk(1, first=7), addition=chunk(1, first=7)),
    "no such heir": model.Growth(replace=chunk(1, first=7), heir=1),
    "unknown parent": model.Growth(detour=chunk([[EXTERNAL]], first=7, externals=[(uuid_of(9), 0)])),
    "parent of a later part": model.Growth(
        detour=chunk([[EXTERNAL]], first=7, externals=[(uuid_of(8), 0)]), addition=chunk(1, first=8)
    ),
    "unknown function": model.Growth(addition=chunk(1, first=7, specs=[spec("x", "unknown")])),
}  # fmt: skip


@pytest.mark.parametrize("name", GROWTHS)
def test_a_response_that_cannot_be_taken(name: str) -> None:
    with pytest.raises(SubmissionError):
        Pen(chunk(2)).ledger.check_growth(GROWTHS[name])


def test_a_response_s_parts_may_refer_to_earlier_parts() -> None:
    growth = model.Growth(replace=chunk(1, first=7), addition=chunk([[EXTERNAL]], first=8, externals=[(uuid_of(7), 1)]))
    Pen(chunk(2)).ledger.check_growth(growth)

"""The frame of a lease: what a worker is told of its jobs, and what of it it knows already."""

from __future__ import annotations

import pytest

from tests.kit.builders import FUNCTION, chunk, spec, uuid_of
from towline.engine import model
from towline.engine.granting import WORTH_S, inputs_of, rows_to_ask_back, to_ask_back, write_lease
from towline.engine.ids import pack_uuid
from towline.engine.leases import Session
from towline.engine.ledger import Ledger
from towline.engine.model import Input
from towline.engine.outputs import OutputCache
from towline.engine.ropes import Planned
from towline.engine.states import EdgeKind, JobState, Missing, edge_byte

S = JobState


def ledger_of(one: model.Chunk) -> Ledger:
    made = Ledger()
    made.apply(0, b"", model.Added(0, 0.0, one))
    return made


def session() -> Session:
    return Session("w", 0, 0.0, 60.0)


def test_a_lease_names_attempts_that_count_up() -> None:
    ledger, holder = ledger_of(chunk(3, args=[b"a", b"b", b"c"], indices=[1, 4, 1])), session()
    ledger.graph.attempts[1] = 2
    frame = write_lease(ledger, holder, [Planned(1, []), Planned(0, [])], 7, 40, OutputCache())
    assert frame.epoch == 7
    assert [(job.row, job.counter, job.args, job.index, job.attempt) for job in frame.jobs] == [
        (1, 41, b"b", 4, 3),
        (0, 42, b"a", 1, 1),
    ]
    assert frame.jobs[0].uuid == pack_uuid(uuid_of(1))
    assert list(holder.held) == [1, 0]
    assert holder.granted == 2
    assert [(ledger.graph.epoch[row], ledger.graph.counter[row]) for row in range(3)] == [(7, 42), (7, 41), (0, 0)]


def test_specs_and_functions_are_sent_once() -> None:
    specs = [spec("a"), spec("b"), spec("c", "other")]
    functions = [FUNCTION, model.Function("other", "m:g")]
    ledger, holder = ledger_of(chunk(3, specs=specs, spec_of=[0, 1, 2], functions=functions)), session()
    first = write_lease(ledger, holder, [Planned(0, []), Planned(1, [])], 1, 0, OutputCache())
    assert (first.specs, first.functions) == ([(0, specs[0]), (1, specs[1])], [functions[0]])
    second = write_lease(ledger, holder, [Planned(0, []), Planned(2, [])], 1, 2, OutputCache())
    assert (second.specs, second.functions) == ([(2, specs[2])], [functions[1]])


def test_who_waits_outside_the_lease_is_reported_to() -> None:
    ledger = ledger_of(chunk([[], [0], [0], [2], []]))
    plan = [Planned(0, []), Planned(2, [0]), Planned(3, [2]), Planned(4, [])]
    frame = write_lease(ledger, session(), plan, 1, 0, OutputCache())
    assert [(job.row, job.report, job.needs) for job in frame.jobs] == [
        (0, True, []),
        (2, False, [0]),
        (3, False, [2]),
        (4, False, []),
    ]


def test_inputs_by_value_by_place_and_by_row() -> None:
    ledger, outputs = ledger_of(chunk([[], [], [], [0, 1, 2]])), OutputCache()
    graph = ledger.graph
    for row in (0, 1):
        graph.state[row], graph.epoch[row], graph.counter[row] = S.COMPLETED, 2, 10 + row
    outputs.keep(0, b"value", 1, 1)
    graph.out_seq[1], graph.out_offset[1], graph.out_length[1] = 5, 6, 7
    graph.epoch[2], graph.counter[2] = 3, 9
    assert inputs_of(graph, 3, {2, 3}, outputs) == [
        Input(0, 2, 10, b"value"),
        Input(1, 2, 11, place=model.Location(5, 6, 7)),
        Input(2, 3, 9),
    ]


@pytest.mark.parametrize("state", [S.FAILED, S.STOPPED])
def test_a_parent_that_ended_without_output_is_missing(state: JobState) -> None:
    bytes_of = [edge_byte(EdgeKind.DATA, Missing.NONE), edge_byte(EdgeKind.DATA, Missing.PASS)]
    ledger = ledger_of(chunk([[], [], [0, 1]], edges=bytes_of))
    ledger.graph.state[0] = ledger.graph.state[1] = state
    assert inputs_of(ledger.graph, 2, set(), OutputCache()) == [
        Input(0, 0, 0, missing=True),
        Input(1, 0, 0, missing=True, uuid=uuid_of(1)),
    ]


def test_an_edge_of_order_brings_no_input() -> None:
    kinds = [edge_byte(EdgeKind.ORDER, Missing.ERROR), edge_byte(EdgeKind.GROUP, Missing.ERROR)]
    ledger = ledger_of(chunk([[], [], [0, 1]], edges=kinds))
    assert inputs_of(ledger.graph, 2, set(), OutputCache()) == []


def leased_to(ledger: Ledger, rows: range, running: int | None = None) -> Session:
    holder = session()
    holder.held = dict.fromkeys(rows)
    for row in rows:
        ledger.graph.state[row] = S.LEASED
    if running is not None:
        ledger.graph.state[running] = S.RUNNING
    return holder


def test_the_later_half_is_asked_back_of_what_has_not_begun_and_waits_for_nobody() -> None:
    ledger = ledger_of(chunk([[], [], [], [], [], [], [5]]))
    holder = leased_to(ledger, range(7))
    assert rows_to_ask_back(ledger.graph, holder, lambda spec: 1.0) == [3, 4, 5]
    ledger.graph.state[0] = S.RUNNING
    assert rows_to_ask_back(ledger.graph, holder, lambda spec: 1.0) == [3, 4, 5]


def test_the_one_job_behind_a_body_that_runs_for_long_is_asked_back_however_little_it_takes() -> None:
    ledger = ledger_of(chunk([[], []]))
    assert rows_to_ask_back(ledger.graph, leased_to(ledger, range(2)), lambda spec: WORTH_S / 2) == []
    assert rows_to_ask_back(ledger.graph, leased_to(ledger, range(2), running=0), lambda spec: WORTH_S / 2) == [1]


def test_the_fullest_are_asked_as_many_as_are_idle_and_not_in_vain() -> None:
    ledger = ledger_of(chunk([[], [0], [1], [], [], [], [], [], []]))
    chained, two, three = (leased_to(ledger, range(at, to), running=at) for at, to in ((0, 3), (3, 5), (5, 8)))
    everybody = [session(), chained, two, three]

    def ask(idle: int) -> list[tuple[Session, list[int]]]:
        return to_ask_back(ledger.graph, everybody, idle, lambda spec: 1.0)

    assert ask(1) == [(three, [7])], "the chain is as full, but nothing of it could run elsewhere"
    assert ask(9) == [(three, [7]), (two, [4])]
    three.revoking = True
    assert ask(1) == [], "its answer is under way"
    assert ask(2) == [(two, [4])]
    three.silent = True
    assert ask(1) == [(two, [4])], "nobody waits for the answer of one that is lost"
    two.alone = True
    assert ask(1) == []

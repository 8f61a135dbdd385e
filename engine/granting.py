"""Writes the lease for rows that a planner has chosen: arguments, where the inputs are, who waits for the outcome."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from towline.engine import model
from towline.engine.graph import NIL, Graph
from towline.engine.leases import Session
from towline.engine.ledger import Ledger
from towline.engine.outputs import OutputCache
from towline.engine.ropes import TARGET_S, Planned
from towline.engine.states import JobState, Missing

WORTH_S = TARGET_S / 8
"""Work that is asked back: less is done before the answer is there."""


def write_lease(
    ledger: Ledger, session: Session, planned: Sequence[Planned], epoch: int, counter: int, outputs: OutputCache
) -> model.Lease:
    """Mark the planned rows as held by the session under attempts (epoch, counter + 1, ...) and describe them.

    The caller has set their states to LEASED and counts the counter on by len(planned).
    """
    graph = ledger.graph
    held = session.held
    inside = {one.row for one in planned} if any(one.needs for one in planned) else frozenset[int]()
    specs: list[tuple[int, model.Spec]] = []
    functions: list[model.Function] = []
    jobs: list[model.LeasedJob] = []
    for row, needs in planned:
        counter += 1
        graph.epoch[row], graph.counter[row] = epoch, counter
        held[row] = None
        spec = graph.spec[row]
        if spec not in session.known_specs:
            session.known_specs.add(spec)
            known = ledger.specs[spec]
            specs.append((spec, known))
            if known.function not in session.known_functions:
                session.known_functions.add(known.function)
                functions.append(ledger.functions[known.function])
        jobs.append(
            model.LeasedJob(
                row,
                counter,
                spec,
                graph.args(row),
                graph.key(row),
                graph.index[row],
                inputs_of(graph, row, inside, outputs) if graph.parent_count[row] else [],
                graph.first_child[row] != NIL and is_awaited(graph, row, inside),
                needs,
                graph.attempts[row] + 1,
            )
        )
    session.granted = len(planned)
    return model.Lease(epoch, jobs, specs, functions)


def is_awaited(graph: Graph, row: int, inside: frozenset[int] | set[int]) -> bool:
    """Does anybody outside the lease wait for this row's outcome?"""
    edge = graph.first_child[row]
    while edge != NIL:
        if graph.edge_child[edge] not in inside:
            return True
        edge = graph.edge_next[edge]
    return False


def inputs_of(graph: Graph, row: int, inside: frozenset[int] | set[int], outputs: OutputCache) -> list[model.Input]:
    """The parents' outputs by value where they are remembered, else by place; those made in the lease by row alone."""
    inputs = []
    for edge in graph.parent_edges(row):
        kind = graph.edge_kind[edge]
        if kind & 3:
            continue  # order alone
        parent = graph.edge_parent[edge]
        epoch, counter = graph.epoch[parent], graph.counter[parent]
        if parent in inside:
            inputs.append(model.Input(parent, epoch, counter))
        elif graph.state[parent] != JobState.COMPLETED:
            passes = kind >> 4 == Missing.PASS
            inputs.append(model.Input(parent, 0, 0, missing=True, uuid=graph.uuid(parent) if passes else ""))
        elif (data := outputs.get(parent)) is not None:
            inputs.append(model.Input(parent, epoch, counter, data))
        else:
            inputs.append(model.Input(parent, epoch, counter, place=graph.output(parent)))
    return inputs


def to_ask_back(
    graph: Graph, sessions: Iterable[Session], idle: int, price: Callable[[int], float]
) -> list[tuple[Session, list[int]]]:
    """Whom to ask for what, so that `idle` workers get something to do: the fullest first, each for half (R7).

    `price` says what a job of a spec takes, in seconds. What will be through before the answer is back stays where it is.
    """
    awake = [one for one in sessions if not one.silent]
    idle -= sum(one.revoking for one in awake)
    asked: list[tuple[Session, list[int]]] = []
    for victim in sorted((one for one in awake if len(one.held) > 1 and not one.revoking and not one.alone), key=_fullness):
        if len(asked) >= idle:
            break
        if rows := rows_to_ask_back(graph, victim, price):
            asked.append((victim, rows))
    return asked


def _fullness(session: Session) -> int:
    return -len(session.held)


def rows_to_ask_back(graph: Graph, victim: Session, price: Callable[[int], float]) -> list[int]:
    """The later half of what a worker holds, has not begun and could run elsewhere; none if it is soon through with that half.

    Behind a body that has run for long they wait for as long as it will: then the last of them is worth asking for, too, however
    little it takes itself.
    """
    free = [row for row in victim.held if graph.state[row] == JobState.LEASED and not graph.pending[row]]
    if any(graph.state[row] == JobState.RUNNING for row in victim.held):
        return free[len(free) // 2 :]
    later = free[(len(free) + 1) // 2 :]  # the first of them runs, most likely
    return later if sum(price(graph.spec[row]) for row in later) >= WORTH_S else []

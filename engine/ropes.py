"""Plans a lease: a small connected piece of graph for one worker (DESIGN 5, tow ropes).

Ready jobs are taken in order (P5) up to a fair share and a time budget; then each taken job tows one child all of whose
other parents are done or in this lease, and that child tows one of its own. A chain thus runs on one worker without a round
trip a step, a stencil as a trapezoid, and a fan-out still goes to everybody, because only one child is towed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Container
from typing import NamedTuple

from towline.engine.graph import NIL, Graph
from towline.engine.states import JobState

TARGET_S = 0.04
"""Work that a lease aims at, in seconds: enough to hide a round trip, little enough to stay fair."""

FLOOR_S = 1e-5
"""No job is estimated to take less."""

UNKNOWN_S = TARGET_S / 4
"""What a function that nobody has run yet is taken to need."""

MOST_JOBS = 4096
"""A lease's frame stays below what encodes in a few milliseconds."""


class Planned(NamedTuple):
    """A job of the plan."""

    row: int
    needs: list[int]
    """Rows of the same plan that it waits for."""


def plan(
    graph: Graph,
    lanes: list[deque[int]],
    share: int,
    function_of: list[int],
    seconds_of: list[float],
    tows: list[bool],
    target_s: float = TARGET_S,
    alone: Container[int] = (),
    known: int | None = None,
) -> list[Planned]:
    """Take rows off the lanes for one lease and set them to LEASED; the caller keeps the counts.

    `share` is the most ready jobs to take; `function_of` maps spec numbers to function numbers, `seconds_of` says what a
    function's job takes, `tows` by spec number whether it may be towed (one that waits for committed inputs may not).
    Rows from `known` on (None: no such rows) are not towed: a crash could take them back, and nobody may hold them then. Rows in
    `alone` are suspects, which go into no lease with others (R9): they are dropped from the lanes.
    """
    state, spec, ready = graph.state, graph.spec, int(JobState.READY)
    taken: list[int] = []
    seconds = 0.0
    for lane in lanes:
        while lane and len(taken) < share and seconds < target_s:
            row = lane.popleft()
            if state[row] == ready and row not in alone:
                state[row] = JobState.LEASED  # at once: a second entry of the row is skipped
                taken.append(row)
                seconds += seconds_of[function_of[spec[row]]]
        if len(taken) >= share or seconds >= target_s:
            break
    planned = [Planned(row, []) for row in taken]
    if seconds < target_s:
        _tow(graph, planned, seconds, function_of, seconds_of, tows, target_s, alone, graph.size if known is None else known)
    return planned


def _tow(
    graph: Graph,
    planned: list[Planned],
    seconds: float,
    function_of: list[int],
    seconds_of: list[float],
    tows: list[bool],
    target_s: float,
    alone: Container[int],
    known: int,
) -> None:
    missing: dict[int, list[int]] = {}
    """Child to the rows of this plan that are its parents so far."""
    first_child, edge_next, edge_child = graph.first_child, graph.edge_next, graph.edge_child
    waiting = int(JobState.WAITING)
    for row, _ in planned:  # grows while it is walked
        if seconds >= target_s or len(planned) >= MOST_JOBS:
            return
        edge, towed = first_child[row], False
        while edge != NIL:
            child = edge_child[edge]
            edge = edge_next[edge]
            if child >= known or graph.state[child] != waiting or not tows[graph.spec[child]] or child in alone:
                continue
            if graph.pending[child] == 1:
                parents = [row]  # not entered: a fan-out to a million children stays cheap
            else:
                parents = missing.setdefault(child, [])
                parents.append(row)
            if not towed and len(parents) == graph.pending[child]:
                planned.append(Planned(child, parents))
                graph.state[child] = JobState.LEASED
                seconds += seconds_of[function_of[graph.spec[child]]]
                towed = True

"""Which jobs may go: the ready ones, those that wait for a time, and those that wait for a commit (gates).

Three kinds stand at a gate: a job that was just added, a suspect, and one whose owner asked for committed inputs. A job that was
added by a record which is not durable is granted in no way: after a crash its row may be another job's, and the job come again,
while a worker still holds it (P2). The rows' states are kept in step here; the ledger keeps their counts.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from towline.engine import ropes
from towline.engine.ledger import Ledger
from towline.engine.prices import Prices
from towline.engine.queues import DelayHeap, ReadyQueue
from towline.engine.ropes import Planned
from towline.engine.states import JobState

S = JobState


class Readiness:
    """Rows of one ledger that are not held by a worker and have no missing parent."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._ready = ReadyQueue()
        self._suspects: deque[int] = deque()
        self._delays = DelayHeap()
        self._gates: deque[tuple[int, list[int]]] = deque()
        """(appends that must be committed, rows)."""
        self._known = ledger.graph.size
        """Rows below this one are durable."""
        self._added: deque[tuple[int, int]] = deque()
        """(appends that must be committed, rows that are durable then)."""

    @property
    def gated(self) -> bool:
        """Does anything wait for a commit?"""
        return bool(self._gates)

    @property
    def next_due(self) -> float | None:
        """Boot clock at which a delayed row may go, or None."""
        return self._delays.first()

    def settle(self) -> None:
        """After a restore: every WAITING row without a missing parent is READY."""
        graph, waiting = self._ledger.graph, int(S.WAITING)
        self._known = graph.size
        self.free([row for row in range(graph.size) if graph.state[row] == waiting and not graph.pending[row]], 0, 0)

    def free(self, rows: Iterable[int], appended: int, committed: int, *, front: bool = False) -> None:
        """WAITING rows without a missing parent may go; those of `release="committed"`, and those that are not durable
        themselves, once `appended` appends are."""
        ledger, graph = self._ledger, self._ledger.graph
        late: list[int] = []
        state, ready, push = graph.state, int(S.READY), self._ready.push
        count, durable, known = 0, committed >= appended, self._known
        for row in rows:
            if row >= known or (not durable and ledger.specs[graph.spec[row]].options.release == "committed"):
                late.append(row)
                continue
            state[row] = ready
            count += 1
            if row in ledger.suspects:
                self._suspects.append(row)
            elif front:
                self._ready.push_back(row, graph.priority[row])
            else:
                push(row, graph.priority[row])
        ledger.counts[S.WAITING] -= count
        ledger.counts[ready] += count
        if late:
            self._gates.append((appended, late))

    def added(self, rows: list[int], appended: int) -> None:
        """The rows that the graph has now are durable once `appended` appends are; `rows` may go then."""
        self._added.append((appended, self._ledger.graph.size))
        if rows:
            self.hold_back(rows, appended)

    def hold_back(self, rows: list[int], appended: int) -> None:
        """These may go once `appended` appends are durable."""
        self._gates.append((appended, rows))

    def open_gates(self, committed: int) -> None:
        """So many appends are durable now."""
        graph = self._ledger.graph
        while self._added and self._added[0][0] <= committed:
            self._known = self._added.popleft()[1]
        while self._gates and self._gates[0][0] <= committed:
            needed, rows = self._gates.popleft()
            self.free([r for r in rows if graph.state[r] == S.WAITING and not graph.pending[r]], needed, committed)

    def delay(self, row: int, mono: float) -> None:
        """A DELAYED row may go from this time on."""
        self._delays.push(mono, row)

    def due(self, mono: float) -> list[int]:
        """Rows whose delay is over; they are WAITING now."""
        graph = self._ledger.graph
        due = [row for row in self._delays.pop_due(mono) if graph.state[row] == S.DELAYED]
        for row in due:
            self._ledger.become(row, S.WAITING)
            self._ledger.until.pop(row, None)
        return due

    def next_suspect(self) -> int | None:
        """A suspect to be granted alone; it is LEASED now."""
        while self._suspects:
            row = self._suspects.popleft()
            if self._ledger.graph.state[row] == S.READY:
                self._ledger.become(row, S.LEASED)
                return row
        return None

    def plan(self, prices: Prices, workers: int) -> list[Planned]:
        """A lease for one of `workers` workers; its rows are LEASED now."""
        waiting, counts = len(self._ready), self._ledger.counts
        if not waiting:
            return []
        share = min(ropes.MOST_JOBS, max(1, waiting // (2 * workers)))
        planned = ropes.plan(
            self._ledger.graph, self._ready.lanes(), share, prices.function_of, prices.seconds, prices.tows,
            alone=self._ledger.suspects, known=self._known,
        )  # fmt: skip
        for one in planned:
            counts[S.WAITING if one.needs else S.READY] -= 1
        counts[S.LEASED] += len(planned)
        return planned

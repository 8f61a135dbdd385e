"""What a user's verb does to the graph: which rows change, when, and what is told.

`stop` is the only verb of this version: of the whole run, or of rows that are named. Of these, only what has not begun is
stopped. What a worker holds without having said that it began is asked back first, and stopped when it is returned: until then
its body may have begun (R7). What runs, runs on, and whoever asked is told which rows were stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from towline.engine import model
from towline.engine.effects import Effect, Send, Tell
from towline.engine.events import Steer
from towline.engine.leases import Session
from towline.engine.ledger import Ledger, rows_bytes
from towline.engine.states import ENDED, HELD, JobState

_UNTOUCHED = ENDED | HELD


class Asked(msgspec.Struct):
    """An order that waits for rows to be given back."""

    token: int
    stopped: list[int]
    open: list[int]
    """Rows that were asked back."""


class Steering:
    """The verbs that are under way. `append` takes a record, `say` an effect."""

    def __init__(
        self,
        ledger: Ledger,
        sessions: Mapping[str, Session],
        append: Callable[[model.Record], Any],
        say: Callable[[Effect], Any],
    ) -> None:
        self._ledger = ledger
        self._sessions = sessions
        self._append = append
        self._say = say
        self._asked: list[Asked] = []

    def order(self, event: Steer, wall: float, *, sure: bool) -> bool:
        """Begin to do it. True if it ends the run: then the caller tells, when no body runs any more.

        `sure`: whatever may run is known to this leader. While it is not (R1: workers of the one before have yet to answer), no
        row is known to be free, and none is stopped.
        """
        state, rows = self._ledger.graph.state, event.rows
        if event.verb != "stop":
            self._refuse(event, f"verb {event.verb!r} is not known; known: stop")
        elif rows is None:
            self._stop([row for row, number in enumerate(state) if number not in ENDED], wall, run="stopped")
            return True
        elif not all(0 <= row < self._ledger.graph.size for row in rows):
            self._refuse(event, f"a row to be stopped is not here: there are {self._ledger.graph.size} jobs")
        else:
            named = dict.fromkeys(rows) if sure else {}
            self._asked.append(Asked(event.token, [], list(named)))
            self._ask_back({row for row in named if state[row] == JobState.LEASED})
            self.settle(wall)
        return False

    def settle(self, wall: float) -> None:
        """Stop what was given back meanwhile; tell those whose rows are all decided. To be called before anything is granted."""
        state = self._ledger.graph.state
        for asked in list(self._asked):
            free = [row for row in asked.open if state[row] not in _UNTOUCHED]
            asked.open = [row for row in asked.open if state[row] == JobState.LEASED and self._may_come_back(row)]
            self._stop(free, wall)
            asked.stopped += free
            if not asked.open:
                self._asked.remove(asked)
                self._say(Tell(asked.token, True, {"stopped": asked.stopped}))

    def _stop(self, rows: list[int], wall: float, run: str = "") -> None:
        if rows or run:
            self._append(model.Steered("stop", rows_bytes(rows), int(JobState.STOPPED), wall, run))

    def _ask_back(self, rows: set[int]) -> None:
        for session in self._sessions.values() if rows else ():
            mine = [row for row in session.held if row in rows]
            if mine and not session.alone:
                self._say(Send(session.worker, model.Revoke(mine)))

    def _may_come_back(self, row: int) -> bool:
        return any(row in session.held and not session.alone for session in self._sessions.values())

    def _refuse(self, event: Steer, why: str) -> None:
        self._say(Tell(event.token, False, why))

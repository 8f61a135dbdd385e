"""What a job of each function is taken to cost, learned from outcomes: how much goes into a lease."""

from __future__ import annotations

from collections.abc import Sequence

from towline.engine.graph import column
from towline.engine.ledger import Ledger
from towline.engine.ropes import FLOOR_S, UNKNOWN_S

SAMPLE = 16
"""Outcomes of a frame that are looked at."""


class Prices:
    """Seconds a job by function; specs are numbered by the ledger, functions here."""

    def __init__(self) -> None:
        self.function_of: list[int] = []
        """Spec number to function number."""
        self.seconds: list[float] = []
        """Function number to seconds a job."""
        self.tows: list[bool] = []
        """Spec number to: may it be towed (`ropes`)?"""
        self._numbers: dict[str, int] = {}

    def refresh(self, ledger: Ledger) -> None:
        """Take in specs that came since the last call."""
        for spec in ledger.specs[len(self.function_of) :]:
            number = self._numbers.setdefault(spec.function, len(self._numbers))
            if number == len(self.seconds):
                self.seconds.append(UNKNOWN_S)
            self.function_of.append(number)
            self.tows.append(spec.options.release != "committed")

    def of(self, spec: int) -> float:
        """Seconds that a job of this spec is taken to need."""
        return self.seconds[self.function_of[spec]]

    def learn(self, ledger: Ledger, rows: Sequence[int], elapsed: bytes) -> None:
        """From a sample of outcomes; half of the weight is on the newest frame."""
        self.refresh(ledger)
        seconds, spec = column("f", elapsed), ledger.graph.spec
        sums: dict[int, tuple[float, int]] = {}
        for i in range(0, len(rows), 1 + len(rows) // SAMPLE):
            function = self.function_of[spec[rows[i]]]
            total, n = sums.get(function, (0.0, 0))
            sums[function] = total + seconds[i], n + 1
        for function, (total, n) in sums.items():
            before, mean = self.seconds[function], max(total / n, FLOOR_S)
            self.seconds[function] = mean if before == UNKNOWN_S else 0.5 * before + 0.5 * mean

    def at_least(self, ledger: Ledger, spec: int, busy_s: float) -> None:
        """A body of this spec has run for so long already."""
        self.refresh(ledger)
        function = self.function_of[spec]
        self.seconds[function] = max(self.seconds[function], busy_s)

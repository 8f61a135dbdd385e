"""`python -m tests.torture.run --rounds 100 --seed 1 [--kinds leader,worker]`: faults at random moments, and what came of them.

Prints a table and exits with 1 if a promise was broken; the folder of such a trial is kept, and its seed repeats its choices.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from statistics import median

from tests.torture.trial import KINDS, Trial

BATCH = 12
"""Faults in one run of the flow."""

SHARES = {
    "leader": 4, "worker": 2, "supervisor": 1, "driver": 1, "ray": 1, "freeze-leader": 1, "freeze-worker": 1, "takeover": 1,
}  # fmt: skip
"""How often a kind comes in a batch."""


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(prog="python -m tests.torture.run", description=__doc__)
    parser.add_argument("--rounds", type=int, default=100, help="faults in all")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kinds", default=",".join(SHARES), help=f"of {', '.join(KINDS)}")
    parser.add_argument("--jobs", type=int, default=2000)
    parser.add_argument("--long", type=int, default=60, help="jobs that take longer than the lease")
    given = parser.parse_args()
    kinds = given.kinds.split(",")
    if unknown := set(kinds) - set(KINDS):
        parser.error(f"unknown kinds: {', '.join(sorted(unknown))}")
    trials: list[Trial] = []
    while (left := given.rounds - sum(len(trial.faults) for trial in trials)) > 0 and len(trials) <= 3 * given.rounds:
        seed = given.seed + len(trials)
        print(f"--- trial {len(trials) + 1}, seed {seed}", flush=True)
        began = time.monotonic()
        with Trial(seed, given.jobs, given.long, lambda text: print(f"    {text}", flush=True)) as trial:
            trial.torment(draw(kinds, min(left, BATCH), random.Random(seed)))
        trials.append(trial)
        print(f"    {len(trial.faults)} faults, {trial.found}, {time.monotonic() - began:.0f} s", flush=True)
    report(trials)
    return 1 if any(trial.violations for trial in trials) else 0


def draw(kinds: list[str], number: int, rng: random.Random) -> list[str]:
    """So many faults, by their shares, shuffled."""
    bag = [kind for kind in kinds for _ in range(SHARES.get(kind, 1))]
    bag *= -(-number // len(bag))
    chosen = bag[:number] if number >= BATCH else rng.sample(bag, number)
    rng.shuffle(chosen)
    return chosen


def report(trials: list[Trial]) -> None:
    """The table."""
    faults = [fault for trial in trials for fault in trial.faults]
    print(f"\n{'fault':<18} {'count':>5} {'recovered':>9} {'median s':>8} {'max s':>6}")
    for kind in sorted({fault.kind for fault in faults}):
        mine = [fault.recovery_s for fault in faults if fault.kind == kind]
        times = [one for one in mine if one is not None]
        print(f"{kind:<18} {len(mine):>5} {len(times):>9} {median(times or [0]):>8.1f} {max(times or [0]):>6.1f}")
    found = [trial.found for trial in trials if trial.found is not None]
    violations = [(trial, violation) for trial in trials for violation in trial.violations]
    print(
        f"\n{len(faults)} faults in {len(trials)} runs of {trials[0].jobs if trials else 0} jobs: "
        f"{sum(one.executions for one in found)} executions ({sum(one.repeated for one in found)} repeated), "
        f"{sum(one.told for one in found)} told, {sum(one.leaders for one in found)} leaders, {len(violations)} violations"
    )
    for trial, violation in violations:
        print(f"seed {trial.seed}, {trial.folder}: {violation}")


if __name__ == "__main__":
    sys.exit(main())

"""What kinds of trouble there are: each profile is biased towards the schedules that one or two rules forbid.

A seed picks one profile. Counts in `faults` are how often an action happens in a simulation on average; `crash` and `freeze` are
the probabilities that a leader gets a planned crash or freeze at one of its first `steps` steps.
"""

from __future__ import annotations

import msgspec

from tests.simulation.disk import Rates
from tests.simulation.jobs import Shape


class Profile(msgspec.Struct, frozen=True):
    """See the module."""

    name: str
    weight: int = 1
    stores: tuple[str, ...] = ("disk", "disk", "nfs", "bucket")
    """disk: appended segments; nfs: linked segments on a file system; bucket: linked, whole puts."""
    one_machine: float = 0.3
    """Probability that everything (disk included) is one machine."""
    lease_s: tuple[float, float] = (3.0, 5.0)
    unequal_leases: float = 0.15
    workers: tuple[int, int] = (1, 4)
    flows: tuple[int, int] = (1, 3)
    shape: Shape = Shape()
    faults_s: float = 14.0
    faults: dict[str, float] = {}
    within: float = 1.0
    """The part of `faults_s` in which the faults begin."""
    steps: int = 250
    crash: float = 0.0
    freeze: float = 0.0
    freeze_s: tuple[float, float] = (0.3, 2.5)
    """In leases."""
    worker_crash: float = 0.0
    driver_crash: float = 0.0
    rates: Rates = Rates()
    network_slow: float = 0.0
    flaps: float = 0.0
    """Probability that a stream breaks as soon as it is used."""
    collects: float = 0.15
    """Probability that old segments and orphaned files are collected."""
    collect_s: tuple[float, float] = (1.0, 3.0)
    grace: tuple[float, float] = (2.0, 3.0)
    """Of R4, in leases."""
    snapshots: float = 0.25
    cancels: float = 0.06
    closes: float = 0.4
    news_s: tuple[float, float] = (0.4, 1.5)
    ordered: bool = False
    """Independent jobs, submitted before the worker comes (P5)."""
    patience_s: float = 1.0
    """How soon somebody starts another leader when none is there."""


PROFILES = [
    Profile("fair weather", shape=Shape(poison=0.0), workers=(1, 4)),
    Profile(
        "order",
        ordered=True,
        workers=(1, 1),
        flows=(1, 1),
        cancels=0.0,
        shape=Shape(10, 40, parents=0.0, fails=0.0, growth=0.0, committed=0.0, long_share=0.0, priorities=0.8),
    ),
    Profile(
        "crash",
        weight=2,
        crash=0.6,
        worker_crash=0.3,
        driver_crash=0.3,
        faults={"kill_leader": 0.7, "kill_worker": 0.7, "jump": 0.5, "kill_driver": 0.3},
    ),
    Profile(
        "takeover",
        weight=3,
        stores=("disk", "disk", "disk", "nfs", "bucket"),
        one_machine=0.1,
        lease_s=(2.0, 4.0),
        shape=Shape(8, 25, long_share=0.12, long_s=(1.0, 8.0)),
        flows=(2, 4),
        freeze=0.3,
        crash=0.15,
        faults={"supplant": 1.6, "takeover": 0.5, "rival": 0.4, "kill_leader": 0.4, "break_streams": 0.4, "cut": 0.5},
        news_s=(0.1, 0.4),
    ),
    Profile(
        "heirs",
        one_machine=0.0,
        lease_s=(4.0, 6.0),
        unequal_leases=0.3,
        workers=(2, 4),
        shape=Shape(8, 25, long_share=0.4, long_s=(2.0, 7.0)),
        faults={"relay": 1.6, "kill_leader": 0.5, "break_streams": 0.5},
    ),
    Profile(
        "cut off from the store",
        weight=2,
        stores=("disk", "nfs", "bucket"),
        one_machine=0.0,
        lease_s=(2.0, 3.0),
        workers=(2, 4),
        shape=Shape(12, 20, parents=0.3, long_share=0.6, long_s=(2.0, 8.0), fails=0.02),
        within=0.3,
        faults_s=18.0,
        cancels=0.0,
        flows=(1, 1),
        faults={"sever": 1.0, "stall_leader": 0.3, "kill_worker": 0.3},
    ),
    Profile(
        "early release",
        weight=2,
        stores=("disk", "nfs", "bucket"),
        one_machine=0.0,
        lease_s=(2.0, 3.0),
        workers=(2, 4),
        shape=Shape(8, 25, long_share=0.5, long_s=(2.0, 8.0), parents=0.9, committed=0.0, growth=0.02, files=0.02),
        faults={"lose_parent": 3.0, "kill_worker": 0.3},
        rates=Rates(slow=0.02, slow_s=0.5),
        closes=0.1,
    ),
    Profile(
        "slots",
        weight=2,
        stores=("bucket", "bucket", "nfs"),
        one_machine=0.0,
        flows=(2, 4),
        shape=Shape(4, 12, growth=0.02),
        freeze=0.2,
        freeze_s=(2.2, 4.5),
        steps=200,
        lease_s=(1.5, 2.5),
        grace=(1.0, 1.3),
        collects=1.0,
        collect_s=(0.3, 0.7),
        faults={"overtake": 1.6, "takeover": 0.4, "trickle": 1.0},
        faults_s=16.0,
        unequal_leases=0.0,
        cancels=0.0,
        news_s=(0.1, 0.3),
    ),
    Profile(
        "pipeline",
        stores=("bucket",),
        one_machine=0.0,
        crash=0.9,
        steps=150,
        shape=Shape(8, 30),
        weight=2,
        rates=Rates(latency_s=0.15, lost_before=0.04, lost_after=0.03, slow=0.05, slow_s=0.5),
        faults={"kill_leader": 2.0, "takeover": 2.0},
    ),
    Profile(
        "power",
        weight=2,
        stores=("disk", "disk", "nfs"),
        one_machine=1.0,
        crash=0.4,
        shape=Shape(5, 20, files=0.02),
        faults={"power_loss": 1.6, "kill_leader": 0.4},
        rates=Rates(latency_s=0.006, slow=0.05, slow_s=0.3),
        news_s=(0.1, 0.5),
    ),
    Profile(
        "streams",
        one_machine=0.2,
        workers=(2, 4),
        weight=2,
        lease_s=(1.5, 3.0),
        shape=Shape(12, 40, parents=0.3, seconds=(0.02, 0.6), chains=0.5, long_share=0.25, long_s=(2.0, 9.0)),
        network_slow=0.03,
        faults={"break_streams": 4.0, "cut": 1.5, "isolate": 1.6, "stop_worker": 0.6, "freeze_worker": 0.6, "kill_worker": 0.3},
    ),
    Profile(
        "flapping streams",
        weight=2,
        one_machine=0.0,
        workers=(2, 4),
        lease_s=(2.0, 4.0),
        shape=Shape(12, 40, parents=0.3, seconds=(0.02, 0.6)),
        network_slow=0.3,
        flaps=0.5,
        faults={"break_streams": 12.0},
    ),
    Profile(
        "steals",
        workers=(2, 4),
        shape=Shape(20, 60, parents=0.1, seconds=(0.001, 0.01), surprises=0.06, long_share=0.0, long_s=(0.2, 1.5), fails=0.02),
        network_slow=0.01,
        faults={"break_streams": 2.0, "kill_worker": 0.4},
    ),
    Profile(
        "poison",
        shape=Shape(4, 14, poison=0.15, fails=0.03),
        faults={"kill_worker": 0.3},
        lease_s=(1.5, 2.5),
        cancels=0.0,
    ),
    Profile(
        "poison of machines",
        shape=Shape(4, 10, poison=0.12, poison_kind="machine", fails=0.0, parents=0.4),
        lease_s=(1.5, 2.5),
        cancels=0.0,
        patience_s=0.3,
    ),
    Profile(
        "rivals",
        one_machine=0.0,
        faults={"rival": 3.0, "jump": 1.0},
        shape=Shape(5, 20, long_share=0.3),
        unequal_leases=0.0,
    ),
    Profile(
        "files",
        shape=Shape(6, 25, files=0.8),
        collects=1.0,
        collect_s=(0.1, 0.5),
        workers=(2, 4),
        crash=0.2,
        faults={"kill_worker": 0.5, "takeover": 0.3},
    ),
    Profile(
        "bad store",
        weight=2,
        rates=Rates(lost_before=0.015, lost_after=0.02, error=0.008, slow=0.02, slow_s=1.0),
        faults={"kill_leader": 0.3},
        news_s=(0.1, 0.5),
    ),
    Profile(
        "storm",
        weight=3,
        shape=Shape(poison=0.02, long_share=0.2),
        crash=0.3,
        freeze=0.2,
        worker_crash=0.15,
        driver_crash=0.2,
        collects=0.4,
        rates=Rates(lost_before=0.004, lost_after=0.006, error=0.002, slow=0.02, slow_s=0.8),
        network_slow=0.01,
        unequal_leases=0.3,
        faults={
            "kill_leader": 0.6, "kill_worker": 0.8, "freeze_leader": 0.5, "freeze_worker": 0.6, "stop_worker": 0.3,
            "takeover": 0.5, "rival": 0.5, "stall_leader": 0.3, "cut": 0.8, "break_streams": 1.0, "jump": 1.0,
            "power_loss": 0.3, "kill_driver": 0.3,
        },
    ),
]  # fmt: skip


def pick(rng: object) -> Profile:
    """One of the profiles, by weight."""
    return rng.choices(PROFILES, [profile.weight for profile in PROFILES])[0]  # type: ignore[attr-defined]  # rng is a random.Random

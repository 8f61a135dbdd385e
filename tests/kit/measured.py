"""Reports of measurements that were never made, with figures that a test can do in its head."""

from __future__ import annotations

import msgspec

from towline.benchmarks.machine import Machine
from towline.benchmarks.report import Authoring, ChainMeasured, Measured, Report

MACHINE = Machine(
    measured="2030-01-02T03:04:05Z",
    cpu="An Abacus",
    cores=2,
    memory_bytes=8 * 2**30,
    system="Linux 1.0",
    python="3.11.0",
    versions={"towline": "0.1.0", "ray": "2.50.0"},
    filesystem="ext4",
    fsync_s=0.002,
    load_1min=0.5,
    niceness=0,
)


def measured(shape: str, peer: str, run_s: list[float], *, jobs: int = 1000, build_s: float = 0.0) -> Measured:
    return Measured(
        shape=shape,
        jobs=jobs,
        peer=peer,
        durability="none" if peer == "Ray tasks" else "fsync before told, local disk",
        build_s=[build_s] * len(run_s),
        run_s=run_s,
        outcomes_compared=jobs,
    )


CHAIN = ChainMeasured(
    jobs=1000, machine=msgspec.structs.replace(MACHINE, cpu="Another Abacus"), local=False,
    small_jobs=100, small_run_s=[0.3, 0.1, 0.2],
    build_s=1.0, submit_s=2.0, killed_at=500, first_s=1.0, kept=480, restore_s=0.5, rest_s=2.0, leader_bytes=700_000,
    leader_empty_bytes=100_000, restored_bytes=650_000, store_bytes=64_000,
)  # fmt: skip
"""2 ms a job in the small chain, 3 ms in the long one: a ratio of 1.5, 600 B a job."""


AUTHORING = Authoring(
    machine=msgspec.structs.replace(MACHINE, cpu="A third Abacus"), repeats=3,
    results=[
        measured("run wide", "towline", [0.5, 0.4, 0.6]), measured("run wide", "jobflow", [2.0]),
        measured("run wide", "jobflow, O(1) store", [1.0]),
        measured("resolve", "towline", [1.5], jobs=10_000), measured("resolve", "towline", [1.5], jobs=20),
        measured("import", "towline", [0.1], jobs=1), measured("import", "jobflow", [0.2], jobs=1),
    ],
)  # fmt: skip
"""4 x jobflow, 2 x with its quick store: below the bar; 10,000 references in 1.5 s: too slow."""


def report(*results: Measured, chain: ChainMeasured | None = None, authoring: Authoring | None = None) -> Report:
    return Report(machine=MACHINE, repeats=3, results=list(results), chain=chain, authoring=authoring)

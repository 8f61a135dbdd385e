"""Measurements as they are kept: every repetition raw; medians, rates and ratios are worked out from those, never stored."""

from __future__ import annotations

from pathlib import Path
from statistics import median

import msgspec

from towline.benchmarks.machine import Machine

BASELINE = "Ray tasks"
"""The peer that others are divided by."""

BARS = {"flat": 3.0, "chain": 1.0}
"""What towline has to reach, as a multiple of the baseline."""

AIMS = {"flat": 20.0, "chain": 15.0}

LOCAL = "jobflow"
"""The peer that authoring is divided by: with its own default store."""

QUICK = f"{LOCAL}, O(1) store"
"""The same with the quickest store there can be."""

LOCAL_BARS = {"run wide": 5.0, "run chain": 5.0, "build": 2.0}
"""What towline has to reach at these works, as a multiple of jobflow's rate."""

LOCAL_AIMS = {"run wide": 20.0, "run chain": 20.0}

LOCAL_MOST_S = {("resolve", 10_000): 1.0, ("import", 1): 0.3}
"""The longest that towline may take, by work and size."""


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """One peer on one shape, all repetitions in the order in which they were made."""

    shape: str
    jobs: int
    peer: str
    durability: str
    build_s: list[float]
    """Describing the work, before the call that runs it."""
    run_s: list[float]
    """From that call to its return."""
    outcomes_compared: int
    """Outputs that were compared with the right ones, over all repetitions."""

    @property
    def rate(self) -> float:
        """Jobs a second, by the median run."""
        return self.jobs / median(self.run_s)

    @property
    def rate_with_building(self) -> float:
        """Jobs a second, building included, by the median of the sums."""
        return self.jobs / median([b + r for b, r in zip(self.build_s, self.run_s, strict=True)])


class ChainMeasured(msgspec.Struct, frozen=True, kw_only=True):
    """What `towline.benchmarks.chain` found. Times in seconds, memory in bytes."""

    machine: Machine
    """Its own: a published report puts sessions together that were not measured at once."""
    jobs: int
    local: bool
    """In one process without Ray: then the leader's memory is the driver's and the worker's too."""
    small_jobs: int
    small_run_s: list[float]
    """From handing the small chain in, with leader and worker up, to its end; all repetitions."""
    build_s: float
    submit_s: float
    """From the first piece handed in to the last one acknowledged; jobs run meanwhile."""
    killed_at: int
    """Jobs whose bodies had run when everything was killed."""
    first_s: float
    """From the first piece handed in to the kill."""
    kept: int
    """Outcomes that the restored leader had."""
    restore_s: float
    """From the start of the new leader's process to its first answer, Ray's start not included."""
    rest_s: float
    """From that answer to the end of the chain, workers' start included."""
    leader_bytes: int
    """Resident, of the leader that has all jobs and has run half of them."""
    leader_empty_bytes: int
    restored_bytes: int
    store_bytes: int

    @property
    def small_per_job_s(self) -> float:
        return median(self.small_run_s) / self.small_jobs

    @property
    def per_job_s(self) -> float:
        """Both parts of the run together, the jobs that were run a second time counted once."""
        return (self.first_s + self.rest_s) / self.jobs

    @property
    def ratio(self) -> float:
        """Time a job, of the long chain to the small one."""
        return self.per_job_s / self.small_per_job_s

    @property
    def leader_bytes_per_job(self) -> float:
        return (self.leader_bytes - self.leader_empty_bytes) / self.jobs


class Authoring(msgspec.Struct, frozen=True, kw_only=True):
    """What `towline.benchmarks.authoring` found: works of one process, towline's and jobflow's, with jobflow's own stores."""

    machine: Machine
    repeats: int
    results: list[Measured]

    def of(self, work: str, jobs: int, peer: str) -> Measured | None:
        """What was measured of a peer at a work of this size."""
        return next((m for m in self.results if (m.shape, m.jobs, m.peer) == (work, jobs, peer)), None)

    def ratio(self, measured: Measured, to: str = LOCAL) -> float | None:
        """Its rate as a multiple of another peer's at the same work and size; None where that one was not measured."""
        base = self.of(measured.shape, measured.jobs, to)
        return None if base is None else measured.rate / base.rate

    def missed(self) -> list[str]:
        """A sentence for each bar that was not reached."""
        sentences = []
        for measured in (m for m in self.results if m.peer == "towline"):
            ratio, bar = self.ratio(measured), LOCAL_BARS.get(measured.shape)
            if bar is not None and ratio is not None and ratio < bar:
                sentences.append(f"{measured.shape}: {ratio:.1f} x {LOCAL}, the bar is {bar:g} x")
            most_s = LOCAL_MOST_S.get((measured.shape, measured.jobs))
            if most_s is not None and median(measured.run_s) > most_s:
                sentences.append(f"{measured.shape}: {median(measured.run_s):.2f} s for {measured.jobs}, the bar is {most_s:g} s")
        return sentences


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """One session of measuring. In the baseline, `machine` is that of `results`; the other parts have their own."""

    format: int = 1
    machine: Machine
    repeats: int
    results: list[Measured] = []
    chain: ChainMeasured | None = None
    authoring: Authoring | None = None

    def of(self, shape: str, peer: str) -> Measured | None:
        """What was measured of a peer on a shape."""
        return next((m for m in self.results if (m.shape, m.peer) == (shape, peer)), None)

    def ratio(self, measured: Measured, *, with_building: bool = False) -> float | None:
        """Its rate as a multiple of the baseline's on the same shape; None without a baseline."""
        base = self.of(measured.shape, BASELINE)
        if base is None:
            return None
        mine = measured.rate_with_building if with_building else measured.rate
        return mine / base.rate

    def missed(self) -> list[str]:
        """A sentence for each bar that was not reached."""
        sentences = []
        for shape, bar in BARS.items():
            measured = self.of(shape, "towline")
            ratio = self.ratio(measured) if measured is not None else None
            if ratio is not None and ratio < bar:
                sentences.append(f"{shape}: {ratio:.1f} x {BASELINE}, the bar is {bar:g} x")
        return sentences


def save(report: Report, path: Path) -> None:
    """As JSON, readable by people too."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=1) + b"\n")


def load(path: Path) -> Report:
    """A saved report. ValidationError (msgspec) if it is none."""
    return msgspec.json.decode(path.read_bytes(), type=Report)

"""Judges a simulated run by what no process can talk its way around: when bodies ran, what was told, what is stored.

It knows nothing of leaders' and workers' insides. While the run goes on it checks P2 (no two runs of a job overlap; of a
machine that was frozen past its lease only the outcome counts) and that nothing told complete is begun again; at the end it
reads the stored bytes and checks P1, P3 and P4, and at the order of beginnings for P5.
"""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

import msgspec

from tests.simulation.jobs import Plan, Value, digest
from tests.simulation.world import Process, World
from towline.engine import model
from towline.engine.core import LeaderCore
from towline.engine.graph import column
from towline.engine.ids import unpack_uuid
from towline.engine.states import ENDED, JobState
from towline.stores.journal.reader import JournalReader


class Run:
    """One execution of a body."""

    __slots__ = ("attempt", "began", "doubtful", "ended", "failed", "growth", "inputs", "output", "plan", "row", "uuid", "worker")

    def __init__(self, worker: Process, row: int, uuid: str, attempt: tuple[int, int], began: float, plan: Plan) -> None:
        self.worker = worker
        self.row = row
        self.uuid = uuid
        self.attempt = attempt
        self.began = began
        self.ended = -1.0
        self.doubtful = False
        """Did its machine stand still until after the lease had ended? Then it may overlap, and must be refused."""
        self.inputs: list[tuple[int, bytes]] = []
        self.output = b""
        self.failed = False
        self.plan = plan
        self.growth: model.Growth | None = None

    def __str__(self) -> str:
        end = f"{self.ended:.3f}" if self.ended >= 0 else "..."
        return f"attempt {self.attempt[0]}.{self.attempt[1]} on {self.worker.name} ({self.began:.3f} to {end})"


class Told(NamedTuple):
    """Something that left a leader for a driver or a subscriber."""

    at: float
    what: str
    """accepted, status, complete, cancelled or closed."""
    leader: str
    uuids: list[str]
    value: object = None


class Oracle:
    """See the module."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.runs: list[Run] = []
        self.by_job: dict[str, list[Run]] = {}
        self.by_attempt: dict[tuple[int, int], list[Run]] = {}
        self.by_output: dict[bytes, Run] = {}
        self.told: list[Told] = []
        self.complete_at: dict[str, float] = {}
        self.outputs: dict[str, bytes] = {}
        self.cancelled_at = -1.0
        self.plans: dict[str, tuple[Plan, model.Options]] = {}
        """What the driver has submitted, by uuid."""
        self.leader_ends = 0
        self.own_crashes: Counter[str] = Counter()
        """Poison to the times that it took a leader's machine down."""

    # ------------------------------------------------------------------------------------------------- while it runs

    def begin(self, worker: Process, row: int, uuid: str, attempt: tuple[int, int], plan: Plan) -> Run:
        """A body begins."""
        world = self.world
        run = Run(worker, row, uuid, attempt, world.now, plan)
        for other in self.by_job.get(uuid, ()):
            if other.ended < 0 and not self._excused(other):
                world.violate(f"P2: job {uuid[:8]} (row {row}) begins as {run} while it runs as {other}")
        at = self.complete_at.get(uuid)
        if at is not None and at < world.now and not _was_frozen(worker):
            world.violate(f"P1: job {uuid[:8]} (row {row}) begins as {run} but was told complete at {at:.3f}")
        if 0 <= self.cancelled_at < world.now and not _was_frozen(worker):
            world.violate(f"R7: job {uuid[:8]} (row {row}) begins as {run} after the run was told stopped")
        self.runs.append(run)
        self.by_job.setdefault(uuid, []).append(run)
        self.by_attempt.setdefault(attempt, []).append(run)
        world.note("{}: begins row {} {} as {}.{}", worker.name, row, uuid[:8], *attempt)
        return run

    def _excused(self, run: Run) -> bool:
        """A body that stands still on a frozen machine runs nothing; after a thaw past its lease it is doubtful."""
        return run.worker.frozen > 0 or run.doubtful

    def end(self, run: Run, how: str) -> None:
        """A body ends, or is killed."""
        run.ended = self.world.now
        self.world.note("{}: row {} {} ends: {}", run.worker.name, run.row, run.uuid[:8], how)

    def thawed(self, run: Run, past_lease: bool) -> None:
        """The machine goes on with the body where it stood."""
        if past_lease:
            run.doubtful = True
            self.world.count("oracle: body thawed past its lease")
            return
        for other in self.by_job[run.uuid]:
            if other is not run and other.ended < 0 and not self._excused(other):
                self.world.violate(f"P2: job {run.uuid[:8]} goes on as {run} within its lease while it runs as {other}")

    def say(self, what: str, leader: str, uuids: list[str], value: object = None) -> None:
        """A leader tells."""
        now = self.world.now
        self.told.append(Told(now, what, leader, uuids, value))
        if what == "complete":
            for uuid in uuids:
                self.complete_at.setdefault(uuid, now)
        elif what == "cancelled" and self.cancelled_at < 0:
            self.cancelled_at = now
        self.world.note("{} tells {}: {} jobs {}", leader, what, len(uuids), value if not isinstance(value, bytes) else "")

    # ------------------------------------------------------------------------------------------------- at the end

    def judge(self, records: list[tuple[int, bytes]], core: LeaderCore, files: set[str], finished: bool) -> None:
        """Everything has come to rest: compare what was told and what ran with what is stored."""
        committed = self._outcomes(records)
        self._check_told(core, committed)
        self._check_outcomes(core, committed, files)
        self._check_allowances(core)
        if finished:
            self._check_states(core)

    def _outcomes(self, records: list[tuple[int, bytes]]) -> dict[int, tuple[tuple[int, int], bytes]]:
        """Row to attempt and output, from the records alone; P3: one each."""
        found: dict[int, tuple[tuple[int, int], bytes]] = {}
        for seq, payload in records:
            record = model.decode_record(payload)
            if isinstance(record, model.Left) and record.suspects:
                self.world.count("R9: suspects are journaled")
            if isinstance(record, model.Left) and record.charged:
                self.world.count("R9: a death is charged")
            new: list[tuple[int, tuple[int, int], bytes]] = []
            if isinstance(record, model.Completed):
                plain, start = record.plain, 0
                for row, counter, end in zip(
                    column("I", plain.rows), column("I", plain.counters), column("I", plain.ends), strict=True
                ):
                    new.append((row, (record.epoch, counter), plain.outputs[start:end]))
                    start = end
            elif isinstance(record, model.Ended) and record.state == JobState.COMPLETED:
                new.append((record.ending.row, (record.epoch, record.ending.counter), record.ending.output))
            for row, attempt, output in new:
                if row in found:
                    self.world.violate(f"P3: row {row} has two outcomes, of {found[row][0]} and of {attempt} (record {seq})")
                found[row] = attempt, output
        return found

    def _check_told(self, core: LeaderCore, committed: dict[int, tuple[tuple[int, int], bytes]]) -> None:
        graph, world = core.ledger.graph, self.world
        best = 0
        for told in self.told:
            for at, uuid in enumerate(told.uuids):
                row = graph.find(uuid)
                if row == 0xFFFFFFFF:
                    world.violate(f"P1: job {uuid[:8]} was told {told.what} at {told.at:.3f} by {told.leader} but is not stored")
                elif told.what == "accepted" and isinstance(told.value, dict) and row != told.value["first"] + at:
                    said = told.value["first"] + at
                    world.violate(f"P1: job {uuid[:8]} was told accepted as row {said} by {told.leader}; it is row {row}")
                elif told.what == "complete" and row not in committed:
                    world.violate(f"P1: job {uuid[:8]} was told complete at {told.at:.3f} by {told.leader}; it is not")
                elif told.what == "complete" and isinstance(told.value, dict) and committed[row][1] != told.value[uuid]:
                    world.violate(f"P1: job {uuid[:8]}: the output told at {told.at:.3f} by {told.leader} is not the stored one")
            if told.what == "status":
                assert isinstance(told.value, tuple)
                best = max(best, told.value[1])
        if best > len(committed):
            world.violate(f"P1: {best} jobs were told complete in a status; {len(committed)} are")

    def _check_outcomes(self, core: LeaderCore, committed: dict[int, tuple[tuple[int, int], bytes]], files: set[str]) -> None:
        """P3: each stored outcome is the work of one execution, of the right job, on stored inputs."""
        graph, world = core.ledger.graph, self.world
        for row, (attempt, output) in committed.items():
            uuid = unpack_uuid(graph.key(row))
            runs = [run for run in self.by_attempt.get(attempt, ()) if run.row == row]
            if not runs:
                world.violate(f"P3: row {row} has an outcome of attempt {attempt}, which never ran")
                continue
            if len(runs) > 1:
                world.violate(f"P3: attempt {attempt} of row {row} ran {len(runs)} times")
            run = runs[0]
            value = msgspec.msgpack.decode(output, type=Value)
            if run.uuid != uuid or value.uuid != uuid:
                world.violate(f"P3: row {row} is job {uuid[:8]}, but its outcome is of job {run.uuid[:8]}")
            if output != run.output:
                world.violate(f"P3: the stored output of row {row} is not what {run} yielded")
            for (parent, seen), said in zip(run.inputs, value.inputs, strict=True):
                if digest(seen) != said or (parent in committed and committed[parent][1] != seen):
                    world.violate(f"P3: the outcome of row {row} ({run}) was computed from an output of row {parent} not stored")
                elif parent not in committed:
                    world.violate(f"P3: the outcome of row {row} ({run}) was computed from row {parent}, which has none")
            if value.file and value.file not in files:
                world.violate(f"R10: the file of row {row} ({run}) was deleted, but its outcome is committed")

    def _check_allowances(self, core: LeaderCore) -> None:
        """R9: a job that kills its worker is found out; every leader that ended in between excuses one more run."""
        for uuid, runs in self.by_job.items():
            plan, options = self.plans.get(uuid, (None, None))
            if plan is None or options is None or not plan.poison:
                continue
            allowed = 1 + 3 + options.retries + self.excuses(uuid)
            deaths = sum(run.failed for run in runs)
            if deaths > allowed:
                self.world.violate(f"R9: job {uuid[:8]} killed its worker {deaths} times; {allowed} are allowed")

    def excuses(self, uuid: str) -> int:
        """Ends of leaders that the job did not cause: what they knew of it is lost."""
        return self.leader_ends - self.own_crashes[uuid]

    def _check_states(self, core: LeaderCore) -> None:
        """Each job ended as its plan says (machine faults aside, which may fail a job that died alone too often)."""
        graph, world = core.ledger.graph, self.world
        for uuid, (plan, options) in self.plans.items():
            row = graph.find(uuid)
            if row == 0xFFFFFFFF:
                continue
            state = JobState(graph.state[row])
            if state not in ENDED and state is not JobState.WAITING and state is not JobState.READY:
                world.violate(f"liveness: job {uuid[:8]} (row {row}) is {state.label} though the run is idle")
            if state is JobState.READY and not core.ledger.run_stopped:
                world.violate(f"liveness: job {uuid[:8]} (row {row}) is ready though the run was told idle")
            hopeless = plan.fails > options.retries or bool(plan.poison)
            if state is JobState.COMPLETED and hopeless:
                world.violate(f"P3: job {uuid[:8]} (row {row}) completed, but its body never succeeds")
            if state is JobState.FAILED and not hopeless and row not in core.ledger.deaths:
                world.violate(f"job {uuid[:8]} (row {row}) failed, but its body succeeds at attempt {plan.fails + 1}")

    def check_order(self, rows: list[str], slack: int) -> None:
        """P5: these independent jobs, in the order they should begin, began so within `slack` places."""
        place = {uuid: i for i, uuid in enumerate(rows)}
        begun = [run.uuid for run in self.runs if run.uuid in place]
        self.world.count("oracle: order checked")
        for i, uuid in enumerate(begun):
            if abs(place[uuid] - i) > slack:
                self.world.violate(f"P5: job {uuid[:8]} began as number {i} though it is number {place[uuid]} in order")


def _was_frozen(process: Process) -> bool:
    return process.frozen > 0 or bool(process.frozen_spans)


async def read_all(reader: JournalReader) -> list[tuple[int, bytes]]:
    """Every committed record."""
    return [item async for item in reader.records()]

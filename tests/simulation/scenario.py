"""One simulation from its seed: who is there, what goes wrong when, and the verdict.

Faults happen up to `faults_s`; then the world is calm: everything is healed, a leader and workers are there again, and the run
must come to its end (liveness). The oracle judges at the end, from the bytes that a power loss at that moment would leave.
"""

from __future__ import annotations

import asyncio
import gc
import logging
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from tests.simulation import profiles
from tests.simulation.client import Driver, Submission, Subscriber
from tests.simulation.collector import Collector
from tests.simulation.disk import Disk, NodeObjects
from tests.simulation.faults import Faults
from tests.simulation.jobs import Plan, Shape, SimJob, fresh_uuid, random_flow
from tests.simulation.leader import SimLeader
from tests.simulation.loop import Stalled
from tests.simulation.network import Network
from tests.simulation.oracle import Oracle, read_all
from tests.simulation.planted import NO_BUG, Bug
from tests.simulation.worker import SimWorker
from tests.simulation.world import Crashed, Host, Process, Violation, World
from towline.engine import model
from towline.engine.core import LeaderCore
from towline.engine.states import ENDED, JobState
from towline.stores.journal.reader import JournalReader
from towline.stores.journal.segments import HEAD_BYTES, unpack_header
from towline.stores.journal.segments import PREFIX as SEGMENTS

MOST_S = 400.0
"""After this much simulated time without an end the run counts as stuck."""


_COMMON = ("before a listing", "before a read", "before an answer is told")
LEADER_STEPS = {
    (True, False): (
        *_COMMON, "before an append", "between write and fsync", "between fsync and the look for a next segment",
        "after an append", "before a create", "before a link", "between link and fsync of the folder", "after a put",
    ),
    (False, False): (*_COMMON, "before a put", "before a link", "between link and fsync of the folder", "after a put"),
    (False, True): ("before a put", "as a request is sent", "as a request is sent", "after a put"),
}  # fmt: skip
"""(appends, whole puts) to the steps of a leader at the store."""
WORKER_STEPS = ("before a body begins", "before a body ends", "before a message is sent", "after a message is sent")


class _Log(logging.Handler):
    """Keeps what the product logs: a leader that stops at a broken invariant says so there."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


_LOG = _Log()
_LOGGER = logging.getLogger("towline")


class Result(NamedTuple):
    """What became of a seed."""

    seed: int
    profile: str
    violation: str
    counts: Counter[str]
    story: list[str]
    """Told only if there was a violation or a trace was wanted."""
    seconds: float
    """Simulated."""


class Simulation(Faults):
    """Everything of one seed."""

    def __init__(self, seed: int, bug: Bug = NO_BUG, trace: bool = False, profile: str = "") -> None:
        world = self.world = World(seed, trace)
        rng = world.rng
        world.power_loss = self.power_loss  # type: ignore[attr-defined]  # a hook that the world leaves open
        self.bug = bug
        named = [p for p in profiles.PROFILES if p.name == profile]
        self.profile = p = named[0] if named else profiles.pick(rng)
        self.one_machine = rng.random() < p.one_machine
        store = rng.choice(p.stores)
        if self.one_machine and store == "bucket":
            store = "disk"
        self.disk = Disk(world, whole=store == "bucket", appendable=store == "disk", rates=p.rates)
        if store == "bucket" and p.rates.latency_s < 0.02:
            self.disk.rates = p.rates._replace(latency_s=0.025)
        self.lease_s = rng.uniform(*p.lease_s)
        self.grace_s = max(1.0, rng.uniform(*p.grace) * self.lease_s)
        self.segment_bytes = rng.choice((1 << 10, 4 << 10, 64 << 20))
        self.snapshots = rng.random() < p.snapshots
        self.closes = rng.random() < p.closes
        self.cancels_at = rng.uniform(1.0, 8.0) if rng.random() < p.cancels else -1.0
        self.cancelled = False
        self.all_submitted = False
        self.judging = False
        self.final = ""
        self.done = asyncio.Event()
        self.oracle = Oracle(world)
        self.network = Network(world, rng.choice((0.0003, 0.002, 0.02)), p.network_slow, p.flaps)
        self.leaders: list[SimLeader] = []
        self.published: list[SimLeader] = []
        self.workers: dict[str, SimWorker] = {}
        self._by_pid: dict[int, SimLeader] = {}
        self._epochs: dict[int, str] = {}
        self._make_hosts()
        self._make_flows()
        bug.prepare(self)

    # ------------------------------------------------------------------------------------------------- who is there

    def _make_hosts(self) -> None:
        rng, p = self.world.rng, self.profile
        self.worker_count = rng.randint(*p.workers)
        if self.one_machine:
            host = Host(self.world, "machine")
            self.leader_hosts = self.worker_hosts = [host]
            self.client_host = host
            return
        self.leader_hosts = [Host(self.world, f"head{i}") for i in range(2)]
        self.worker_hosts = [Host(self.world, f"node{i}") for i in range(self.worker_count)]
        if rng.random() < 0.3:
            self.worker_hosts[0] = self.leader_hosts[0]
        self.client_host = rng.choice([Host(self.world, "desk"), self.leader_hosts[0]])

    def _make_flows(self) -> None:
        rng, p = self.world.rng, self.profile
        self.submissions = []
        for number in range(rng.randint(*p.flows)):
            jobs = random_flow(rng, p.shape)
            for job in jobs:
                self.oracle.plans[job.uuid] = job.plan, job.options
            at = rng.uniform(0.0, 0.3) if not number else rng.uniform(0.5, p.faults_s * 0.9)
            self.submissions.append(Submission(fresh_uuid(rng), jobs, at, rng.choice((1, 4, 1000))))
        if p.ordered:
            self.submissions[0].piece = 1000
        if "trickle" in p.faults:
            self._trickle()
        self.submissions.sort(key=lambda flow: flow.at)

    def _trickle(self) -> None:
        """One small job now and then: something to be told all the time."""
        rng, at = self.world.rng, 0.3
        while at < self.profile.faults_s:
            at += rng.uniform(0.2, 0.9)
            job = SimJob(fresh_uuid(rng), Plan(0.01), options=model.Options())
            self.oracle.plans[job.uuid] = job.plan, job.options
            self.submissions.append(Submission(fresh_uuid(rng), [job], at, 1))

    def start_leader(self, *, takeover: bool = False, host: Host | None = None, share: float = 1.0) -> SimLeader:
        """Another process that wants to lead, with this share of the usual lease."""
        rng, p = self.world.rng, self.profile
        lease_s = self.lease_s * share
        if rng.random() < p.unequal_leases:
            lease_s *= rng.choice((0.4, 0.6, 1.5))
        leader = SimLeader(self, host or rng.choice(self.leader_hosts), takeover=takeover, lease_s=lease_s)
        self.leaders.append(leader)
        self._by_pid[leader.process.pid] = leader
        self.world.note("{} starts on {}{}", leader.process.name, leader.process.host.name, ", to take over" if takeover else "")
        if not self.world.calm:
            if rng.random() < p.crash:
                self._plan_crash(leader.process, LEADER_STEPS[self.disk.appendable, self.disk.whole])
                leader.process.crash_machine = self.one_machine and rng.random() < 0.5
            if rng.random() < p.freeze:
                leader.process.freeze_at = rng.randint(1, p.steps)
                leader.process.freeze_s = rng.uniform(*p.freeze_s) * self.lease_s
        leader.start()
        return leader

    def _plan_crash(self, process: Process, steps: Sequence[str]) -> None:
        """At any step, or at one that is passed seldom."""
        rng = self.world.rng
        if rng.random() < 0.5:
            process.crash_at = rng.randint(1, self.profile.steps)
        else:
            process.crash_where, process.crash_at = rng.choice(steps), rng.randint(1, 12)

    def start_worker(self) -> None:
        """A new worker on one of the machines."""
        worker = SimWorker(self, self.world.rng.choice(self.worker_hosts))
        self.workers[worker.process.name] = worker
        if not self.world.calm and self.world.rng.random() < self.profile.worker_crash:
            self._plan_crash(worker.process, WORKER_STEPS)

    def endpoint(self) -> SimLeader | None:
        """Where the file says that the leader is; it may be old."""
        if not self.published:
            return None
        if len(self.published) > 1 and not self.world.calm and self.world.chance(0.15):
            return self.world.rng.choice(self.published)
        return self.published[-1]

    def publish(self, leader: SimLeader) -> None:
        """The endpoint's file is written, unless a later leader's stands there."""
        if self.published and self.published[-1].writer.epoch > leader.writer.epoch:
            self.world.count("endpoint: an old leader comes too late")
            return
        self.published.append(leader)

    def leads(self, leader: SimLeader, epoch: int) -> None:
        """P4: no two leaders have one epoch."""
        self.world.note("{} leads epoch {}", leader.process.name, epoch)
        self.world.count("P4: a leader leads")
        if epoch in self._epochs:
            self.world.violate(f"P4: {leader.process.name} and {self._epochs[epoch]} both lead epoch {epoch}")
        self._epochs[epoch] = leader.process.name
        self.oracle.leader_ends = len(self._epochs) - 1

    def logged(self) -> str:
        """The last thing that the product logged."""
        return _LOG.lines[-1] if _LOG.lines else "nothing was logged"

    def leader_ended(self, leader: SimLeader) -> None:
        """For the story."""

    def is_alive(self, pid: int) -> bool:
        """As the kernel of the same machine knows it."""
        leader = self._by_pid.get(pid)
        return leader is not None and leader.process.alive

    def worker_of(self, name: str) -> SimWorker:
        return self.workers[name]

    def judge_claim(self, leader: SimLeader, led: model.Led) -> None:
        """R8: nobody fences, without being told to, a leader whose journal moved while he should have watched it."""
        now, other = self.world.now, self._by_pid.get(led.pid)
        if other is None or not other.process.alive or self.disk.rates.slow or leader.process.frozen_spans:
            return
        if max(leader.objects.stalled_until, other.objects.stalled_until) > now - 2 * led.lease_s:
            return  # when its commits took effect is not known to it
        lease_s = led.lease_s
        seen = [at for at in other.commits if now - 0.9 * lease_s < at < now - 0.3 * lease_s]
        self.world.count("oracle: claim of a seeming dead leader's store judged")
        if seen:
            names = f"{leader.process.name} fences {other.process.name}"
            self.world.violate(f"R8: {names} without takeover, though that one committed at {seen[-1]:.3f}")

    def judge_fence(self, leader: SimLeader) -> None:
        """P4: who says that it was fenced was: there is a segment of a later epoch."""
        for key, inode in self.disk.entries.items():
            if key.startswith(SEGMENTS) and (
                len(inode.data) < HEAD_BYTES or unpack_header(bytes(inode.data[:HEAD_BYTES]), key).epoch > leader.writer.epoch
            ):
                return
        self.world.violate(f"P4: {leader.process.name} says that it was fenced, but nobody has claimed the store since")

    # ------------------------------------------------------------------------------------------------- what goes wrong

    def power_loss(self, host: Host) -> None:
        """The machine goes dark; if the disk is in it, so do its caches."""
        for process in list(host.processes):
            process.alive = process.alive and True
        host.crash("power loss")
        if self.one_machine:
            self.disk.power_loss()

    def crash_leader_machine(self, uuid: str) -> None:
        """A body takes the leader's machine down."""
        leaders = [leader for leader in self.leaders if leader.process.alive and leader.led_at >= 0]
        if leaders:
            self.oracle.own_crashes[uuid] += 1
            self.world.count("fault: poison of the leader's machine")
            self.world.later(0.0, self.power_loss, leaders[-1].process.host)

    def is_suspected(self, row: int) -> bool:
        """Does the leader of the day suspect the job? Only the poison asks: it waits until it matters."""
        leader = self._current()
        return leader is not None and leader.performer is not None and row in leader.performer.core.ledger.suspects

    def _current(self) -> SimLeader | None:
        living = [leader for leader in self.leaders if leader.process.alive and leader.led_at >= 0]
        return living[-1] if living else None

    # ------------------------------------------------------------------------------------------------- keeping it alive

    async def _keep_alive(self) -> None:
        """What sessions and pools do: another leader when none is there, another worker for each that is gone."""
        world, rng = self.world, self.world.rng
        unwell = 0
        self.start_leader(host=self.leader_hosts[0])
        while True:
            await asyncio.sleep(rng.uniform(0.3, 1.0) * self.profile.patience_s)
            if self.judging:
                return
            living = [leader for leader in self.leaders if leader.process.alive]
            well = [leader for leader in living if not leader.process.frozen and leader.objects.stalled_until <= world.now]
            unwell = 0 if well else unwell + 1
            if not living or (unwell > 4 and rng.random() < 0.3):
                self.start_leader()
            if not self.done.is_set() and not self.driver.process.alive:
                self._start_driver()
            if not self.subscriber.process.alive:
                self._start_subscriber()
            if self.profile.ordered and not self.all_submitted:
                continue
            count = sum(w.process.alive and not w.core.stopping for w in self.workers.values())
            if count < self.worker_count and not self.done.is_set():
                self.start_worker()

    def _start_driver(self) -> None:
        self.driver = Driver(self, self.client_host)
        if not self.world.calm and self.world.rng.random() < self.profile.driver_crash:
            self.driver.process.crash_at = self.world.rng.randint(1, 60)
        self.driver.process.spawn(self.driver.drive())

    def _start_subscriber(self) -> None:
        self.subscriber = Subscriber(self, self.client_host)
        self.subscriber.process.spawn(self.subscriber.listen())

    def _calm_down(self) -> None:
        self.world.calm = True
        self.world.note("the faults are over")
        self.network.heal()
        for host in self.world.hosts:
            for process in list(host.processes):
                while process.frozen:
                    process.thaw()

    # ------------------------------------------------------------------------------------------------- the run

    async def _main(self) -> None:
        world, rng, p = self.world, self.world.rng, self.profile
        self._start_driver()
        self._start_subscriber()
        if not p.ordered:
            for _ in range(self.worker_count):
                world.later(rng.uniform(0.0, 1.0), self.start_worker)
        if rng.random() < p.collects:
            self.collector = Collector(self)
        world.spawn(self._keep_alive())
        self._schedule_faults()
        world.later(p.faults_s, self._calm_down)
        ended = world.spawn(self.done.wait())
        while not ended.done() and world.broken is None and not world.loop.unhandled and world.now < MOST_S:
            await asyncio.wait([ended], timeout=0.5)
        if not ended.done() and world.broken is None and not world.loop.unhandled:
            world.violate(
                f"liveness: the run has not ended after {world.now:.0f} s, {world.now - p.faults_s:.0f} s after the last fault"
            )
            self._tell_why_stuck()
        if world.broken is None and not world.loop.unhandled:
            await self._judge()

    def _tell_why_stuck(self) -> None:
        """For the story: what the leader believes."""
        leader = self._current()
        if leader is None or leader.performer is None:
            self.world.note("nobody leads")
            return
        core = leader.performer.core
        graph = core.ledger.graph
        self.world.note("{}: authority {} at {:.2f}", leader.process.name, vars(core.authority), leader.process.host.mono())
        for row in range(graph.size):
            state = JobState(graph.state[row])
            if state not in ENDED:
                self.world.note(
                    "row {} {}: {}, pending {}, suspect {}, attempts {}", row, graph.uuid(row)[:8], state.label,
                    graph.pending[row], row in core.ledger.suspects, graph.attempts[row],
                )  # fmt: skip
        for session in core.sessions.values():
            self.world.note("session {}", vars(session))

    async def _judge(self) -> None:
        """Stop everything where it stands, pull the plug, and read what is stored."""
        world = self.world
        world.calm = self.judging = True
        world.note("the end: everything is stopped")
        for host in world.hosts:
            for process in list(host.processes):
                process.kill("the end of the simulation")
        self.disk.power_loss()
        world.count("oracle: judged")
        reader = await JournalReader.open(NodeObjects(self.disk, Process(world.hosts[0], "oracle")))
        records = await read_all(reader)
        core = LeaderCore.restore(None, records)
        files = {key for key in self.disk.entries if key.startswith("files/")}
        self.oracle.judge(records, core, files, finished=self.cancels_at < 0)
        if self.profile.ordered:
            jobs = self.submissions[0].jobs
            order = sorted(range(len(jobs)), key=lambda i: (-jobs[i].options.priority, i))
            self.oracle.check_order([jobs[i].uuid for i in order], 0 if self.worker_count == 1 else 8 * self.worker_count)

    def run(self) -> Result:
        """Live through it."""
        world, loop = self.world, self.world.loop
        where = "one machine" if self.one_machine else "several machines"
        world.note("seed {}: {}, {}, {} workers", world.seed, self.profile.name, where, self.worker_count)
        world.note("lease {:.2f} s, grace {:.2f} s, segments {}", self.lease_s, self.grace_s, self.segment_bytes)
        asyncio.set_event_loop(loop)
        try:
            loop.run_until_complete(self._main())
        except Stalled as error:
            world.violate(f"liveness: {error}")
        except Violation as error:
            world.violate(str(error))
        except Crashed:
            raise
        except Exception as error:
            loop.unhandled.append(error)
        finally:
            seconds = world.now
            self._clear_up()
        if world.broken is None and loop.unhandled:
            error = loop.unhandled[0]
            import traceback

            world.violate(f"engine: {type(error).__name__}: {error}")
            world.note("{}", "".join(traceback.format_exception(error)).replace("{", "(").replace("}", ")"))
        violation = str(world.broken) if world.broken is not None else ""
        story = world.told_story() if world.tracing or violation else []
        return Result(world.seed, self.profile.name, violation, world.counts, story, seconds)

    def _clear_up(self) -> None:
        world, loop = self.world, self.world.loop
        world.ended = True
        for host in world.hosts:
            for process in list(host.processes):
                process.kill("cleared up")
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        if tasks:
            loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        asyncio.set_event_loop(None)
        loop.close()


def simulate(seed: int, bug: Bug = NO_BUG, *, trace: bool = False, profile: str = "") -> Result:
    """One seed."""
    _LOG.lines.clear()
    was, onward = gc.isenabled(), _LOGGER.propagate
    gc.disable()
    _LOGGER.addHandler(_LOG)
    _LOGGER.propagate = False
    try:
        return Simulation(seed, bug, trace, profile).run()
    finally:
        _LOGGER.removeHandler(_LOG)
        _LOGGER.propagate = onward
        if was:
            gc.enable()


__all__ = ["Result", "Shape", "Simulation", "simulate"]

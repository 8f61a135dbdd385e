"""What goes wrong in a simulation: each fault is a method `_do_NAME`, and a profile says how often each happens."""

from __future__ import annotations

from typing import Any

from tests.simulation.leader import SimLeader
from tests.simulation.world import Host


class Faults:
    """The part of `Simulation` that breaks things; it has the world, the hosts and the processes."""

    world: Any
    profile: Any

    def _schedule_faults(self) -> None:
        rng, p = self.world.rng, self.profile
        for name, mean in p.faults.items():
            action = getattr(self, f"_do_{name}", None)
            if action is None:
                continue
            count = int(mean) + (rng.random() < mean - int(mean))
            if mean > 1.0:
                count = rng.randint(0, 2 * int(mean))
            for _ in range(count):
                self.world.later(rng.uniform(0.2, p.faults_s * p.within), self._act, action)

    def _act(self, action: Any) -> None:
        if not self.world.calm and not self.done.is_set():
            action()

    def _do_kill_leader(self) -> None:
        leader = self._current()
        if leader is not None:
            self.world.count("fault: leader killed")
            leader.process.kill("SIGKILL")

    def _do_kill_worker(self) -> None:
        living = [w for w in self.workers.values() if w.process.alive]
        if living:
            self.world.count("fault: worker killed")
            self.world.rng.choice(living).process.kill("SIGKILL")

    def _do_kill_driver(self) -> None:
        self.world.count("fault: driver killed")
        self.driver.process.kill("SIGKILL")

    def _do_freeze_leader(self) -> None:
        leader = self._current()
        if leader is not None:
            seconds = self.world.rng.uniform(*self.profile.freeze_s) * self.lease_s
            leader.process.host.freeze(seconds)

    def _do_freeze_worker(self) -> None:
        living = [w for w in self.workers.values() if w.process.alive]
        if living:
            worker = self.world.rng.choice(living)
            worker.process.host.freeze(self.world.rng.uniform(0.3, 3.0) * self.lease_s)

    def _do_stop_worker(self) -> None:
        """SIGSTOP of the worker alone; its supervisor goes on."""
        living = [w for w in self.workers.values() if w.process.alive]
        if living:
            process = self.world.rng.choice(living).process
            self.world.count("fault: worker process stopped")
            process.freeze()
            self.world.later(self.world.rng.uniform(0.3, 2.0) * self.lease_s, process.thaw)

    def _do_takeover(self) -> None:
        self.world.count("fault: takeover of a living leader")
        self.start_leader(takeover=True)

    def _do_rival(self) -> None:
        self.world.count("fault: rival leader")
        self.start_leader()

    def _do_stall_leader(self) -> None:
        leader = self._current()
        if leader is not None:
            self.world.count("fault: leader cut off from the store")
            seconds = self.world.rng.uniform(0.5, 6.0) * self.lease_s
            self.world.note("{}: cut off from the store for {:.2f} s", leader.process.name, seconds)
            leader.objects.stalled_until = max(leader.objects.stalled_until, self.world.now + seconds)

    def _do_sever(self) -> None:
        """The schedule of R1: a leader loses the store but not all of its workers, and another one takes it for dead."""
        leader = self._current()
        if leader is None or self.one_machine:
            return
        self.world.count("fault: leader cut off from the store")
        leader.objects.stalled_until = self.world.now + self.world.rng.uniform(4.0, 8.0) * self.lease_s
        self.world.note("{}: cut off from the store up to {:.2f}", leader.process.name, leader.objects.stalled_until)
        others = [host for host in self.leader_hosts if host is not leader.process.host]
        self.world.later(self.world.rng.uniform(0.0, 0.5), self._act, lambda: self.start_leader(host=others[0]))
        self.world.later(self.world.rng.uniform(1.5, 3.0) * self.lease_s, self._act, lambda: self.network.break_some(0.3))
        for _ in range(2):
            self.world.later(self.world.rng.uniform(1.5, 3.0) * self.lease_s, self._act, self.start_worker)

    def _do_relay(self) -> None:
        """R1 over three leaders: one with a long lease dies, one with a short lease comes and dies, and a third one comes."""
        leader = self._current()
        if leader is None:
            return
        self.world.count("fault: leaders die one after the other")
        for worker in list(self.workers.values()):
            if worker.process.alive and self.world.chance(0.5):
                for host in self.leader_hosts:
                    self.network.cut(worker.process.host, host, 1.5 * self.lease_s)
        host = leader.process.host
        leader.process.kill("SIGKILL")
        second = self.start_leader(host=host, share=0.2)
        self.world.later(self.world.rng.uniform(0.1, 0.4), second.process.kill, "SIGKILL")
        self.world.later(0.5, self._act, lambda: self.start_leader(host=host, share=0.2))

    def _do_isolate(self) -> None:
        """The schedule of R1 for workers: nothing reaches one that runs a body longer than its lease."""
        self._isolate_when_long(40)

    def _isolate_when_long(self, looks: int) -> None:
        now, rng = self.world.now, self.world.rng
        for run in self.oracle.runs:
            left_s = run.began + run.plan.seconds - now
            host = run.worker.host
            if run.ended < 0 and run.worker.alive and left_s > 1.3 * self.lease_s and host not in self.leader_hosts:
                for other in self.leader_hosts:
                    self.network.cut(host, other, rng.uniform(1.3, 3.0) * self.lease_s)
                return
        if looks and not self.world.calm:
            self.world.later(0.1, self._isolate_when_long, looks - 1)

    def _do_lose_parent(self) -> None:
        """The schedule of R3: outcomes are released early while a commit hangs, and the leader dies with a parent's worker."""
        leader = self._current()
        if leader is None or leader.objects.stalled_until > self.world.now:
            return
        leader.objects.stalled_until = self.world.now + 60.0
        self.world.note("{}: commits hang", leader.process.name)
        self._strike_when_child_runs(leader, self.world.now, 60)

    def _strike_when_child_runs(self, leader: SimLeader, since: float, looks: int) -> None:
        if not leader.process.alive:
            return
        for run in self.oracle.runs:
            if run.ended >= 0 or not run.worker.alive:
                continue
            for _, data in run.inputs:
                parent = self.oracle.by_output.get(data)
                if parent is None or parent.ended < since or parent.worker is run.worker:
                    continue
                self.world.count("fault: leader and a worker killed while a commit hangs")
                leader.process.kill("SIGKILL")
                parent.worker.kill("SIGKILL")
                self.start_leader(takeover=True)
                return
        if looks:
            self.world.later(0.05, self._strike_when_child_runs, leader, since, looks - 1)
        else:
            leader.objects.stalled_until = 0.0

    def _do_supplant(self) -> None:
        """The schedule of R2: a leader stands still in the middle of anything, and another takes over meanwhile."""
        leader = self._current()
        if leader is None or self.one_machine:
            return
        seconds = self.world.rng.uniform(0.2, 2.2) * self.lease_s
        leader.process.host.freeze(seconds)
        others = [host for host in self.leader_hosts if host is not leader.process.host]
        self.world.later(self.world.rng.uniform(0.0, seconds), self._act, lambda: self._take_over_on(others[0]))

    def _do_overtake(self) -> None:
        """The schedule of R4: the leader stands still until its next segment's number was used, collected and is free again."""
        leader = self._current()
        if leader is None or self.one_machine:
            return
        leader.process.host.freeze(self.world.rng.uniform(2.5, 5.0) * self.lease_s)
        others = [host for host in self.leader_hosts if host is not leader.process.host]
        self.world.later(self.world.rng.uniform(0.0, 0.3), self._act, lambda: self._take_over_on(others[0]))

    def _take_over_on(self, host: Host) -> None:
        self.world.count("fault: takeover of a living leader")
        self.start_leader(takeover=True, host=host)

    def _do_cut(self) -> None:
        hosts = [*self.leader_hosts, *self.worker_hosts, self.client_host]
        a, b = self.world.rng.choice(hosts), self.world.rng.choice(hosts)
        self.network.cut(a, b, self.world.rng.uniform(0.2, 3.0) * self.lease_s)
        if self.world.chance(0.5):
            self.world.later(self.world.rng.uniform(0.0, 2.0), self._break_between, a, b)

    def _break_between(self, a: Host, b: Host) -> None:
        for stream in list(self.network.streams):
            if {stream.a.process.host, stream.b.process.host} == {a, b}:
                stream.break_()

    def _do_break_streams(self) -> None:
        self.network.break_some(0.4)

    def _do_jump(self) -> None:
        self.world.rng.choice(self.world.hosts).jump(self.world.rng.choice((-7200.0, -5.0, 3.0, 3600.0, 1e6)))

    def _do_power_loss(self) -> None:
        host = self.leader_hosts[0] if self.one_machine else self.world.rng.choice(self.world.hosts)
        self.power_loss(host)

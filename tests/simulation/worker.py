"""A simulated worker machine's two processes: the worker around the real WorkerCore, and the supervisor that ends it.

The shell does what `actors.worker` does with threads and sockets, and the supervisor what `actors.supervisor` does: touches on
a stream of its own, belief in the obeyed epoch alone, SIGKILL at the end of the lease.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from tests.simulation.disk import NodeObjects
from tests.simulation.jobs import Plan, Value, digest, grown
from tests.simulation.network import End
from tests.simulation.oracle import Run
from tests.simulation.world import Host, Process
from towline.engine import model
from towline.engine.ids import unpack_uuid
from towline.engine.model import Identity
from towline.engine.worker import FLUSH_S, Todo
from towline.stores.objects.base import ObjectsError

if TYPE_CHECKING:
    from tests.simulation.leader import SimLeader
    from tests.simulation.scenario import Simulation

_pack = msgspec.msgpack.encode
_unpack = msgspec.msgpack.decode


class SimWorker:
    """The worker process."""

    def __init__(self, sim: Simulation, host: Host) -> None:
        self.sim = sim
        self.world = sim.world
        number = self.world.number()
        self.process = Process(host, f"worker{number}")
        self.supervisor = Supervisor(self)
        process, sup = self.process, self.supervisor.process
        process.on_death(self._died)
        process.on_thaw = self._thawed
        self.identity = Identity(
            process.name, host.name, host.boot_id, "ns", process.pid, 1.0, sup.pid, 1.0,
        )  # fmt: skip
        self.core = sim.bug.make_worker_core(self.identity)
        self.touch_s = sim.lease_s / 4
        self.lease_deadline = 0.0
        self.lease_epoch = 0
        self.leader: SimLeader | None = None
        """Whom the worker is connected to; its supervisor is told."""
        self._end: End | None = None
        self._run: Run | None = None
        self._todo: Todo | None = None
        self._asked: dict[int, int] = {}
        """Question number to input position."""
        self._inputs: list[bytes | model.Input | None] = []
        self._number = 0
        self._ticking = False
        self._pause = 0.05
        process.enter(self._connect)

    # ------------------------------------------------------------------------------------------------- the stream

    def _connect(self) -> None:
        leader = self.sim.endpoint()
        if leader is None:
            self.process.later(self._pause, self._connect)
            self._pause = min(1.0, 2 * self._pause)
            return
        self.sim.network.connect(self.process, self, leader.process, leader, lambda end: self._connected(end, leader))

    def _connected(self, end: End | None, leader: SimLeader) -> None:
        if end is None:
            self.process.later(self._pause, self._connect)
            self._pause = min(1.0, 2 * self._pause)
            return
        self._pause = 0.05
        self._end, self.leader = end, leader
        self.supervisor.moved()
        self._send(self.core.connected(self.process.host.mono()))
        self._ask_again()

    def on_close(self, end: End) -> None:
        """The stream broke; outcomes are kept by the core."""
        if end is not self._end:
            return
        self._end = None
        self.core.disconnected()
        self.process.later(self._pause, self._connect)

    def on_frame(self, end: End, data: bytes) -> None:
        """As `Worker._listen`."""
        if end is not self._end:
            return
        frame = model.decode_to_worker(data)
        if isinstance(frame, model.Answer):
            self._answered(frame)
            return
        frames = self.core.received(frame, self.process.host.mono())
        self.lease_deadline = max(self.lease_deadline, self.core.deadline)
        self.supervisor.watch()
        if isinstance(frame, model.Welcome):
            self.lease_epoch, self.touch_s = self.core.epoch, self.core.touch_s
        self._send(frames)
        if self.core.refused:
            self.process.kill(f"refused: {self.core.refused}")
            return
        self._go()

    def _send(self, frames: list[model.ToLeader]) -> None:
        for frame in frames:
            if self._end is not None:
                self._end.send(model.encode(frame))

    # ------------------------------------------------------------------------------------------------- jobs

    def _go(self) -> None:
        """As `Worker._next`: one body at a time."""
        if self._todo is not None:
            return
        core = self.core
        core.deadline = max(core.deadline, self.lease_deadline)
        todo = core.next_job(self.process.host.mono())
        if todo is not None:
            core.take_specs()
            self._prepare(todo)
            return
        if core.stopping and not core.holds_anything():
            self._send([model.Goodbye(self.process.name, "stopped")])
            self.process.later(0.005, self.process.kill, "stopped in order")
        elif not core.is_idle():
            self._tick_soon()

    def _prepare(self, todo: Todo) -> None:
        self._todo = todo
        self._inputs = list(todo.inputs)
        self._asked.clear()
        for at, (given, value) in enumerate(zip(todo.job.inputs, todo.inputs, strict=True)):
            if value is None and given.place is not None:
                self._number += 1
                self._asked[self._number] = at
            elif value is None:
                self._fail_input(todo, given)
                return
        self._ask_again()
        if not self._asked:
            self._begin()

    def _fail_input(self, todo: Todo, given: model.Input) -> None:
        """As `Worker._input`: the machine's fault, the job is tried again."""
        self.world.count("worker: an input was not handed over")
        self._todo = None
        job = todo.job
        failure = model.Failure("upload", f"the input from row {given.row} was not handed over")
        now = self.process.host.mono()
        self._send(self.core.ended(job, model.Ending(job.row, job.counter, failure=failure), now))
        self._go()

    def _ask_again(self) -> None:
        todo = self._todo
        if todo is None or self._end is None:
            return
        for number, at in self._asked.items():
            place = todo.job.inputs[at].place
            assert place is not None
            self._end.send(model.encode(model.Ask(number, "read", _pack(list(place)))))

    def _answered(self, frame: model.Answer) -> None:
        at = self._asked.get(frame.number)
        if at is None or self._todo is None:
            return
        todo = self._todo
        if not frame.ok:
            self._asked.clear()
            self._fail_input(todo, todo.job.inputs[at])
            return
        del self._asked[frame.number]
        self._inputs[at] = _unpack(frame.payload)
        if not self._asked:
            self._begin()

    def _begin(self) -> None:
        assert self._todo is not None
        self.process.step("before a body begins")
        job, epoch = self._todo.job, self._todo.epoch
        plan = msgspec.msgpack.decode(job.args, type=Plan)
        run = self.sim.oracle.begin(self.process, job.row, unpack_uuid(job.uuid), (epoch, job.counter), plan)
        for given, value in zip(job.inputs, self._inputs, strict=True):
            if isinstance(value, bytes):
                run.inputs.append((given.row, value))
        self._run = run
        if plan.poison:
            self.process.later(plan.seconds * 0.9, self._poison, run)
        self.process.later(plan.seconds, self._finish, run, job)
        self._tick_soon()

    def _poison(self, run: Run) -> None:
        self.world.count("fault: poison")
        run.failed = True
        if run.plan.poison == "machine" and self.sim.is_suspected(run.row):
            self.sim.crash_leader_machine(run.uuid)
        self.process.kill(f"poison {run.uuid[:8]}")

    def _finish(self, run: Run, job: model.LeasedJob) -> None:
        self.process.step("before a body ends")
        if run.plan.file and run.plan.fails < job.attempt:
            self.process.spawn(self._upload(run, job))
        else:
            self._end_body(run, job, "")

    async def _upload(self, run: Run, job: model.LeasedJob) -> None:
        key = f"files/{run.attempt[0]}-{run.attempt[1]}-{job.row}"
        self.world.count("store: file written")
        failed = False
        try:
            await NodeObjects(self.sim.disk, self.process).put(key, b"content of " + key.encode())
            await self.process.wait(self.world.rng.uniform(0.0, 0.5))
        except ObjectsError:
            failed = True
        self.process.enter(self._end_body, run, job, key, failed)

    def _end_body(self, run: Run, job: model.LeasedJob, file: str, upload_failed: bool = False) -> None:
        plan, uuid, (epoch, counter) = run.plan, run.uuid, run.attempt
        self._run = self._todo = None
        now, wall = self.process.host.mono(), self.process.host.wall()
        if upload_failed or job.attempt <= plan.fails:
            self.sim.oracle.end(run, "fails")
            kind = "upload" if upload_failed else "error"
            ending = model.Ending(job.row, job.counter, failure=model.Failure(kind, "planned"), began=wall)
            self._send(self.core.ended(job, ending, now))
        else:
            output = _pack(Value(uuid, epoch, counter, [digest(data) for _, data in run.inputs], file))
            run.output = output
            self.sim.oracle.by_output[output] = run
            self.sim.oracle.end(run, "completes")
            if plan.growth:
                run.growth = grown(plan.growth, uuid, epoch, counter, plan.depth)
                self.world.count(f"graph: {plan.growth}")
            if plan.growth or plan.stores:
                ending = model.Ending(
                    job.row, job.counter, output, growth=run.growth, stored_data=b"stored" if plan.stores else b"",
                    began=wall, elapsed=plan.seconds,
                )  # fmt: skip
                self._send(self.core.ended(job, ending, now))
            else:
                self._send(self.core.completed(job, output, wall, plan.seconds, now))
        self._go()

    def _tick_soon(self) -> None:
        if not self._ticking:
            self._ticking = True
            self.process.later(FLUSH_S + 0.001, self._tick)

    def _tick(self) -> None:
        self._ticking = False
        self._send(self.core.tick(self.process.host.mono()))
        if not self.core.is_idle():
            self._ticking = True
            self.process.later(0.9 if self._run is not None else FLUSH_S + 0.001, self._tick)
        self._go()

    # ------------------------------------------------------------------------------------------------- its end

    def _died(self) -> None:
        if self._run is not None:
            self.sim.oracle.end(self._run, "is killed")
            self._run = None
        self.supervisor.process.later(self.world.rng.uniform(0.0005, 0.01), self.supervisor.worker_ended)

    def _thawed(self) -> None:
        if self._run is not None:
            self.sim.oracle.thawed(self._run, self.process.host.mono() >= self.lease_deadline)


class Supervisor:
    """Renews the lease and kills the worker when it ends."""

    def __init__(self, worker: SimWorker) -> None:
        self._worker = worker
        self.process = Process(worker.process.host, f"{worker.process.name}-supervisor")
        self.world = worker.world
        self._end: End | None = None
        self._connecting = False
        self._next_touch = 0.0
        self._watched = 0.0

    def moved(self) -> None:
        """The worker is connected to another leader (a line on stdin)."""
        self.process.later(0.001, self._moved)

    def _moved(self) -> None:
        if self._end is not None:
            self._end.close()
            self._end = None
        self._next_touch = 0.0
        self._touch()

    def _touch(self) -> None:
        """One renewal; asked again soon when no answer comes."""
        worker, leader = self._worker, self._worker.leader
        now = self.process.host.mono()
        if leader is None or now < self._next_touch or not worker.process.alive:
            return
        patience = worker.touch_s / 3
        self._wait_until(now + patience)
        if self._end is not None:
            self._end.send(model.encode(model.Touch(worker.process.name, now)))
        elif not self._connecting:
            self._connecting = True
            worker.sim.network.connect(self.process, self, leader.process, leader, self._connected)

    def _wait_until(self, at: float) -> None:
        self._next_touch = at
        self.process.later((at - self.process.host.mono()) / self.process.host.rate + 1e-6, self._touch)

    def _connected(self, end: End | None) -> None:
        self._connecting = False
        self._end = end
        if end is not None:
            end.send(model.encode(model.Touch(self._worker.process.name, self.process.host.mono())))

    def on_frame(self, end: End, data: bytes) -> None:
        """The leader's answer."""
        frame, worker = model.decode_to_worker(data), self._worker
        if isinstance(frame, model.Touched) and frame.epoch == worker.lease_epoch:
            worker.lease_deadline = max(worker.lease_deadline, frame.sent + frame.valid_s)
            self._wait_until(max(frame.sent + worker.touch_s, self.process.host.mono()))
            self.watch()
            worker.process.later(0.0, worker._go)
        elif isinstance(frame, model.Refused):
            worker.process.kill(f"its supervisor was refused: {frame.why}")

    def on_close(self, end: End) -> None:
        """The next touch connects anew."""
        if end is self._end:
            self._end = None

    def watch(self) -> None:
        """Look again when the lease would end."""
        deadline = self._worker.lease_deadline
        if deadline and deadline > self._watched:
            first, self._watched = not self._watched, deadline
            if first:
                self._look()

    def _look(self) -> None:
        if not self._worker.process.alive:
            return
        host, deadline = self.process.host, self._worker.lease_deadline
        if host.mono() >= deadline:
            self.world.count("R1: a supervisor ends a worker at the end of its lease")
            self._worker.process.kill("its lease has ended")
            return
        self.process.later((deadline - host.mono()) / host.rate + 1e-6, self._look)

    def worker_ended(self) -> None:
        """The worker's pidfd became readable."""
        self.process.kill("its worker is gone")

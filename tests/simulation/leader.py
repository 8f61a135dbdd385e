"""A simulated leader process: the real journal, LeaderCore and Performer, in a shell that does what `actors.service` does.

Claiming follows R8 as the service does: a leader whose process is provably dead is replaced at once, one that nobody can see
only after its head has stood still for a whole lease, a living one only by takeover.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import msgspec

from tests.simulation.disk import NodeObjects
from tests.simulation.network import End
from tests.simulation.world import Host, Process, ProcessClock
from towline.actors import answers
from towline.engine import events as ev
from towline.engine import model
from towline.engine.core import LeaderCore
from towline.engine.errors import FencedError, TowlineError, UsageError
from towline.engine.image import Image, image_of, ledger_from
from towline.engine.states import JobState
from towline.stores.journal.reader import JournalReader

if TYPE_CHECKING:
    from tests.simulation.scenario import Simulation
    from tests.simulation.worker import SimWorker

_pack = msgspec.msgpack.encode
_unpack = msgspec.msgpack.decode


class Locked(TowlineError):
    """Somebody else leads."""


class SimLeader:
    """One attempt to lead."""

    def __init__(self, sim: Simulation, host: Host, *, takeover: bool, lease_s: float) -> None:
        self.sim = sim
        self.world = sim.world
        self.process = Process(host, f"leader{self.world.number()}")
        self.clock = ProcessClock(self.process)
        self.objects = NodeObjects(sim.disk, self.process)
        self.lease_s = lease_s
        self.performer: Any = None
        self.writer: Any = None
        self.led_at = -1.0
        self.commits: list[float] = []
        """True times, for judging R8."""
        self._links: dict[str, End] = {}
        self._touching: End | None = None
        self._watched: set[str] = set()
        self._takeover = takeover
        self.process.on_death(self._died)

    def start(self) -> None:
        """Begin to be a leader."""
        self.process.spawn(self._main())

    async def _main(self) -> None:
        try:
            await self._lead()
        except TowlineError as error:
            self.world.note("{} gives up: {}: {}", self.process.name, type(error).__name__, error)
            self.world.count(f"leader gave up: {type(error).__name__}")
            self.process.kill("it cannot lead")

    async def _lead(self) -> None:
        sim, process, clock = self.sim, self.process, self.clock
        core = await self._claim()
        now = clock.now()
        host = process.host
        led = model.Led(self.writer.epoch, process.name, host.name, host.boot_id, "ns", process.pid, 1.0, now.wall, self.lease_s)
        core.touch_s = self.lease_s / 4
        # half of the leaders gather a while before they commit, as all do on a bucket
        delay_s = self.lease_s / 12 if process.pid % 2 else 0.0
        self.performer = sim.bug.make_performer(
            core, self.writer, clock, send=self._send, kill=self._kill, commit_delay_s=delay_s
        )
        opened = [] if core.ledger.next_seq else [model.Opened("store", "0", now.wall)]
        self.led_at = self.world.now
        sim.leads(self, led.epoch)
        self._count_rules(core)
        self.performer.start(led, opened)
        if core.authority.grace_until is not None:
            self.world.count("R1: a new leader waits for the workers of the one before")
        for joined in list(core.ledger.roster.values()):
            self._watch(joined)
        await self.performer.barrier()
        sim.publish(self)
        process.spawn(self._look_around())
        await self.performer.finished.wait()
        if type(self.performer.failure) is TowlineError:
            self.world.violate(f"engine: {self.performer.failure} (cause: {sim.logged()})")
        if isinstance(self.performer.failure, FencedError):
            sim.judge_fence(self)
            self.world.count(f"R2: {'an appending' if self.objects.appendable else 'a linking'} leader is fenced")
        elif self.performer.failure is not None:
            self.world.count("R5: a leader ends at a failed commit")
        await process.wait(self.world.rng.uniform(0.001, 0.5))
        await self.writer.close()
        process.kill("closed" if self.performer.failure is None else f"over: {self.performer.failure}")

    async def _claim(self) -> LeaderCore:
        """As `LeaderService._claim`."""
        reader = await JournalReader.open(self.objects)
        core = await self._restored(reader)
        led = core.ledger.led
        expected: int | None = None
        takeover = self._takeover
        if led is not None and not core.ledger.closed and not takeover:
            here = self.process.host
            if here.boot_id == led.boot_id and here.name == led.host:
                if self.sim.is_alive(led.pid):
                    self.world.count("R8: refused, the leader is alive")
                    raise Locked("the leader is alive")
                self.world.count("R8: the leader is provably dead")
            else:
                await self.sim.bug.head_stands_still(self, reader, led)
            expected = reader.last_segment
        sim = self.sim
        self.writer = await sim.bug.writer_class.claim(
            self.objects, nonce=self.world.rng.randbytes(16), leader=self.process.name, segment_bytes=sim.segment_bytes,
            expected_head=expected, grace_s=sim.grace_s, boottime=self.process.host.mono,
        )  # fmt: skip
        self._count_commits()
        if not takeover and led is not None and not core.ledger.closed:
            sim.judge_claim(self, led)
        async for seq, payload in self.writer.reader.records(core.ledger.next_seq):
            core.replay(seq, payload)
        core.settle()
        return core

    def _count_rules(self, core: LeaderCore) -> None:
        """Coverage: was a rule's decision ever taken? Wrapped from outside, so that the product needs no counters."""
        world, stand, confirm, read_back = self.world, core._inputs_stand, self.writer._confirm, self.writer._read_back

        def inputs_stand(held: model.Held) -> bool:
            stands = stand(held)
            if not stands:
                world.count("R3: an outcome of inputs that do not stand is refused")
            return stands

        async def confirmed() -> None:
            world.count("R4: a slow commit is checked")
            await confirm()

        async def was_read_back(key: str) -> bytes | None:
            world.count("R6: a create is settled by reading back")
            return await read_back(key)

        core._inputs_stand = inputs_stand  # type: ignore[method-assign]  # see the docstring
        self.writer._confirm, self.writer._read_back = confirmed, was_read_back

    def _count_commits(self) -> None:
        commit = self.writer.commit

        async def counted(payloads: list[bytes]) -> Any:
            done = await commit(payloads)
            self.commits.append(self.world.now)
            return done

        self.writer.commit = counted

    async def _restored(self, reader: JournalReader) -> LeaderCore:
        """From the newest snapshot, if there is one and the coin says so, and the records after it."""
        core = None
        if self.sim.snapshots and self.world.chance(0.7):
            keys = [meta.key async for meta in self.objects.list("snap/")]
            if keys:
                image = _unpack(await self.objects.get(keys[-1]), type=Image)
                if image.seq <= reader.next_seq:
                    self.world.count("store: restored from a snapshot")
                    core = self.sim.bug.make_core(ledger_from(image))
        core = core or self.sim.bug.make_core()
        async for seq, payload in reader.records(core.ledger.next_seq):
            core.replay(seq, payload)
        return core

    async def head_stands_still(self, reader: JournalReader, led: model.Led) -> None:
        """R8, as the service does it."""
        before = (reader.last_segment, reader.next_seq)
        until = self.clock.now().mono + led.lease_s
        while self.clock.now().mono < until:
            await self.process.wait(led.lease_s / 10)
            await reader.refresh()
            if (reader.last_segment, reader.next_seq) != before:
                self.world.count("R8: refused, the head moves")
                raise Locked("the head moves")
        self.world.count("R8: the head stood still")

    async def _look_around(self) -> None:
        """Find out that somebody else leads; make snapshots now and then."""
        while not self.performer.finished.is_set():
            await self.process.wait(self.world.rng.uniform(0.8, 1.6))
            try:
                await self.writer.check()
            except FencedError as error:
                self.world.count("P4: a leader finds itself replaced by looking")
                self.performer.over(error)
                return
            except TowlineError:
                continue  # the next commit will say
            if self.sim.snapshots and self.world.chance(0.3) and not self.world.calm:
                try:
                    await self._snapshot()
                except TowlineError as error:
                    self.world.note("{}: no snapshot: {}", self.process.name, error)

    async def _snapshot(self) -> None:
        reader = await JournalReader.open(self.objects)
        core = await self._restored(reader)
        image = image_of(core.ledger)
        data = _pack(image)
        key = f"snap/{image.seq:012d}"
        await self.objects.put(key, data)
        self.world.count("store: snapshot made")
        if self.performer.failure is None and not self.performer.finished.is_set():
            digest = hashlib.blake2b(data, digest_size=16).hexdigest()
            self.performer.feed(ev.SnapshotMade(image.seq, key, digest))

    # ------------------------------------------------------------------------------------------------- frames

    def on_frame(self, end: End, data: bytes) -> None:
        """As `LeaderService.on_frame`."""
        if self.performer is None:
            return
        frame = model.decode_to_leader(data)
        if isinstance(frame, model.Ask):
            self.process.spawn(self._answer(end, frame))
            return
        if isinstance(frame, model.Touch):
            self._touching = end
            self.performer.feed(ev.Said(frame))
            self._touching = None
            return
        if isinstance(frame, model.Hello):
            present = self._links.get(frame.worker)
            if present is not None and present.number > frame.stream:
                self.world.count("R7: a Hello of an older stream is passed over")
                if not self.sim.bug.believes_old_hellos:
                    return
                frame = msgspec.structs.replace(frame, stream=present.number)
            end.worker, end.number = frame.worker, frame.stream
            self._links[frame.worker] = end
        self.performer.feed(ev.Said(frame))
        if isinstance(frame, model.Hello):
            joined = self.performer.core.ledger.roster.get(frame.worker)
            if joined is not None:
                self._watch(joined)

    def on_close(self, end: End) -> None:
        """A stream broke."""
        if end.worker and self._links.get(end.worker) is end:
            del self._links[end.worker]
            self.performer.feed(ev.Disconnected(end.worker))

    def _send(self, worker: str, frame: model.ToWorker) -> None:
        link = self._links.get(worker)
        if isinstance(frame, model.Revoke):
            self.world.count("R7: a worker is asked to give back")
        if isinstance(frame, model.Touched | model.Refused) and self._touching is not None:
            link = self._touching
        if link is not None:
            link.send(model.encode(frame))

    # ------------------------------------------------------------------------------------------------- processes

    def _watch(self, joined: model.Joined) -> None:
        """On the same machine the kernel says when a worker and its supervisor are gone."""
        if joined.worker in self._watched or joined.boot_id != self.process.host.boot_id:
            return
        self._watched.add(joined.worker)
        worker = self.sim.worker_of(joined.worker)
        for process in (worker.process, worker.supervisor.process):
            process.on_death(lambda: self._check_dead(worker))
        self._check_dead(worker)

    def _check_dead(self, worker: SimWorker) -> None:
        if not worker.process.alive and not worker.supervisor.process.alive:
            self.process.later(0.0005, self._proven_dead, worker.process.name)

    def _proven_dead(self, worker: str) -> None:
        if worker in self._watched:
            self._watched.discard(worker)
            self._links.pop(worker, None)
            self.performer.feed(ev.WorkerDied(worker, "its process is gone"))

    def _kill(self, name: str, why: str) -> None:
        worker = self.sim.worker_of(name)
        if worker.process.boot_id == self.process.host.boot_id:
            worker.process.kill(f"killed by {self.process.name}: {why}")
        elif (link := self._links.get(name)) is not None:
            link.send(model.encode(model.Refused(why)))

    def _died(self) -> None:
        self.sim.leader_ended(self)

    # ------------------------------------------------------------------------------------------------- asking

    async def _answer(self, end: End, ask: model.Ask) -> None:
        try:
            value = await self._ask(ask.verb, _unpack(ask.payload) if ask.payload else None)
            reply = model.Answer(ask.number, True, _pack(value))
        except TowlineError as error:
            reply = model.Answer(ask.number, False, _pack([type(error).__name__, str(error)]))
        end.send(model.encode(reply))

    async def _ask(self, verb: str, payload: Any) -> Any:
        performer, oracle, name = self.performer, self.sim.oracle, self.process.name
        core = performer.core
        match verb:
            case "submit":
                value = await performer.told(lambda token: ev.Submitted(token, payload))
                chunk = model.decode_chunk(payload)
                packed = chunk.uuids
                assert isinstance(packed, bytes)
                await self.process.point("before an answer is told")
                oracle.say("accepted", name, [str_uuid(packed[i : i + 16]) for i in range(0, len(packed), 16)], value)
                return value
            case "progress":
                flow = core.ledger.flows.get(payload)
                value = flow.added if flow is not None else 0
                await performer.barrier()
                return value
            case "wait":
                await performer.idle(float(payload))
                status = answers.status(core)
                await performer.barrier()
                counts = status["counts"]
                await self.process.point("before an answer is told")
                oracle.say("status", name, [], (status["state"], counts.get("completed", 0)))
                return status
            case "cancel":
                value = await performer.told(lambda token: ev.Steer(token, "stop"))
                await self.process.point("before an answer is told")
                oracle.say("cancelled", name, [], value)
                return value
            case "close":
                performer.feed(ev.Closing(0))
                await performer.finished.wait()
                return None
            case "read":
                await performer.barrier()
                return await self.writer.reader.read(model.Location(*payload))
            case "news":
                return await self._news(int(payload))
        raise UsageError(f"no verb {verb!r}")

    async def _news(self, since: int) -> list[str]:
        """What a subscriber hears: jobs that are complete, with their outputs."""
        core, graph = self.performer.core, self.performer.core.ledger.graph
        done = [row for row in range(graph.size) if graph.state[row] == JobState.COMPLETED]
        newest = sorted(done, key=graph.out_seq.__getitem__)[-8:]
        some = [*newest, *done[since % (len(done) or 1) :][:4]]
        places = [(graph.uuid(row), graph.output(row)) for row in dict.fromkeys(some)]
        await self.performer.barrier()
        outputs = {uuid: await self.writer.reader.read(place) for uuid, place in places if place is not None}
        if self.performer.failure is not None:
            raise self.performer.failure
        await self.process.point("before an answer is told")
        self.sim.oracle.say("complete", self.process.name, list(outputs), outputs)
        assert core is self.performer.core
        return list(outputs)


def str_uuid(packed: bytes) -> str:
    """16 bytes as a uuid."""
    h = packed.hex()
    return f"{h[:8]}-{h[8:12]}-{h[12:16]}-{h[16:20]}-{h[20:]}"

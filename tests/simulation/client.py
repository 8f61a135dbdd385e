"""Drivers and subscribers: they ask leaders, are told things, lose their streams, and ask again."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec

from tests.simulation.jobs import SimJob, chunk_of
from tests.simulation.network import End
from tests.simulation.world import Host, Process
from towline.engine import model

if TYPE_CHECKING:
    from tests.simulation.scenario import Simulation

_pack = msgspec.msgpack.encode
_unpack = msgspec.msgpack.decode


class NoAnswer(Exception):
    """The stream broke, or nobody answered in time: whether it was done is not known."""


class Refused(Exception):
    """The leader said no, with a sentence."""


class Client:
    """One process that asks."""

    def __init__(self, sim: Simulation, host: Host, name: str) -> None:
        self.sim = sim
        self.world = sim.world
        self.process = Process(host, f"{name}{self.world.number()}")
        self._end: End | None = None
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._number = 0

    async def ask(self, verb: str, payload: Any = None, patience_s: float = 10.0) -> Any:
        """Ask once. NoAnswer or Refused."""
        process = self.process
        process.step("before a client asks")
        if self._end is None or self._end.closed:
            await self._connect()
        end = self._end
        if end is None:
            raise NoAnswer("nobody there")
        self._number += 1
        number = self._number
        answer: asyncio.Future[Any] = self.world.loop.create_future()
        self._waiting[number] = answer
        end.send(model.encode(model.Ask(number, verb, _pack(payload))))
        process.later(patience_s, self._give_up, number)
        return await answer

    async def _connect(self) -> None:
        leader = self.sim.endpoint()
        if leader is None:
            return
        done = self.process.future()
        found: list[End | None] = []

        def connected(end: End | None) -> None:
            found.append(end)
            self.process.wake(done)

        self.sim.network.connect(self.process, self, leader.process, leader, connected)
        await done
        self._end = found[0]

    def _give_up(self, number: int) -> None:
        answer = self._waiting.pop(number, None)
        if answer is not None and not answer.done():
            answer.set_exception(NoAnswer("no answer in time"))
            if self._end is not None:
                self._end.close()
                self._end = None

    def on_frame(self, end: End, data: bytes) -> None:
        """An answer."""
        frame = model.decode_to_worker(data)
        assert isinstance(frame, model.Answer)
        answer = self._waiting.pop(frame.number, None)
        if answer is None or answer.done():
            return
        value = _unpack(frame.payload)
        if frame.ok:
            answer.set_result(value)
        else:
            answer.set_exception(Refused(value[1]))

    def on_close(self, end: End) -> None:
        """Whatever was asked on it stays unanswered."""
        if end is self._end:
            self._end = None
            waiting, self._waiting = self._waiting, {}
            for answer in waiting.values():
                if not answer.done():
                    answer.set_exception(NoAnswer("the stream broke"))


class Submission:
    """A flow that the driver hands in piece by piece; it survives the driver."""

    def __init__(self, uuid: str, jobs: list[SimJob], at: float, piece: int) -> None:
        self.uuid = uuid
        self.jobs = jobs
        self.at = at
        self.piece = piece
        self.accepted = 0


class Driver(Client):
    """Submits the flows of the scenario, waits for the end, perhaps stops the run, perhaps closes the leader."""

    def __init__(self, sim: Simulation, host: Host) -> None:
        super().__init__(sim, host, "driver")

    async def drive(self) -> None:
        """The script; a new driver goes on where a killed one was."""
        sim = self.sim
        for flow in sim.submissions:
            if flow.accepted < len(flow.jobs):
                if flow.at > self.world.now:
                    await self.process.wait(flow.at - self.world.now)
                await self._submit(flow)
        sim.all_submitted = True
        while not await self._is_over():
            await self.process.wait(0.05)
        if sim.closes:
            await self._close()
        sim.done.set()

    async def _submit(self, flow: Submission) -> None:
        known = flow.accepted > 0
        while flow.accepted < len(flow.jobs):
            try:
                if not known:
                    flow.accepted = await self.ask("progress", flow.uuid)
                    known = True
                    continue
                base, jobs = flow.accepted, flow.jobs[flow.accepted : flow.accepted + flow.piece]
                chunk = chunk_of(flow.uuid, base, len(flow.jobs), jobs)
                await self.ask("submit", model.encode(chunk))
                flow.accepted = base + len(jobs)
            except NoAnswer:
                known = False
                await self.process.wait(self.world.rng.uniform(0.05, 0.4))
            except Refused as refusal:
                if self.sim.cancels_at >= 0 and "closing" in str(refusal):
                    pass  # it is being stopped; asked again
                known = False
                await self.process.wait(0.2)

    async def _is_over(self) -> bool:
        sim = self.sim
        try:
            if 0 <= sim.cancels_at <= self.world.now and not sim.cancelled:
                await self.ask("cancel", patience_s=30.0)
                sim.cancelled = True
            status = await self.ask("wait", 1.5)
        except NoAnswer:
            await self.process.wait(self.world.rng.uniform(0.05, 0.4))
            return False
        except Refused:
            await self.process.wait(0.2)
            return False
        if status["state"] == "running" or (sim.cancels_at > self.world.now and self.world.chance(0.5)):
            return False
        sim.final = status["state"]
        self.world.note("the driver was told: {}", status["state"])
        return True

    async def _close(self) -> None:
        try:
            await self.ask("close", patience_s=self.sim.lease_s * 2)
        except (NoAnswer, Refused):
            self.world.count("driver: close was not answered")


class Subscriber(Client):
    """Asks now and then what is complete."""

    def __init__(self, sim: Simulation, host: Host) -> None:
        super().__init__(sim, host, "subscriber")

    async def listen(self) -> None:
        """Until the end of the world."""
        rng = self.world.rng
        while not self.world.ended:
            await self.process.wait(rng.uniform(*self.sim.profile.news_s))
            try:
                await self.ask("news", rng.randrange(1000), patience_s=4.0)
                self.world.count("subscriber: told")
            except (NoAnswer, Refused):
                pass  # it will hear later

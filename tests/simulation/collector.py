"""The simulated garbage collector: old segments go into parts and then away (R4), files of closed attempts go (R10)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.simulation.disk import NodeObjects
from tests.simulation.world import Process
from towline.engine.core import LeaderCore
from towline.engine.errors import TowlineError
from towline.engine.states import JobState
from towline.stores.journal.parts import drop_segments, make_part, store_now
from towline.stores.journal.reader import JournalReader

if TYPE_CHECKING:
    from tests.simulation.scenario import Simulation


class Collector:
    """A process that any user may start at any time."""

    def __init__(self, sim: Simulation) -> None:
        self.sim = sim
        self.process = Process(sim.client_host, "collector")
        self._objects = NodeObjects(sim.disk, self.process)
        self.process.spawn(self._main())

    async def _main(self) -> None:
        world = self.sim.world
        while not world.ended:
            await self.process.wait(world.rng.uniform(*self.sim.profile.collect_s))
            if not self.sim.published:
                continue
            try:
                await self._collect()
                world.count("collector: a round")
            except TowlineError as error:
                world.note("collector: {}: {}", type(error).__name__, error)

    async def _collect(self) -> None:
        sim, objects, world = self.sim, self._objects, self.sim.world
        reader = await JournalReader.open(objects)
        if world.chance(0.6):
            if await make_part(objects, reader, reader.next_seq):
                world.count("R4: a part is made")
            dropped = await drop_segments(objects, reader.next_seq, grace_s=sim.grace_s, now=await store_now(objects))
            if dropped:
                world.count("R4: segments are deleted")
                world.note("collector: deletes {}", dropped)
        if world.chance(0.4) or not [meta async for meta in objects.list("files/")]:
            return
        core = LeaderCore.restore(None, [item async for item in reader.records()])
        doomed = [meta.key async for meta in objects.list("files/") if sim.bug.may_collect(core, meta.key)]
        if doomed:
            world.count("R10: files are deleted")
            world.note("collector: deletes {}", doomed)
            await objects.delete_many(doomed)


def may_collect(core: LeaderCore, key: str) -> bool:
    """R10: is the attempt that the file belongs to closed by the journal, with another outcome than this file's?"""
    epoch, counter, row = (int(part) for part in key.removeprefix("files/").split("-"))
    graph = core.ledger.graph
    if row >= graph.size:
        return False
    mine = (graph.epoch[row], graph.counter[row]) == (epoch, counter)
    return mine != (graph.state[row] == JobState.COMPLETED) and (mine or graph.state[row] == JobState.COMPLETED)

"""What has ended since a place in the journal: for those who wait for many jobs and want one answer for all of them.

Read from the committed records themselves (R5), so that nothing is missed or doubled when a new leader goes on, and the place is
good for every leader of the store. An outcome is told once nothing can follow it: not that of a job that will be tried again, nor
that of one whose place another job has taken (the job that took it has the same uuid).
"""

from __future__ import annotations

import asyncio
from typing import Any, NamedTuple

from towline.actors.answers import Reader
from towline.engine import model
from towline.engine.graph import Graph, column
from towline.engine.ids import NO_ROW
from towline.engine.states import JobState

MOST = 20_000
"""An answer is given once it tells of so many jobs; the rest comes with the next one."""

_TELLING = (b"\xa9completed", b"\xa5ended", b"\xa7steered")
"""Tags of the records that are looked into, as they stand behind the array's first byte."""

Told = list[Any]
"""[packed uuid, state, output or None, failure or None]; a failure is [kind, message, traceback, exception]."""


class News(NamedTuple):
    """What the records up to `next` tell."""

    next: int
    ended: list[Told]
    look: bool
    """Jobs may have been stopped that no record names: ask for the states of those that are waited for."""


async def since(graph: Graph, reader: Reader, start: int, end: int) -> News:
    """The news of records `start` to `end` (without it), all of them committed; fewer if there is much to tell."""
    ended: list[Told] = []
    look = False
    for seq in range(start, end):
        payload = await reader.payload(seq)
        if payload.startswith(_TELLING, 1):
            look |= _tell(graph, model.decode_record(payload), ended)
        if len(ended) >= MOST:
            return News(seq + 1, ended, look)
        if not (seq - start + 1) % 100:
            await asyncio.sleep(0)
    return News(max(start, end), ended, look)


def _tell(graph: Graph, record: model.Record, ended: list[Told]) -> bool:
    """Add what a record tells; may it have stopped jobs without naming them?"""
    match record:
        case model.Completed(plain=plain):
            start = 0
            for row, stop in zip(column("I", plain.rows), column("I", plain.ends), strict=True):
                ended.append([graph.key(row), int(JobState.COMPLETED), plain.outputs[start:stop], None])
                start = stop
        case model.Ended(ending=ending):
            return _tell_ending(graph, record, ending, ended)
        case model.Steered():
            if record.run:
                return True
            ended += ([graph.key(row), record.state, None, None] for row in column("I", record.rows))
    return False


def _tell_ending(graph: Graph, record: model.Ended, ending: model.Ending, ended: list[Told]) -> bool:
    key, failure, growth = graph.key(ending.row), ending.failure, ending.growth
    if failure is not None:
        if record.state != JobState.DELAYED:
            ended.append([key, record.state, None, [failure.kind, failure.message, failure.traceback, failure.error]])
        return False
    if growth is None or growth.replace is None or growth.heir == NO_ROW:
        ended.append([key, record.state, ending.output, None])
    return growth is not None and (growth.stop_children or growth.stop_jobflow)

"""What has ended since a place in the journal, read from the records alone."""

from __future__ import annotations

from typing import Any

import pytest

from tests.actors.test_answers import DeskReader
from tests.kit.builders import chunk, failure, spec, uuid_of
from tests.kit.desk import Desk, desk_with
from towline.actors import news
from towline.engine import events as ev
from towline.engine.ids import pack_uuid
from towline.engine.model import NO_ROW, Growth
from towline.engine.states import JobState

DONE, FAILED, STOPPED = int(JobState.COMPLETED), int(JobState.FAILED), int(JobState.STOPPED)


def key(number: int) -> bytes:
    return pack_uuid(uuid_of(number))


async def since(desk: Desk, start: int = 0) -> news.News:
    return await news.since(desk.core.ledger.graph, DeskReader(desk), start, len(desk.log))


async def test_outcomes_are_told_once_and_in_order() -> None:
    desk = desk_with(chunk(3))
    assert (await since(desk)).ended == []
    start = len(desk.log)
    jobs = desk.leased()
    desk.complete(jobs)
    found = await since(desk, start)
    assert found == news.News(len(desk.log), [[key(job.row), DONE, b"\xc0", None] for job in jobs], False)
    assert await since(desk, found.next) == news.News(found.next, [], False)


async def test_a_failure_is_told_when_nothing_follows_it() -> None:
    desk = desk_with(chunk(1, specs=[spec(retries=1, backoff_s=1.0)]))
    (job,) = desk.leased()
    desk.fail(job, failure("error"))
    assert (await since(desk)).ended == []
    desk.pass_time(10.0)
    (job,) = desk.leased()
    desk.fail(job, failure("error"), number=2)
    said = failure("error")
    told = [said.kind, said.message, said.traceback, said.error]
    assert (await since(desk)).ended == [[key(0), FAILED, None, told]]


@pytest.mark.parametrize("heir", [0, NO_ROW])
async def test_a_replaced_job_is_told_when_its_heir_has_ended(heir: int) -> None:
    desk = desk_with(chunk(1))
    (job,) = desk.leased()
    mine = heir == 0
    part = chunk(1, uuids=[uuid_of(0)], indices=[2]) if mine else chunk(1, first=50)
    desk.grow(job, Growth(replace=part, heir=heir))
    assert [told[0] for told in (await since(desk)).ended] == ([] if mine else [key(0)])
    start = len(desk.log)
    desk.complete(desk.leased(), number=2)
    assert [told[:2] for told in (await since(desk, start)).ended] == [[key(0 if mine else 50), DONE]]


async def test_what_is_stopped_is_told_or_is_to_be_looked_for() -> None:
    desk = desk_with(chunk(4), workers=0)
    desk.feed(ev.Steer(5, "stop", [2, 3]))
    assert await since(desk) == news.News(len(desk.log), [[key(n), STOPPED, None, None] for n in (2, 3)], False)
    start = len(desk.log)
    desk.join()
    job = desk.leased()[0]
    desk.grow(job, Growth(stop_jobflow=True))
    found = await since(desk, start)
    assert (found.ended[0][:2], found.look) == ([key(job.row), DONE], True)
    start = len(desk.log)
    desk.feed(ev.Steer(6, "stop"))
    assert await since(desk, start) == news.News(len(desk.log), [], True)


async def test_much_is_told_piece_by_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(news, "MOST", 3)
    desk = desk_with(chunk(10))
    number = 0
    while jobs := desk.leased():
        for job in jobs:
            number += 1
            desk.complete([job], number=number)
    told: list[Any] = []
    pieces, at = 0, 0
    while (found := await since(desk, at)).ended:
        assert len(found.ended) <= 3
        told += found.ended
        at, pieces = found.next, pieces + 1
    assert (len(told), pieces) == (10, 4)

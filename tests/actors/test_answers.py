"""Questions about a run: answered from the core and the journal, alike for a live leader and a store at rest."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.kit.builders import chunk, failure, uuid_of
from tests.kit.desk import Desk
from towline.actors import answers
from towline.actors.answers import answer
from towline.engine import events as ev
from towline.engine import model
from towline.engine.errors import UsageError

FLOWS = (0xAAAA0001, 0xAAAA0001, 0xBBBB0001)


class DeskReader:
    """Reads the records of a desk."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def read(self, location: model.Location) -> bytes:
        payload = self._desk.log[location.seq]
        return payload[location.offset : location.offset + location.length]

    async def payload(self, seq: int) -> bytes:
        return self._desk.log[seq]


class Asked:
    def __init__(self, jobs: int = 3, **options: Any) -> None:
        self.desk = Desk()
        self.desk.submit(chunk(jobs, **options))
        self.desk.join()
        self.jobs = {job.row: job for job in self.desk.leased()}
        """Those of the first lease."""

    async def __call__(self, verb: str, payload: Any = None) -> Any:
        return await answer(self.desk.core, DeskReader(self.desk), verb, payload)


async def test_status() -> None:
    asked = Asked(total=5)
    status = await asked("status")
    assert status["state"] == "running"
    assert status["total"] == 3
    assert status["incomplete"]
    assert status["flows"] == [["flow", "a flow", 5, 3]]
    assert (status["workers"], status["epoch"]) == (1, 1)
    assert status["leader"] == {"host": "host", "pid": 101, "closed": False}
    assert sum(status["counts"].values()) == 3
    assert answers.status(Desk().core)["counts"] == {}


async def test_output_is_there_once_it_is_complete() -> None:
    asked = Asked()
    where = {"uuid": uuid_of(0)}
    assert await asked("output", where) is None
    asked.desk.complete([asked.jobs[0]])
    assert await asked("output", where) == b"\xc0"
    assert await asked("output", where | {"index": 1}) == b"\xc0"
    with pytest.raises(UsageError, match=r"\(index 2\) is not in this store"):
        await asked("output", where | {"index": 2})


async def test_all_outputs_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Asked()
    assert await asked("completed") == []
    asked.desk.complete([asked.jobs[0]])
    more = asked.desk.leased()
    asked.desk.complete(more)
    monkeypatch.setattr(answers, "PUT_TOGETHER", 1)
    rows = sorted([0, *(job.row for job in more)])
    assert len(rows) > 1
    assert await asked("completed") == [(uuid_of(row), 1, b"\xc0") for row in rows]
    assert await asked("completed", {"flow": "flow"}) == await asked("completed")


@pytest.mark.parametrize("uuids", [["aaaa-1", "aaaa-2", "bbbb-3"], [uuid_of(n, flow) for n, flow in enumerate(FLOWS)]])
async def test_a_uuid_may_be_shortened_while_it_names_one(uuids: list[str]) -> None:
    asked = Asked(uuids=uuids)
    core = asked.desk.core
    for text in ("bbbb", uuids[2], uuids[2][:-1], uuids[2][:5]):
        assert await answers.find(core, {"uuid": text}) == 2
    assert await answers.find(core, {"uuid": uuids[1]}) == 1
    with pytest.raises(UsageError, match=r"2 jobs are meant by 'aaaa', such as aaaa.* \(f\), aaaa.* \(f\): give a uuid"):
        await answers.find(core, {"uuid": "aaaa"})
    for unknown in ("bbb", "", "cccc", "no job"):
        with pytest.raises(UsageError, match="is not in this store"):
            await answers.find(core, {"uuid": unknown})


async def test_a_job_may_be_named_while_one_job_has_the_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "LOOKED_AT", 2)
    asked = Asked(3, specs=[model.Spec("key", "f"), model.Spec("key", "last")], spec_of=[0, 0, 1])
    assert await answers.find(asked.desk.core, {"uuid": "last"}) == 2
    assert await asked("logs", {"uuid": "last", "index": 1}) == {"stdout": b"", "stderr": b""}
    with pytest.raises(UsageError, match="2 jobs are meant by 'f'"):
        await asked("logs", {"uuid": "f"})
    with pytest.raises(UsageError, match=r"\(index 2\) is not in this store"):
        await asked("logs", {"uuid": "last", "index": 2})


async def test_each_submission_has_its_own_state_and_counts() -> None:
    asked = Asked(2, flow="first")
    desk = asked.desk
    desk.fail(asked.jobs[0], failure(), number=1)
    desk.complete(desk.leased(), number=2)
    assert (await asked("status"))["state"] == (await asked("status", {"flow": "first"}))["state"] == "failed"
    desk.submit(chunk(3, flow="second", first=10))
    second = await asked("status", {"flow": "second"})
    assert (second["state"], second["total"], second["flows"]) == ("running", 3, [["second", "a flow", 3, 3]])
    first = await asked("status", {"flow": "first"})
    assert (first["state"], first["counts"]) == ("failed", {"completed": 1, "failed": 1}), "it has ended, whatever else runs"
    job, *others = desk.leased()
    desk.grow(job, model.Growth(addition=chunk(1, first=50)))
    for number in range(4, 9):
        desk.complete(others, number=number)
        others = desk.leased()
    second = await asked("status", {"flow": "second"})
    assert (second["state"], second["counts"]) == ("completed", {"completed": 4}), "what its jobs added is its own"
    assert [one["row"] for one in await asked("jobs", {"states": ["completed"], "limit": 9, "flow": "second"})] == [2, 3, 4, 5]
    assert await asked("jobs", {"states": ["failed"], "limit": 9, "flow": "second"}) == []
    assert (await asked("status"))["state"] == "failed"
    with pytest.raises(UsageError, match="flow third is not in this store"):
        await asked("status", {"flow": "third"})


async def test_a_run_that_was_stopped_does_not_stop_the_next() -> None:
    asked = Asked(2, flow="first")
    asked.desk.feed(ev.Steer(7, "stop"))
    asked.desk.die()
    asked.desk.submit(chunk(1, flow="second", first=10))
    asked.desk.join("w2")
    asked.desk.complete(asked.desk.leased("w2"), "w2")
    assert (await asked("status", {"flow": "first"}))["state"] == "stopped"
    assert (await asked("status", {"flow": "second"}))["state"] == "completed"


async def test_the_loop_goes_on_while_all_rows_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "LOOKED_AT", 10)
    monkeypatch.setattr(answers, "PUT_TOGETHER", 7)
    asked = Asked(100)
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    beside = asyncio.ensure_future(others())
    await asyncio.sleep(0)
    before = turns
    assert len(await asked("jobs", {"states": ["ready", "leased"], "limit": 1000})) == 100
    assert turns - before >= 100 // 10 + 100 // 7
    before = turns
    assert await asked("jobs", {"states": ["failed"], "limit": 1000}) == []
    assert turns - before >= 100 // 10
    assert await asked("jobs", {"states": ["ready", "leased"], "limit": 0}) == []
    beside.cancel()


async def test_a_state_that_there_is_not_is_named() -> None:
    with pytest.raises(UsageError, match=r"'done' is no state of a job; there are waiting, .*stopped"):
        await Asked()("jobs", {"states": ["failed", "done"], "limit": 1})


async def test_jobs_by_state_with_why_they_failed() -> None:
    asked = Asked()
    asked.desk.complete([asked.jobs[0]])
    [job] = asked.desk.leased()
    assert job.row == 1
    asked.desk.fail(job, failure(), number=2)
    [failed] = await asked("jobs", {"states": ["failed"], "limit": 10})
    assert (failed["row"], failed["uuid"], failed["state"], failed["attempts"]) == (1, uuid_of(1), "failed", 1)
    assert (failed["kind"], failed["message"]) == ("error", "ValueError: no")
    both = await asked("jobs", {"states": ["failed", "completed"], "limit": 10})
    assert [info["row"] for info in both] == [0, 1]
    assert (both[0]["kind"], both[0]["name"]) == ("", "f")
    assert len(await asked("jobs", {"states": ["failed", "completed"], "limit": 1})) == 1
    assert await asked("jobs", {"states": ["paused"], "limit": 10}) == []


async def test_logs_of_all_attempts_in_order() -> None:
    asked = Asked(1, specs=[model.Spec("key", "f", model.Options(retries=1, backoff_s=1.0))])
    job = asked.jobs[0]
    where = {"uuid": uuid_of(0)}
    assert await asked("logs", where) == {"stdout": b"", "stderr": b""}
    asked.desk.pull(
        number=1, logs=[model.Log(0, job.counter, b"one\n", b"")],
        endings=[model.Ending(0, job.counter, failure=failure())],
    )  # fmt: skip
    asked.desk.pass_time(5.0)
    [again] = asked.desk.leased()
    asked.desk.pull(number=2, logs=[model.Log(0, again.counter, b"two\n", b"wrong\n")])
    assert await asked("logs", where) == {"stdout": b"one\n--- next attempt ---\ntwo\n", "stderr": b"wrong\n"}


async def test_what_no_run_answers() -> None:
    asked = Asked()
    with pytest.raises(UsageError, match="'dance' is not a question"):
        await asked("dance")
    assert {"status", "jobs", "output", "completed", "logs", "cached", "states"} == answers.QUESTIONS


async def test_states_of_many() -> None:
    asked = Asked()
    asked.desk.complete([asked.jobs[0]])
    said = await asked("states", {"uuids": [uuid_of(0), "nobody"]})
    assert said == [["completed", 1], None]


async def test_what_an_outcome_is_filed_under() -> None:
    asked = Asked()
    cached = model.Cached(b"key", "m:f code:1", [("x", b"hash")])
    job = asked.jobs[0]
    reader = DeskReader(asked.desk)
    assert await answers.filed(asked.desk.core, reader, {"key": b"key"}) is None
    assert await asked("cached", {"uuid": uuid_of(0)}) is None
    asked.desk.pull(number=1, endings=[model.Ending(0, job.counter, b"output", cached=cached)])
    assert await answers.filed(asked.desk.core, reader, {"key": b"key"}) == {"row": 0, "output": b"output"}
    assert await answers.filed(asked.desk.core, reader, {"key": b"other"}) is None
    said = await asked("cached", {"uuid": uuid_of(0)})
    assert said == {"key": b"key", "function": "m:f code:1", "arguments": {"x": b"hash"}, "reused": ""}
    again = asked.desk.successor(epoch=2)
    assert (await answers.filed(again.core, reader, {"key": b"key"})) == {"row": 0, "output": b"output"}

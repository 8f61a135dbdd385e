"""Questions about a run: answered from the core and the journal, alike for a live leader and a store at rest."""

from __future__ import annotations

from typing import Any

import pytest

from tests.kit.builders import chunk, failure, uuid_of
from tests.kit.desk import Desk
from towline.actors import answers
from towline.actors.answers import answer
from towline.engine import model
from towline.engine.errors import UsageError


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


async def test_a_uuid_may_be_shortened_while_it_names_one() -> None:
    asked = Asked(uuids=["aaaa-1", "aaaa-2", "bbbb-3"])
    assert answers.find(asked.desk.core, {"uuid": "bbbb"}) == 2
    assert answers.find(asked.desk.core, {"uuid": "aaaa-2"}) == 1
    for unclear in ("aaaa", "bbb", "", "cccc"):
        with pytest.raises(UsageError, match="is not in this store"):
            answers.find(asked.desk.core, {"uuid": unclear})


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
    assert {"status", "jobs", "output", "logs"} == answers.QUESTIONS

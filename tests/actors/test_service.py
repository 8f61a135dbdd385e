"""A leader as a service: who may claim (R8), what it finds out, what it watches, what it leaves behind.

The store is a real one on disk; other leaders are other processes, or records that say so.
"""

from __future__ import annotations

import asyncio
import os
import signal
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.kit.builders import chunk, identity, plain
from tests.kit.leaks import nothing_left
from towline.actors import endpoint, service
from towline.actors.config import LeaderConfig
from towline.actors.endpoint import Endpoint
from towline.actors.identity import host_id, start_time
from towline.actors.service import LeaderService
from towline.actors.stream import Stream, StreamClosed
from towline.engine import model
from towline.engine.errors import FencedError, TowlineError, UsageError
from towline.engine.ids import unpack_uuid
from towline.stores.errors import StoreLocked
from towline.stores.journal.reader import JournalReader
from towline.stores.journal.writer import JournalWriter
from towline.stores.objects.base import ObjectsError
from towline.stores.store import Store

Start = Callable[..., Awaitable[LeaderService]]

OTHER = """
import asyncio, sys
from towline.actors.config import LeaderConfig
from towline.actors.service import LeaderService
from towline.engine import model
from towline.stores.store import Store
from tests.kit.builders import chunk
async def main():
    service = LeaderService(await Store.open(sys.argv[1], create=True), LeaderConfig(lease_s=float(sys.argv[2]), touch_s=0.1))
    await service.start(takeover="takeover" in sys.argv)
    if "submit" in sys.argv:
        await service.ask("submit", model.encode(chunk(3)))
    print(service.core.epoch, flush=True)
    await service.performer.finished.wait()
    print(type(service.performer.failure).__name__, flush=True)
    await service.drop()
asyncio.run(main())
"""


@pytest.fixture
async def start(store_dir: Path) -> AsyncIterator[Start]:
    """Starts services on one store and closes those that are still there."""
    with nothing_left("fds", "children", "files"):
        made: list[LeaderService] = []

        async def one(*, takeover: bool = False, lease_s: float = 60.0, submit: int = 0, **options: Any) -> LeaderService:
            store = await Store.open(str(store_dir), create=True)
            new = LeaderService(store, LeaderConfig(lease_s=lease_s, touch_s=lease_s / 4), **options)
            made.append(new)
            try:
                await new.start(takeover=takeover)
            except BaseException:
                await new.drop()
                raise
            if submit:
                await new.ask("submit", model.encode(chunk(submit)))
            return new

        yield one
        for old in made:
            await old.close()
        await asyncio.sleep(0.001)


async def other(store_dir: Path, *words: str, lease_s: float = 60.0) -> subprocess.Popen[str]:
    """A leader in a process of its own, once it leads."""
    process = subprocess.Popen(
        [sys.executable, "-c", OTHER, str(store_dir), str(lease_s), *words], stdout=subprocess.PIPE, text=True,
        env=os.environ | {"PYTHONPATH": os.getcwd()},
    )  # fmt: skip
    assert process.stdout is not None
    assert (await asyncio.to_thread(process.stdout.readline)).strip().isdigit()
    return process


def gone(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


class FakeLink:
    """A peer's stream, seen from the leader."""

    def __init__(self) -> None:
        self.worker = ""
        self.frames: list[model.ToWorker] = []
        self.closed = False

    def send(self, frame: bytes) -> None:
        self.frames.append(model.decode_to_worker(frame))

    def close(self) -> None:
        self.closed = True

    def take(self, kind: type[Any]) -> list[Any]:
        found = [frame for frame in self.frames if isinstance(frame, kind)]
        self.frames = [frame for frame in self.frames if not isinstance(frame, kind)]
        return found

    async def get(self, kind: type[Any]) -> Any:
        async with asyncio.timeout(30):
            while not (found := self.take(kind)):
                await asyncio.sleep(0.001)
        return found[0]


def hello(pid: int = 0, supervisor: int = 0, worker: str = "w1", held: list[model.Held] | None = None, **changes: str) -> bytes:
    here = host_id()._asdict() | changes
    who = msgspec.structs.replace(identity(worker), **here, pid=pid, started=start_time(pid))
    who = msgspec.structs.replace(who, supervisor_pid=supervisor, supervisor_started=start_time(supervisor))
    return model.encode(model.Hello(*msgspec.structs.astuple(who), held or []))


def elsewhere(**changes: str) -> bytes:
    """A worker on another machine."""
    return hello(pid=1, boot_id="another machine", **changes)


# --------------------------------------------------------------------------------------------------- who may claim


async def test_a_new_store_and_the_word_it_leaves(start: Start, store_dir: Path) -> None:
    leader = await start()
    status = await leader.ask("status")
    assert (status["state"], status["epoch"], status["workers"]) == ("completed", 1, 0)
    assert status["leader"] == {"host": host_id().host, "pid": os.getpid(), "closed": False}
    path = store_dir / "leader.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    word = endpoint.decode(path.read_bytes())
    assert word == leader.endpoint
    assert word is not None
    assert not word.provably_dead()
    assert stat.S_IMODE(os.stat(word.socket).st_mode) == 0o600
    await leader.close()
    await leader.close()
    assert path.read_bytes() == b""
    assert not Path(word.socket).parent.exists()
    again = await start()
    assert (await again.ask("status"))["epoch"] == 2


async def test_a_leader_that_lives_is_left_alone(start: Start, store_dir: Path) -> None:
    process = await other(store_dir, "submit")
    try:
        before = {p: p.read_bytes() for p in store_dir.rglob("*") if p.is_file()}
        with pytest.raises(StoreLocked, match=rf"led by process {process.pid} "):
            await start()
        assert {p: p.read_bytes() for p in store_dir.rglob("*") if p.is_file()} == before
    finally:
        gone(process)


async def test_one_that_is_provably_dead_is_replaced_at_once(start: Start, store_dir: Path) -> None:
    process = await other(store_dir, "submit")
    process.kill()
    process.wait()
    leader = await start()
    status = await leader.ask("status")
    assert (status["epoch"], status["counts"], status["state"]) == (2, {"ready": 3}, "running")
    gone(process)


async def test_takeover_stops_the_one_that_lives(start: Start, store_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    process = await other(store_dir, "submit")
    leader = await start(takeover=True)
    assert (await leader.ask("status"))["counts"] == {"ready": 3}
    assert process.stdout is not None
    # it has nothing to append and finds out by looking
    assert (await asyncio.to_thread(process.stdout.readline)).strip() == "FencedError"
    await asyncio.to_thread(process.wait)
    word = endpoint.decode((store_dir / "leader.json").read_bytes())
    assert word == leader.endpoint  # the loser has not taken it back
    gone(process)


async def test_a_fenced_leader_finds_out_by_its_next_append(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "CHECK_S", 3600.0)
    first = await start()
    second = await start(takeover=True)
    with pytest.raises(FencedError, match="was taken over"):
        await first.ask("submit", model.encode(chunk(1)))
    assert first.performer.finished.is_set()
    for verb in ("status", "jobs", "wait"):
        with pytest.raises(FencedError):
            await first.ask(verb, {"states": ["ready"], "limit": 5, "timeout_s": 1.0})
    assert (await second.ask("status"))["total"] == 0


async def test_two_at_once_one_leads(start: Start) -> None:
    first = await start()
    await first.close()
    both = await asyncio.gather(start(), start(), return_exceptions=True)
    leaders = [one for one in both if isinstance(one, LeaderService)]
    for one in both:
        assert isinstance(one, LeaderService | FencedError | StoreLocked)
    told = await asyncio.gather(*(one.ask("submit", model.encode(chunk(1))) for one in leaders), return_exceptions=True)
    assert sum(isinstance(answer, dict) for answer in told) == 1


async def lead_from_afar(store_dir: Path, lease_s: float) -> JournalWriter:
    """What a leader on another machine has written, and may go on writing."""
    store = await Store.open(str(store_dir), create=True)
    writer = await JournalWriter.claim(store.objects, nonce=os.urandom(16), leader="far away")
    led = model.Led(writer.epoch, "far", "far.example", "another boot", "pid:[1]", os.getpid(), 1.0, 0.0, lease_s)
    await writer.commit([model.encode(model.Opened(store.uuid, "0", 0.0)), model.encode(led)])
    return writer


async def test_one_on_another_machine_must_stand_still_for_its_lease(start: Start, store_dir: Path) -> None:
    far = await lead_from_afar(store_dir, lease_s=0.3)
    leader = await start()
    assert (await leader.ask("status"))["epoch"] == 2
    with pytest.raises(TowlineError):
        await far.commit([model.encode(model.Beat(1.0))])
    await far.close()


async def test_and_is_left_alone_when_it_does_not(start: Start, store_dir: Path) -> None:
    far = await lead_from_afar(store_dir, lease_s=5.0)
    claiming = asyncio.ensure_future(start())
    while not claiming.done():
        await far.commit([model.encode(model.Beat(1.0))])
        await asyncio.sleep(0.05)
    with pytest.raises(StoreLocked, match=r"on far\.example"):
        await claiming
    await far.commit([model.encode(model.Beat(2.0))])
    await far.close()


async def test_it_need_not_be_watched_when_it_has_closed(start: Start, store_dir: Path) -> None:
    far = await lead_from_afar(store_dir, lease_s=3600.0)
    await far.commit([model.encode(model.Closed(1.0))])
    await far.close()
    leader = await start()
    assert (await leader.ask("status"))["epoch"] == 2


async def test_its_own_earlier_incarnation_is_dead_by_word(start: Start, store_dir: Path) -> None:
    far = await lead_from_afar(store_dir, lease_s=3600.0)
    store = await Store.open(str(store_dir))
    again = LeaderService(store, LeaderConfig(), name="far")
    await again.start(takeover=False, successor_of="far")
    assert again.core.epoch == 2
    await again.close()
    await far.close()


# ---------------------------------------------------------------------------------------------------------- workers


async def test_jobs_that_were_open_when_it_was_killed_run_again(start: Start, store_dir: Path) -> None:
    process = await other(store_dir, "submit")
    gone(process)
    leader = await start()
    link = FakeLink()
    leader.on_frame(link, hello(os.getpid()))
    lease = await link.get(model.Lease)
    assert sorted(job.row for job in lease.jobs) == [0, 1, 2] or len(lease.jobs) >= 1
    done: list[int] = []
    number = 0
    while len(done) < 3:
        number += 1
        jobs = [(job.row, job.counter) for job in lease.jobs]
        done += [row for row, _ in jobs]
        leader.on_frame(link, model.encode(model.Pull("w1", number, 2, plain=plain(jobs))))
        if len(done) < 3:
            lease = await link.get(model.Lease)
    await leader.ask("wait", {"timeout_s": 30.0})
    assert (await leader.ask("status"))["state"] == "completed"
    leader.on_frame(link, model.encode(model.Goodbye("w1")))


async def test_a_worker_is_dead_when_it_and_its_supervisor_are(start: Start) -> None:
    roster: list[int] = []
    leader = await start(on_roster=lambda: roster.append(len(leader.core.sessions)))
    worker, supervisor = (subprocess.Popen(["sleep", "600"]) for _ in range(2))
    link = FakeLink()
    leader.on_frame(link, hello(worker.pid, supervisor.pid))
    await link.get(model.Welcome)
    assert roster == [1]
    worker.kill()
    worker.wait()
    await asyncio.sleep(0.05)
    assert "w1" in leader.core.sessions  # what it started may still run
    supervisor.kill()
    async with asyncio.timeout(30):
        while "w1" in leader.core.sessions:
            await asyncio.sleep(0.001)
    supervisor.wait()
    assert roster == [1, 0]
    assert "w1" not in leader.links
    leader.on_frame(link, hello(worker.pid, supervisor.pid))
    assert isinstance(await link.get(model.Refused), model.Refused)


async def test_a_worker_that_is_dead_when_it_says_hello(start: Start) -> None:
    leader = await start()
    leader.on_frame(FakeLink(), hello(2**22 + 1, 2**22 + 2))
    assert leader.core.sessions == {}


async def test_dead_workers_of_the_roster_are_found_at_the_start(start: Start) -> None:
    first = await start(lease_s=3600.0)
    process = subprocess.Popen(["sleep", "600"])
    link = FakeLink()
    first.on_frame(link, hello(process.pid))
    await link.get(model.Welcome)
    second = await start(takeover=True, lease_s=3600.0)
    assert second.core.authority.awaited == {"w1"}
    process.kill()
    async with asyncio.timeout(30):
        while second.core.authority.awaited:
            await asyncio.sleep(0.001)
    process.wait()


async def test_workers_elsewhere_are_left_to_their_lease(start: Start) -> None:
    leader = await start()
    link = FakeLink()
    leader.on_frame(link, elsewhere())
    await link.get(model.Welcome)
    assert "w1" in leader.core.sessions
    leader._kill("w1", "enough")
    assert (await link.get(model.Refused)).why == "enough"
    leader.on_close(link)
    assert "w1" in leader.core.sessions  # a broken stream proves nothing
    leader.on_frame(link, model.encode(model.Goodbye("w1")))
    assert leader.core.sessions == {}


async def test_a_lack_of_descriptors_is_no_death(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(pid: int, started: float) -> int:
        raise OSError("Too many open files")

    leader = await start()
    monkeypatch.setattr(service, "open_pidfd", none_left)
    link = FakeLink()
    leader.on_frame(link, hello(os.getppid()))
    await link.get(model.Welcome)
    assert "w1" in leader.core.sessions
    leader.on_frame(link, model.encode(model.Goodbye("w1")))


async def test_cancel_kills_on_this_host_and_is_told_after_the_death(start: Start) -> None:
    leader = await start(submit=1)
    process = subprocess.Popen(["sleep", "600"])
    link = FakeLink()
    leader.on_frame(link, hello(process.pid))
    await link.get(model.Lease)
    assert await leader.ask("cancel") == {"stopped": 1}
    assert process.wait() == -signal.SIGKILL
    assert (await leader.ask("status"))["state"] == "stopped"
    assert leader.core.sessions == {}


async def test_touches_are_answered_where_they_came_from(start: Start) -> None:
    leader = await start()
    link, supervisor = FakeLink(), FakeLink()
    leader.on_frame(link, hello(os.getpid()))
    await link.get(model.Welcome)
    leader.on_frame(supervisor, model.encode(model.Touch("w1", 5.0)))
    [touched] = supervisor.take(model.Touched)
    assert (touched.epoch, touched.sent) == (1, 5.0)
    assert 0 < touched.valid_s <= 60.0
    assert link.take(model.Touched) == []
    leader.on_frame(link, model.encode(model.Goodbye("w1")))
    leader.on_frame(supervisor, model.encode(model.Touch("w1", 6.0)))
    assert len(supervisor.take(model.Refused)) == 1


async def test_a_worker_on_a_new_stream(start: Start) -> None:
    leader = await start()
    old, new = FakeLink(), FakeLink()
    leader.on_frame(old, hello(os.getpid()))
    await old.get(model.Welcome)
    leader.on_frame(new, hello(os.getpid()))
    await new.get(model.Welcome)
    leader.on_close(old)  # late
    assert leader.links["w1"] is new
    leader.on_frame(new, model.encode(model.Goodbye("w1")))


async def test_a_hello_of_a_stream_that_was_given_up_takes_nothing_over(start: Start) -> None:
    leader = await start()
    late, new = FakeLink(), FakeLink()
    newer, older = (msgspec.structs.replace(model.decode_to_leader(hello(os.getpid())), stream=n) for n in (2, 1))
    leader.on_frame(new, model.encode(newer))
    await new.get(model.Welcome)
    leader.on_frame(late, model.encode(older))
    assert leader.links["w1"] is new
    assert not late.frames
    leader.on_frame(new, model.encode(model.Goodbye("w1")))


async def test_what_a_frozen_leader_wrote_late_is_written_over(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "CHECK_S", 0.01)
    leader = await start()
    assert leader.endpoint is not None
    stale = msgspec.structs.replace(leader.endpoint, epoch=0, socket="/gone")
    await leader.store.put_endpoint(endpoint.encode(stale))
    async with asyncio.timeout(30):
        while await leader.store.get_endpoint() != endpoint.encode(leader.endpoint):
            await asyncio.sleep(0.001)
    newer = msgspec.structs.replace(leader.endpoint, epoch=leader.endpoint.epoch + 1)
    await leader.store.put_endpoint(endpoint.encode(newer))
    await leader._publish()
    assert await leader.store.get_endpoint() == endpoint.encode(newer)  # a later leader's word stays


async def test_a_body_that_does_not_end_is_left_to_its_lease(start: Start, store_dir: Path) -> None:
    leader = await start(submit=1)
    link = FakeLink()
    leader.on_frame(link, elsewhere())
    await link.get(model.Lease)
    waiting = asyncio.ensure_future(leader.ask("cancel"))
    await asyncio.sleep(0)
    await leader.close(patience_s=0.01)
    with pytest.raises(UsageError, match="has closed"):
        await waiting
    reader = await JournalReader.open((await Store.open(str(store_dir))).objects)
    records = [model.decode_record(payload) async for _, payload in reader.records(0)]
    assert not any(isinstance(record, model.Closed) for record in records)


# -------------------------------------------------------------------------------------------------------- questions


async def asked(link: FakeLink, leader: LeaderService, verb: str, payload: object = None, number: int = 1) -> Any:
    leader.on_frame(link, model.encode(model.Ask(number, verb, msgspec.msgpack.encode(payload))))
    answer = await link.get(model.Answer)
    assert answer.number == number
    value = msgspec.msgpack.decode(answer.payload)
    return value if answer.ok else (value[0], value[1])


async def test_whatever_is_asked_is_answered(start: Start) -> None:
    leader = await start(submit=2)
    link = FakeLink()
    assert (await asked(link, leader, "status", number=7))["total"] == 2
    assert (await asked(link, leader, "dance"))[0] == "UsageError"
    assert "job nobody is not in this store" in (await asked(link, leader, "output", {"uuid": "nobody"}))[1]
    # what no client of ours would send is answered, too
    for verb, payload in [("output", None), ("jobs", {"states": ["odd"]}), ("wait", {}), ("read", "x"), ("submit", 5)]:
        kind, text = await asked(link, leader, verb, payload)
        assert kind in ("UsageError", "SubmissionError"), text
    leader.on_frame(link, model.encode(model.Ask(3, "status", b"\xc1")))
    assert not (await link.get(model.Answer)).ok
    assert not leader.performer.finished.is_set()
    assert not leader.core.ledger.open_flows()
    leader.on_frame(link, b"no frame")
    assert link.closed


async def test_answers_are_of_what_is_committed(start: Start) -> None:
    leader = await start(submit=1)
    link = FakeLink()
    leader.on_frame(link, hello(os.getpid()))
    lease = await link.get(model.Lease)
    [job] = lease.jobs
    writer = leader._writer
    assert writer is not None
    gate, commit = asyncio.Event(), writer.commit

    async def held(payloads: Any) -> Any:
        await gate.wait()
        return await commit(payloads)

    writer.commit = held  # type: ignore[method-assign]  # held for this test
    states = {"states": ["completed"], "limit": 5}
    early = asyncio.ensure_future(leader.ask("jobs", states))
    leader.on_frame(link, model.encode(model.Pull("w1", 1, 1, plain=plain([(job.row, job.counter)], [b"\xa3out"]))))
    questions = [
        asyncio.ensure_future(leader.ask(verb, payload))
        for verb, payload in [("jobs", states), ("output", {"uuid": unpack_uuid(job.uuid)}), ("status", None)]
    ]
    for _ in range(20):
        await asyncio.sleep(0)
    # `early` was asked before the outcome came, and its answer is put together after it: that must not slip out
    assert not any(question.done() for question in [early, *questions])
    gate.set()
    jobs, output, status = await asyncio.gather(*questions)
    assert len(jobs) == 1
    assert output == b"\xa3out"
    assert status["counts"] == {"completed": 1}
    await early
    leader.on_frame(link, model.encode(model.Goodbye("w1")))


async def test_what_is_not_committed_yet_is_waited_for() -> None:
    class Fake:
        """Performer, writer and reader in one."""

        next_seq = 5
        waited = 0

        @property
        def reader(self) -> Any:
            return self

        async def barrier(self) -> None:
            self.waited += 1

        async def read(self, location: model.Location) -> bytes:
            return b"read"

        async def payload(self, seq: int) -> bytes:
            return b"payload"

    fake: Any = Fake()
    committed = service._Committed(fake, fake)
    assert await committed.read(model.Location(4, 0, 0)) == b"read"
    assert await committed.payload(4) == b"payload"
    assert fake.waited == 0
    assert await committed.read(model.Location(5, 0, 0)) == b"read"
    assert await committed.payload(6) == b"payload"
    assert fake.waited == 2


async def test_a_leader_whose_store_fails_says_so_and_ends(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    leader = await start()
    process = subprocess.Popen(["sleep", "600"])
    link = FakeLink()
    leader.on_frame(link, hello(process.pid))
    await link.get(model.Welcome)
    writer = leader._writer
    assert writer is not None

    async def full(data: bytes, absent: str) -> int:
        raise ObjectsError("No space left on device")

    assert writer._appender is not None
    writer._appender.append = full  # type: ignore[method-assign]  # the disk is full
    with pytest.raises(ObjectsError, match="No space left"):
        await leader.ask("submit", model.encode(chunk(1)))
    assert process.wait() == -signal.SIGKILL  # its workers are stopped
    with pytest.raises(ObjectsError):
        await leader.ask("status")


async def test_over_the_socket(start: Start) -> None:
    leader = await start(submit=1)
    word = leader.endpoint
    assert isinstance(word, Endpoint)

    def talk() -> list[bytes | None]:
        line = Stream(word.socket, word.token)
        try:
            line.send(model.encode(model.Ask(1, "status")))
            return [line.receive(30.0)]
        finally:
            line.close()

    [data] = await asyncio.to_thread(talk)
    answer = model.decode_to_worker(data or b"")
    assert isinstance(answer, model.Answer)
    assert msgspec.msgpack.decode(answer.payload)["counts"] == {"ready": 1}
    waiting = Stream(word.socket, word.token)
    waiting.send(model.encode(model.Ask(1, "wait", msgspec.msgpack.encode({"timeout_s": 3600.0}))))
    await leader.close()
    with pytest.raises(StreamClosed):
        while await asyncio.to_thread(waiting.receive, 30.0):
            pass
    waiting.close()


async def test_a_snapshot_is_made_when_the_journal_has_grown(
    start: Start, monkeypatch: pytest.MonkeyPatch, store_dir: Path
) -> None:
    monkeypatch.setattr(service, "CHECK_S", 0.01)
    leader = await start(submit=50)
    leader.config = msgspec.structs.replace(leader.config, snapshot_bytes=1000)
    async with asyncio.timeout(60):
        while leader.core.ledger.snapshot is None:
            await asyncio.sleep(0.01)
    await leader.close()
    again = await start()
    assert (await again.ask("status"))["counts"] == {"ready": 50}

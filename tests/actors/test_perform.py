"""The loop that carries effects out: nothing is told before it is durable, nothing after the leader is over.

The core is real; the writer commits when the test lets it, and time stands still.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence

import pytest

from tests.kit.builders import chunk, hello, led, plain, spec
from towline.actors import perform
from towline.actors.perform import Performer
from towline.actors.window import CommitWindow
from towline.engine import events as ev
from towline.engine import model
from towline.engine.core import LeaderCore
from towline.engine.errors import FencedError, TowlineError, UsageError
from towline.engine.events import Now


class HeldWriter:
    """Each commit waits until it is let through, or told to fail."""

    def __init__(self) -> None:
        self.batches: list[list[bytes]] = []
        self.outcome: asyncio.Queue[Exception | None] = asyncio.Queue()
        self.running = 0
        self.most = 0
        self.news = asyncio.Event()

    async def commit(self, payloads: Sequence[bytes]) -> None:
        self.batches.append(list(payloads))
        self.running += 1
        self.most = max(self.most, self.running)
        self.news.set()
        try:
            error = await self.outcome.get()
        finally:
            self.running -= 1
        if error is not None:
            raise error


class StillClock:
    """Time moves when the test says so; timers are kept, not fired."""

    def __init__(self) -> None:
        self.mono = 0.0
        self.timers: list[StillTimer] = []

    def now(self) -> Now:
        return Now(self.mono, 1e9 + self.mono)

    def call_at(self, mono: float, callback: Callable[[], None]) -> StillTimer:
        self.timers.append(StillTimer(mono, callback))
        return self.timers[-1]

    def pass_to(self, mono: float) -> None:
        self.mono = mono
        for timer in [timer for timer in self.timers if timer.at <= mono]:
            self.timers.remove(timer)
            if not timer.cancelled:
                timer.callback()

    def pending(self) -> list[StillTimer]:
        return [timer for timer in self.timers if not timer.cancelled]


class StillTimer:
    def __init__(self, at: float, callback: Callable[[], None]) -> None:
        self.at, self.callback, self.cancelled = at, callback, False

    def cancel(self) -> None:
        self.cancelled = True


class Stage:
    """A performer with its surroundings."""

    def __init__(self) -> None:
        self.writer = HeldWriter()
        self.clock = StillClock()
        self.sent: list[tuple[str, model.ToWorker]] = []
        self.killed: list[tuple[str, str]] = []
        self.performer = Performer(
            LeaderCore(),
            self.writer,
            self.clock,
            send=lambda worker, frame: self.sent.append((worker, frame)),
            kill=lambda worker, why: self.killed.append((worker, why)),
        )

    async def settle(self) -> None:
        """Let everything run that can."""
        for _ in range(10):
            await asyncio.sleep(0)

    async def commit(self, error: Exception | None = None) -> None:
        """Let the commit that is under way end, then whatever follows from it."""
        self.writer.outcome.put_nowait(error)
        await self.settle()

    def kinds(self) -> list[str]:
        return [type(frame).__name__ for _, frame in self.sent]

    def submit(self, jobs: int = 1, **options: object) -> asyncio.Task[object]:
        data = model.encode(chunk(jobs, **options))  # type: ignore[arg-type]  # a test's own
        return asyncio.ensure_future(self.performer.told(lambda token: ev.Submitted(token, data)))


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    made = Stage()
    made.performer.start(led(), [model.Opened("store", "0", 0.0)])
    await made.settle()
    yield made
    await made.performer.aclose()
    assert [t for t in asyncio.all_tasks() if t.get_name() == "towline-commit"] == []


@pytest.fixture
async def led_stage(stage: Stage) -> Stage:
    """One whose first commit is through, with a worker that has joined."""
    await stage.commit()
    stage.performer.feed(ev.Said(hello()))
    await stage.settle()
    await stage.commit()
    assert stage.kinds() == ["Welcome"]
    stage.sent.clear()
    stage.writer.batches.clear()
    return stage


async def test_it_begins_with_opened_and_led(stage: Stage) -> None:
    records = [model.decode_record(payload) for payload in stage.writer.batches[0]]
    assert [type(record).__name__ for record in records] == ["Opened", "Led"]
    assert stage.performer.core.ledger.next_seq == 2
    barrier = asyncio.ensure_future(stage.performer.barrier())
    await stage.settle()
    assert not barrier.done()
    await stage.commit()
    assert barrier.done()
    await stage.performer.barrier()  # nothing to wait for
    assert stage.performer.committed_bytes == sum(map(len, stage.writer.batches[0]))


async def test_append_before_tell(led_stage: Stage) -> None:
    told = led_stage.submit(3)
    await led_stage.settle()
    assert len(led_stage.writer.batches) == 1
    assert not told.done()
    assert led_stage.sent == []  # jobs just added are not granted before, either
    await led_stage.commit()
    assert told.result() == {"first": 0, "count": 3}
    assert led_stage.kinds() == ["Lease"]


async def test_outcomes_are_acknowledged_after_the_commit_and_children_go_at_once(led_stage: Stage) -> None:
    led_stage.submit([[], [0], [0]])
    await led_stage.settle()
    await led_stage.commit()
    [(_, lease)] = led_stage.sent
    assert isinstance(lease, model.Lease)
    led_stage.sent.clear()
    rows = [(job.row, job.counter) for job in lease.jobs]
    assert rows[0][0] == 0
    led_stage.performer.feed(ev.Said(model.Pull("w1", 1, 1, plain=plain(rows))))
    await led_stage.settle()
    assert "Ack" not in led_stage.kinds()
    assert "Lease" in led_stage.kinds() or len(rows) == 3
    await led_stage.commit()
    assert led_stage.kinds().count("Ack") == 1


async def test_one_commit_in_flight_and_the_next_gathers(led_stage: Stage) -> None:
    first = led_stage.submit(1, flow="a")
    await led_stage.settle()
    others = [led_stage.submit(1, flow=name, first=10 * n) for n, name in enumerate("bcd", 1)]
    await led_stage.settle()
    assert [len(batch) for batch in led_stage.writer.batches] == [1]
    await led_stage.commit()
    assert first.done()
    assert not any(task.done() for task in others)
    assert [len(batch) for batch in led_stage.writer.batches] == [1, 3]
    await led_stage.commit()
    assert all(task.done() for task in others)
    assert led_stage.writer.most == 1


async def test_a_barrier_waits_for_what_came_before_only(led_stage: Stage) -> None:
    led_stage.submit(1, flow="a")
    await led_stage.settle()
    early = asyncio.ensure_future(led_stage.performer.barrier())
    await led_stage.settle()
    led_stage.submit(1, flow="b", first=9)
    late = asyncio.ensure_future(led_stage.performer.barrier())
    await led_stage.settle()
    await led_stage.commit()
    assert (early.done(), late.done()) == (True, False)
    await led_stage.commit()
    assert late.done()


async def test_a_refusal_changes_nothing(led_stage: Stage) -> None:
    told = asyncio.ensure_future(led_stage.performer.told(lambda token: ev.Submitted(token, b"no chunk")))
    await led_stage.settle()
    with pytest.raises(UsageError):
        await told
    assert led_stage.writer.batches == []


async def test_who_waits_for_news_is_woken_by_the_next_commit(led_stage: Stage) -> None:
    assert not await led_stage.performer.moved(0.0)
    waiting = asyncio.ensure_future(led_stage.performer.moved(60.0))
    led_stage.submit(1)
    await led_stage.settle()
    assert not waiting.done()
    await led_stage.commit()
    assert await waiting
    left = asyncio.ensure_future(led_stage.performer.moved(60.0))
    await led_stage.settle()
    led_stage.performer.over(None)
    with pytest.raises(UsageError, match="has closed"):
        await left


async def test_idle_is_said_when_it_is_durable(led_stage: Stage) -> None:
    assert await led_stage.performer.idle(0.0)
    led_stage.submit(1)
    await led_stage.settle()
    assert not await led_stage.performer.idle(0.0)
    await led_stage.commit()
    [(_, lease)] = led_stage.sent
    assert isinstance(lease, model.Lease)
    waiting = asyncio.ensure_future(led_stage.performer.idle(60.0))
    led_stage.performer.feed(ev.Said(model.Pull("w1", 1, 1, plain=plain([(0, lease.jobs[0].counter)]))))
    await led_stage.settle()
    assert not waiting.done()
    await led_stage.commit()
    assert await waiting


@pytest.mark.parametrize("error", [FencedError("taken"), TowlineError("disk"), OSError("odd"), AssertionError("bug")])
async def test_a_failed_commit_is_the_end_and_nothing_is_told(led_stage: Stage, error: Exception) -> None:
    performer = led_stage.performer
    told = led_stage.submit(2)
    barrier = asyncio.ensure_future(performer.barrier())
    await led_stage.settle()
    later = led_stage.submit(1, flow="later", first=50)
    await led_stage.settle()
    sent = list(led_stage.sent)
    await led_stage.commit(error)
    assert performer.finished.is_set()
    assert isinstance(performer.failure, TowlineError)
    assert str(error) in str(performer.failure)
    for waiting in (told, barrier, later):
        with pytest.raises(TowlineError, match=str(error)):
            await waiting
    assert [worker for worker, _ in led_stage.killed] == ["w1"]
    assert led_stage.sent == sent
    assert led_stage.clock.pending() == []
    with pytest.raises(TowlineError, match=str(error)):
        await performer.told(lambda token: ev.Steer(token, "stop"))
    with pytest.raises(TowlineError, match=str(error)):
        await performer.barrier()
    with pytest.raises(TowlineError, match=str(error)):
        await performer.idle(60.0)
    performer.feed(ev.Said(hello("w2")))
    led_stage.clock.pass_to(1000.0)
    await led_stage.settle()
    assert len(led_stage.writer.batches) == 1
    assert led_stage.sent == sent


async def test_a_leader_that_is_over_while_it_commits_tells_nothing(led_stage: Stage) -> None:
    told = led_stage.submit(2)
    await led_stage.settle()
    led_stage.performer.over(FencedError("taken"))
    await led_stage.commit()
    with pytest.raises(FencedError, match="taken"):
        await told
    assert led_stage.sent == []
    led_stage.performer.over(None)
    led_stage.performer.over(TowlineError("another"))
    assert str(led_stage.performer.failure) == "taken"
    assert len(led_stage.killed) == 1


async def test_a_core_that_breaks_ends_the_leader(led_stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_event: object, _now: object) -> object:
        raise AssertionError("job 7 may not go from completed to ready")

    told = led_stage.submit(1)
    await led_stage.settle()
    monkeypatch.setattr(led_stage.performer.core, "handle", broken)
    led_stage.performer.feed(ev.Tick())
    assert led_stage.performer.finished.is_set()
    with pytest.raises(TowlineError, match="job 7 may not go"):
        await told
    assert [worker for worker, _ in led_stage.killed] == ["w1"]


async def test_so_does_a_kill_that_cannot_be_carried_out(led_stage: Stage) -> None:
    def kill(_worker: str, _why: str) -> None:
        raise PermissionError("not ours")

    led_stage.submit(1)
    await led_stage.settle()
    await led_stage.commit()
    led_stage.performer._kill = kill
    stop = asyncio.ensure_future(led_stage.performer.told(lambda token: ev.Steer(token, "stop")))
    await led_stage.settle()
    with pytest.raises((TowlineError, PermissionError)):
        await stop
    assert led_stage.performer.finished.is_set()


async def test_closing_is_told_when_closed_is_durable(led_stage: Stage) -> None:
    performer = led_stage.performer
    performer.feed(ev.Closing(0))
    performer.feed(ev.Said(model.Goodbye("w1")))
    await led_stage.settle()
    assert led_stage.kinds() == ["Stop"]
    assert not performer.finished.is_set()
    while not performer.finished.is_set():
        await led_stage.commit()
    last = model.decode_record(led_stage.writer.batches[-1][-1])
    assert isinstance(last, model.Closed)
    assert performer.failure is None
    assert led_stage.killed == []
    assert led_stage.clock.pending() == []
    with pytest.raises(UsageError, match="has closed"):
        await performer.told(lambda token: ev.Steer(token, "stop"))
    await performer.barrier()


async def test_aclose_lets_nobody_wait_and_may_come_twice(led_stage: Stage) -> None:
    told = led_stage.submit(1)
    await led_stage.settle()
    await led_stage.performer.aclose()
    with pytest.raises(UsageError, match="has closed"):
        await told
    assert await led_stage.performer.idle(0.0)
    await led_stage.performer.aclose()


async def test_whoever_stops_waiting_harms_nobody(led_stage: Stage) -> None:
    told, other = led_stage.submit(1, flow="a"), led_stage.submit(1, flow="b", first=7)
    await led_stage.settle()
    told.cancel()
    await led_stage.settle()
    await led_stage.commit()
    assert told.cancelled()
    if not other.done():
        await led_stage.commit()
    assert other.result() == {"first": 1, "count": 1}
    assert not led_stage.performer.finished.is_set()


async def test_the_timer_is_set_for_what_comes_first_and_set_again(led_stage: Stage) -> None:
    clock = led_stage.clock
    [timer] = clock.pending()
    assert timer.at == led_stage.performer.core.next_deadline()
    clock.pass_to(timer.at)
    [again] = clock.pending()
    assert again.at > timer.at
    clock.pass_to(25.0)  # beyond T/3: an idle leader says that it lives (R1)
    await led_stage.settle()
    assert isinstance(model.decode_record(led_stage.writer.batches[-1][-1]), model.Beat)


# ------------------------------------------------------------------------------------------------------ commit window


@pytest.fixture
async def slow(led_stage: Stage) -> Stage:
    """A leader of a store that takes 0.1 s a commit, with a lease of two independent jobs out."""
    performer = led_stage.performer
    performer.window = CommitWindow(0.25)
    led_stage.submit(2)
    await led_stage.settle()
    led_stage.clock.mono += 0.1
    await led_stage.commit()
    assert performer.window.length_s == 0.25
    led_stage.writer.batches.clear()
    return led_stage


def outcome(stage: Stage, number: int) -> None:
    """The worker hands in the next of its jobs."""
    jobs = [job for _, frame in stage.sent if isinstance(frame, model.Lease) for job in frame.jobs]
    done = jobs[number - 1]
    stage.performer.feed(ev.Said(model.Pull("w1", number, 1, plain=plain([(done.row, done.counter)]))))


async def test_outcomes_that_nobody_waits_for_gather_until_the_window_is_over(slow: Stage) -> None:
    slow.submit(1, flow="open", total=9, first=50)  # something stays open: the run does not get idle
    await slow.settle()
    await slow.commit()
    slow.writer.batches.clear()
    opens = slow.performer.window.opens_at()
    outcome(slow, 1)
    await slow.settle()
    slow.clock.pass_to(opens - 0.01)
    await slow.settle()
    assert slow.writer.batches == []
    outcome(slow, 2)
    slow.clock.pass_to(opens)
    await slow.settle()
    assert [len(batch) for batch in slow.writer.batches] == [2]
    assert "Ack" not in slow.kinds()
    await slow.commit()
    assert slow.kinds().count("Ack") == 2


async def test_whoever_waits_ends_the_window(slow: Stage) -> None:
    slow.submit(1, flow="open", total=9, first=50)
    await slow.settle()
    await slow.commit()
    slow.writer.batches.clear()
    outcome(slow, 1)
    await slow.settle()
    assert slow.writer.batches == []
    reader = asyncio.ensure_future(slow.performer.barrier())
    await slow.settle()
    assert len(slow.writer.batches) == 1
    await slow.commit()
    assert reader.done()
    outcome(slow, 2)
    await slow.settle()
    assert len(slow.writer.batches) == 1
    told = slow.submit(1, flow="another", first=70)
    await slow.settle()
    assert [len(batch) for batch in slow.writer.batches] == [1, 2]
    await slow.commit()
    assert told.done()


async def test_the_end_of_a_run_is_not_put_off(slow: Stage) -> None:
    waiting = asyncio.ensure_future(slow.performer.idle(60.0))
    outcome(slow, 1)
    outcome(slow, 2)
    await slow.settle()
    assert len(slow.writer.batches) == 1
    await slow.commit()
    assert await waiting


async def test_a_job_that_waits_for_a_commit_ends_the_window(led_stage: Stage) -> None:
    led_stage.performer.window = CommitWindow(0.25)
    led_stage.submit([[], [0]], specs=[spec(release="committed")])
    await led_stage.settle()
    led_stage.clock.mono += 0.1
    await led_stage.commit()
    led_stage.writer.batches.clear()
    outcome(led_stage, 1)
    await led_stage.settle()
    assert len(led_stage.writer.batches) == 1


async def test_a_leader_that_ends_in_the_window_leaves_no_task(slow: Stage) -> None:
    slow.submit(1, flow="open", total=9, first=50)
    await slow.settle()
    await slow.commit()
    outcome(slow, 1)
    await slow.settle()
    slow.performer.over(TowlineError("gone"))
    await slow.settle()
    assert slow.clock.pending() == []


async def test_a_commit_takes_no_more_than_its_bound(led_stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    first = led_stage.submit(1, flow="a")
    await led_stage.settle()
    size = len(led_stage.writer.batches[0][0])
    monkeypatch.setattr(perform, "COMMIT_BYTES", 2 * size + 40)
    others = [led_stage.submit(1, flow=name, first=10 * n) for n, name in enumerate("bcdef", 1)]
    await led_stage.settle()
    while not all(task.done() for task in others):
        await led_stage.commit()
    assert first.done()
    assert [len(batch) for batch in led_stage.writer.batches] == [1, 2, 2, 1]

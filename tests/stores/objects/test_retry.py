"""The retry policy by its table: what is sent again, what is ambiguous, how long is waited. No test sleeps."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from towline.stores.objects.base import Ambiguous, NotFound, ObjectsError, PreconditionFailed
from towline.stores.objects.retry import Fate, Judged, Policy, Retry, retry_after, within

BUSY = Judged(ObjectsError("slow down"), again=True, fate=Fate.UNLIKELY)
CONFLICT = Judged(ObjectsError("conflict"), again=True)
LOST = Judged(ObjectsError("no answer"), again=True, fate=Fate.MAYBE)
UNREACHED = Judged(ObjectsError("no connection"), again=True, unreached=True)
DENIED = Judged(ObjectsError("denied"))
FAILED = Judged(PreconditionFailed("exists already"))
MISSING = Judged(NotFound("not there"))


class Told(Exception):
    """What a client library would raise."""

    def __init__(self, judged):
        self.judged = judged


class World:
    """A clock that only sleeping moves, and a script of failures."""

    def __init__(self, *script, chance=0.5, **policy):
        self.script = list(script)
        self.now = 1000.0
        self.slept = []
        self.sent = 0
        self.retry = Retry(Policy(**policy), sleep=self.sleep, clock=lambda: self.now, chance=lambda: chance)

    async def sleep(self, seconds):
        self.slept.append(seconds)
        self.now += seconds

    async def act(self):
        self.sent += 1
        step = self.script.pop(0) if self.script else "done"
        if isinstance(step, Judged):
            raise Told(step)
        return step

    async def run(self, **options):
        return await self.retry(self.act, lambda error: error.judged, **options)


@pytest.mark.parametrize("failure", [BUSY, CONFLICT, LOST])
async def test_what_may_be_repeated_is_sent_until_it_succeeds(failure):
    world = World(failure, failure)
    assert await world.run() == "done"
    assert world.sent == 3


async def test_a_server_that_was_never_reached_is_given_up_soon():
    world = World(*[UNREACHED] * 50, first_contact_s=5.0, longest_s=2.0, attempts=100)
    with pytest.raises(ObjectsError, match="no connection"):
        await world.run()
    assert 2.0 < sum(world.slept) <= 5.0


@pytest.mark.parametrize("answer", ["done", BUSY, DENIED])
async def test_one_that_has_answered_once_is_waited_for(answer):
    world = World(answer, *[UNREACHED] * 20, first_contact_s=5.0, longest_s=2.0, attempts=100)
    with contextlib.suppress(ObjectsError):
        await world.run()
    assert await world.run() == "done"
    assert sum(world.slept) > 5.0


@pytest.mark.parametrize("failure", [DENIED, FAILED, MISSING])
@pytest.mark.parametrize("conditional", [True, False])
async def test_what_cannot_succeed_is_sent_once(failure, conditional):
    world = World(failure)
    with pytest.raises(ObjectsError) as caught:
        await world.run(conditional=conditional)
    assert caught.value is failure.error
    assert isinstance(caught.value.__cause__, Told)
    assert world.sent == 1
    assert world.slept == []


@pytest.mark.parametrize("failure", [BUSY, CONFLICT])
async def test_a_conditional_write_that_was_refused_is_sent_again(failure):
    world = World(failure, failure)
    assert await world.run(conditional=True) == "done"


async def test_a_conditional_write_without_an_answer_is_ambiguous_at_once():
    world = World(LOST)
    with pytest.raises(Ambiguous, match=r"no answer.*may or may not"):
        await world.run(conditional=True)
    assert world.sent == 1


@pytest.mark.parametrize("last", [FAILED, DENIED, MISSING])
async def test_after_a_doubtful_refusal_no_failure_is_certain(last):
    """The first sending may have created what the second one met."""
    with pytest.raises(Ambiguous):
        await World(BUSY, last).run(conditional=True)


async def test_after_a_conflict_a_failed_precondition_is_certain():
    with pytest.raises(PreconditionFailed):
        await World(CONFLICT, FAILED).run(conditional=True)


async def test_what_was_ambiguous_stays_so():
    ambiguous = Judged(Ambiguous("unknown"))
    with pytest.raises(Ambiguous, match=r"^unknown$"):
        await World(ambiguous).run(conditional=True)


async def test_waits_double_up_to_a_bound_and_are_drawn_by_chance():
    world = World(*[BUSY] * 7, chance=0.5, first_s=1, longest_s=10, deadline_s=1000)
    await world.run()
    assert world.slept == [0.5, 1, 2, 4, 5, 5, 5]
    world = World(*[BUSY] * 3, chance=0.0, first_s=1)
    await world.run()
    assert world.slept == [0, 0, 0]


async def test_the_server_is_not_asked_before_it_wishes():
    world = World(Judged(BUSY.error, again=True, fate=Fate.UNLIKELY, after_s=7))
    await world.run()
    assert world.slept == [7]


async def test_no_wait_passes_the_deadline():
    world = World(*[CONFLICT] * 100, chance=1.0, first_s=1, longest_s=8, deadline_s=20, attempts=1000)
    with pytest.raises(ObjectsError, match="conflict"):
        await world.run(conditional=True)
    assert sum(world.slept) <= 20
    assert world.slept == [1, 2, 4, 8]
    world = World(*[CONFLICT] * 100, deadline_s=20)
    with pytest.raises(ObjectsError):
        await world.run(deadline_s=0)
    assert world.sent == 1


async def test_attempts_end():
    world = World(*[BUSY] * 100, chance=0.0, attempts=4)
    with pytest.raises(ObjectsError, match="slow down"):
        await world.run()
    assert world.sent == 4


async def test_giving_up_on_a_busy_server_leaves_a_conditional_write_in_doubt():
    with pytest.raises(Ambiguous):
        await World(*[BUSY] * 100, attempts=3).run(conditional=True)


async def test_an_attempt_that_hangs_is_a_lost_answer():
    async def act():
        await asyncio.Event().wait()

    def judge(error):
        assert isinstance(error, TimeoutError)
        return LOST

    with pytest.raises(Ambiguous):
        await Retry()(act, judge, conditional=True, attempt_s=0)


async def test_cancelling_is_no_failure():
    world = World()
    world.act = asyncio.Event().wait
    task = asyncio.create_task(world.run())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_bug_is_not_judged():
    async def act():
        raise KeyError("bug")

    def judge(error):
        raise error

    with pytest.raises(KeyError):
        await Retry()(act, judge)


FAILURES = [BUSY, CONFLICT, LOST, DENIED, FAILED, MISSING]


@given(st.lists(st.sampled_from(FAILURES), max_size=6))
def test_a_conditional_write_is_certain_only_if_nothing_was_in_doubt(script):
    """An answer other than Ambiguous is never given after a sending that may have been carried out; nothing is sent after one
    that still may be."""
    world = World(*script)
    try:
        asyncio.run(world.run(conditional=True))
        certain = True
    except Ambiguous:
        certain = False
    except ObjectsError:
        certain = True
        assert all(judged.fate is Fate.NOT for judged in script[: world.sent])
    assert LOST not in script[: world.sent - 1]
    if LOST in script[: world.sent]:
        assert not certain


def test_retry_after_is_a_number_or_nothing():
    assert retry_after("3") == 3
    assert retry_after("0.5") == 0.5
    assert retry_after(None) == retry_after("") == retry_after("Wed, 21 Oct 2026 07:28:00 GMT") == retry_after("-4") == 0
    assert retry_after("99999999") == 300


def test_large_requests_have_more_time():
    assert within(0) == 60
    assert within(8 << 20) > within(1 << 20) > 60

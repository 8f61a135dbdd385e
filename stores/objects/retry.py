"""When a request to a server is sent again: the one policy for all stores that are reached over a network.

A store translates each failure into a `Judged`: which error it is, whether the same request may succeed later, and what has
become of this one (`Fate`). The policy decides from that and from one bit: is the request *conditional*, so that a second
sending means something else than the first?

- Reads, deletes and unconditional writes are sent again after any failure that may pass: to carry them out twice is to carry
  them out once (identical bytes; and no key that was deleted is used again).
- A conditional write is sent again only when the server has answered that it did NOT carry it out (Fate.NOT: a conflict, no
  connection; Fate.UNLIKELY: it asked to slow down). When the answer was lost or says "internal error" (Fate.MAYBE) it is
  `Ambiguous` at once: a second sending would meet the first one's own object and take it for somebody else's, and a first
  sending that still travels may land after whoever reads back has looked.
- "Slow down" is a refusal at the front door and documented as not carried out, but a proxy may say so too, so it is not
  believed to the end: the request may be sent again (the condition protects the object either way), yet if the write then
  fails for any reason it is `Ambiguous`: a failed precondition may have been our own doing.

Backoff is exponential with full jitter, never shorter than the server's Retry-After, and ends at a deadline. Clock, chance
and sleep are arguments, so that no test waits.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import TypeVar

from tenacity import AsyncRetrying, RetryCallState

from towline.stores.objects.base import Ambiguous, NotFound, ObjectsError, PreconditionFailed

T = TypeVar("T")


class Fate(Enum):
    """What has become of a request that failed."""

    NOT = "not"
    """It was certainly not carried out."""
    UNLIKELY = "unlikely"
    """The server refused it for its load."""
    MAYBE = "maybe"
    """It may have been carried out, or may still be."""


@dataclass(frozen=True, slots=True)
class Judged:
    """A failure, as the store understands it."""

    error: ObjectsError
    """What the caller shall hear if it is not tried again."""
    again: bool = False
    """May the same request succeed later?"""
    fate: Fate = Fate.NOT
    after_s: float = 0.0
    """The server asked not to come back before (Retry-After)."""
    unreached: bool = False
    """There was no connection: nobody has heard the request."""


Judge = Callable[[Exception], Judged]
"""Translates what a client library raised; raises it again if it is no failure of the store (a bug)."""


@dataclass(frozen=True, slots=True)
class Policy:
    """How long and how often."""

    deadline_s: float = 120.0
    """From the first sending; no wait begins that would pass it."""
    attempt_s: float = 60.0
    """For one sending, unless the caller gives it more for its size."""
    first_s: float = 0.1
    """Upper bound of the first wait; it doubles each time."""
    first_contact_s: float = 15.0
    """The same for a server that was never reached: an endpoint that is spelled wrong does not come to be."""
    longest_s: float = 20.0
    """Upper bound of every wait (the server's own wish aside)."""
    attempts: int = 12


class Acquaintance:
    """What is known of a server."""

    reached: bool = False


@dataclass(frozen=True, slots=True)
class Retry:
    """A policy and the world that it acts in: for one server."""

    policy: Policy = field(default_factory=Policy)
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    clock: Callable[[], float] = time.monotonic
    chance: Callable[[], float] = random.random
    """In [0, 1)."""
    server: Acquaintance = field(default_factory=Acquaintance)

    async def __call__(
        self,
        act: Callable[[], Awaitable[T]],
        judge: Judge,
        *,
        conditional: bool = False,
        attempt_s: float | None = None,
        deadline_s: float | None = None,
    ) -> T:
        """Await `act()` until it succeeds or it makes no sense to go on.

        One attempt is cancelled after `attempt_s`, which counts as a lost answer. Raises what `judge` said, or Ambiguous.
        """
        began = self.clock()
        end = began + (self.policy.deadline_s if deadline_s is None else deadline_s)
        limit_s = self.policy.attempt_s if attempt_s is None else attempt_s

        async def attempt() -> T:
            async with asyncio.timeout(limit_s):
                done = await act()
            self.server.reached = True
            return done

        try:
            return await attempt()
        except Exception as error:
            # nearly no request comes here: tenacity's machinery costs a fifth of a small one, so it begins with what has failed
            failure = error
        return await self._go_on(
            failure, attempt, judge, _Course(self, conditional, end, min(end, began + self.policy.first_contact_s))
        )

    async def _go_on(self, failure: Exception, attempt: Callable[[], Awaitable[T]], judge: Judge, course: _Course) -> T:
        """What comes of a request whose first attempt has failed."""
        failures = [failure]

        async def once() -> T:
            try:
                if failures:
                    raise failures.pop()
                return await attempt()
            except Exception as error:
                raise _Failed(judge(error)) from error

        tries = AsyncRetrying(sleep=self.sleep, retry=course.again, stop=course.over, wait=course.wait, reraise=True)
        try:
            return await tries(once)
        except _Failed as failed:
            raise course.verdict(failed.judged) from failed.__cause__


class _Failed(Exception):
    """Carries a judgement through tenacity."""

    def __init__(self, judged: Judged) -> None:
        super().__init__(judged)
        self.judged = judged


class _Course:
    """One request's way through its attempts."""

    def __init__(self, retry: Retry, conditional: bool, end: float, end_of_strangers: float) -> None:
        self._retry = retry
        self._conditional = conditional
        self._end = end
        self._end_of_strangers = end_of_strangers
        self._doubt = False
        """Has an earlier attempt perhaps been carried out?"""

    def again(self, state: RetryCallState) -> bool:
        """For tenacity: is there any sense in another attempt?"""
        judged = _judged(state)
        self._retry.server.reached |= judged is not None and not judged.unreached
        if judged is None or not judged.again:
            return False
        if self._conditional and judged.fate is not Fate.NOT:
            self._doubt = True
            return judged.fate is Fate.UNLIKELY
        return True

    def over(self, state: RetryCallState) -> bool:
        """For tenacity: is there no time left for the wait that is due, or no attempt?"""
        end = self._end if self._retry.server.reached else self._end_of_strangers
        late = self._retry.clock() + state.upcoming_sleep > end
        return late or state.attempt_number >= self._retry.policy.attempts

    def wait(self, state: RetryCallState) -> float:
        """For tenacity: seconds until the next attempt."""
        policy, judged = self._retry.policy, _judged(state)
        bound = min(policy.longest_s, policy.first_s * 2.0 ** (state.attempt_number - 1))
        return max(bound * self._retry.chance(), judged.after_s if judged else 0.0)

    def verdict(self, judged: Judged) -> ObjectsError:
        """What the caller hears at the end."""
        error = judged.error
        if not self._conditional or isinstance(error, Ambiguous) or not (self._doubt or judged.fate is Fate.MAYBE):
            return error
        if isinstance(error, PreconditionFailed | NotFound):
            return Ambiguous(f"{error}, but an earlier attempt of this same write may have been what did it")
        return Ambiguous(f"{error}; the write may or may not have been carried out")


def _judged(state: RetryCallState) -> Judged | None:
    error = state.outcome.exception() if state.outcome is not None else None
    return error.judged if isinstance(error, _Failed) else None


def within(size: int, *, base_s: float = 60.0, bytes_per_s: float = 250_000.0) -> float:
    """Seconds that moving so many bytes may take: a line slower than this counts as broken."""
    return base_s + size / bytes_per_s


def retry_after(header: str | None, longest_s: float = 300.0) -> float:
    """Seconds of a Retry-After header; 0 where it has none, or a date (servers under load send numbers)."""
    try:
        return min(max(float(header or 0), 0.0), longest_s)
    except ValueError:
        return 0.0

"""Answers from the store when no leader lives: the same verbs and the same answers, from what is committed (rule R5).

Restoring a store is reading all of it, so what was restored is kept until this process knows that the store has
changed: `forget` is called by whoever starts a leader.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Coroutine, Sequence
from concurrent.futures import Future
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from towline.engine.errors import UsageError

if TYPE_CHECKING:
    from towline.stores.replay import Loaded

T = TypeVar("T")

READS = frozenset({"status", "jobs", "output", "completed", "logs", "cached", "states"})
"""Verbs that need no leader."""

INTERRUPTED = "interrupted"
"""State of a run that has jobs left and no leader."""

_generations: dict[str, int] = {}


def forget(store: str) -> None:
    """The store is about to change, or has: what was restored of it is out of date."""
    _generations[store] = _generations.get(store, 0) + 1


def generation(store: str) -> int:
    """Counts the times that this process has changed the store."""
    return _generations.get(store, 0)


class OfflineClient:
    """A LeaderClient over a store at rest. Verbs that change something are refused with what to do instead."""

    def __init__(self, store: str) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._loaded: Loaded | None = None
        self._generation = -1

    def ask(self, verb: str, payload: Any = None, timeout_s: float | None = None) -> Any:
        """The answer from the committed records. UsageError for verbs that need a leader."""
        if verb == "wait":
            return self._wait(payload)
        return self.ask_all(verb, [payload])[0]

    def ask_all(self, verb: str, payloads: Sequence[Any]) -> list[Any]:
        """The answers to one verb with many payloads, in their order."""
        if verb not in READS:
            raise UsageError(f"no leader works on the store {self._store}: start one by towline.resume({self._store!r})")
        with self._lock:
            return list(settle(self._answers(verb, payloads)))

    async def _answers(self, verb: str, payloads: Sequence[Any]) -> list[Any]:
        from towline.actors.answers import answer

        loaded = await self._restored()
        said = [await answer(loaded.core, loaded.reader, verb, payload) for payload in payloads]
        return [self._as_at_rest(one, loaded.store.url) for one in said] if verb == "status" else said

    @staticmethod
    def _as_at_rest(status: Any, url: str) -> Any:
        state = INTERRUPTED if status["state"] == "running" else status["state"]
        return {**status, "state": state, "store": url}

    def begin(self, verb: str, payload: Any = None) -> Future[Any]:
        done: Future[Any] = Future()
        try:
            done.set_result(self.ask(verb, payload))
        except Exception as error:
            done.set_exception(error)
        return done

    def close(self) -> None:
        """Let go of what was restored."""
        loaded, self._loaded = self._loaded, None
        if loaded is not None:
            settle(loaded.store.close())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _wait(self, payload: Any) -> Any:
        status = self.ask("status", payload)
        if status["state"] == INTERRUPTED:
            left = status["total"] - sum(status["counts"].get(label, 0) for label in ("completed", "failed", "stopped"))
            raise UsageError(
                f"no leader works on the store {self._store}, and {left} of its {status['total']} jobs have not ended: "
                f"go on by towline.resume({self._store!r})"
            )
        return status

    async def _restored(self) -> Loaded:
        if self._loaded is None or self._generation != generation(self._store):
            from towline.stores import replay

            self._generation = generation(self._store)
            self._loaded = await replay.load(self._store)
        return self._loaded


def settle(work_of: Coroutine[Any, Any, T]) -> T:
    """What a coroutine returns: run in a loop of its own, in a thread of its own where a loop runs already."""
    if not in_a_loop():
        return asyncio.run(work_of)
    done: Future[T] = Future()

    def work() -> None:
        try:
            done.set_result(asyncio.run(work_of))
        except BaseException as error:
            done.set_exception(error)

    threading.Thread(target=work, name="towline-offline").start()
    return done.result()


def in_a_loop() -> bool:
    """Does an event loop run in this thread (a notebook, an async driver)?"""
    if "asyncio" not in sys.modules:
        return False
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True

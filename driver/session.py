"""From a flow to a Run: choose the store, start a leader, hand the flow in, wait, close. And `resume`, `connect`.

Everything here blocks. Where an event loop runs in the calling thread (a notebook), the work goes to its own thread;
`arun` does so without blocking the loop. However a blocking run ends (done, Ctrl-C, deadline, error), its leader is
closed, so that whatever is left can be resumed at once and nobody waits for a lease.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, Unpack

import msgspec

from towline import client as lines
from towline import offline, settings, waiting
from towline import progress as shows
from towline.client import LeaderClient, Line, Status
from towline.control import Leader, Run
from towline.engine.errors import RunFailed, SubmissionError, UsageError
from towline.orders import Order, RunOptions, order_of, order_to_resume

if TYPE_CHECKING:
    from towline.engine.authoring.flow import Flow

T = TypeVar("T")

SHOWN_FAILURES = 5
"""Failures that a RunFailed tells in full."""


class _Local(Leader, Protocol):
    """A leader whose jobs are run by whoever calls it."""

    def run_jobs_until_idle(self, **options: Any) -> None: ...


# ------------------------------------------------------------------------------------------------------ public verbs


def run(
    flow: Flow | Any,
    *,
    store: str | os.PathLike[str] | None = None,
    workers: int | None = None,
    address: str | None = None,
    name: str | None = None,
    progress: bool = True,
    raise_on_failure: bool = True,
    timeout_s: float | None = None,
    local: bool = False,
    takeover: bool = False,
    compat: str | None = None,
) -> Run:
    """Run a Flow, a Job or a list of jobs to its end and return the Run.

    store             path or URL; None: `.towline/<name>`, or `.towline/<name>-<time>` if that holds another flow. Or a
                      JobStore: `towline.documents` says what follows from that.
                      A named store that exists gets the flow added; one that holds this flow is refused (`resume`
                      goes on with it).
    workers           worker processes; None: one a core.
    address           None: an own local Ray, gone at the end; "auto" or `ray://...`: that cluster.
    name              names the default store; None: the flow's name.
    progress          show how the run goes on stderr: a bar on a terminal, else a line now and then.
    raise_on_failure  raise RunFailed if jobs failed; else the Run says so.
    timeout_s         close the run cleanly and raise TimeoutError after so many seconds.
    local             run the jobs in this process, without Ray; same store, same `resume`.
    takeover          take the store from a leader that still lives.
    compat            "jobflow": jobs are handed their arguments as jobflow hands them over, through JSON.

    What is not given comes from TOWLINE_STORE, TOWLINE_WORKERS and so on. Ctrl-C ends cleanly; `resume` goes on.
    """
    options = RunOptions(
        store=store, workers=workers, address=address, name=name, progress=progress, raise_on_failure=raise_on_failure,
        timeout_s=timeout_s, local=local, takeover=takeover, compat=compat,
    )  # fmt: skip
    return blocking(lambda stop: drive(order_of(flow, options), stop))


async def arun(flow: Flow | Any, **options: Unpack[RunOptions]) -> Run:
    """`run` for async code: the loop goes on. Cancelling ends the run cleanly, as Ctrl-C does."""
    stop = threading.Event()
    work = asyncio.ensure_future(asyncio.to_thread(lambda: drive(order_of(flow, options), stop)))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        stop.set()
        # the leader is closed before the cancellation goes on its way; its own outcome no longer matters
        await asyncio.wait([work])
        if not work.cancelled():
            work.exception()
        raise


def submit(
    flow: Flow | Any,
    *,
    store: str | os.PathLike[str] | None = None,
    workers: int | None = None,
    address: str | None = None,
    name: str | None = None,
    local: bool = False,
    takeover: bool = False,
    compat: str | None = None,
) -> Run:
    """Hand a flow in and return at once, with all of it durable; arguments as for `run`.

    With an address the leader is detached and goes on without this process. Without one it lives in the own local Ray
    (or, `local`, in a thread), as long as this process does: at its exit the run is closed cleanly and can be resumed.
    """
    options = RunOptions(store=store, workers=workers, address=address, name=name, local=local, takeover=takeover, compat=compat)
    return blocking(lambda _stop: launch(order_of(flow, options)))


def resume(
    store: str | os.PathLike[str] | None = None,
    *,
    workers: int | None = None,
    address: str | None = None,
    progress: bool = True,
    raise_on_failure: bool = True,
    timeout_s: float | None = None,
    local: bool = False,
    takeover: bool = False,
) -> Run:
    """Go on with what a store holds, to its end; no flow is needed. Arguments as for `run`.

    Returns at once if nothing is left to run. UsageError says in one sentence if there is no store, if it is something
    else, was written by a newer version, or is led by a leader that lives (`takeover` takes it).
    """
    options = RunOptions(
        store=store, workers=workers, address=address, progress=progress, raise_on_failure=raise_on_failure,
        timeout_s=timeout_s, local=local, takeover=takeover,
    )  # fmt: skip
    order = order_to_resume(options)
    return blocking(lambda stop: go_on(order, stop))


def connect(store: str | os.PathLike[str]) -> Run:
    """The run in a store: of the leader that works on it now, if one lives on this machine, else as the store holds it.

    UsageError if there is no store.
    """
    url = os.fspath(store)

    def attach(_stop: threading.Event) -> Run:
        live = lines.find(url)
        if live is not None:
            return Run(url, client=live)
        found = Run(url)
        found.status()
        return found

    return blocking(attach)


# ---------------------------------------------------------------------------------------------------------- leaders


def start(order: Order) -> Any:
    """The leader that the order asks for. The caller closes it."""
    refuse_if_led(order)
    config = settings.leader_config()
    if order.local:
        from towline.actors import inprocess

        return inprocess.start(
            order.store, workers=order.workers or 1, takeover=order.takeover, create=order.create, config=config,
            documents=order.documents,
        )  # fmt: skip
    from towline.actors import ray_api

    workers = order.workers or (None if order.address else len(os.sched_getaffinity(0)))
    if order.documents is not None:
        import cloudpickle

        config = msgspec.structs.replace(config, documents=cloudpickle.dumps(order.documents))
    return ray_api.start(
        order.store,
        workers=workers,
        address=order.address,
        takeover=order.takeover,
        create=order.create,
        detached=order.detached,
        config=config,
    )


def refuse_if_led(order: Order) -> None:
    """Say so before anything costly starts if a leader lives here. The claim decides (P4), this is only sooner."""
    if order.create or order.takeover:
        return
    led = lines.leading(order.store)
    if led is not None:
        from towline.stores.errors import StoreLocked

        raise StoreLocked.by(order.store, led.pid, led.host)


def chunks_of(flow: Any, compat: str = "", lost: Collection[str] = (), external: bool = True) -> Iterator[bytes]:
    """The submission of a flow, piece by piece. What cannot be taken is refused before this returns."""
    from towline.engine.flows import compile_flow

    # a reference to a job that the store holds already is fine; one to nowhere is refused by the leader
    chunks: Iterator[bytes] = compile_flow(flow, allow_external_references=external, compat=compat, lost=lost)
    return chunks


# ---------------------------------------------------------------------------------------------------- driving a run


def drive(order: Order, stop: threading.Event | None = None) -> Run:
    """Carry an order out to its end and close its leader. `stop` asks for an early, clean end, as Ctrl-C does."""
    stopped = stop.is_set if stop is not None else (lambda: False)
    deadline = None if order.timeout_s is None else time.monotonic() + order.timeout_s
    # before anything is started, or made: what cannot be taken leaves nothing behind
    chunks = None if order.flow is None else chunks_of(order.flow, order.compat, order.lost, order.external)
    view = shows.show(order.progress, order.store)
    if not order.local:
        refuse_if_led(order)  # `start` asks as well, but the line below would be in the way of its answer
        view.begin(f"starting on {f'Ray at {order.address}' if order.address else 'a local Ray'}")
    try:
        leader = start(order)
    except BaseException:
        view.finish(None)
        raise
    client = Line(leader.client)
    status: Status | None = None
    done = 0
    failures: list[dict[str, Any]] = []
    try:
        at_start = client.ask("status")
        view.update(at_start)
        if order.flow is None:
            warn_if_incomplete(order.store, at_start)
        hand_in(client, order, view, stopped, deadline, chunks)
        end = _run_here if order.local else _wait_for
        at_end = end(leader, client, view, order, stopped, deadline)
        done = shows.ended_in(at_end) - shows.ended_in(at_start)
        if order.beside is not None:
            order.beside(client, True)
        if order.at_end is not None:
            order.at_end(client)
        # a store may hold other flows: how this one has ended is what is told
        status = client.ask("status", order.scope) if order.scope and len(at_end["flows"]) > 1 else at_end
        if status["state"] == "failed" and order.raise_on_failure:
            failures = client.ask("jobs", {"states": ["failed"], "limit": SHOWN_FAILURES} | order.scope)
    except (KeyboardInterrupt, waiting.Interrupted):
        view.finish(None)
        print(f"\ntowline: stopping; {how_to_resume(order.store)}", file=sys.stderr, flush=True)
        raise
    except TimeoutError:
        if deadline is None or time.monotonic() < deadline:
            raise
        raise TimeoutError(f"the run has not ended after {order.timeout_s} s; {how_to_resume(order.store)}") from None
    finally:
        try:
            client.hang_up()
            leader.close()
        finally:
            view.finish(status, done)
            offline.forget(order.store)
    return ended(order, status, failures)


def ended(order: Order, status: Status, failures: list[dict[str, Any]]) -> Run:
    """The Run of an ended run, or RunFailed, which has it, if that was asked for."""
    found = order.run_type(order.store, status=status, flow=order.scope.get("flow", ""))
    if status["state"] == "failed" and order.raise_on_failure:
        raise RunFailed(failure_text(order.store, status, failures), found)
    return found


def hand_in(
    client: Line,
    order: Order,
    view: shows.Progress,
    stopped: Callable[[], bool] = lambda: False,
    deadline: float | None = None,
    chunks: Iterable[bytes] | None = None,
) -> None:
    """Submit the order's flow, if it has one, in these `chunks` if they are made already.

    A flow that breaks half way is stopped, so that no half of it runs on.
    """
    if order.flow is None:
        return
    shown = time.monotonic()
    taken = 0

    def told(count: int) -> None:
        nonlocal shown, taken
        taken = count
        if stopped():
            raise waiting.Interrupted
        if deadline is not None and time.monotonic() >= deadline:
            raise TimeoutError
        if time.monotonic() - shown >= waiting.STEP_S:
            view.update(client.ask("status"))
            shown = time.monotonic()

    try:
        lines.feed(client, chunks_of(order.flow, order.compat, order.lost, order.external) if chunks is None else chunks, told)
    except Exception as error:
        if taken and order.create and not isinstance(error, waiting.Interrupted | OSError):
            client.ask("cancel")
            error.add_note(f"the first {taken} jobs had been handed in; nothing of the flow goes on in {order.store}")
        if isinstance(error, UsageError):
            raise located(order.flow, error) from None
        raise


def located(flow: Any, error: UsageError) -> UsageError:
    """A leader's refusal, with the job and the argument that it is about: the leader knows uuids only."""
    from towline.engine.authoring import faults

    where = faults.neither_here_nor_there(flow, str(error))
    if not where:
        return error
    told = SubmissionError(f"{error}: {where}")
    told.__notes__ = list(getattr(error, "__notes__", ()))
    return told


def warn_if_incomplete(store: str, status: Status) -> None:
    """Tell of flows whose driver ended before it had handed in all of them: what is missing cannot be resumed."""
    for _uuid, name, total, added in status["flows"]:
        if added < total:
            print(
                f"towline: the store {store} holds {added} of the {total} jobs of {name!r}: the driver ended while it "
                "handed them in; run the flow again in a new store for the others",
                file=sys.stderr,
            )


def _wait_for(
    leader: Any, client: Line, view: shows.Progress, order: Order, stopped: Callable[[], bool], deadline: float | None
) -> Status:
    return waiting.watch(client, _Beside(view, order, client), stopped=stopped, deadline=deadline)


class _Beside(shows.Silent):
    """A progress that calls what goes on beside the run."""

    def __init__(self, view: shows.Progress, order: Order, client: LeaderClient) -> None:
        self._view, self._beside, self._client = view, order.beside, client

    def update(self, status: Status) -> None:
        self._view.update(status)
        if self._beside is not None:
            self._beside(self._client, False)


def _run_here(
    leader: Any, client: Line, view: shows.Progress, order: Order, stopped: Callable[[], bool], deadline: float | None
) -> Status:
    with waiting.Watcher(client, view, stopped=stopped, deadline=deadline) as watcher:
        leader.run_jobs_until_idle(**_local_options(order, client))
    if watcher.error is not None:
        raise watcher.error
    return waiting.watch(client, shows.Silent())


def _local_options(order: Order, client: LeaderClient) -> dict[str, Any]:
    """The order's own; what goes on beside the run is called before each job, since all jobs run in this thread."""
    options, beside = order.local_options, order.beside
    if beside is None:
        return options
    inner = options.get("around") or (lambda name, uuid, index: contextlib.nullcontext())

    def around(name: str, uuid: str, index: int) -> Any:
        beside(client, False)
        return inner(name, uuid, index)

    return options | {"around": around}


def go_on(order: Order, stop: threading.Event) -> Run:
    """`resume`, with an order without a flow."""
    at_rest = offline.OfflineClient(order.store)
    status = at_rest.ask("status")
    if status["state"] == offline.INTERRUPTED:
        at_rest.close()
        return drive(order, stop)
    if order.beside is not None:
        order.beside(at_rest, True)
    failures = at_rest.ask("jobs", {"states": ["failed"], "limit": SHOWN_FAILURES})
    return ended(order, status, failures)


def launch(order: Order) -> Run:
    """Start and hand in, but do not wait: the Run holds the leader."""
    order = msgspec.structs.replace(order, detached=order.address is not None)
    chunks = chunks_of(order.flow, order.compat, order.lost, order.external)
    leader = start(order)
    client = Line(leader.client)
    try:
        hand_in(client, order, shows.Silent(), chunks=chunks)
    except BaseException:
        client.hang_up()
        leader.close()
        raise
    offline.forget(order.store)
    if order.local:
        leader = Background(leader, order.local_options)
    submitted = order.run_type(order.store, client=client, leader=leader, flow=order.scope.get("flow", ""))
    if not order.detached:
        _close_at_exit(submitted)
    return submitted


class Background:
    """A local leader whose jobs run in a thread beside the caller."""

    def __init__(self, leader: Any, options: dict[str, Any]) -> None:
        self._leader = leader
        self._thread = threading.Thread(target=leader.run_jobs_until_idle, kwargs=options, name="towline-jobs", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Begin no further job, wait for the one that runs, and close the leader."""
        self._leader.close()
        self._thread.join()


def _close_at_exit(submitted: Run) -> None:
    at_exit(submitted.close)


def at_exit(work: Callable[[], None]) -> None:
    """Do this when the interpreter ends, while a leader in this process can still commit."""
    # at atexit's turn Python has forbidden new work to thread pools, which a leader in this process needs to commit
    register = getattr(threading, "_register_atexit", atexit.register)
    register(work)


# ------------------------------------------------------------------------------------------------------------ helpers


def how_to_resume(store: str) -> str:
    """What to do with a run that has not ended."""
    return f"what is done is kept: go on by towline.resume({store!r}) or `towline resume {store}`"


def failure_text(store: str, status: Status, failures: list[dict[str, Any]]) -> str:
    """What RunFailed says: how many, and the first of them with their tracebacks."""
    counts = status["counts"]
    failed, behind = counts.get("failed", 0), counts.get("waiting", 0)
    head = f"{failed} of {status['total']} jobs failed in {store}"
    if behind:
        head += f", and {behind} wait for a job that did not complete"
    parts = [head]
    for said in failures:
        times = f" after {said['attempts']} attempts" if (said.get("attempts") or 0) > 1 else ""
        parts.append(f"\n{said['name']} ({said['uuid']}) failed{times}: {said['message']}")
        parts.extend(f"    {line}" for line in (said.get("traceback") or "").rstrip().splitlines())
    if failed > len(failures):
        parts.append(f"\nand {failed - len(failures)} more: see `towline status {store}`")
    return "\n".join(parts)


def blocking(work: Callable[[threading.Event], T]) -> T:
    """`work(stop)` in this thread, or, where an event loop runs here, in another one. Ctrl-C sets `stop` and waits."""
    stop = threading.Event()
    if not offline.in_a_loop():
        return work(stop)
    done: Future[T] = Future()

    def carry() -> None:
        try:
            done.set_result(work(stop))
        except BaseException as error:
            done.set_exception(error)

    thread = threading.Thread(target=carry, name="towline-run")
    thread.start()
    try:
        return done.result()
    except KeyboardInterrupt:
        stop.set()
        thread.join()
        raise

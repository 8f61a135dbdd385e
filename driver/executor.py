"""`towline.Executor`: a `concurrent.futures.Executor` whose calls are jobs of a store.

Calls are encoded where they are submitted, gathered for a millisecond, and handed in together by one thread; another thread asks
one long question after the other what has ended since (`actors.news`), and settles the futures. So there is no request, thread
or poll a future, and what a future says is committed (P1).

A future among the arguments, however deep in lists and dicts, is a dependency: the job waits for it in the store, and the value
never comes here unless somebody asks. When an input fails or is cancelled, what depends on it ends as the input did.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import functools
import itertools
import os
import shutil
import tempfile
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import BrokenExecutor, CancelledError, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from towline import offline, orders, places, session, settings
from towline.client import Line
from towline.control import Run
from towline.engine import codec
from towline.engine.authoring.config import cache_of
from towline.engine.authoring.decorator import JobFunction
from towline.engine.authoring.job import Job, name_of_function, own_copy
from towline.engine.authoring.reference import OutputReference
from towline.engine.authoring.uuids import named_uuid, new_uuid
from towline.engine.codec.packing import HANDLERS
from towline.engine.errors import RunFailed, TowlineError, UsageError
from towline.engine.ids import pack_uuid
from towline.engine.loose import Bundle, Call, call_of
from towline.engine.model import Options, encode
from towline.engine.states import JobState

if TYPE_CHECKING:
    from towline.engine.authoring.reference import Attributes

T = TypeVar("T")

GATHER_S = 0.001
"""What is submitted within so many seconds goes to the leader together."""

BUNDLE_MOST = 10_000
"""Jobs of one submission."""

IN_FLIGHT = 4
"""Submissions that may be under way at once; what comes meanwhile gathers."""

POLL_S = 30.0
"""Longest single question what has ended."""

LOOK_S = 1.0
"""The same, while jobs may have been stopped that no record names."""

ANSWER_S = 60.0
"""A leader that is late by so long is taken to be gone."""

LOADERS = 2
"""Threads that read large results, and settle what was refused."""

_ENDED = frozenset({JobState.COMPLETED.label, JobState.FAILED.label, JobState.STOPPED.label})


class JobFuture(concurrent.futures.Future[Any]):
    """The future of a job. `running()` is not told: a job that a worker has begun only refuses to be cancelled."""

    def __init__(self, owner: Executor, uuid: str) -> None:
        super().__init__()
        self._owner = owner
        self.uuid = uuid
        """The job's uuid in the store (`Run.output(future)` takes the future)."""
        self.handed_in = False
        """Is it the leader's to cancel?"""

    @property
    def attributes(self) -> Attributes:
        """A future refers to all of its job's output."""
        return ()

    def cancel(self) -> bool:
        """Cancel the job unless a worker holds it, or has run it; asks the leader, and returns once that is durable."""
        if not self.done():
            self._owner._cancel([self])
        return self.cancelled()

    def __reduce__(self) -> Any:
        raise TypeError("a future cannot be pickled; pass it as an argument of submit(), by itself or in lists and dicts")


HANDLERS[JobFuture] = lambda future, packer: packer.reference(OutputReference(future.uuid))


_failed: weakref.WeakValueDictionary[bytes, JobFuture] = weakref.WeakValueDictionary()
"""Packed uuid to the future of a job that has failed, as long as somebody holds it: what is given it later ends as it did."""


class JobTraceback(Exception):
    """The cause of an exception that comes from a job: what Python printed where it was raised."""

    def __str__(self) -> str:
        return f'\n"""\n{self.args[0]}"""'


class Executor(concurrent.futures.Executor):
    """Run calls as jobs; see the module.

    store    path or URL of a store, made if need be: what is submitted there is durable, and what an earlier Executor left
             unfinished runs on as well. None: a temporary one that goes at shutdown.
    workers  worker processes; None: one a core.
    address  a Ray cluster; None: an own local Ray. Workers elsewhere need a store that they can reach.
    local    run the jobs in one thread of this process, without Ray.
    name     of the submissions in the store.
    cache    reuse outcomes of the same function on the same inputs (`@job(cache=...)`): True, or a version.

    What is not given comes from TOWLINE_STORE, TOWLINE_WORKERS and so on. A call of a function under `@job` has its options.
    """

    def __init__(
        self,
        store: str | os.PathLike[str] | None = None,
        workers: int | None = None,
        address: str | None = None,
        local: bool = False,
        name: str | None = None,
        *,
        cache: bool | str | int = False,
        initializer: Callable[..., Any] | None = None,
        initargs: tuple[Any, ...] = (),
    ) -> None:
        if initializer is not None or initargs:
            raise UsageError("an Executor runs no initializer, since workers come and go: do it in the function, once a process")
        self.name = name or "executor"
        self._options = Options(cache=cache_of(cache))
        self._lock = threading.Condition()
        self._sending = threading.RLock()
        """Held, before the other, while jobs leave the bundle for the leader."""
        self._bundle = Bundle()
        self._open: dict[bytes, JobFuture] = {}
        """Packed uuid to the future of a job that has not ended."""
        self._children: dict[bytes, list[JobFuture]] = {}
        """Packed uuid to the futures that wait for that job, of whichever executor it is."""
        self._dropped: set[bytes] = set()
        """Packed uuids of jobs that were cancelled before the leader had them: no store knows them."""
        self._known: set[str] = set()
        """Keys of functions that the leader has."""
        self._flying = 0
        self._shut = False
        self._broken = ""
        self._closer: threading.Thread | None = None
        self._loaders = ThreadPoolExecutor(LOADERS, thread_name_prefix="towline-settle")
        self._folder: str | None = None
        session.blocking(lambda _stop: self._start(store, {"workers": workers, "address": address, "local": local}))
        self._max_workers = workers or len(os.sched_getaffinity(0))
        _at_exit(self)

    def _start(self, store: str | os.PathLike[str] | None, options: Any) -> None:
        given = store if store is not None else settings.current().store
        if given is None:
            self._folder = tempfile.mkdtemp(prefix="towline-executor-")
            given = Path(self._folder) / "store"
        try:
            choice = places.choose(given, self.name, "")
            order = orders.ordered(choice.url, choice.create, None, options)
            self._leader = session.start(order)
        except BaseException:
            self._drop_folder()
            raise
        self.store = choice.url
        """Where the jobs are kept."""
        offline.forget(self.store)
        self._client = Line(self._leader.client)
        self._run = Run(self.store, client=self._client)
        after = self._client.ask("outcomes", {"after": -1, "timeout_s": 0.0}, ANSWER_S)["next"]
        if order.local:
            self._spawn(self._work, "towline-jobs")
        self._spawn(self._hand_in, "towline-submit")
        self._spawn(self._listen, "towline-outcomes", after)

    def _spawn(self, work: Callable[..., None], name: str, *args: Any) -> threading.Thread:
        thread = threading.Thread(target=work, args=args, name=name, daemon=True)
        thread.start()
        return thread

    def __repr__(self) -> str:
        return f"<Executor {self.store!r}>"

    def __reduce__(self) -> Any:
        raise TypeError("an Executor cannot be pickled: a job cannot submit to the Executor that runs it")

    # ------------------------------------------------------------------------------------------------- submitting

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> JobFuture:
        """Make `fn(*args, **kwargs)` a job. Arguments are taken as they are now; EncodingError says what cannot be stored."""
        return self._submit(self._job(fn, args, kwargs))

    def submit_as(self, key: str, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> JobFuture:
        """The result that this store has under `key`; only if it has none, `submit`.

        The key alone decides: a call that was handed in under it by any Executor on this store is waited for, or its committed
        result is returned, whatever function and arguments are given now. One that failed or was cancelled is run again.
        """
        made = self._job(fn, args, kwargs)
        made.set_uuid(named_uuid(key))
        with self._lock:
            same = self._open.get(pack_uuid(made.uuid))
        if same is not None:
            return same
        held = self._client.ask("states", {"uuids": [made.uuid]}, ANSWER_S)[0]
        if held is None:
            return self._submit(made, joins=True)
        state, made.index = held[0], held[1] + 1
        if state in (JobState.FAILED.label, JobState.STOPPED.label):
            return self._submit(made, joins=True)
        with self._lock:
            future = self._open.get(pack_uuid(made.uuid)) or self._expect(made.uuid, ())
            future.handed_in = True
        self._look_at([future])  # it may have ended before it was waited for
        return future

    def map(
        self, fn: Callable[..., T], *iterables: Iterable[Any], timeout: float | None = None, chunksize: int = 1, **more: Any
    ) -> Iterator[T]:
        """The results of `fn(*items)` for the items of the iterables, in order; `chunksize` calls are one job.

        As with every Executor: all is submitted at once, and what has not begun is cancelled when the iteration is given up.
        """
        if chunksize < 1:
            raise ValueError("chunksize must be >= 1.")
        if chunksize == 1:
            return super().map(fn, *iterables, timeout=timeout, **more)
        chunks = _chunks(zip(*iterables, strict=False), chunksize)
        return itertools.chain.from_iterable(super().map(functools.partial(_run_chunk, fn), chunks, timeout=timeout, **more))

    def _job(self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Job:
        if isinstance(fn, JobFunction):
            return fn(*args, **kwargs)
        if isinstance(fn, Job):
            raise UsageError("submit() takes a function and its arguments; what it was given is a call already: run() takes it")
        if not callable(fn):
            raise TypeError(f"submit() takes a function and its arguments; {type(fn).__name__} is no function")
        job = Job.__new__(Job)
        job.function, job.function_args, job.function_kwargs = own_copy(fn), args, kwargs
        job.uuid, job.options = new_uuid(), self._options
        job._name = name_of_function(fn.args[0] if isinstance(fn, functools.partial) and fn.func is _run_chunk else fn)
        return job

    def _submit(self, job: Job, joins: bool = False) -> JobFuture:
        """`joins`: another thread may have submitted this very job meanwhile, and its future will do."""
        call = call_of(job)
        with self._lock:
            self._refuse()
            same = self._open.get(pack_uuid(job.uuid))
            if same is not None:
                if joins:
                    return same
                raise UsageError(f"a job of the uuid {job.uuid} was submitted before; leave its uuid to the Executor")
            self._bundle.add(job, call)
            future = self._expect(job.uuid, call.parents)
            nobody = any(pack_uuid(parent) in self._dropped for parent in call.parents)
            self._lock.notify_all()
        if nobody:
            self._fail(pack_uuid(job.uuid), CancelledError())
        return future

    def _refuse(self) -> None:
        if self._broken:
            raise BrokenExecutor(self._broken)
        if self._shut:
            raise RuntimeError("cannot schedule new futures after shutdown")

    def _expect(self, uuid: str, parents: Iterable[str]) -> JobFuture:
        """The future of a job of this uuid, which waits for these."""
        future = JobFuture(self, uuid)
        with self._lock:
            self._refuse()
            self._open[pack_uuid(uuid)] = future
            for parent in parents:
                self._children.setdefault(pack_uuid(parent), []).append(future)
        return future

    # ------------------------------------------------------------------------------------------ the submitting thread

    def _hand_in(self) -> None:
        while True:
            with self._lock:
                self._lock.wait_for(lambda: (len(self._bundle) and self._flying < IN_FLIGHT) or self._over())
                if not len(self._bundle):
                    return
                self._lock.wait_for(lambda: len(self._bundle) >= BUNDLE_MOST or self._shut, GATHER_S)
            with self._sending:
                with self._lock:
                    bundle, self._bundle = self._bundle, Bundle()
                    futures = [self._open.get(pack_uuid(job.uuid)) for job in bundle.jobs]
                    bundle.keep([future is not None for future in futures])
                    for future in futures:
                        if future is not None:
                            future.handed_in = True
                    self._flying += bool(len(bundle))
                if len(bundle):
                    self._send(bundle)

    def _over(self) -> bool:
        return bool(self._broken) or (self._shut and not self._open)

    def _send(self, bundle: Bundle) -> None:
        try:
            answer = self._client.begin("submit", encode(bundle.chunk(new_uuid(), self.name, self._known)))
        except Exception as error:  # whatever it is: nobody may wait for what was not handed in
            self._break(error)
            return
        answer.add_done_callback(lambda done: self._taken(bundle, done))

    def _taken(self, bundle: Bundle, answer: concurrent.futures.Future[Any]) -> None:
        """The leader has committed these jobs, or refused them: then each is tried alone, for one may have spoilt all."""
        error = CancelledError() if answer.cancelled() else answer.exception()
        with self._lock:
            self._flying -= 1
            if error is None:
                self._known.update(function.key for function in bundle.functions())
            elif isinstance(error, UsageError) and len(bundle) > 1:
                self._flying += len(bundle)
            self._lock.notify_all()
        if error is None:
            self._look_at_inputs(bundle.calls)
        elif not isinstance(error, UsageError):
            self._break(error)
        elif len(bundle) == 1:
            self._aside(self._fail, pack_uuid(bundle.jobs[0].uuid), error)
        else:
            for place in range(len(bundle)):
                self._send(bundle.alone(place))

    def _look_at_inputs(self, calls: list[Call]) -> None:
        """Inputs that are not ours to wait for may have failed long ago."""
        with self._lock:
            ours = self._open
            foreign = {uuid for call in calls for uuid in call.parents if pack_uuid(uuid) not in ours}
        if foreign:
            said = self._client.begin("states", {"uuids": sorted(foreign)})
            said.add_done_callback(lambda done: self._aside(self._end_behind, sorted(foreign), done))

    def _aside(self, work: Callable[..., None], *args: Any) -> None:
        """Do work that settles futures off the thread that brings answers: what their callbacks ask must find it free."""
        with contextlib.suppress(RuntimeError):  # it was shut down: every future is settled
            self._loaders.submit(work, *args)

    def _end_behind(self, uuids: list[str], answer: concurrent.futures.Future[Any]) -> None:
        if answer.cancelled() or answer.exception() is not None:
            return  # the listener hears of it as well
        for uuid, held in zip(uuids, answer.result(), strict=True):
            if held is not None and held[0] == JobState.FAILED.label:
                known = _failed.get(pack_uuid(uuid))
                error = known.exception() if known is not None else None
                self._fail(pack_uuid(uuid), error or RunFailed(f"the input {uuid} has failed in {self.store}"))
            elif held is not None and held[0] == JobState.STOPPED.label:
                self._fail(pack_uuid(uuid), CancelledError())
            elif held is not None and held[0] == JobState.COMPLETED.label:
                with self._lock:
                    self._children.pop(pack_uuid(uuid), None)

    # ------------------------------------------------------------------------------------------- the listening thread

    def _listen(self, after: int) -> None:
        look = False
        try:
            while not self._is_closed():
                wait_s = LOOK_S if look and self._open else POLL_S
                said = self._client.ask("outcomes", {"after": after, "timeout_s": wait_s}, wait_s + ANSWER_S)
                after, look = said["next"], look or said["look"]
                for key, state, output, failure in said["ended"]:
                    self._settle(key, state, output, failure)
                if look:
                    with self._lock:
                        waiting = list(self._open.values())
                    self._look_at(waiting)
        except Exception as error:  # whatever it is: nobody may wait for what will not be told
            self._break(error)

    def _is_closed(self) -> bool:
        return self._closer is not None and not self._open

    def _settle(self, key: bytes, state: int, output: bytes | None, failure: Any) -> None:
        """What the leader tells of one job."""
        if state == JobState.COMPLETED and output is not None:
            with self._lock:
                self._children.pop(key, None)
                future = self._open.get(key)
            if future is not None:
                self._complete(key, future, output)
        elif failure is not None:
            self._fail(key, error_of(key, failure))
        else:
            self._fail(key, CancelledError())

    def _complete(self, key: bytes, future: JobFuture, output: bytes) -> None:
        try:
            if codec.stub_token(output) is not None:
                raise _Elsewhere
            value = codec.decode(output, free=_elsewhere)
        except _Elsewhere:
            self._aside(self._load, key, future, output)
            return
        except Exception as error:
            self._end(key, error=error)
            return
        self._end(key, value)

    def _load(self, key: bytes, future: JobFuture, output: bytes) -> None:
        """A result that is a file, or refers to other jobs."""
        try:
            value = self._run.value_of(future.uuid, output)
        except Exception as error:
            self._end(key, error=error)
        else:
            self._end(key, value)

    def _fail(self, key: bytes, error: BaseException) -> None:
        """A job has failed, or was stopped (CancelledError): so do those that wait for it."""
        keys = [key]
        for ended in keys:  # grows while it is walked
            with self._lock:
                children = self._children.pop(ended, [])
            keys += [pack_uuid(child.uuid) for child in children]
            self._end(ended, error=error)

    def _end(self, key: bytes, value: Any = None, error: BaseException | None = None) -> None:
        """Settle the future of this job, if it is open; a CancelledError cancels it. Whoever takes it out of `_open` does it."""
        with self._lock:
            future = self._open.pop(key, None)
            if future is not None and not future.handed_in:
                self._dropped.add(key)
        if future is None:
            return
        if isinstance(error, CancelledError):
            concurrent.futures.Future.cancel(future)
        if future.set_running_or_notify_cancel():
            if error is not None:
                _failed[key] = future
                future.set_exception(error)
            else:
                future.set_result(value)
        with self._lock:
            self._lock.notify_all()

    def _look_at(self, futures: list[JobFuture]) -> None:
        """Settle those whose jobs have ended without a word of it."""
        said = self._client.ask("states", {"uuids": [future.uuid for future in futures]}, ANSWER_S) if futures else []
        for future, held in zip(futures, said, strict=True):
            key = pack_uuid(future.uuid)
            if held is None or held[0] not in _ENDED:
                continue
            if held[0] == JobState.COMPLETED.label:
                output = self._client.ask("output", {"uuid": future.uuid, "index": 0}, ANSWER_S)
                self._settle(key, JobState.COMPLETED, output, None)
            elif held[0] == JobState.STOPPED.label:
                self._fail(key, CancelledError())

    # --------------------------------------------------------------------------------------------- cancelling, ending

    def _cancel(self, futures: list[JobFuture]) -> None:
        """Cancel those of these that no worker holds."""
        with self._sending, self._lock:
            stopped = [future.uuid for future in futures if not future.handed_in]
        asked = [future.uuid for future in futures if future.handed_in]
        with contextlib.suppress(ConnectionError, TimeoutError, TowlineError):  # whoever waits for them hears of it
            if asked:
                stopped += self._client.begin("stop", {"uuids": asked}).result(ANSWER_S)["stopped"]
        for uuid in stopped:
            self._fail(pack_uuid(uuid), CancelledError())

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls, and end once all have been settled; `wait` until then. Idempotent.

        `cancel_futures` cancels what no worker holds. A temporary store is gone afterwards, any other stays.
        """
        with self._lock:
            self._shut = True
            if self._closer is None:
                self._closer = threading.Thread(target=self._close, name="towline-executor-close")
                self._closer.start()
            self._lock.notify_all()
        if cancel_futures:
            with self._lock:
                waiting = list(self._open.values())
            self._cancel(waiting)
        if wait:
            self._closer.join()

    def _close(self) -> None:
        """Wait for the last future, then end the leader and what came with it."""
        with self._lock:
            self._lock.wait_for(lambda: self._over())
        self._loaders.shutdown()
        try:
            self._client.hang_up()
            self._leader.close()
        finally:
            offline.forget(self.store)
            self._drop_folder()

    def _drop_folder(self) -> None:
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _break(self, error: BaseException) -> None:
        """The leader is gone, or failed: every future says so."""
        with self._lock:
            if self._broken or self._is_closed():
                return
            why = str(error) or type(error).__name__
            self._broken = f"the leader of {self.store} is gone ({why}); what is committed is kept: see towline.connect"
            waiting, self._open = list(self._open.values()), {}
            self._lock.notify_all()
        for future in waiting:
            if future.set_running_or_notify_cancel():
                future.set_exception(BrokenExecutor(self._broken))

    def _work(self) -> None:
        """Run the jobs of a local Executor."""
        try:
            self._leader.run_jobs_until_idle(idle_ends=False)
        except BaseException as error:
            self._break(error)


class _Elsewhere(Exception):
    """A result takes more than its own bytes."""


def _elsewhere(_ref: OutputReference) -> Any:
    raise _Elsewhere


def error_of(key: bytes, failure: Any) -> BaseException:
    """The exception of a job: itself, if it could travel, with the job's traceback as its cause; else a RunFailed that has it."""
    kind, message, traceback, data = failure
    if data:
        with contextlib.suppress(Exception):  # its class is not here, or refuses to be made again
            error = codec.decode(data)
            if isinstance(error, BaseException):
                error.__cause__ = JobTraceback(traceback or message)
                return error
    text = f"a job failed ({kind}): {message}"
    return RunFailed(f"{text}\n{traceback}".rstrip())


def _run_chunk(fn: Callable[..., T], chunk: list[tuple[Any, ...]]) -> list[T]:
    """Several calls as one job."""
    return [fn(*args) for args in chunk]


def _chunks(items: Iterator[tuple[Any, ...]], size: int) -> Iterator[list[tuple[Any, ...]]]:
    while chunk := list(itertools.islice(items, size)):
        yield chunk


_living: weakref.WeakSet[Executor] = weakref.WeakSet()


def _at_exit(executor: Executor) -> None:
    if not _living:
        session.at_exit(_end_all)
    _living.add(executor)


def _end_all() -> None:
    """As every Executor does: what was submitted is finished before the interpreter ends."""
    for executor in list(_living):
        executor.shutdown()

"""One leased Python job: its call put together, made, and its outcome put into words.

An Executor belongs to one worker and runs one job at a time, in whichever thread calls it. What a body does wrong becomes a
`Failure`; what the machine does wrong while inputs are read or outputs are written is raised, for the worker to report. Values
are private: each job decodes its own inputs, each of them once.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Sequence
from types import CoroutineType
from typing import Any, NamedTuple

import msgspec

from towline.actors.execute import caching, failures, growing
from towline.actors.execute.inputs import Inputs, Sources
from towline.engine import codec, model
from towline.engine.authoring.current import RUNNING, Running
from towline.engine.authoring.job import Job
from towline.engine.authoring.reference import OnMissing
from towline.engine.authoring.response import Response
from towline.engine.authoring.running import sanitized
from towline.engine.codec.wire import PLAIN
from towline.engine.errors import TowlineError
from towline.engine.functions import Functions
from towline.engine.ids import unpack_uuid
from towline.stores.objects.base import NotFound

Attempt = tuple[int, int]


class Outcome(NamedTuple):
    """What a body came to."""

    output: bytes = b""
    """codec bytes, or the stub of a file; empty with a failure."""
    failure: model.Failure | None = None
    growth: model.Growth | None = None
    stored_data: bytes = b""
    """codec bytes of Response.stored_data; empty for none."""
    error: BaseException | None = None
    """The exception behind `failure`, for whoever runs the job in the user's own process."""
    cached: model.Cached | None = None
    """Under what the output is filed for reuse."""


class Kind:
    """What the jobs of one Spec share, made ready for calling."""

    def __init__(self, spec: model.Spec, function: Callable[[], Callable[..., Any]], allow_pickle: bool) -> None:
        self.spec = spec
        self._load = function
        self._allow_pickle = allow_pickle
        self._function: Callable[..., Any] | None = None
        self._config: dict[str, Any] | None = None if spec.config else {}
        self._metadata = spec.metadata
        self._said: dict[type | None, str] = {}

    @property
    def function(self) -> Callable[..., Any]:
        """Loaded at the first call; whatever importing it raises."""
        if self._function is None:
            self._function = self._load()
        return self._function

    @property
    def config(self) -> dict[str, Any]:
        """What `engine.flows` wrote beside the options; only what is not the default. Shared: not to be changed."""
        if self._config is None:
            self._config = codec.decode(self.spec.config, allow_pickle=self._allow_pickle)
        return self._config

    def said_of(self, arguments: Any, path: str) -> str:
        """How the function is named in the key of an outcome; worked out once for each class that it is a method of."""
        bound = self.config.get("method") and arguments[0]
        owner = type(arguments[0][0]) if bound else getattr(self.function, "__self__", None)
        owner = owner if isinstance(owner, type) else None
        if owner not in self._said:
            self._said[owner] = caching.said_of(self.function, owner, path, self.spec.options.cache)
        return self._said[owner]

    def fresh_config(self) -> dict[str, Any]:
        """The same, for one job to keep."""
        return codec.decode(self.spec.config, allow_pickle=self._allow_pickle) if self.spec.config else {}

    def fresh_metadata(self) -> dict[str, Any]:
        """The metadata, for one job to keep."""
        return codec.decode(self.spec.metadata, allow_pickle=self._allow_pickle) if self.spec.metadata else {}


class Executor:
    """Runs the bodies of leased jobs."""

    def __init__(
        self,
        fetch: Callable[[str, int], bytes | None],
        load_content: Callable[[bytes], tuple[bytes, Sequence[Any]]] | None = None,
        store_content: Callable[[tuple[bytes, Sequence[Any]], str, Attempt], bytes] | None = None,
        allow_pickle: bool = True,
        store: Any = None,
        filed: Callable[[bytes], tuple[int, bytes] | None] | None = None,
    ) -> None:
        """How to reach what a lease does not bring.

        fetch(uuid, index): the output of any job, index 0 the newest; None if it has none.
        load_content(stub bytes): header and buffers of a large value.
        store_content((header, buffers), uuid, attempt): write a large value, give its stub.
        store: makes what CURRENT_JOB.store is, for jobs whose config exposes it, if the run was given no JobStore.
        filed(key): row and output (or stub) of the committed outcome that is filed under a key; None if there is none.
        """
        self._sources = Sources(fetch, load_content, allow_pickle, self._whole)
        self._store_content = store_content
        self._allow_pickle = allow_pickle
        self._store = store
        self.shown: Any = None
        """What CURRENT_JOB exposes; None: `documents`, else what `store` makes."""
        self._filed = filed
        self._functions = Functions()
        self._records: dict[str, model.Function] = {}
        self._loaded: dict[str, Callable[..., Any]] = {}
        self._kinds: dict[int, Kind] = {}
        self._threads = threading.local()
        self.responded: Callable[[str, int, Response[Any]], None] | None = None
        """Told uuid, index and Response of each job that says more than a plain value."""
        self.documents: Any = None
        """The JobStore in whose additional stores parts of outputs are kept, if the run was given one."""

    def add_specs(self, specs: Sequence[tuple[int, model.Spec]], functions: Sequence[model.Function]) -> None:
        """What later jobs will name. Functions are loaded when they are first called."""
        for record in functions:
            self._records[record.key] = record
        for number, spec in specs:
            self._kinds[number] = Kind(spec, lambda key=spec.function: self._function(key), self._allow_pickle)  # type: ignore[misc]  # mypy: default argument of a lambda

    def name_of(self, spec: int) -> str:
        """The job name that this spec gives."""
        return self._kinds[spec].spec.name

    def run(self, job: model.LeasedJob, inputs: Sequence[bytes | model.Input], attempt: Attempt = (0, 0)) -> Outcome:
        """Run one job. `inputs`: one a reference number, as bytes (or stub), or the Input of a missing parent.

        TowlineError: the machine's fault (an input cannot be read, an output not written). KeyboardInterrupt passes.
        """
        kind = self._kinds.get(job.spec)
        if kind is None:
            raise TowlineError(f"the job at row {job.row} is of the spec {job.spec}, which was never handed over")
        call = Call(self, kind, job)
        token = RUNNING.set(call)
        try:
            function = self._prepare(call, inputs)
            if kind.spec.options.cache and (known := self._look_up(call, attempt)) is not None:
                return known
            args, kwargs = call.arguments
            result = function(*args, **kwargs)
            if type(result) is CoroutineType:
                result = self._await(result)
            if type(result) in PLAIN and not kind.config and self.documents is None:
                output = codec.encode(result)
                if len(output) <= model.INLINE_LIMIT:
                    return Outcome(output, cached=call.cached)
            ending = self._answer(call, result, attempt)
        except KeyboardInterrupt:
            raise
        except failures.OfTheMachine as error:
            raise error.cause from error.cause.__cause__
        except BaseException as error:
            return Outcome(failure=failures.describe(error, self._allow_pickle), error=error)
        finally:
            RUNNING.reset(token)
        return self._stored(call, ending, attempt)

    def _whole(self, value: Any) -> Any:
        """An input with the parts of it that lie in additional stores. Unresolved if they cannot be had."""
        from towline.stores.documents import saving

        if hasattr(self.documents, "whole"):
            try:
                return self.documents.whole(value)
            except (KeyError, ValueError) as error:
                raise failures.Unresolved(f"a part of the input cannot be had: {error.args[0]}") from error
        for stub in saving.stubs(value):
            raise failures.Unresolved(
                f"a part of the input lies in the additional store {stub.store!r}, which this run was not given: name the "
                "JobStore that has it, store=JobStore(...)"
            )
        return value

    def exposed(self) -> Any:
        """What CURRENT_JOB.store is; made when the first job asks."""
        if self.shown is None:
            self.shown = self._store() if self.documents is None and self._store is not None else self.documents
        return self.shown

    def rest(self) -> None:
        """This thread runs no jobs for now: let go of the loop that its async bodies ran on."""
        runner = getattr(self._threads, "runner", None)
        if runner is not None:
            del self._threads.runner
            runner.close()

    def _prepare(self, call: Call, given: Sequence[bytes | model.Input]) -> Callable[..., Any]:
        """The function, loaded, with the arguments read into `call`."""
        kind = call.kind
        try:
            function = kind.function
        except TowlineError as error:
            raise failures.OfTheMachine(error) from error
        except Exception as error:
            raise failures.NotLoaded(kind.spec, self._records.get(kind.spec.function), error) from error
        if given:
            config = kind.config
            on_missing, resolve = config.get("on_missing", "error"), config.get("resolve", True)
            compat = config.get("compat", "")
            inputs = Inputs(self._sources, given, on_missing, resolve, compat)
            if compat and resolve:
                arguments = inputs.read_as_jobflow(call.leased.args, bool(config.get("method")))
            else:
                arguments = inputs.read(call.leased.args)
        else:
            arguments = codec.decode(call.leased.args, allow_pickle=self._allow_pickle)
        call.arguments = arguments
        return function

    def _look_up(self, call: Call, attempt: Attempt) -> Outcome | None:
        """The outcome that is filed under the key of this call, as this call's own; notes the key."""
        kind = call.kind
        if self._filed is None or not caching.may_be_filed(kind.spec, kind.config):
            return None
        path = self._records[kind.spec.function].path
        said = kind.said_of(call.arguments, path)
        cached = caching.filed_under(said, kind.function, call.arguments, kind.config, self._allow_pickle)
        call.cached = cached
        try:
            found = None if cached is None else self._filed(cached.key)
            if found is None or cached is None:
                return None
            row, output = found
            if codec.stub_token(output) is not None:
                output = self._own_copy(call, output, attempt)
        except NotFound:
            return None  # whatever was there has been deleted meanwhile
        except TowlineError as error:
            raise failures.OfTheMachine(error) from error
        return Outcome(output, cached=msgspec.structs.replace(cached, reused=row))

    def _own_copy(self, call: Call, stub: bytes, attempt: Attempt) -> bytes:
        """A file belongs to one attempt (R10): what is reused is copied."""
        load = self._sources.load_content
        if load is None or self._store_content is None:
            raise TowlineError("an outcome that could be reused is a file, and this worker has no place for files")
        return self._store_content(load(stub), call.uuid, attempt)

    def _answer(self, call: Call, result: Any, attempt: Attempt) -> Ending:
        """What the return value means; raises what is wrong with it."""
        config = call.kind.config
        response = Response.from_job_returns(result, config.get("schema"))
        if config.get("compat"):
            sanitized(response.output)  # refused where jobflow could not store it
        growth = growing.growth_of(response, call, self._functions, self._allow_pickle)
        stored = b""
        if response.stored_data is not None:
            stored = codec.encode(response.stored_data, allow_pickle=self._allow_pickle, root="stored_data")
        if growth is not None or stored or (call.cached is not None and codec.references_in(response.output)):
            call.cached = None  # more than an output, or one that means something else elsewhere
        output = response.output
        if call.kind.spec.options.stores and hasattr(self.documents, "keep_parts"):
            save = {name: codec.decode(bytes(raw)) for name, raw in call.kind.spec.options.stores.items()}
            call.cached = None  # the parts are this job's own
            output = self.documents.keep_parts(output, save, call.uuid, call.leased.index, attempt, call.leased.attempt > 1)
        content = codec.encode_content(output, model.INLINE_LIMIT, allow_pickle=self._allow_pickle, root="output")
        if self.responded is not None:
            self.responded(call.uuid, call.leased.index, response)
        return Ending(content, growth, stored)

    def _stored(self, call: Call, ending: Ending, attempt: Attempt) -> Outcome:
        output = ending.content
        if not isinstance(output, bytes):
            if self._store_content is None:
                raise TowlineError("an output is too large for a record, and this worker has no place for files")
            output = self._store_content(output, call.uuid, attempt)
        return Outcome(output, None, ending.growth, ending.stored_data, cached=call.cached)

    def _function(self, key: str) -> Callable[..., Any]:
        loaded = self._loaded.get(key)
        if loaded is None:
            record = self._records.get(key)
            if record is None:
                raise TowlineError(f"the function {key} was never handed over")
            loaded = self._loaded[key] = self._functions.load(record)
        return loaded

    def _await(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run an async body to its end, on this thread's own loop; tasks that it leaves behind are cancelled."""
        runner = getattr(self._threads, "runner", None)
        if runner is None:
            runner = self._threads.runner = asyncio.Runner()
        return runner.run(_alone(work))


class Ending(NamedTuple):
    """An outcome before its output has found its place."""

    content: bytes | tuple[bytes, Sequence[Any]]
    growth: model.Growth | None
    stored_data: bytes


class Call(Running):
    """One job while it runs: what CURRENT_JOB shows of it."""

    __slots__ = ("arguments", "cached", "executor", "kind", "leased")

    def __init__(self, executor: Executor, kind: Kind, leased: model.LeasedJob) -> None:
        self._job = None
        self._make = self.as_job
        self.executor = executor
        self.kind = kind
        self.leased = leased
        self.arguments: Any = None
        self.cached: model.Cached | None = None
        self.store = executor.exposed() if kind.spec.config and kind.config.get("expose_store") else None

    @property
    def uuid(self) -> str:
        """The running job's uuid."""
        return unpack_uuid(self.leased.uuid)

    @property
    def allow_pickle(self) -> bool:
        """May pickles be read here?"""
        return self.executor._allow_pickle

    def output_of(self, uuid: str, index: int = 0) -> Any:
        """The output of any job of the run; None if it has none."""
        return Inputs(self.executor._sources, (), OnMissing.PASS, True).output_of(uuid, index)

    def as_job(self) -> Job:
        """The running job as its author would know it, with its inputs resolved."""
        return growing.job_of(self.kind, self.leased, self.arguments)


async def _alone(work: Coroutine[Any, Any, Any]) -> Any:
    try:
        return await work
    finally:
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

"""`@job`: a function whose calls are jobs.

The decorated function is an object, not a closure, so that it can be pickled with everything that mentions it, and so that a
call costs little: what does not change from call to call is worked out once.
"""

from __future__ import annotations

import copy
import functools
import types
from collections.abc import Callable
from typing import Any, overload

from towline.engine.authoring.collecting import COLLECTED, outputs_for_jobs
from towline.engine.authoring.config import RESERVED, options_of
from towline.engine.authoring.job import Job, name_of_function, note
from towline.engine.authoring.uuids import new_uuid

_JOB_ARGUMENTS = frozenset(
    {
        "output_schema",
        "uuid",
        "index",
        "name",
        "metadata",
        "config",
        "hosts",
        "metadata_updates",
        "config_updates",
        "name_updates",
    }
)


class JobFunction:
    """A function under `@job`: calling it makes a Job. `original` is the function itself."""

    original: Callable[..., Any]
    __name__: str
    __qualname__: str

    def __init__(self, original: Callable[..., Any], keywords: dict[str, Any]) -> None:
        functools.update_wrapper(self, original)
        self.original = original
        self._keywords = keywords
        self._plain = not (_JOB_ARGUMENTS & keywords.keys())
        self._options, self._stores = options_of({k: v for k, v in keywords.items() if k not in _JOB_ARGUMENTS})
        self._job_name = name_of_function(original)
        # only what is defined in a class can be a method: spares every other call the look at its first argument
        self._may_be_method = "." in self._job_name and not self._job_name.rpartition(".")[0].endswith("<locals>")

    def __call__(self, *args: Any, **kwargs: Any) -> Job:
        function: Callable[..., Any] = self.original
        bound = False
        if self._may_be_method and args:
            method = getattr(args[0], self.original.__name__, None)
            if getattr(method, "__func__", None) is self:
                function, args, bound = method, args[1:], True  # type: ignore[assignment]  # it is not None
        if COLLECTED.get() is not None:
            args, kwargs = outputs_for_jobs(args), outputs_for_jobs(kwargs)
        if bound or not self._plain:
            return Job(function, args, kwargs, **copy.deepcopy(self._keywords))
        job = Job.__new__(Job)
        job.function = function
        job.function_args = args
        job.function_kwargs = kwargs
        job.uuid = new_uuid()
        job._name = self._job_name
        job.options = self._options
        if self._stores:
            job._kwargs = self._stores
        note(job)
        return job

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        return self if instance is None else types.MethodType(self, instance)

    def __repr__(self) -> str:
        return f"<job {self.__module__}.{self.__qualname__}>"

    def __reduce__(self) -> Any:
        from towline.engine.codec.names import name_of

        # as state, not as arguments: the function may mention this object, and is not complete before it is here
        return self.__qualname__ if name_of(self) is not None else (_blank, (), self.__dict__)

    def __copy__(self) -> JobFunction:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> JobFunction:
        return self


def _blank() -> JobFunction:
    return JobFunction.__new__(JobFunction)


@overload
def job(method: Callable[..., Any]) -> Callable[..., Job]: ...


@overload
def job(method: None = None, **job_kwargs: Any) -> Callable[[Callable[..., Any]], Callable[..., Job]]: ...


def job(method: Callable[..., Any] | None = None, **job_kwargs: Any) -> Any:
    """Make a function's calls jobs: `@job`, or `@job(retries=3, ...)`.

    Keywords are those of Job: jobflow's, the options of DESIGN section 7, and names of additional stores. Over or under
    `staticmethod` and `classmethod` it does the same.
    """
    if method is None:
        return functools.partial(_decorate, keywords=job_kwargs)
    return _decorate(method, job_kwargs)


def _decorate(function: Any, keywords: dict[str, Any]) -> Any:
    if isinstance(function, staticmethod | classmethod):
        return type(function)(JobFunction(function.__func__, keywords))
    return JobFunction(function, keywords)


assert not RESERVED & _JOB_ARGUMENTS


@job
def store_inputs(inputs: Any) -> Any:
    """The job that gives a replaced job's output its place: what the replacing flow puts out.

    Its references are resolved, and it waits for the jobs that it names: if one of them fails, that failure is what is
    reported, not an output that refers to nothing (spec, run_locally 12).
    """
    return inputs

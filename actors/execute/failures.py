"""What went wrong, in words that a record holds: a kind, one line, and the job's own frames."""

from __future__ import annotations

import errno
import traceback
from types import TracebackType

from towline.engine import codec, model
from towline.engine.authoring.response import SchemaError
from towline.engine.errors import EncodingError, TowlineError
from towline.engine.states import FailureKind

MESSAGE_MOST = 2_000
"""Characters of a message."""

TRACEBACK_MOST = 20_000
"""Characters of a traceback; the middle of a longer one is left out."""

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_CERTAIN = frozenset({FailureKind.SCHEMA, FailureKind.UNRESOLVED_REFERENCE, FailureKind.NOT_FOUND})
"""Kinds that another attempt cannot mend."""


class OfTheMachine(Exception):
    """Carries an error that is not the job's past the handler for those that are."""

    def __init__(self, cause: TowlineError) -> None:
        super().__init__(str(cause))
        self.cause = cause


class Unresolved(ValueError):
    """A reference has no value."""


class NotLoaded(ImportError):
    """A job's function is not where the job says."""

    def __init__(self, spec: model.Spec, record: model.Function | None, error: Exception) -> None:
        path = record.path if record is not None else spec.function
        hint = "is its module installed, or on the path, where the worker runs?" if not (record and record.pickled) else ""
        why = f"{type(error).__name__}: {error}"
        super().__init__(f"the function {path} of job {spec.name!r} cannot be loaded ({why}){'; ' if hint else ''}{hint}")


def describe(error: BaseException, allow_pickle: bool = True) -> model.Failure:
    """The failure that an exception of a job means."""
    kind = kind_of(error)
    return model.Failure(
        kind=str(kind),
        message=_one_line(error),
        traceback=_frames(error),
        retry=kind not in _CERTAIN and not isinstance(error, EncodingError),
        error=_encoded(error, allow_pickle),
    )


def _encoded(error: BaseException, allow_pickle: bool) -> bytes:
    """The exception itself, for whoever wants to raise it again; empty where it cannot travel."""
    if isinstance(error, Unresolved | NotLoaded):
        return b""
    try:
        data = codec.encode(error, allow_pickle=allow_pickle)
    except Exception:  # a class of the user's, whose pickling may do anything
        return b""
    return data if len(data) <= model.ERROR_LIMIT else b""


def kind_of(error: BaseException) -> FailureKind:
    """Whose fault it is."""
    if isinstance(error, MemoryError):
        return FailureKind.OUT_OF_MEMORY
    if isinstance(error, OSError) and error.errno in _FULL:
        return FailureKind.OUT_OF_DISK
    if isinstance(error, Unresolved):
        return FailureKind.UNRESOLVED_REFERENCE
    if isinstance(error, NotLoaded):
        return FailureKind.NOT_FOUND
    return FailureKind.SCHEMA if isinstance(error, SchemaError) else FailureKind.ERROR


def _one_line(error: BaseException) -> str:
    try:
        said = " ".join(str(error).split())
    except Exception:
        said = "(its text cannot be made)"
    name = (
        type(error).__name__
        if not isinstance(error, Unresolved | NotLoaded)
        else ("ValueError", "ImportError")[isinstance(error, NotLoaded)]
    )
    return f"{name}: {said}"[:MESSAGE_MOST] if said else name


def _frames(error: BaseException) -> str:
    """As Python prints it, from the job's first frame on; empty for an error that no frame of the job's took part in."""
    own = _own(error.__traceback__)
    if own is None:
        return ""
    try:
        text = "".join(traceback.format_exception(type(error), error, own))
    except Exception:
        text = "".join(traceback.format_tb(own))
    if len(text) <= TRACEBACK_MOST:
        return text
    half = TRACEBACK_MOST // 2
    return f"{text[:half]}\n... {len(text) - 2 * half} characters left out ...\n{text[-half:]}"


def _own(frames: TracebackType | None) -> TracebackType | None:
    """The frames below the engine's: those of this package and of asyncio at the top are passed over."""
    while frames is not None:
        module = frames.tb_frame.f_globals.get("__name__", "")
        if not module.startswith(("towline.actors.", "towline.engine.", "asyncio.")):
            return frames
        frames = frames.tb_next
    return None

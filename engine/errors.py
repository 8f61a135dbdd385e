"""Every error of towline's engine, in one tree, told apart by who has to act.

TowlineError
├── UsageError            the caller's input is wrong: nothing was changed
│   ├── EncodingError     a value cannot be written; the message names the path inside it
│   └── SubmissionError   a flow cannot be taken (duplicate job, unknown parent, cycle)
├── CorruptionError       stored bytes are not what was written; names object and offset
├── FencedError           another leader has taken the store; this one must stop
└── RunFailed             the run ended with failed jobs (raised by `run` on request)
"""

from __future__ import annotations


class TowlineError(Exception):
    """The root: everything towline raises on purpose."""


class UsageError(TowlineError, ValueError):
    """The caller's input is wrong; one sentence says what, where and what to do next. Nothing was changed.

    A ValueError too, which is what code written for jobflow catches.
    """


class EncodingError(UsageError):
    """A value cannot be written by the codec; the message names the path inside the value."""


class SubmissionError(UsageError):
    """A flow cannot be taken; nothing of it was stored."""


class CorruptionError(TowlineError):
    """Stored bytes differ from what was written. The message names the object and the offset in bytes."""


class FencedError(TowlineError):
    """Another leader owns the journal now. The holder must stop its workers and exit (promise P4)."""


class RunFailed(TowlineError):
    """The run ended and at least one job failed; the message lists the first failures."""

    def __init__(self, text: str, run: object = None) -> None:
        super().__init__(text)
        self.run = run
        """The Run: its outputs, failures and logs."""

"""A create whose answer was lost: what do the bytes that are there now prove?

The one place where an ambiguous answer (a timeout; or "exists already" after one's own retry) becomes a fact. Pure: the
caller reads back and hands in what it found. A retry must send the identical bytes, or this could not be decided.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from enum import Enum


class Verdict(Enum):
    """Whose the object is."""

    MINE = "mine"
    """It holds exactly what was sent: the create succeeded, whatever its answer was."""
    OTHERS = "others"
    """It holds something else: somebody was faster, and the create can never succeed."""
    ABSENT = "absent"
    """Nothing is there. That settles nothing: the create may still be under way. Send the identical bytes again."""


def settle(sent: bytes | Sequence[bytes], found: bytes | None) -> Verdict:
    """Judge a create by what was read back after it (None: there was no object)."""
    if found is None:
        return Verdict.ABSENT
    whole = sent if isinstance(sent, bytes) else b"".join(sent)
    return Verdict.MINE if hmac.compare_digest(whole, found) else Verdict.OTHERS

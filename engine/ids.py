"""How jobs are named: a (uuid, index) outside, a row number inside, an attempt for every run of a body.

A uuid is any non-empty string. Canonical ones (lower case, 8-4-4-4-12) are kept as their 16 bytes, which is what makes
a million of them cheap; others are kept as their UTF-8 text behind a marker, so that the two can never be taken for
one another. An attempt is `(epoch, counter)`: the leader's epoch and a number that this leader counts up, so that no
two leaders mint the same one (rule R3).
"""

from __future__ import annotations

import re
from typing import NamedTuple

NO_ROW = 0xFFFFFFFF
"""The row number that names no job (rows are unsigned 32 bit)."""

_CANONICAL = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}").fullmatch


class Attempt(NamedTuple):
    """One run of a job's body. (0, 0) means: never granted."""

    epoch: int
    counter: int


NEVER = Attempt(0, 0)


def pack_uuid(uuid: str) -> bytes:
    """The key of a uuid: 16 bytes if it is canonical, else its text behind `:`, or between two `;` where `:` made 16 bytes."""
    if _CANONICAL(uuid):
        return bytes.fromhex(uuid.replace("-", ""))
    text = b":" + uuid.encode()
    return b";" + text[1:] + b";" if len(text) == 16 else text


def unpack_uuid(key: bytes) -> str:
    """The uuid that `pack_uuid` made this key of."""
    if len(key) == 16:
        h = key.hex()
        return f"{h[:8]}-{h[8:12]}-{h[12:16]}-{h[16:20]}-{h[20:]}"
    return (key[1:-1] if key[:1] == b";" else key[1:]).decode()

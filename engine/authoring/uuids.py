"""Random (version 4) uuids, minted in bulk: one call to the system's generator serves hundreds of jobs.

The pool is emptied in a forked child, so that parent and child never hand out the same uuid.
"""

from __future__ import annotations

import os
from hashlib import blake2b

_BATCH = 256
_pool: list[str] = []


def new_uuid() -> str:
    """A fresh uuid in canonical form. Safe to call from several threads."""
    try:
        return _pool.pop()
    except IndexError:
        _pool.extend(_mint(_BATCH))
        return _mint(1)[0]


def named_uuid(name: str) -> str:
    """The uuid (version 8) that this name always has."""
    h = blake2b(name.encode(), digest_size=16, person=b"towline").hexdigest()
    return f"{h[:8]}-{h[8:12]}-8{h[13:16]}-{'89ab'[int(h[16], 16) & 3]}{h[17:20]}-{h[20:]}"


def _mint(count: int) -> list[str]:
    digits = os.urandom(16 * count).hex()
    return [
        # RFC 9562: the version digit is 4, the two highest bits of the variant digit are 10
        f"{h[:8]}-{h[8:12]}-4{h[13:16]}-{'89ab'[int(h[16], 16) & 3]}{h[17:20]}-{h[20:]}"
        for h in (digits[at : at + 32] for at in range(0, 32 * count, 32))
    ]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.clear)

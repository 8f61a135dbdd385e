"""One attribute, two spellings: Toil's objects are known as `jobStoreID` to some and `job_store_id` to others.

The name with underscores is the living one; the other leads to it, for reading, writing and calling.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any

_hump = re.compile(r"(?<=[a-z0-9])(?=[A-Z])").sub
_NAMES = 4096


@lru_cache(_NAMES)
def living(name: str) -> str:
    """`jobStoreID` to `job_store_id`; a name without humps is itself."""
    return name if name.islower() or name.startswith("_") else _hump("_", name).lower()


class TwoSpellings:
    """Attributes and methods may be named in either spelling."""

    if not TYPE_CHECKING:  # a type checker shall go on to find misspelt names

        def __getattr__(self, name: str) -> Any:
            """Only called for what is not there under this very name."""
            other = living(name)
            if other == name:
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
            return getattr(self, other)

        def __setattr__(self, name: str, value: Any) -> None:
            super().__setattr__(living(name), value)

        def __delattr__(self, name: str) -> None:
            super().__delattr__(living(name))

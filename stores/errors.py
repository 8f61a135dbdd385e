"""Every error of the stores, told apart by who has to act. (Those of the places for bytes are in `objects.base`.)

TowlineError
├── ObjectsError          a place for bytes refused: full, gone, not allowed (objects.base)
│   ├── NotFound          no such object
│   ├── PreconditionFailed  the object is not as the write demanded
│   ├── Ambiguous         the answer was lost: settle it by reading back
│   └── WriterBroken      an append failed before: its leader must exit, a new one reads what is there (R5)
├── SegmentGone           a listed segment is gone: begin again from the newest snapshot (R4)
└── UsageError
    ├── LocatorError      the text does not name a place for a store
    ├── NoStore           there is no store at this place
    ├── NewerFormat       the store was written by a newer towline
    └── StoreError        the place is there, but the store is not as the caller believed
        ├── StoreMissing  nothing to open (a NoStore)
        ├── StoreExists   there is one already
        ├── StoreForeign  the directory holds something else
        ├── StoreDestroyed  its destruction has begun
        ├── StoreMoving   a migration to here has not been finished
        ├── StoreNewer    written by a later version of towline (a NewerFormat)
        └── StoreLocked   a living leader holds it
"""

from __future__ import annotations

from towline.engine.errors import TowlineError, UsageError
from towline.stores.objects.base import Ambiguous, NotFound, ObjectsError, PreconditionFailed

__all__ = [
    "Ambiguous",
    "LocatorError",
    "NewerFormat",
    "NoStore",
    "NotFound",
    "ObjectsError",
    "PreconditionFailed",
    "SegmentGone",
    "StoreDestroyed",
    "StoreError",
    "StoreExists",
    "StoreForeign",
    "StoreLocked",
    "StoreMissing",
    "StoreMoving",
    "StoreNewer",
    "WriterBroken",
]


class WriterBroken(ObjectsError):
    """An earlier append of this journal writer failed. Fsync is not retried: exit and claim the store anew (R5)."""


class SegmentGone(TowlineError):
    """A journal segment vanished while it was read: garbage collection passed this reader.

    The caller starts again from the newest snapshot; it is corruption only if that snapshot has not changed (R4).
    """


class NoStore(UsageError):
    """There is no towline store at the place that was named."""


class NewerFormat(UsageError):
    """The store was written by a newer towline than this one; upgrade towline to read it."""


class LocatorError(UsageError):
    """The text does not name a place for a store; the message lists the forms that do."""


class StoreError(UsageError):
    """The store is not as the caller believed; nothing was changed."""


class StoreMissing(StoreError, NoStore):
    """Nothing to open."""

    @classmethod
    def at(cls, url: str) -> StoreMissing:
        """The sentence for this place."""
        return cls(f"there is no store at {url}: check the path, or create one there with `run`")


class StoreExists(StoreError):
    """Nothing was created."""

    @classmethod
    def at(cls, url: str) -> StoreExists:
        """The sentence for this place."""
        return cls(f"there is already a store at {url}: go on with it by `resume`, or choose another place")


class StoreForeign(StoreError):
    """The place is in use by something that is not towline."""

    @classmethod
    def at(cls, url: str, found: str) -> StoreForeign:
        """The sentence for this place, with the name of what lies there."""
        return cls(f"{url} is not a towline store: {found} lies there, but no towline.json; choose a new or empty directory")


class StoreDestroyed(StoreError, NoStore):
    """Parts of it are gone."""

    @classmethod
    def at(cls, url: str) -> StoreDestroyed:
        """The sentence for this place."""
        return cls(f"the store at {url} is being destroyed: finish that by `towline store destroy {url}`")


class StoreMoving(StoreError, NoStore):
    """Parts of it are not there yet."""

    @classmethod
    def at(cls, url: str) -> StoreMoving:
        """The sentence for this place."""
        return cls(f"a migration to {url} has not been finished: run the same `towline store migrate` again")


class StoreNewer(StoreError, NewerFormat):
    """Reading on would misunderstand it."""

    @classmethod
    def at(cls, url: str, found: int, known: int, towline: str) -> StoreNewer:
        """The sentence for a store of format `found`, written by this version of towline."""
        return cls(
            f"the store at {url} has format {found} (written by towline {towline}), and this version reads up to format "
            f"{known}: upgrade towline to open it"
        )


class StoreLocked(StoreError):
    """A living leader holds the store (P4: a second one takes over by choice only)."""

    @classmethod
    def by(cls, url: str, pid: int, host: str) -> StoreLocked:
        """The sentence for a leader that is this process."""
        return cls(
            f"the store at {url} is being led by process {pid} on {host}: follow that run with `connect`, or replace its "
            "leader with takeover=True"
        )

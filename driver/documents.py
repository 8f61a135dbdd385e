"""What a run does with a JobStore: where it is kept, which additional stores its jobs use, where its documents go.

A JobStore over a towline store is where the run itself is kept: its jobs lay parts of their outputs in the additional stores, and
the outcomes are the documents. A JobStore over any other store is given the documents at the end; the run is kept in a store of
its own then. `JobStore.copy_from` brings them later.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from towline.client import LeaderClient
from towline.engine.errors import UsageError
from towline.stores.documents.store import JobStore

if TYPE_CHECKING:
    from towline.orders import Order


def home_of(store: Any) -> tuple[str | os.PathLike[str] | None, JobStore | None]:
    """The locator of a run's store (None: choose one), and the JobStore that was named instead, if one was. UsageError."""
    if store is None or isinstance(store, str | os.PathLike):
        return store, None
    if not isinstance(store, JobStore):
        if not hasattr(store, "docs_store"):
            raise UsageError(f"store must be a path, a URL or a JobStore, not {type(store).__name__}")
        # jobflow's own, whose readers expect its documents
        store = JobStore(store.docs_store, store.additional_stores, store.save, store.load, compat="jobflow")
    return store.run_store, store


def with_home(order: Order, home: JobStore | None) -> Order:
    """The order with what its jobs and its end have to do with this JobStore."""
    import msgspec

    if home is None:
        return order
    home.connect()
    if home.run_store is not None:
        return msgspec.structs.replace(order, documents=home)

    from towline.stores.documents.delivery import Delivery

    delivery = Delivery(home, order.store, order.compat or home.compat)

    def beside(client: LeaderClient, ended: bool) -> None:
        if ended:
            delivery.deliver()

    return msgspec.structs.replace(order, beside=beside)

"""Documents of runs brought to a JobStore that lies elsewhere."""

from __future__ import annotations

import os

import pytest
from maggma.stores import MemoryStore

from tests.kit.documents import double, fail, ran, with_big
from towline import JobStore
from towline.stores.documents import saving
from towline.stores.documents.delivery import Delivery
from towline.stores.errors import StoreMissing


def elsewhere():
    store = JobStore(MemoryStore(), {"data": MemoryStore("data")})
    store.connect()
    return store


def test_what_is_missing_is_brought(store_dir):
    jobs = [double(1), with_big(2), fail()]
    ran(store_dir, jobs)
    home = elsewhere()
    delivery = Delivery(home, str(store_dir))
    assert delivery.deliver() == 2
    assert home.get_output(jobs[0].uuid) == {"value": 2, "pair": [1, 1]}
    assert saving.is_stub(home.query_one({"uuid": jobs[1].uuid})["output"]["big"])
    assert home.get_output(jobs[1].uuid, load=True) == {"small": [2], "big": [2] * 3}
    assert delivery.deliver() == 0
    assert home.copy_from(store_dir) == 0, "also who does not know what was brought leaves it alone"
    home.remove_docs({"uuid": jobs[0].uuid})
    assert home.copy_from(store_dir) == 1
    ran(store_dir, [double(5)])
    assert delivery.deliver() == 1


def test_a_delivery_that_was_broken_off_is_made_whole(store_dir, monkeypatch):
    ran(store_dir, [double(1), with_big(2)])
    home = elsewhere()
    real = home.docs_store.update

    def broken(documents, key):
        real(documents[:1], key=key)
        raise OSError("gone")

    monkeypatch.setattr(home.docs_store, "update", broken)
    with pytest.raises(OSError, match="gone"):
        home.copy_from(store_dir)
    monkeypatch.undo()
    assert home.copy_from(store_dir) == 1
    assert home.count() == 2


def test_where_there_is_no_store_nothing_is_brought():
    with pytest.raises(StoreMissing):
        elsewhere().copy_from(f"memory:{os.urandom(8).hex()}")

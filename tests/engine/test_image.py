"""A ledger as columns and back: nothing durable is lost, nothing volatile is kept."""

from __future__ import annotations

from array import array

import msgspec

from tests.kit.builders import chunk, failure, led, plain, spec, u32, uuid_of
from towline.engine import model
from towline.engine.graph import EDGE_COLUMNS, ROW_COLUMNS
from towline.engine.image import Image, image_of, ledger_from
from towline.engine.ledger import Ledger
from towline.engine.model import EXTERNAL
from towline.engine.states import JobState

S = JobState

RECORDS: list[model.Record] = [
    model.Opened("store", "0.1", 1.0),
    led(1),
    model.Joined("w1", "h", "b", "p", 1, 1.0, 2, 1.0, 1.0),
    model.Joined("w2", "h", "b", "p", 1, 1.0, 2, 1.0, 1.0),
    model.Added(0, 1.0, chunk([[], [0], [0], []], total=6, uuids=["odd", *map(uuid_of, (1, 2, 3))], specs=[spec(priority=3)])),
    model.Completed("w1", 1, 2.0, plain([(0, 1)], [b"output"])),
    model.Ended("w1", 1, 2.0, model.Ending(1, 2, b"x", growth=model.Growth(
        replace=chunk(1, uuids=[uuid_of(1)], indices=[2]), heir=0, detour=chunk([[]], first=20)), stored_data=b"s",
        cached=model.Cached(b"key", "f code:1")),
        int(S.COMPLETED), 0, row=4),
    model.Added(6, 1.0, chunk([[EXTERNAL], [1]], base=4, total=6, externals=[(uuid_of(1), 1)])),
    model.Ended("w1", 1, 2.0, model.Ending(3, 3, failure=failure("lost")), int(S.DELAYED), 0, until=77.0),
    model.Logged(1, [model.Log(0, 1, b"", b"")]),
    model.Left("w2", "gone", 1.0, suspects=[2]),
    model.Snapshotted(5, "k", "d", 1.0),
    model.Steered("stop", u32([7]), int(S.STOPPED), 1.0, run="stopped"),
]  # fmt: skip


def told() -> Ledger:
    ledger = Ledger()
    for seq, record in enumerate(RECORDS):
        ledger.apply(seq, model.encode(record), record)
    return ledger


def test_there_and_back() -> None:
    ledger = told()
    again = ledger_from(image_of(ledger))
    assert image_of(again) == image_of(ledger)
    for name in vars(ledger):
        if name != "graph":
            assert getattr(again, name) == getattr(ledger, name), name
    for name in vars(ledger.graph):
        if name != "chunks":
            assert getattr(again.graph, name) == getattr(ledger.graph, name), name
    assert [again.graph.args(row) for row in range(8)] == [ledger.graph.args(row) for row in range(8)]


def test_what_came_back_goes_on_like_the_first() -> None:
    one, again = told(), ledger_from(image_of(told()))
    more: list[model.Record] = [
        model.Completed("w1", 1, 2.0, plain([(4, 9), (5, 10), (2, 11)])),
        model.Added(8, 1.0, chunk([[EXTERNAL]], flow="next", first=90, externals=[("odd", 0)])),
        model.Closed(9.0),
    ]
    for seq, record in enumerate(more, one.next_seq):
        applied = [ledger.apply(seq, model.encode(record), record) for ledger in (one, again)]
        assert applied[0] == applied[1]
    assert image_of(one) == image_of(again)
    assert one.graph.find("odd") == again.graph.find("odd") == 0


def test_an_image_travels_as_msgpack() -> None:
    image = image_of(told())
    assert msgspec.msgpack.decode(model.encode(image), type=Image) == image


def test_the_columns_are_as_long_as_they_say() -> None:
    image = image_of(told())
    assert (image.seq, image.rows) == (len(RECORDS), 8)
    for names, count in ((ROW_COLUMNS, image.rows), (EDGE_COLUMNS, image.edges)):
        for name, code in names.items():
            assert len(image.columns[name]) == count * array(code).itemsize, name
    assert len(image.columns["uuids"]) == 16 * image.rows


def test_who_holds_what_is_not_in_it() -> None:
    ledger, quiet = told(), image_of(told())
    ledger.become(4, S.READY)
    ledger.become(5, S.LEASED)
    ledger.become(5, S.RUNNING)
    ledger.become(2, S.LEASED)
    ledger.become(2, S.LOST)
    assert image_of(ledger) == quiet


def test_a_held_job_that_was_stopped_is_stopped_in_it() -> None:
    ledger, stopped = told(), told()
    ledger.become(4, S.LEASED)
    record = model.Steered("stop", u32([4]), int(S.STOPPED), 1.0)
    for one in (ledger, stopped):
        one.apply(one.next_seq, model.encode(record), record)
    assert S(ledger.graph.state[4]) is S.LEASED
    assert image_of(ledger) == image_of(stopped)

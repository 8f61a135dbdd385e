"""How a submission is fed to a leader, and how a lost leader is told."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from typing import Any

import pytest

from tests.kit.fake_leader import FakeWire
from towline import client
from towline.client import IN_FLIGHT, Line, feed
from towline.engine.errors import UsageError

CHUNKS = [b"a" * n for n in (3, 1, 4, 1, 5, 9, 2, 6)]


class SlowWire(FakeWire):
    """Answers what was begun only when it is told to, and knows how much is under way."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[tuple[bytes, Future[Any]]] = []
        self.most = 0

    def begin(self, verb: str, payload: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self.open.append((payload, future))
        self.most = max(self.most, len(self.open))
        if len(self.open) == IN_FLIGHT:
            self.answer_one()
        return future

    def answer_one(self) -> None:
        chunk, future = self.open.pop(0)
        future.set_result(self.ask("submit", chunk))


def test_chunks_arrive_in_order_and_are_counted() -> None:
    wire, told = FakeWire(), []
    with Line(wire) as line:
        assert feed(line, CHUNKS, told.append) == 31
    assert wire.chunks == CHUNKS
    assert told == sorted(told)
    assert told[-1] == 31


def test_as_many_as_allowed_are_in_flight_and_no_more() -> None:
    wire = SlowWire()

    def chunks() -> Any:
        yield from CHUNKS
        # the last ones are answered once all have been begun
        threading.Timer(0, lambda: [wire.answer_one() for _ in range(len(wire.open))]).start()

    assert feed(Line(wire), chunks()) == 31
    assert wire.most == IN_FLIGHT
    assert wire.chunks == CHUNKS


def test_a_refusal_is_raised_and_nothing_follows_it() -> None:
    wire = FakeWire()
    wire.refuse_chunk = 2
    with Line(wire) as line, pytest.raises(UsageError, match="duplicate job"):
        feed(line, CHUNKS)
    assert wire.chunks == CHUNKS[:2]


def test_a_flow_that_cannot_be_encoded_leaves_nothing_under_way() -> None:
    wire = FakeWire()

    def chunks() -> Any:
        yield CHUNKS[0]
        raise UsageError("cannot be encoded")

    with Line(wire) as line, pytest.raises(UsageError, match="cannot be encoded"):
        feed(line, chunks())
    before = list(wire.asked)
    assert wire.asked == before == ["submit"]


def test_a_lost_stream_is_a_connection_error() -> None:
    from towline.actors.stream import StreamClosed

    class Broken:
        def ask(self, verb: str, payload: Any = None, timeout_s: float | None = None) -> Any:
            raise StreamClosed("hung up") if verb == "status" else UsageError("no")

    with pytest.raises(ConnectionError, match="hung up"):
        Line(Broken()).ask("status")
    with pytest.raises(UsageError, match="no"):
        Line(Broken()).ask("jobs")


def test_what_a_dead_leader_left_behind_is_no_leader(monkeypatch: pytest.MonkeyPatch) -> None:
    from towline.actors import endpoint
    from towline.actors.stream import StreamClosed

    def connect(_place: object) -> Any:
        raise StreamClosed("no leader answers")

    monkeypatch.setattr(endpoint, "find", lambda _store: object(), raising=False)
    monkeypatch.setattr(endpoint, "connect", connect, raising=False)
    assert client.find("runs/x") is None
    monkeypatch.setattr(endpoint, "connect", lambda _place: FakeWire(), raising=False)
    found = client.find("runs/x")
    assert found is not None
    assert found.ask("status")["state"] == "running"
    monkeypatch.setattr(endpoint, "find", lambda _store: None, raising=False)
    assert client.find("runs/x") is None

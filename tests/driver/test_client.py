"""How a submission is fed to a leader, and how a lost leader is told."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.kit.fake_leader import FakeWire
from towline import client
from towline.actors import endpoint
from towline.actors.endpoint import drop_socket_dir, make_socket_dir
from towline.actors.identity import host_id, start_time
from towline.actors.stream import TOKEN_CHARS, StreamServer
from towline.client import IN_FLIGHT, Line, feed
from towline.engine import model
from towline.engine.errors import SubmissionError, TowlineError, UsageError
from towline.stores.errors import StoreLocked, StoreMissing
from towline.stores.store import Store

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


@pytest.mark.parametrize("wire", [FakeWire(), SlowWire()])
def test_many_questions_are_answered_in_order(wire: FakeWire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "TOGETHER", IN_FLIGHT)
    if isinstance(wire, SlowWire):
        # all of a round are begun before the first is waited for
        monkeypatch.setattr(wire, "answer_one", lambda: [_answer(wire) for _ in range(IN_FLIGHT)])
    with Line(wire) as line:
        said = line.ask_all("submit", CHUNKS)
    assert [one["count"] for one in said] == [len(chunk) for chunk in CHUNKS]


def _answer(wire: SlowWire) -> None:
    chunk, future = wire.open.pop(0)
    future.set_result(wire.ask("submit", chunk))


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


def test_what_was_under_way_with_a_refused_chunk_is_waited_for() -> None:
    """The caller cancels the rest then: nothing of the flow may come in behind that."""
    begun: list[Future[Any]] = []

    class Wire(FakeWire):
        def begin(self, verb: str, payload: Any) -> Future[Any]:
            begun.append(Future())
            if len(begun) == IN_FLIGHT:
                begun[0].set_exception(UsageError("duplicate job"))
                threading.Timer(0.05, lambda: [late.set_exception(UsageError("cannot follow")) for late in begun[1:]]).start()
            return begun[-1]

    with pytest.raises(UsageError, match="duplicate job"):
        feed(Line(Wire()), CHUNKS)
    assert len(begun) == IN_FLIGHT
    assert all(late.done() and not late.cancelled() for late in begun)


def test_a_lost_stream_is_a_connection_error() -> None:
    from towline.actors.stream import StreamClosed

    class Broken:
        def ask(self, verb: str, payload: Any = None, timeout_s: float | None = None) -> Any:
            raise StreamClosed("hung up") if verb == "status" else UsageError("no")

    with pytest.raises(ConnectionError, match="hung up"):
        Line(Broken()).ask("status")
    with pytest.raises(UsageError, match="no"):
        Line(Broken()).ask("jobs")


class Service:
    """The leader's end of a unix socket: a real server, over a leader that runs nothing."""

    def __init__(self, wire: FakeWire) -> None:
        self.wire = wire
        self.links: list[Any] = []
        self.late: list[tuple[Any, int]] = []

    def on_frame(self, link: Any, data: bytes) -> None:
        ask = model.decode_to_leader(data)
        assert isinstance(ask, model.Ask)
        if ask.verb == "hang":
            self.links.append(link)
            return
        if ask.verb == "late":  # answered when the next question comes
            self.late.append((link, ask.number))
            return
        while self.late:
            asker, number = self.late.pop()
            asker.send(model.encode(model.Answer(number, True, b"")))
        try:
            value = self.wire.ask(ask.verb, msgspec.msgpack.decode(ask.payload) if ask.payload else None)
            answer = model.Answer(ask.number, True, msgspec.msgpack.encode(value))
        except UsageError as error:
            answer = model.Answer(ask.number, False, msgspec.msgpack.encode([type(error).__name__, str(error)]))
        link.send(model.encode(answer))


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[FakeWire, Callable[[], None], str]]:
    """The fake leader behind a socket in a store, as `leader.json` says; how to end it; the store."""
    wire, folder, url = FakeWire(("completed",)), make_socket_dir(), str(tmp_path / "store")
    server = StreamServer("t" * TOKEN_CHARS, Service(wire).on_frame, lambda _link: None)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    def call(work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, loop).result(30)

    async def left() -> None:
        host = host_id()
        place = endpoint.Endpoint(
            str(folder / "s"), "t" * TOKEN_CHARS, 1, os.getpid(), start_time(os.getpid()), host.host, host.boot_id,
            host.pid_namespace,
        )  # fmt: skip
        store = await Store.open(url, create=True)
        await store.put_endpoint(endpoint.encode(place))

    call(server.start(folder / "s"))
    call(left())
    yield wire, lambda: call(server.close()), url
    call(server.close())
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()
    drop_socket_dir(folder)


Served = tuple[FakeWire, Callable[[], None], str]


def test_a_leader_is_found_and_asked_over_its_socket(served: Served) -> None:
    wire, _end, url = served
    found = client.find(url)
    assert found is not None
    with found:
        assert feed(found, CHUNKS) == 31
        assert found.ask("wait", {"timeout_s": 1.0})["counts"] == {"completed": 31}
        assert found.ask("logs", {"uuid": "u1"})["stdout"] == b"out of u1\n"
    assert wire.chunks == CHUNKS


def test_refusals_come_over_the_socket_as_what_they_are(served: Served) -> None:
    wire, _end, url = served
    wire.refuse_chunk = 0
    found = client.find(url)
    assert found is not None
    with found, pytest.raises(UsageError, match="duplicate job"):
        found.ask("submit", b"x")


def test_who_waits_when_the_leader_goes_is_told(served: Served) -> None:
    _wire, end, url = served
    found = client.find(url)
    assert found is not None
    waiting = found.begin("hang")
    assert found.ask("status")["state"] == "running"
    end()
    with pytest.raises(ConnectionError):
        waiting.result(30)
    with pytest.raises(ConnectionError):
        found.ask("status")
    assert client.find(url) is None


def test_a_question_that_was_given_up_does_not_end_the_line(served: Served) -> None:
    _wire, end, url = served
    found = client.find(url)
    assert found is not None
    assert found.begin("late").cancel()
    assert found.ask("status", timeout_s=30)["state"] == "running"
    assert found.begin("hang").cancel()
    waiting = found.begin("hang")
    end()
    with pytest.raises(ConnectionError, match="the leader is gone"):
        waiting.result(30)


def test_a_leader_that_does_not_answer_is_named(served: Served) -> None:
    found = client.find(served[2])
    assert found is not None
    with found, pytest.raises(TimeoutError, match=r"did not answer 'hang' within 0\.0 s"):
        found.ask("hang", timeout_s=0.0)


def test_a_leader_that_lasts_is_told(served: Served) -> None:
    place = client.leading(served[2])
    assert place is not None
    assert (place.pid, place.orphaned()) == (os.getpid(), False)


def test_a_leader_that_dies_with_its_driver_is_waited_for(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    _wire, end, url = served
    looks: list[float] = []

    def sleep(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) == 3:
            end()

    monkeypatch.setattr(endpoint.Endpoint, "orphaned", lambda _self: True)
    monkeypatch.setattr(client.time, "sleep", sleep)
    assert client.leading(url) is None
    assert len(looks) == 3


def test_a_leader_that_outlives_its_driver_for_long_is_alive(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint.Endpoint, "orphaned", lambda _self: True)
    monkeypatch.setattr(client, "DYING_S", 0.0)
    assert client.leading(served[2]) is not None


def test_word_of_a_dead_leader_is_no_leader(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint.Endpoint, "provably_dead", lambda _self: True)
    assert client.find(served[2]) is None


def test_a_store_without_word_of_a_leader(tmp_path: Path) -> None:
    asyncio.run(Store.open(tmp_path / "store", create=True))
    assert client.find(str(tmp_path / "store")) is None
    assert client.leading(str(tmp_path / "store")) is None
    with pytest.raises(StoreMissing):
        client.find(str(tmp_path / "nothing"))


@pytest.mark.parametrize(
    ("name", "kind"),
    [("SubmissionError", SubmissionError), ("StoreLocked", StoreLocked), ("Unheard", TowlineError), ("os", TowlineError)],
)
def test_refusals_keep_their_class(name: str, kind: type[TowlineError]) -> None:
    error = client.refusal(name, "a sentence")
    assert type(error) is kind
    assert str(error) == "a sentence"

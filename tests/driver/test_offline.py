"""Answers from a store at rest. What stands between the verbs and the store is replaced; the rest is the real thing."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any, NamedTuple

import pytest

from tests.kit.fake_leader import FakeWire
from towline import offline
from towline.engine.errors import UsageError
from towline.stores.errors import StoreMissing


class Opened(NamedTuple):
    url: str

    async def close(self) -> None: ...


class Loaded(NamedTuple):
    core: FakeWire
    reader: None
    store: Opened


class Store:
    """The stores by url, and how often each was read."""

    def __init__(self) -> None:
        self.wires: dict[str, FakeWire] = {}
        self.reads = 0

    async def load(self, url: str) -> Loaded:
        self.reads += 1
        if url not in self.wires:
            raise StoreMissing.at(url)
        return Loaded(self.wires[url], None, Opened(f"/abs/{url}"))


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Store:
    async def answer(core: FakeWire, reader: None, verb: str, payload: Any) -> Any:
        return core.ask(verb, payload)

    kept = Store()
    replay, answers = ModuleType("towline.stores.replay"), ModuleType("towline.actors.answers")
    replay.load, answers.answer = kept.load, answer  # type: ignore[attr-defined]  # modules of the test's own making
    for module, parent in ((replay, "towline.stores"), (answers, "towline.actors")):
        monkeypatch.setitem(sys.modules, module.__name__, module)
        monkeypatch.setattr(sys.modules[parent], module.__name__.rpartition(".")[2], module, raising=False)
    kept.wires["runs/x"] = FakeWire()
    kept.wires["runs/x"].ask("submit", b"xyz")
    return kept


def test_a_store_is_read_once_until_it_changes(store: Store) -> None:
    client = offline.OfflineClient("runs/x")
    assert client.ask("status")["total"] == 3
    assert client.ask("status")["store"] == "/abs/runs/x"
    assert client.begin("logs", {"uuid": "u"}).result()["stdout"] == b"out of u\n"
    assert store.reads == 1
    offline.forget("runs/other")
    client.ask("status")
    assert store.reads == 1
    offline.forget("runs/x")
    client.ask("status")
    assert store.reads == 2


def test_jobs_that_are_left_without_a_leader_are_an_interrupted_run(store: Store) -> None:
    client = offline.OfflineClient("runs/x")
    assert client.ask("status")["state"] == "interrupted"
    with pytest.raises(UsageError, match=r"no leader works.*3 of its 3 jobs.*resume\('runs/x'\)"):
        client.ask("wait", {"timeout_s": 1.0})


def test_waiting_for_a_run_that_has_ended_is_no_wait(store: Store) -> None:
    store.wires["runs/x"].state = "completed"
    assert offline.OfflineClient("runs/x").ask("wait")["state"] == "completed"


@pytest.mark.parametrize("verb", ["submit", "cancel", "close"])
def test_what_needs_a_leader_says_so(store: Store, verb: str) -> None:
    client = offline.OfflineClient("runs/x")
    with pytest.raises(UsageError, match=r"no leader works on the store runs/x.*resume"):
        client.ask(verb)
    with pytest.raises(UsageError):
        client.begin(verb).result()
    assert store.reads == 0


async def test_it_answers_inside_an_event_loop(store: Store) -> None:
    assert offline.in_a_loop()
    assert offline.OfflineClient("runs/x").ask("status")["total"] == 3
    with pytest.raises(StoreMissing):
        offline.OfflineClient("runs/missing").ask("status")


def test_many_questions_are_answered_in_order(store: Store) -> None:
    client = offline.OfflineClient("runs/x")
    said = client.ask_all("logs", [{"uuid": f"u{n}"} for n in range(5)])
    assert [one["stdout"] for one in said] == [f"out of u{n}\n".encode() for n in range(5)]
    assert store.reads == 1


def test_outside_a_loop_none_is_seen() -> None:
    assert not offline.in_a_loop()

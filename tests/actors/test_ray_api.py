"""What a driver needs of Ray: questions whose answers always come to something, starts that leave nothing when they fail."""

from __future__ import annotations

from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
import ray

from tests.kit.leaks import eventually
from towline.actors import inprocess, ray_api
from towline.actors.config import LeaderConfig
from towline.actors.ray_api import RayClient, translated
from towline.engine.errors import UsageError
from towline.stores.errors import StoreLocked, StoreMissing


class FakeRef:
    def __init__(self) -> None:
        self.made: Future[Any] = Future()

    def future(self) -> Future[Any]:
        return self.made


class FakeMethod:
    def __init__(self, calls: list[tuple[Any, ...]], refs: list[FakeRef]) -> None:
        self._calls, self._refs = calls, refs

    def remote(self, *args: Any) -> FakeRef:
        self._calls.append(args)
        self._refs.append(FakeRef())
        return self._refs[-1]


class FakeActor:
    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.refs: list[FakeRef] = []
        self.ask = self.ask_in_turn = FakeMethod(self.calls, self.refs)


class FakeLife:
    def __init__(self) -> None:
        self.over = False
        self.told: list[Any] = []

    def on_end(self, tell: Any) -> None:
        self.told.append(tell)

    def end(self) -> None:
        self.over = True
        for tell in self.told:
            tell()


@pytest.fixture
def actor() -> FakeActor:
    return FakeActor()


@pytest.fixture
def life() -> FakeLife:
    return FakeLife()


@pytest.fixture
def client(actor: FakeActor, life: FakeLife) -> RayClient:
    return RayClient(actor, life)  # type: ignore[arg-type]  # a fake


def test_what_a_client_begins_is_numbered(client: RayClient, actor: FakeActor, life: FakeLife) -> None:
    answers = [client.begin("submit", n) for n in range(3)]
    other = RayClient(actor, life)  # type: ignore[arg-type]  # a fake
    other.begin("submit", 9)
    assert [(number, payload) for _, number, _, payload in actor.calls] == [(0, 0), (1, 1), (2, 2), (0, 9)]
    assert len({name for name, *_ in actor.calls}) == 2
    for n in (2, 0, 1):
        actor.refs[n].made.set_result(n)
    assert [answer.result(30) for answer in answers] == [0, 1, 2]


def test_one_who_no_longer_wants_an_answer_gets_none(client: RayClient, actor: FakeActor) -> None:
    answer = client.begin("submit")
    assert answer.cancel()
    actor.refs[0].made.set_result(1)
    other = client.begin("submit")
    other.cancel()
    actor.refs[1].made.set_exception(ValueError("late"))


def test_refusals_and_ends_of_ray_as_ours(client: RayClient, actor: FakeActor) -> None:
    for raised, expected in [
        (ray.exceptions.RayTaskError("ask", "Traceback", UsageError("no")), UsageError),
        (ray.exceptions.RaySystemError("gone"), ConnectionError),
        (ray.exceptions.ActorDiedError(), ConnectionError),
        (ray.exceptions.GetTimeoutError("late"), TimeoutError),
        (ZeroDivisionError("a bug"), ZeroDivisionError),
    ]:
        answer = client.begin("status")
        actor.refs[-1].made.set_exception(raised)
        with pytest.raises(expected):
            answer.result(30)
    with pytest.raises(ray.exceptions.RayTaskError), translated():
        raise ray.exceptions.RayTaskError("ask", "Traceback", KeyError("a bug"))


def test_an_answer_that_does_not_come(client: RayClient) -> None:
    with pytest.raises(TimeoutError, match=r"did not answer 'status' within 0\.01 s"):
        client.ask("status", timeout_s=0.01)


def test_when_ray_has_ended_nobody_waits(client: RayClient, life: FakeLife) -> None:
    answer = client.begin("wait")
    life.end()
    with pytest.raises(ConnectionError, match="has ended"):
        answer.result(30)
    with pytest.raises(ConnectionError, match="has ended"):
        client.begin("wait").result(30)


def test_the_answers_of_a_closed_leader_are_not_waited_for(client: RayClient, life: FakeLife, actor: FakeActor) -> None:
    answer = client.begin("wait")
    client.give_up("the leader has closed")
    life.end()
    for ask in (lambda: answer.result(30), lambda: client.ask("status"), lambda: client.begin("status")):
        with pytest.raises(ConnectionError, match=r"^the leader has closed$"):
            ask()
    assert len(actor.calls) == 1, "it is not called any more"


# ------------------------------------------------------------------------------------------------------------- starts


def actors() -> list[str]:
    return [actor["name"] for actor in ray.util.list_named_actors(all_namespaces=True) if "towline" in actor["name"]]


@pytest.mark.ray
def test_a_start_that_fails_leaves_no_actor(local_ray: None, tmp_path: Path) -> None:
    with pytest.raises(StoreMissing, match="there is no store at"):
        ray_api.start(str(tmp_path / "nothing"), workers=1, detached=True)
    local = inprocess.start(str(tmp_path / "led"), create=True)
    try:
        with pytest.raises(StoreLocked, match="is being led by process"):
            ray_api.start(str(tmp_path / "led"), workers=1, detached=True)
    finally:
        local.close()
    assert eventually(lambda: not actors(), 30)
    assert ray.is_initialized()  # it is not ours to end


@pytest.mark.ray
def test_one_leader_a_store_on_a_cluster(local_ray: None, tmp_path: Path) -> None:
    config = LeaderConfig(lease_s=20.0, touch_s=5.0)
    started = ray_api.start(str(tmp_path / "store"), workers=1, create=True, config=config)
    try:
        assert started.client.ask("status")["state"] == "completed"
        with pytest.raises(UsageError, match="is already on this cluster"):
            ray_api.start(str(tmp_path / "store"), workers=1, config=config)
        with pytest.raises(UsageError, match="no verb 'dance'"):
            started.client.ask("dance")
        assert started.client.ask("status")["state"] == "completed"
    finally:
        started.close()
        started.close()
    with pytest.raises(ConnectionError):
        started.client.ask("status", timeout_s=30.0)
    assert eventually(lambda: not actors(), 30)

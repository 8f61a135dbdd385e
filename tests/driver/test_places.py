"""Which store a run goes to."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.kit.fake_leader import FLOW, FakeWire
from towline import client, offline, places
from towline.engine.errors import UsageError
from towline.stores.errors import StoreMissing


@pytest.fixture(autouse=True)
def stores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, set[str] | None]:
    """The working directory is empty; the mapping says which flows a directory holds that exists."""
    held: dict[str, set[str] | None] = {}

    def ask(at_rest: offline.OfflineClient, verb: str, payload: object = None) -> dict[str, object]:
        assert verb == "status"
        found = held[at_rest._store]
        if found is None:
            raise StoreMissing.at(at_rest._store)
        return {"flows": [[uuid, "flow", 1, 1] for uuid in found]}

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(offline.OfflineClient, "ask", ask)
    monkeypatch.setattr(client, "find", lambda url: None)
    return held


def make(url: str) -> None:
    path = Path(url)
    path.mkdir(parents=True)
    (path / "something").touch()


def test_a_new_flow_gets_a_place_of_its_name() -> None:
    assert places.choose(None, "my flow", FLOW) == (".towline/my-flow", True)


def test_a_named_store_is_taken_as_it_is() -> None:
    assert places.choose("runs/first", "name", FLOW) == ("runs/first", True)
    assert places.choose(Path("runs/first"), "name", FLOW) == ("runs/first", True)


def test_an_empty_directory_is_no_store_yet() -> None:
    Path("runs").mkdir()
    assert places.choose("runs", "name", FLOW) == ("runs", True)


def test_what_a_crash_left_of_a_store_is_no_store_yet(stores: dict[str, set[str] | None]) -> None:
    make("runs")
    stores["runs"] = None
    assert places.choose("runs", "name", FLOW) == ("runs", True)


def test_the_setting_names_the_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOWLINE_STORE", "runs/env")
    assert places.choose(None, "name", FLOW).url == "runs/env"
    assert places.choose("runs/first", "name", FLOW).url == "runs/first"


@pytest.mark.parametrize("store", ["runs/first", None])
def test_a_store_that_holds_the_flow_is_refused(store: str | None, stores: dict[str, set[str] | None]) -> None:
    url = store or ".towline/name"
    make(url)
    stores[url] = {"f0", FLOW}
    with pytest.raises(UsageError, match=f"already holds this flow.*resume\\('{url}'\\)"):
        places.choose(store, "name", FLOW)


def test_a_named_store_gets_further_flows(stores: dict[str, set[str] | None]) -> None:
    make("runs/first")
    stores["runs/first"] = {"f0"}
    assert places.choose("runs/first", "name", FLOW) == ("runs/first", False)


def test_an_unnamed_run_never_mixes_with_another(stores: dict[str, set[str] | None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "strftime", lambda _form: "20300101-120000")
    make(".towline/name")
    stores[".towline/name"] = {"f0"}
    first = places.choose(None, "name", FLOW)
    assert first == (".towline/name-20300101-120000", True)
    make(first.url)
    assert places.choose(None, "name", FLOW).url == ".towline/name-20300101-120000-2"


def test_a_store_left_without_a_flow_is_used(stores: dict[str, set[str] | None]) -> None:
    """A run that was refused before its first job leaves one."""
    make(".towline/name")
    stores[".towline/name"] = set()
    assert places.choose(None, "name", FLOW) == (".towline/name", False)


def test_something_else_under_the_default_name_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def find(url: str) -> None:
        raise UsageError(f"{url} is not a towline store")

    monkeypatch.setattr(client, "find", find)
    make(".towline/name")
    assert places.choose(None, "name", FLOW).url.startswith(".towline/name-")
    make("runs")
    with pytest.raises(UsageError, match="not a towline store"):
        places.choose("runs", "name", FLOW)


def test_a_living_leader_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    wire = FakeWire()
    wire.ask("submit", b"xxx")
    monkeypatch.setattr(client, "find", lambda url: client.Line(wire))
    make("runs")
    with pytest.raises(UsageError, match="already holds this flow"):
        places.choose("runs", "name", FLOW)
    assert places.choose("runs", "name", "f2") == ("runs", False)


@pytest.mark.parametrize(
    ("name", "segment"),
    [("add", "add"), ("a b/c", "a-b-c"), ("../../etc", "etc"), ("", "flow"), ("...", "flow"), ("ü" * 3, "flow")],
)
def test_names_become_one_safe_segment(name: str, segment: str) -> None:
    assert places.safe(name) == segment
    assert len(places.safe("x" * 500)) == 100

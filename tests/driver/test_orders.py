"""Arguments of `run` and its kin: which of them win, and which are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kit.samples import add
from towline import Flow, UsageError, orders
from towline.orders import compat_of, members_of, order_of, order_to_resume


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_what_the_call_says_is_stronger_than_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOWLINE_LOCAL", "1")
    monkeypatch.setenv("TOWLINE_WORKERS", "5")
    assert order_of(add(1, 2), {}).local
    assert order_of(add(1, 2), {}).workers == 5
    assert order_of(add(1, 2), {"workers": 2}).workers == 2
    assert not order_of(add(1, 2), {"address": "auto"}).local
    monkeypatch.setenv("TOWLINE_ADDRESS", "auto")
    monkeypatch.delenv("TOWLINE_LOCAL")
    assert order_of(add(1, 2), {}).address == "auto"
    assert order_of(add(1, 2), {"local": True}).address is None


def test_runs_are_counted_for_the_command_line() -> None:
    before = orders.launches
    order_of(add(1, 2), {})
    order_to_resume({"store": "runs/x"})
    assert orders.launches == before + 2


def test_what_can_be_run() -> None:
    one, flow = add(1, 2), Flow([add(3, 4)])
    assert members_of(one) is one
    assert members_of(flow) is flow
    assert members_of(iter([one, flow])) == [one, flow]
    for wrong, told in ((3, "got int"), ("text", "got str"), ([one, add], "JobFunction: call it")):
        with pytest.raises(UsageError, match=told):
            members_of(wrong)


def test_a_compatibility_that_there_is_not_is_refused() -> None:
    assert [compat_of(said) for said in (None, "", "jobflow")] == ["", "", "jobflow"]
    with pytest.raises(UsageError, match="must be 'jobflow' or left out"):
        compat_of("fireworks")


def test_an_order_asks_for_its_own_flow_only() -> None:
    order = order_of(add(1, 2), {"store": "runs/x"})
    assert order.create
    assert order.scope == {"flow": order.flow.uuid}
    assert order_to_resume({"store": "runs/x"}).scope == {}

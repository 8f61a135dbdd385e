"""Needs as people write them."""

from __future__ import annotations

import pytest

from towline.engine.errors import UsageError
from towline.stores.jobstore import requirements as needs


@pytest.mark.parametrize(
    ("text", "size"),
    [
        (0, 0), (7, 7), (1.5e9, 1_500_000_000), ("7", 7), ("2Gi", 2 << 30), ("2 GiB", 2 << 30), ("1.5G", 1_500_000_000),
        ("500M", 500_000_000), ("4k", 4000), ("4Ki", 4096), (".5Ki", 512), ("1T", 10**12), ("3b", 3),
        ("9007199254740993", 9007199254740993),
    ],
)  # fmt: skip
def test_bytes(text, size):
    assert needs.parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "Gi", "-1", -1, "2X", "2GiGi", True, None, [], "1e9"])
def test_what_is_no_size(text):
    with pytest.raises(UsageError, match="memory"):
        needs.parse_bytes(text)


def test_cores():
    assert (needs.parse("cores", "0.5"), needs.parse("cores", 2.0), needs.parse("cores", None)) == (0.5, 2, None)
    assert isinstance(needs.parse("cores", 2.0), int)
    for wrong in ("many", -1, True, float("nan"), float("inf")):
        with pytest.raises(UsageError, match="cores"):
            needs.parse("cores", wrong)


def test_preemptible_by_both_names():
    assert needs.parse("preemptable", "Yes") is needs.parse("preemptible", True) is True
    with pytest.raises(UsageError, match="preemptible"):
        needs.parse("preemptible", "maybe")


@pytest.mark.parametrize(
    ("spec", "found"),
    [
        (2, [{"count": 2, "kind": "gpu"}]),
        ("2", [{"count": 2, "kind": "gpu"}]),
        ("k80:2", [{"count": 2, "kind": "gpu", "model": "k80"}]),
        ("rocm", [{"count": 1, "kind": "gpu", "api": "rocm", "brand": "amd"}]),
        ("nvidia:3,gpu", [{"count": 3, "kind": "gpu", "brand": "nvidia"}, {"count": 1, "kind": "gpu"}]),
        ({"count": 1, "kind": "fpga"}, [{"count": 1, "kind": "fpga"}]),
        ([1, {"model": "v100"}], [{"count": 1, "kind": "gpu"}, {"count": 1, "kind": "gpu", "model": "v100"}]),
    ],
)
def test_accelerators(spec, found):
    assert needs.parse("accelerators", spec) == found


def test_what_is_no_requirement():
    with pytest.raises(UsageError, match="accelerator"):
        needs.parse("accelerators", ["k80:many"])
    with pytest.raises(UsageError, match="time"):
        needs.parse("time", 3)

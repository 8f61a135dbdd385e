"""A run on a bucket costs few requests: the bar of a million jobs, kept in proportion by a hundred thousand."""

from __future__ import annotations

import msgspec
import pytest

from towline.benchmarks import requests
from towline.stores import locate


def test_a_hundred_thousand_jobs() -> None:
    found = requests.measure(100_000, 20.0)
    assert found.per_million <= requests.BAR
    assert found.commits * 100 < found.jobs
    assert found.rewritten in ("", "leader.json")
    assert found.shortest_gap_s >= requests.GAP_S
    assert sum(found.reopened.values()) < found.commits + 20, "each segment is fetched once"
    assert locate._memories.keys().isdisjoint({name for name in locate._memories if name.startswith("requests-")})


def test_a_single_job_and_what_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert requests.main(["--jobs", "1", "--latency-ms", "0", "--json"]) == 0
    found = msgspec.json.decode(capsys.readouterr().out)
    assert found["jobs"] == 1
    assert found["requests"]["put"] >= found["commits"] > 0
    assert requests.main(["--jobs", "1", "--latency-ms", "0"]) == 0
    assert "for a million" in capsys.readouterr().out


def test_what_s3_bills() -> None:
    assert requests.cost({"put": 1000, "list": 1000, "get": 10_000, "delete_many": 99, "head": 0}) == pytest.approx(0.014)

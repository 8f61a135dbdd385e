"""Two leader processes race for one place: a folder used as a bucket is, moto, and a Ceph gateway. `make races` runs 500.

What a race is and how it is judged stands in `racer`.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kit.servers import make_bucket
from tests.stores.journal.racer import FILLER, judge, run_races
from towline.stores.journal.writer import JournalWriter
from towline.stores.objects.memory import MemoryObjects

RACES = 30


def check(outcome, races):
    assert outcome.wrong == []
    assert outcome["races"] == races
    assert outcome["fenced"] > 0, "they met"
    assert outcome["told"] > 2 * races


def test_for_a_folder(tmp_path: Path) -> None:
    check(run_races(str(tmp_path), RACES), RACES)


@pytest.mark.parametrize("name", ["moto", "ceph"])
def test_for_a_bucket(request: pytest.FixtureRequest, name: str) -> None:
    server = request.getfixturevalue(name)
    check(run_races(f"s3://{make_bucket(server)}", RACES, seed=1, environment=server.environment()), RACES)


# -------------------------------------------------------------------------------------------------------- the judge


async def left_behind(*payloads: str) -> dict[str, bytes]:
    """The objects of a bucket in which these were committed."""
    memory = MemoryObjects(appendable=False)
    writer = await JournalWriter.claim(memory, nonce=bytes(16), leader="A1")
    for payload in payloads:
        await writer.commit([payload.encode(), FILLER])
    return {meta.key: await memory.get(meta.key) async for meta in memory.list()}


def racer(who: str, told: list[str], quota: int = 2, *, fenced: bool = False) -> dict[str, object]:
    return {"who": who, "told": told, "quota": quota, "fenced": fenced, "claims": 1}


async def test_the_judge_finds_what_may_not_be() -> None:
    stored = await left_behind("A.1.0", "A.1.1")
    good = racer("A", ["A.1.0", "A.1.1"])
    lost = racer("B", [], fenced=True)
    assert judge(stored, [good, lost]) == []
    assert judge(stored, [racer("A", ["A.1.1", "A.1.0"]), lost]) != [], "another order"
    assert judge(stored, [good, racer("B", ["B.1.0"], fenced=True)]) != [], "what was told is not there"
    assert judge(stored, [good, racer("B", [])]) != [], "it gave up"
    assert judge(stored, [racer("A", ["A.1.0"], 9, fenced=True), lost]) != [], "nobody got through"
    assert judge(await left_behind("A.1.0", "A.1.0"), [racer("A", ["A.1.0", "A.1.0"])]) != [], "twice"
    key = max(stored)
    damaged = stored | {key: stored[key][:-20] + b"?" + stored[key][-19:]}
    assert "cannot be proved" in judge(damaged, [good, lost])[0]
    assert judge({k: v for k, v in stored.items() if k != min(stored)}, [good, lost]) != [], "a link is missing"

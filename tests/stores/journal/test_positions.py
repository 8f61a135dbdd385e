"""Positions go through bytes and back (what a reader does with them: test_reader)."""

from __future__ import annotations

import pytest

from tests.kit.journals import claim
from towline.engine.errors import CorruptionError
from towline.stores.journal.positions import Positions
from towline.stores.journal.reader import JournalReader
from towline.stores.objects.memory import MemoryObjects

FACTS = ("number", "epoch", "nonce", "first_seq", "count", "length", "digest", "key", "base", "offsets")


async def test_every_fact_comes_back_known_or_not():
    memory = MemoryObjects()
    for who in "ABC":
        await (await claim(memory, who)).commit([who.encode(), bytes(300)])
    reader = await JournalReader.open(memory)
    assert [s.offsets is None for s in reader.determined()] == [True, True]
    await reader.image(reader.determined()[0])
    again = list(Positions.decode(reader.positions().encode()).segments())
    assert [[getattr(s, f) for f in FACTS] for s in again] == [[getattr(s, f) for f in FACTS] for s in reader.determined()]
    assert again[0].offsets is not None
    assert not any(again[0].verified), "what was verified once is verified again by another process"


@pytest.mark.parametrize("data", [b"", b"\x93\x01\x02\x03", b"\xc1"])
def test_other_bytes_are_refused(data):
    with pytest.raises(CorruptionError, match="no journal positions"):
        Positions.decode(data)

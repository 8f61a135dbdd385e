"""uuids are fresh, canonical, random and not shared with a forked child."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

import pytest

from towline.engine.authoring import uuids
from towline.engine.authoring.uuids import named_uuid, new_uuid

NAMED = "8ac7e5ee-4c61-8e1c-9801-4b7e6b745eb7"


def test_they_are_version_4_and_canonical() -> None:
    for _ in range(600):
        text = new_uuid()
        assert str(UUID(text)) == text
        assert UUID(text).version == 4
        assert UUID(text).variant == "specified in RFC 4122"


def test_none_comes_twice_whatever_the_thread() -> None:
    with ThreadPoolExecutor(4) as threads:
        made = [text for some in threads.map(lambda _: [new_uuid() for _ in range(2_000)], range(4)) for text in some]
    assert len(set(made)) == 8_000


def test_a_name_always_has_the_same_uuid() -> None:
    """It must stay what it is: stores know results by it."""
    text = named_uuid("a name")
    assert text == NAMED
    assert str(UUID(text)) == text
    assert (UUID(text).version, UUID(text).variant) == (8, "specified in RFC 4122")
    assert len({named_uuid(str(n)) for n in range(1000)} | {text}) == 1001


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_draws_its_own() -> None:
    new_uuid()
    assert uuids._pool
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, new_uuid().encode())
        os._exit(0)
    os.waitpid(child, 0)
    theirs = os.read(reader, 36).decode()
    os.close(reader)
    os.close(writer)
    assert len(theirs) == 36
    assert theirs not in {new_uuid() for _ in range(300)}

"""A worker's Executor with the store's files behind it: large values go there and come back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from towline.actors.execute.python import Executor
from towline.actors.runner import Contents, make_runner
from towline.engine import codec
from towline.engine.errors import TowlineError
from towline.engine.model import INLINE_LIMIT
from towline.stores.documents.store import JobStore
from towline.stores.store import Store

LARGE = ["line"] * INLINE_LIMIT


@pytest.fixture
async def contents(store_dir: Path) -> Contents:
    return Contents((await Store.open(str(store_dir), create=True)).url)


async def test_a_large_value_goes_to_a_file_and_comes_back(contents: Contents, store_dir: Path) -> None:
    content = codec.encode_content(LARGE, INLINE_LIMIT)
    assert not isinstance(content, bytes)
    stub = contents.store(content, "a-job", (3, 7))
    assert len(stub) < 1000
    assert any("3" in path.name or "3" in str(path.parent) for path in store_dir.rglob("*") if path.is_file())
    header, buffers = contents.load(stub)
    assert codec.join(header, buffers) == LARGE
    # another worker, or this one after a restart
    assert codec.join(*Contents(str(store_dir)).load(stub)) == LARGE


async def test_what_is_no_stub_is_the_machines_fault(contents: Contents) -> None:
    with pytest.raises(TowlineError, match="is none"):
        contents.load(codec.encode(5))


async def test_the_store_is_opened_when_it_is_needed(store_dir: Path) -> None:
    Contents(str(store_dir / "not there"))
    assert not store_dir.exists()


async def test_an_executor_is_put_together(store_dir: Path) -> None:
    class Asker:
        def fetch(self, uuid: str, index: int) -> bytes | None:
            return None

        def filed(self, key: bytes) -> tuple[int, bytes] | None:
            return None

    asker: Any = Asker()
    made = make_runner(asker, str(store_dir), allow_pickle=True)
    assert isinstance(made, Executor)
    shown = made.exposed()
    assert isinstance(shown, JobStore)
    assert made.exposed() is shown
    store = JobStore(str(store_dir))
    assert make_runner(asker, str(store_dir), True, store).exposed() is store

"""What every mover moves comes back as it was, on moto and on the fake of Google's storage, and is gone when it is deleted."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.kit.gcs_servers import GcsServer
from tests.kit.servers import Server, make_bucket
from towline.benchmarks.peers.stores import open_all, spread
from towline.stores import store as stores_store
from towline.stores.fileformat import PART

CONTENT = bytes(range(256)) * (PART // 256) + b"and some more"


async def test_spread_keeps_order_and_width() -> None:
    running = most = 0

    async def act(number: int) -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        return number

    assert await spread(act, range(50), 7) == list(range(50))
    assert most == 7


async def honest(objects: Any) -> None:
    """Instead of the probe, which takes a second."""


async def move_everything(locator: str, folder: Path) -> list[str]:
    async with AsyncExitStack() as held:
        peers: list[Any] = await open_all(locator, held)
        (folder / "source").write_bytes(CONTENT)
        for peer in peers:
            if hasattr(peer, "write_path"):
                name = await peer.write_path(folder / "source")
                await peer.read_path(name, folder / "target")
                assert (folder / "target").read_bytes() == CONTENT
                await peer.delete([name])
                with pytest.raises(Exception, match=r"\S"):
                    await peer.read_path(name, folder / "target")
            if hasattr(peer, "write_stream"):
                name = await peer.write_stream(CONTENT)
                assert b"".join(await peer.read_stream(name)) == CONTENT
                await peer.delete([name])
            small = [b"%d" % number * 10 for number in range(40)]
            names = await peer.put(small)
            assert await peer.get(names) == small
            await peer.delete(names)
        return [peer.name for peer in peers]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stores_store, "probe", honest)


def test_on_s3(moto: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, value in moto.environment().items():
        monkeypatch.setenv(name, value)
    names = asyncio.run(move_everything(f"s3://{make_bucket(moto)}/some/prefix", tmp_path))
    assert names == ["aiobotocore", "aiobotocore, unchecked", "AbstractJobStore", "engine's files", "objects"]


def test_on_gcs(gcs: GcsServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", gcs.endpoint)
    bucket = gcs.new_bucket()
    names = asyncio.run(move_everything(f"gs://{bucket}", tmp_path))
    assert names == ["gcsfs", "AbstractJobStore", "engine's files", "objects"]
    assert [name for name in gcs.names(bucket) if "blobs/" in name or "bare/" in name] == []

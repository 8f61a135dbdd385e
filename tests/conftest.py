"""What every test may ask for, and what no test may inherit from the shell it was started in."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def own_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """A TOWLINE_STORE or TOWLINE_WORKERS of the developer's shell must not decide where a test writes."""
    for name in [name for name in os.environ if name.startswith("TOWLINE_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def store_dir(tmp_path: Path) -> Path:
    """Where a store may be made: an absent folder in an empty one, so that what it leaves beside itself is seen."""
    return tmp_path / "store"


@pytest.fixture(scope="session")
def local_ray() -> Iterator[None]:
    """One local Ray for all tests that ask for it: to start one takes seconds."""
    import ray

    from towline.actors import ray_api

    if ray.is_initialized():
        yield
        return
    ray_api.connect_ray(None, 4)
    yield
    ray.shutdown()

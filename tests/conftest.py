"""What every test may ask for, and what no test may inherit from the shell it was started in."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# fixtures, by being here
from tests.kit.gcs_servers import gcs, plain_gcs  # noqa: F401 - a fixture is used by its name
from tests.kit.servers import ceph, moto, swift  # noqa: F401 - a fixture is used by its name


@pytest.fixture(autouse=True)
def own_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """A TOWLINE_STORE or TOWLINE_WORKERS of the developer's shell must not decide where a test writes."""
    for name in [name for name in os.environ if name.startswith("TOWLINE_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def store_dir(tmp_path: Path) -> Path:
    """Where a store may be made: an absent folder in an empty one, so that what it leaves beside itself is seen."""
    return tmp_path / "store"


@pytest.fixture(scope="session", autouse=True)
def last_ray() -> Iterator[None]:
    """Whatever local Ray is left at the end goes."""
    yield
    end_ray()


@pytest.fixture
def local_ray() -> None:
    """A local Ray that tests of tests/actors share: to start one takes seconds."""
    import ray

    from towline.actors import ray_api

    if not ray.is_initialized():
        ray_api.connect_ray(None, 4)


@pytest.fixture(autouse=True)
def no_shared_ray(request: pytest.FixtureRequest) -> None:
    """Tests elsewhere start a Ray of their own, or none: the shared one must not be found."""
    if "tests/actors/" not in request.path.as_posix() or "no_ray" in request.fixturenames:
        end_ray()


@pytest.fixture
def no_ray() -> None:
    """For a test of tests/actors that must find no Ray."""


def end_ray() -> None:
    """End this process's Ray, if it has one; do not load it for that."""
    ray = sys.modules.get("ray")
    if ray is not None and ray.is_initialized():
        ray.shutdown()

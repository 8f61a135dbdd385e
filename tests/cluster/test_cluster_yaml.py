"""cluster.yaml against Ray's own schema and against what it promises: nothing open to the world, no key, spot workers.

Nothing here talks to AWS: a connection attempt fails the test.
"""

from __future__ import annotations

import copy
import socket
from pathlib import Path
from typing import Any

import pytest
import yaml

FILE = Path(__file__).parents[2] / "cluster.yaml"


@pytest.fixture
def config() -> dict[str, Any]:
    loaded = yaml.safe_load(FILE.read_text())
    assert isinstance(loaded, dict)
    return loaded


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: socket.socket, address: object) -> None:
        raise AssertionError(f"the check of cluster.yaml connected to {address}")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def accept(config: dict[str, Any]) -> dict[str, Any]:
    """What `ray up` does with the file before it talks to anyone: fill in defaults, then check the schema."""
    from ray.autoscaler._private.util import prepare_config, validate_config

    prepared: dict[str, Any] = prepare_config(copy.deepcopy(config))
    validate_config(prepared)
    return prepared


@pytest.mark.usefixtures("no_network")
def test_ray_accepts_it(config: dict[str, Any]) -> None:
    prepared = accept(config)
    assert prepared["available_node_types"]["head"]["max_workers"] == 0
    assert prepared["available_node_types"]["spot"]["max_workers"] == prepared["max_workers"]


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize(
    ("key", "value"),
    [("max_worker", 3), ("idle_timeout_minutes", -1), ("head_node_type", "nobody"), ("upscaling_speed", "fast")],
)
def test_ray_refuses_a_mistake(config: dict[str, Any], key: str, value: object) -> None:
    """The check above can fail: the same file with one slip is refused."""
    from jsonschema import ValidationError

    with pytest.raises((ValidationError, ValueError)):
        accept(config | {key: value})


def test_the_head_is_on_demand_and_the_workers_on_spot(config: dict[str, Any]) -> None:
    kinds = config["available_node_types"]
    market = {name: kind["node_config"].get("InstanceMarketOptions", {}).get("MarketType") for name, kind in kinds.items()}
    assert market.pop(config["head_node_type"]) is None
    assert set(market.values()) == {"spot"}


def test_nothing_is_open_to_the_world(config: dict[str, Any]) -> None:
    """A node without a security group of ours would get Ray's, which opens port 22 to everyone."""
    for name, kind in config["available_node_types"].items():
        assert kind["node_config"].get("SecurityGroupIds"), f"{name} has no security group of its own"
        assert kind["node_config"]["MetadataOptions"]["HttpTokens"] == "required"
    assert "IpPermissions" not in config["provider"].get("security_group", {})
    assert "0.0.0.0" not in str(config)
    assert "--dashboard-host=127.0.0.1" in str(config["head_start_ray_commands"])


def test_every_ray_start_demands_the_token(config: dict[str, Any]) -> None:
    starts = [c for key in ("head_start_ray_commands", "worker_start_ray_commands") for c in config[key] if "ray start" in c]
    assert len(starts) == 2
    assert all("RAY_AUTH_MODE=token" in command for command in starts)
    assert "~/.ray/auth_token" in config["file_mounts"]


def test_the_bucket_is_reached_by_role_and_no_key_is_written_down(config: dict[str, Any]) -> None:
    for kind in config["available_node_types"].values():
        assert kind["node_config"]["IamInstanceProfile"]["Name"].startswith("towline-")
    text = FILE.read_text()
    assert "aws_secret" not in text.lower()
    assert "AKIA" not in text

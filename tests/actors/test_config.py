"""A leader's settings travel by value, and their defaults fit the rules."""

from __future__ import annotations

import pickle

import msgspec
import pytest

from towline.actors.config import LeaderConfig


def test_it_travels() -> None:
    config = LeaderConfig(lease_s=2.0, touch_s=0.5, allow_pickle=False)
    assert pickle.loads(pickle.dumps(config)) == config
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(config), type=LeaderConfig) == config
    with pytest.raises(AttributeError):
        config.lease_s = 1.0  # type: ignore[misc]  # that is the test


def test_defaults_keep_the_rules() -> None:
    config = LeaderConfig()
    assert 3 * config.touch_s < config.lease_s  # R1: some touches may be lost
    assert config.grace_s > 2 * config.lease_s  # R4: segments outlive any writer's staleness

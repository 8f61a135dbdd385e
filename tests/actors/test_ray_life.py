"""The end of a local Ray is noticed by its servers' processes, and whoever waits is told."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest

from towline.actors import ray_life
from towline.actors.ray_life import RayLife


def test_who_waits_is_told_when_a_server_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    servers = [subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) for _ in range(2)]
    monkeypatch.setattr(ray_life, "_servers", lambda: [one.pid for one in servers])
    told = threading.Event()
    life = RayLife()
    life.on_end(told.set)
    assert not life.over
    servers[1].kill()
    assert told.wait(60)
    assert life.over
    late = threading.Event()
    life.on_end(late.set)
    assert late.is_set()
    for one in servers:
        one.kill()
        one.wait()
        assert one.stdin is not None
        one.stdin.close()


def test_only_rays_servers_count(no_ray: None) -> None:
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        assert ray_life._servers() == []
        assert not RayLife().over
    finally:
        other.kill()
        other.wait()
        assert other.stdin is not None
        other.stdin.close()

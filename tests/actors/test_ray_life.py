"""The end of a local Ray is noticed by its servers' processes, and whoever waits is told."""

from __future__ import annotations

import subprocess
import sys
import threading

import psutil
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


NONE = """
import subprocess, sys
from towline.actors import ray_life
other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
print(ray_life._servers(), ray_life.RayLife().over)
other.communicate()
"""


def test_a_process_without_a_ray_has_no_servers() -> None:
    said = subprocess.run([sys.executable, "-c", NONE], capture_output=True, text=True, check=True).stdout
    assert said == "[] False\n"


@pytest.mark.ray
def test_rays_servers_are_found(local_ray: None) -> None:
    assert {psutil.Process(pid).name() for pid in ray_life._servers()} == ray_life.SERVERS

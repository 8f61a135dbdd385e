"""Facts about this machine, as far as any machine must have them; and which file system is found for a path."""

from __future__ import annotations

from pathlib import Path

import pytest

from towline.benchmarks import machine


def test_this_machine_is_described(tmp_path: Path) -> None:
    here = machine.describe(tmp_path)
    assert here.cores >= 1
    assert here.memory_bytes > 2**27
    assert here.fsync_s > 0
    assert {"towline", "ray", "msgspec"} <= here.versions.keys()
    assert here.measured.endswith("Z")
    assert list(tmp_path.iterdir()) == [], "the probe leaves nothing"


def test_the_innermost_mount_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    mounts = f"c {inner} tmpfs rw 0 0\nb {tmp_path} xfs rw 0 0\nd {tmp_path}/inn nfs rw 0 0\na / ext4 rw 0 0\n"
    monkeypatch.setattr(Path, "read_text", lambda self: mounts)
    assert machine.filesystem_of(inner / "below") == "tmpfs"
    assert machine.filesystem_of(tmp_path / "other") == "xfs"
    assert machine.filesystem_of(Path("/")) == "ext4"


@pytest.mark.parametrize(
    ("filesystem", "said"), [("ext4", "fsync before told, local disk"), ("tmpfs", "none: fsync before told, but on tmpfs")]
)
def test_memory_is_not_called_durable(filesystem: str, said: str) -> None:
    assert machine.durability_on(filesystem) == said


def test_a_missing_package_has_no_version() -> None:
    assert machine.version_of("no-such-package-at-all") == ""

"""Where nothing may be appended (R2), and how mount points are matched."""

from __future__ import annotations

from pathlib import Path

import pytest

from towline.stores.objects import syscalls
from towline.stores.objects.base import NotFound, ObjectsError
from towline.stores.objects.local import LocalObjects

TABLE = [("/", "ext4"), ("/home", "nfs4"), ("/home/local disk", "xfs"), ("/proc", "proc")]


@pytest.mark.parametrize(
    ("path", "kind"),
    [("/tmp/x", "ext4"), ("/home/me", "nfs4"), ("/home", "nfs4"), ("/homely", "ext4"), ("/home/local disk/a", "xfs")],
)
def test_the_longest_mount_point_counts(path, kind):
    assert syscalls.match_mount(path, TABLE) == kind


def test_the_last_mount_on_a_point_counts():
    assert syscalls.match_mount("/a/b", [("/a", "ext4"), ("/a", "nfs")]) == "nfs"


def test_spaces_in_mount_points_are_read():
    assert syscalls.match_mount("/mnt/my disk/x", [("/", "ext4"), ("/mnt/my\\040disk", "CIFS")]) == "cifs"


@pytest.mark.parametrize("kind", ["nfs", "nfs4", "cifs", "9p", "fuse.sshfs", "smb3"])
def test_network_file_systems_are_not_appended_to(kind):
    assert not syscalls.may_append(kind)


@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs", "overlay", "tmpfs", "apfs", "fuseblk", ""])
def test_local_file_systems_are(kind):
    assert syscalls.may_append(kind)


async def test_a_store_on_nfs_links_its_segments(tmp_path, monkeypatch):
    monkeypatch.setattr(syscalls, "filesystem_of", lambda path: "nfs4")
    objects = LocalObjects(tmp_path)
    assert not objects.appendable
    with pytest.raises(ObjectsError, match="network file system"):
        await objects.appender("k", b"")


def test_this_machine_has_a_root_file_system():
    assert syscalls.filesystem_of(Path("/proc/self")) == "proc"


def test_errors_name_what_was_tried_with_what():
    with pytest.raises(NotFound, match="cannot read here/k: it does not exist"), syscalls.mapped("read", "here/k"):
        raise FileNotFoundError
    with pytest.raises(ObjectsError, match="cannot write here/k: the disk is full"), syscalls.mapped("write", "here/k"):
        raise OSError(28, "no space")

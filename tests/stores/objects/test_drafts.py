"""Temp files: whose they are can be told, the dead's go, and kernels that cannot copy are helped."""

from __future__ import annotations

import errno
import os
import subprocess
import sys

import pytest

from towline.stores.objects import drafts
from towline.stores.objects.base import ObjectsError, Unfinished
from towline.stores.objects.drafts import Draft
from towline.stores.objects.local import LocalObjects
from towline.stores.objects.syscalls import Os


def a_dead_pid():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


async def test_temp_files_of_the_dead_are_reaped_and_those_of_the_living_stay(tmp_path):
    temp = tmp_path / ".tmp"
    temp.mkdir(mode=0o700)
    dead = a_dead_pid()
    machine, boot, namespace = drafts.here().split(".")
    names = {
        f"{machine}.{boot}.{namespace}.{dead}.0": False,
        f"{machine}.{boot}.{namespace}.{dead}.0.files+a.b.c": False,
        f"{machine}.{boot}.{namespace}.{os.getppid()}.0.k": True,
        f"{machine}.{'0' * 12}.{namespace}.{os.getpid()}.0": False,  # before a reboot
        f"{'0' * 12}.{'0' * 12}.1.{dead}.0.k": True,  # another machine
        f"{machine}.{boot}.1.{dead}.0": True,  # another container
        "something-else": True,
    }
    for name in names:
        (temp / name).write_bytes(b"")
    old = temp / f"{'0' * 12}.{'0' * 12}.1.1.1"
    old.write_bytes(b"")
    os.utime(old, (1, 1))
    await LocalObjects(tmp_path).put("k", b"1")
    assert {n: (temp / n).exists() for n in names} == names
    assert not old.exists()


def test_a_name_says_the_key_and_is_never_too_long(tmp_path):
    for key in ("k", "a/b.c-d/e_f", "/".join(["x" * 190] * 4)):
        name = drafts.temp_name(key)
        (tmp_path / name).write_bytes(b"")
        (found,) = drafts.unfinished(tmp_path)
        assert found.id == name
        assert key.startswith(found.key)
        assert found.key == key or len(name) == drafts.NAME_MAX
        (tmp_path / name).unlink()
    assert drafts.temp_name("k") != drafts.temp_name("k")


def test_what_has_another_name_is_listed_without_a_key(tmp_path):
    (tmp_path / "what.is.this").write_bytes(b"")
    assert [(u.key, u.id) for u in drafts.unfinished(tmp_path)] == [("", "what.is.this")]
    assert list(drafts.unfinished(tmp_path / "absent")) == []


@pytest.mark.parametrize("name", ["", ".", "..", "../k", "/etc/passwd", "a/b"])
async def test_nothing_but_temp_files_can_be_aborted(tmp_path, name):
    objects = LocalObjects(tmp_path)
    await objects.put("k", b"1")
    with pytest.raises(ObjectsError, match="not the id"):
        await objects.abort([Unfinished("k", name, 0.0)])
    assert (tmp_path / "k").exists()


def test_times_never_come_twice():
    times = [drafts.unique_ns() for _ in range(1000)]
    assert times == sorted(set(times))


class Kernel(Os):
    """One that copies in small steps, and then cannot."""

    def __init__(self, steps, code):
        self.steps, self.code = steps, code

    def clone(self, source, fd, start, count):
        if not self.steps:
            if not self.code:
                return 0
            raise OSError(self.code, os.strerror(self.code))
        self.steps -= 1
        return super().clone(source, fd, start, min(count, 10))


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "source"
    path.write_bytes(bytes(range(100)))
    fd = os.open(path, os.O_RDONLY)
    yield fd
    os.close(fd)


@pytest.mark.parametrize("steps", [0, 1, 3, 100])
@pytest.mark.parametrize("code", [errno.EXDEV, errno.ENOSYS, errno.EINVAL, 0])
def test_where_the_kernel_cannot_copy_we_do(tmp_path, source, steps, code, monkeypatch):
    monkeypatch.setattr(drafts, "_STEP", 7)
    draft = Draft(Kernel(steps, code), str(tmp_path), "k", "k")
    draft.write([b"before "])
    draft.clone(source, 3, 90)
    draft.write([b" after"])
    draft.finish()
    with open(draft.path, "rb") as file:
        assert file.read() == b"before " + bytes(range(3, 93)) + b" after"
    draft.drop()
    assert not os.path.exists(draft.path)


def test_a_full_disk_is_no_reason_to_copy_by_hand(tmp_path, source):
    draft = Draft(Kernel(1, errno.ENOSPC), str(tmp_path), "k", "k")
    with pytest.raises(ObjectsError, match="disk is full"):
        draft.clone(source, 0, 100)
    draft.drop()


def test_a_source_that_is_cut_short_is_said(tmp_path, source):
    draft = Draft(Os(), str(tmp_path), "k", "k")
    with pytest.raises(ObjectsError, match="cut short"):
        draft.clone(source, 50, 60)
    draft.drop()

"""What a worker and its supervisor share: no name in the file system, no step back, no half-written number."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from pathlib import Path

from tests.kit.leaks import nothing_left
from towline.actors.leasefile import LeaseFile, mark


def test_both_see_the_same_and_the_later_deadline_counts() -> None:
    with nothing_left("fds", "files"):
        worker = LeaseFile(worker="w")
        supervisor = LeaseFile(os.dup(worker.fd))
        assert (worker.deadline, supervisor.epoch) == (0.0, 0)
        worker.extend(5.0)
        supervisor.extend(3.0)
        assert worker.deadline == supervisor.deadline == 5.0
        supervisor.extend(9.5)
        worker.extend(7.0)
        assert worker.deadline == supervisor.deadline == 9.5
        worker.extend(1.0)
        supervisor.extend(1.0)
        assert worker.deadline == supervisor.deadline == 9.5
        worker.obey(2**40)
        assert supervisor.epoch == 2**40
        worker.close()
        supervisor.close()


def test_each_side_writes_in_its_own_place() -> None:
    # were there one, a deadline read by one side, then moved on by the other, would be moved back by the first
    worker = LeaseFile(worker="w")
    supervisor = LeaseFile(os.dup(worker.fd))
    worker.extend(5.0)
    supervisor.extend(9.0)
    worker.obey(3)
    assert struct.unpack("ddQ", os.pread(worker.fd, 24, 0)) == (5.0, 9.0, 3)
    worker.close()
    supervisor.close()


def test_hidden_from_later_children_but_usable() -> None:
    lease = LeaseFile(worker="w")
    fd = lease.fd
    assert not os.get_inheritable(fd)
    lease.hide()
    lease.hide()
    assert lease.fd != fd
    said = subprocess.run(["ls", "-l", "/proc/self/fd"], close_fds=False, capture_output=True, text=True, check=True)
    assert "towline-lease" not in said.stdout
    lease.extend(4.0)
    assert lease.deadline == 4.0
    assert f"/memfd:{mark('w')} " in Path("/proc/self/maps").read_text()
    lease.close()
    assert mark("w") not in Path("/proc/self/maps").read_text()


def test_another_process_through_an_inherited_descriptor() -> None:
    lease = LeaseFile(worker="w")
    code = "import sys; from towline.actors.leasefile import LeaseFile\n"
    code += "lease = LeaseFile(int(sys.argv[1])); lease.hide(); lease.extend(lease.deadline + 1)"
    lease.extend(41.0)
    subprocess.run([sys.executable, "-c", code, str(lease.fd)], pass_fds=[lease.fd], check=True)
    assert lease.deadline == 42.0
    lease.close()

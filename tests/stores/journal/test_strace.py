"""Seen from outside: between an acknowledgement and the one before stand the write, its fsync and the look at the fence."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys

import pytest

SCRIPT = """
import asyncio, os, sys
from towline.stores.journal.writer import JournalWriter
from towline.stores.objects.local import LocalObjects

async def main():
    objects = LocalObjects(sys.argv[1], appendable=sys.argv[2] == "append")
    writer = await JournalWriter.claim(objects, nonce=bytes(16), leader="me")
    for i in range(4):
        await writer.commit([b"PAYLOAD-%d" % i])
        os.write(1, b"TOLD-%d" % i)

asyncio.run(main())
"""


@pytest.mark.skipif(not shutil.which("strace"), reason="strace is not installed")
@pytest.mark.parametrize("mode", ["append", "link"])
def test_fsync_comes_before_the_acknowledgement(tmp_path, mode):
    log = tmp_path / "strace"
    calls = "trace=write,writev,fdatasync,fsync,link,linkat,openat,stat,lstat,newfstatat,statx,close"
    run = ["strace", "-f", "-y", "-s", "4096", "-e", calls, "-o", str(log), sys.executable, "-c", SCRIPT]
    done = subprocess.run([*run, str(tmp_path / "store"), mode], capture_output=True, text=True)
    if "ptrace" in done.stderr and "not permitted" in done.stderr:
        pytest.skip("strace may not trace here")
    assert done.returncode == 0, done.stderr
    lines = [re.sub(r"^\d+ +", "", line) for line in log.read_text().splitlines()]
    told = [next(i for i, line in enumerate(lines) if f'"TOLD-{n}"' in line) for n in range(4)]
    for number, (start, end) in enumerate(zip([0, *told], told, strict=False)):
        between = lines[start:end]
        wrote = next(i for i, line in enumerate(between) if line.startswith("writev") and f"PAYLOAD-{number}" in line)
        assert succeeded(between[wrote:], r"f(data)?sync\(\d+<[^>]*store/")
        if mode == "append":
            assert [ln for ln in between[wrote:] if re.search(r"journal/0+2\.seg.*= -1 ENOENT", ln)], "no look for the fence"
        else:
            linked = next(i for i, line in enumerate(between) if re.match(r"link(at)?\(", line) and i > wrote)
            assert succeeded(between[wrote:linked], r"f(data)?sync\(\d+<[^>]*store/\.tmp/")
            assert succeeded(between[linked:], r"fsync\(\d+<[^>]*store/journal>")


def succeeded(lines, call):
    """Is there such a call that returned 0 (in one line, or unfinished and resumed)?"""
    for at, line in enumerate(lines):
        if re.match(call, line):
            resumed = [ln for ln in lines[at + 1 :] if re.match(r"<\.\.\. f(data)?sync resumed>", ln)]
            return line.endswith("= 0") or ("unfinished" in line and any(ln.endswith("= 0") for ln in resumed))
    return False

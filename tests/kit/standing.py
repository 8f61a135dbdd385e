"""Run a command beside servers that stand on loopback: a Ceph gateway (if it is installed) and the fake of Google's storage.

    python -m tests.kit.standing COMMAND ARGUMENT...

Each server is a process of its own, with a bucket in it. The command finds them by the environment (AWS_*,
STORAGE_EMULATOR_HOST), and the buckets in FILES_PLACES. Both keep everything in memory.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from tests.kit.gcs_servers import GcsServer
from tests.kit.servers import Missing, make_bucket, mortal, run_ceph


@contextmanager
def run_gcs() -> Iterator[GcsServer]:
    """The fake as a process."""
    command = [*mortal(), sys.executable, "-m", "tests.kit.gcs_fake"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield GcsServer(process.stdout.readline().strip())
        finally:
            process.kill()


def main(command: list[str]) -> int:
    """The command's exit code."""
    with ExitStack() as stack:
        environment, places = dict(os.environ), []
        try:
            ceph = stack.enter_context(run_ceph())
            environment |= ceph.environment()
            places.append(f"Ceph RGW=s3://{make_bucket(ceph)}")
        except Missing as why:
            print(f"without a Ceph gateway: {why}", file=sys.stderr)
        gcs = stack.enter_context(run_gcs())
        environment |= gcs.environment()
        places.append(f"GCS fake=gs://{gcs.new_bucket()}")
        return subprocess.run(command, env={**environment, "FILES_PLACES": ";".join(places)}).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

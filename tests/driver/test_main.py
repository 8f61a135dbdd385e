"""`python -m towline` is the command line."""

from __future__ import annotations

import subprocess
import sys

from towline import __version__


def test_it_runs_as_a_module() -> None:
    said = subprocess.run([sys.executable, "-m", "towline", "--version"], capture_output=True, text=True)
    assert (said.returncode, said.stdout) == (0, f"towline {__version__}\n")

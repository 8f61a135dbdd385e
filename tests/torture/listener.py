"""The outside subscriber (`python -m tests.torture.listener FOLDER`): writes down, with fsync, what it was told is complete.

It asks whoever answers: the leader that lives, or the store when none does. A leader that does not answer is left for another.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from pathlib import Path
from typing import Any

from tests.torture.body import boottime
from towline import client
from towline.engine.errors import TowlineError
from towline.offline import OfflineClient, forget

PAUSE_S = 0.2
PATIENCE_S = 1.0
"""How long it waits for an answer before it looks for another leader."""

QUESTION = {"states": ["completed"], "limit": 1_000_000}


def ask(store: str, line: client.LeaderClient | None) -> tuple[list[dict[str, Any]], client.LeaderClient | None]:
    """The jobs that are said to be complete, and the line that said so."""
    try:
        line = line or client.find(store)
        if line is not None:
            return line.ask("jobs", QUESTION, PATIENCE_S), line
        forget(store)
        with OfflineClient(store) as at_rest:
            return at_rest.ask("jobs", QUESTION), None
    except (OSError, TowlineError):  # TimeoutError and ConnectionError are OSErrors
        if line is not None:
            with contextlib.suppress(OSError):
                line.close()
        return [], None


def main() -> None:
    """Listen until killed."""
    folder = Path(sys.argv[1])
    store = str(folder / "store")
    told: set[str] = set()
    line = None
    file = os.open(folder / "told", os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
    while True:
        said, line = ask(store, line)
        news = [one for one in said if one["uuid"] not in told]
        if news:
            at = boottime()
            text = "".join(f"{one['uuid']} {one['index']} {one['attempts']} {at}\n" for one in news)
            os.write(file, text.encode())
            os.fsync(file)
            told.update(one["uuid"] for one in news)
        time.sleep(PAUSE_S)


if __name__ == "__main__":
    main()

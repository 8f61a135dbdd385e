"""The driver that is killed: `python -m tests.torture.subject run|resume|takeover FOLDER COUNT LONG SEED`.

Exits with 0 when the run has completed.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

import towline
from tests.torture.body import build


def main() -> int:
    """Run, resume or take over."""
    verb, folder, count, long, seed = sys.argv[1:]
    store = str(Path(folder, "store"))
    if verb == "run":
        run = towline.run(build(folder, int(count), int(long), random.Random(int(seed))), store=store, workers=2)
    else:
        run = towline.resume(store, workers=2, takeover=verb == "takeover")
    print(run.state, run.counts(), flush=True)
    return 0 if run.state == "completed" else 1


if __name__ == "__main__":
    sys.exit(main())

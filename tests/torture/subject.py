"""The driver that is killed: `python -m tests.torture.subject run|resume|takeover FOLDER COUNT LONG SEED`.

Exits with 0 when the run has completed. A store whose leader is still dying may refuse it for a moment.
"""

from __future__ import annotations

import random
import sys
import time
from pathlib import Path

import towline
from tests.torture.body import build
from towline.stores.errors import StoreLocked

PATIENCE_S = 20.0
"""How long it asks again for a store whose last leader still seems to live."""


def main() -> int:
    """Run, resume or take over."""
    verb, folder, count, long, seed = sys.argv[1:]
    store = str(Path(folder, "store"))
    until = time.monotonic() + PATIENCE_S
    while True:
        try:
            if verb == "run":
                flow = build(folder, int(count), int(long), random.Random(int(seed)))
                run = towline.run(flow, store=store, workers=2)
            else:
                run = towline.resume(store, workers=2, takeover=verb == "takeover")
            break
        except StoreLocked as error:
            print(f"{error}", file=sys.stderr, flush=True)
            if time.monotonic() > until:
                raise
            time.sleep(0.1)
    print(run.state, run.counts(), flush=True)
    return 0 if run.state == "completed" else 1


if __name__ == "__main__":
    sys.exit(main())

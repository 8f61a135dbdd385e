"""The engine is pure: a whole run with clock, chance, files and sockets forbidden, in a process without Ray and asyncio.

The run is a leader's core and two workers' cores joined by lists (tests/kit/harbour), with growth, retries, a death and a
takeover. What is forbidden raises; that it does is tried first, so that the test cannot pass on nothing.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

PROGRAM = """
import sys
sys.path.insert(0, sys.argv[1])
import towline.engine.core, towline.engine.worker
loaded = {"ray", "asyncio", "numpy", "pyarrow", "cloudpickle"} & set(sys.modules)
assert not loaded, f"the engine loads {loaded}"

from tests.kit.builders import chunk, spec, uuid_of
from tests.kit.harbour import Harbour, Script
from towline.engine import events as ev
import builtins, os, random, secrets, socket, time, uuid

used = []
def forbid(module, name):
    def raiser(*args, **kwargs):
        used.append(f"{module.__name__}.{name}")
        raise PermissionError(used[-1])
    if isinstance(getattr(module, name), type):
        raiser = type(name, (), {"__init__": raiser})
    setattr(module, name, raiser)

for module, names in {
    builtins: ["open", "input", "print"],
    os: ["open", "urandom", "getrandom", "stat", "listdir", "mkdir", "replace", "fork", "getpid", "environb"],
    time: [n for n in dir(time) if callable(getattr(time, n)) and n != "struct_time"],
    random: [n for n in dir(random) if callable(getattr(random, n)) and not n.startswith("_")],
    secrets: ["token_bytes", "token_hex", "randbelow"],
    uuid: ["uuid1", "uuid4"],
    socket: ["socket", "socketpair", "create_connection"],
}.items():
    for name in names:
        forbid(module, name)

import datetime
for tried in (time.monotonic, random.random, lambda: os.urandom(1), lambda: open("x"), socket.socket, uuid.uuid4):
    try:
        tried()
    except PermissionError:
        continue
    raise AssertionError("this was to be forbidden")
used.clear()

harbour = Harbour()
harbour.commit(1)
kinds = ["plain", "heir", "detour", "addition", "replace", "stored", "stop_children", "plain"]
parents = [[], [0], [0], [1, 2], [3], [3], [4], [6]]
specs = [spec(retries=1, backoff_s=0.01), spec("c", release="committed")]
harbour.chunks["flow"] = [
    chunk(parents[:3], total=8, specs=specs, spec_of=[0, 1, 0]),
    chunk(parents[3:], base=3, total=8, specs=specs, spec_of=[0, 1, 0, 1, 0]),
]
for number, kind in enumerate(kinds):
    harbour.scripts[harbour.key_of(uuid_of(number)), 1] = Script(number % 2, kind)
hands = [harbour.hire(), harbour.hire()]
for _ in range(3):
    harbour.turn()
harbour.kill(hands[0], proof=True)
harbour.fail_over(0)
naive = harbour.settle()
harbour.feed(ev.Closing(1))
states = sorted({job.state.label for job in naive.jobs})
assert not used, used
assert len(naive.jobs) > 8 and "completed" in states, states
sys.stdout.write(f"{len(naive.jobs)} jobs, {states}")
"""


def test_a_whole_run_needs_nothing_of_the_outside() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM, str(ROOT)], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "completed" in done.stdout


def test_the_same_events_give_the_same_bytes() -> None:
    """No order of a set, no address and no hash seed shows in what is written."""
    program = PROGRAM + "\nimport zlib\nsys.stdout.write(' %08x' % zlib.crc32(b''.join(harbour.desk.log)))"
    said = set()
    for seed in ("0", "1", "2"):
        env = {"PYTHONHASHSEED": seed, "PATH": ""}
        done = subprocess.run(
            [sys.executable, "-c", program, str(ROOT)], cwd=ROOT, env=env, capture_output=True, text=True, check=True
        )
        said.add(done.stdout)
    assert len(said) == 1, said

"""A leader that runs nothing: it speaks the verbs of a run over plain lists, so that the driver is tested without actors.

`states` is the script of "wait": each question takes the next state, and the last one stays.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

from towline.engine import codec
from towline.engine.errors import UsageError

FLOW = "f1"


class FakeWire:
    """The transport: `ask` and nothing else, which is the least that a leader offers."""

    def __init__(self, states: tuple[str, ...] = ("completed",), *, failures: int = 0, store: str = "runs/x") -> None:
        self.states: Iterator[str] = iter(states)
        self.state = "running"
        self.store = store
        self.asked: list[str] = []
        self.chunks: list[bytes] = []
        self.refuse_chunk: int | None = None
        self.jobs = 0
        self.failures = failures
        self.outputs: dict[str, Any] = {}
        self.gone = False
        self.on_wait: Callable[[], None] = lambda: None

    def ask(self, verb: str, payload: Any = None, timeout_s: float | None = None) -> Any:
        if self.gone:
            raise ConnectionError("the leader hung up")
        self.asked.append(verb)
        return getattr(self, f"_{verb}")(payload)

    def _submit(self, chunk: bytes) -> dict[str, int]:
        if self.refuse_chunk == len(self.chunks):
            raise UsageError("duplicate job")
        self.chunks.append(chunk)
        first, self.jobs = self.jobs, self.jobs + len(chunk)
        return {"first": first, "count": len(chunk)}

    def _status(self, _payload: Any) -> dict[str, Any]:
        ended = {"completed": self.jobs - self.failures, "failed": self.failures}
        return {
            "state": self.state,
            "counts": {"ready": self.jobs} if self.state == "running" else {k: n for k, n in ended.items() if n},
            "total": self.jobs,
            "flows": [[FLOW, "flow", self.jobs, self.jobs]] if self.jobs else [],
            "workers": 1,
            "epoch": 1,
            "store": self.store,
            "incomplete": False,
            "leader": {"host": "here", "pid": 7},
        }

    def _wait(self, _payload: Any) -> dict[str, Any]:
        self.on_wait()
        self.state = next(self.states, self.state)
        return self._status(None)

    def _jobs(self, payload: Any) -> list[dict[str, Any]]:
        failed = range(self.failures) if "failed" in payload["states"] else ()
        good = [(uuid, 1) for uuid in self.outputs] if "completed" in payload["states"] else []
        said = [_said(n, f"u{n}", "failed", "ValueError: bad") for n in failed]
        said += [_said(n, uuid, "completed", "") for n, (uuid, _index) in enumerate(good, self.failures)]
        return said[: payload["limit"]]

    def _output(self, payload: Any) -> bytes | None:
        uuid = payload["uuid"]
        return codec.encode(self.outputs[uuid]) if uuid in self.outputs else None

    def _completed(self, _payload: Any) -> list[list[Any]]:
        return [[uuid, 1, codec.encode(value)] for uuid, value in self.outputs.items()]

    def _logs(self, payload: Any) -> dict[str, bytes]:
        return {"stdout": f"out of {payload['uuid']}\n".encode(), "stderr": b"\xff err\n"}

    def _cancel(self, _payload: Any) -> dict[str, int]:
        self.state, self.states = "stopped", iter(())
        return {"stopped": self.jobs}

    def _close(self, _payload: Any) -> None:
        self.gone = True


def _said(row: int, uuid: str, state: str, message: str) -> dict[str, Any]:
    kind, frames = ("error", f"Traceback of {uuid}\n  line 1") if message else ("", "")
    return {
        "row": row, "uuid": uuid, "index": 1, "name": f"job {uuid}", "state": state,
        "kind": kind, "message": message, "traceback": frames, "attempts": 1,
    }  # fmt: skip


class FakeLeader:
    """What `start` returns: the wire, and a way to close it."""

    def __init__(self, wire: FakeWire | None = None) -> None:
        self.client = wire or FakeWire()
        self.closed = 0
        self.options: list[dict[str, Any]] = []
        self.body: Callable[[], None] = lambda: None
        self.ran_in: threading.Thread | None = None

    def run_jobs_until_idle(self, **options: Any) -> None:
        self.options.append(options)
        self.ran_in = threading.current_thread()
        self.body()

    def close(self) -> None:
        self.closed += 1
        self.client.gone = True

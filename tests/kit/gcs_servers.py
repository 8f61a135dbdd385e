"""Servers that speak Google Cloud Storage's JSON API, on free loopback ports: the faithful fake, and an emulator for plain I/O.

`gcs` and `plain_gcs` are session fixtures, known everywhere by tests/conftest.py; tests take buckets of their own and call
`calm` after they have asked for faults. The emulator (PyPI gcp-storage-emulator) is somebody else's reading of the API: it
stores and gives back, but ignores every condition and pages no listing, so nothing may be built on it.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from http.client import HTTPConnection
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit
from uuid import uuid4

import pytest


class GcsServer(NamedTuple):
    """A server that answers. Its methods speak HTTP themselves, so that they look behind the back of the code under test."""

    endpoint: str

    def environment(self) -> dict[str, str]:
        """What makes Google's clients use it."""
        return {"STORAGE_EMULATOR_HOST": self.endpoint}

    def ask(self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None) -> tuple[int, bytes]:
        """Status and body; a body that is not bytes is sent as JSON."""
        connection = HTTPConnection(urlsplit(self.endpoint).netloc, timeout=30)
        try:
            sent = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
            kind = {} if body is None else {"Content-Type": "application/json"}
            connection.request(method, path, sent, kind | dict(headers or {}))
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def new_bucket(self, **resource: Any) -> str:
        """A bucket of one's own, with these properties."""
        name = f"b-{uuid4().hex[:12]}"
        status, said = self.ask("POST", "/storage/v1/b?project=p", {"name": name, **resource})
        assert status == 200, said
        return name

    def peek(self, bucket: str, name: str, headers: Mapping[str, str] | None = None) -> bytes | None:
        """The stored bytes; None if there is no such object."""
        path = f"/download/storage/v1/b/{bucket}/o/{quote(name, safe='')}?alt=media"
        status, body = self.ask("GET", path, headers=headers)
        assert status in (200, 404), body
        return body if status == 200 else None

    def names(self, bucket: str) -> list[str]:
        """All objects of a (small) bucket, the hidden ones too."""
        status, body = self.ask("GET", f"/storage/v1/b/{bucket}/o")
        assert status == 200, body
        return [item["name"] for item in json.loads(body).get("items") or ()]

    # --------------------------------------------------------------------------------------------- only of the fake

    def fault(self, match: str, **what: Any) -> None:
        """See `gcs_fake.Fault`."""
        self._control("POST", "faults", {"match": match, **what})

    def settings(self, **what: Any) -> None:
        """See `gcs_cloud.Settings`."""
        self._control("POST", "settings", what)

    def calm(self) -> None:
        """No faults, no special settings, an empty log."""
        self._control("DELETE", "faults")
        self.calm_log()

    def calm_log(self) -> None:
        """An empty log."""
        self._control("DELETE", "requests")

    def requests(self) -> list[str]:
        """All since the last `calm`, as "METHOD /path?query -> status"."""
        found = json.loads(self._control("GET", "requests"))
        assert isinstance(found, list)
        return found

    def _control(self, method: str, what: str, body: Any = None) -> bytes:
        status, said = self.ask(method, f"/_fake/{what}", body)
        assert status == 200, said
        return said


@pytest.fixture(scope="session")
def gcs() -> Iterator[GcsServer]:
    """The faithful fake, for the whole session."""
    from tests.kit.gcs_fake import serving

    with serving() as endpoint:
        yield GcsServer(endpoint)


@pytest.fixture(scope="session")
def plain_gcs() -> Iterator[GcsServer]:
    """gcp-storage-emulator, for the whole session."""
    pytest.importorskip("gcp_storage_emulator", reason="gcp-storage-emulator is not installed: pip install gcp-storage-emulator")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    start = "from gcp_storage_emulator.__main__ import main; main()"
    command = [sys.executable, "-c", start, "start", "--host=127.0.0.1", f"--port={port}", "--in-memory"]
    if setpriv := shutil.which("setpriv"):
        command = [setpriv, "--pdeathsig", "KILL", *command]
    server = GcsServer(f"http://127.0.0.1:{port}")
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ, "PYTHONWARNINGS": "ignore"}
    )
    try:
        _wait_until_it_answers(server, process)
        yield server
    finally:
        process.kill()
        process.wait()


def _wait_until_it_answers(server: GcsServer, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + 30
    while True:
        try:
            server.ask("GET", "/")
            return
        except OSError:
            assert process.poll() is None, "gcp-storage-emulator ended at once"
            assert time.monotonic() < until, "gcp-storage-emulator does not answer"
            time.sleep(0.05)

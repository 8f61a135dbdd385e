"""moto's server with one thing put right: `python -m tests.kit.moto_server PORT` serves one request after the other.

moto checks a condition and then writes, and lets other threads run in between, so that now and then two of many racing creators
win. S3 does not do that; here a lock does what its servers do. A request's body is read before the lock is taken.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterable
from threading import Lock
from typing import Any

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import run_simple

App = Callable[[dict[str, Any], Any], Iterable[bytes]]


def one_by_one(app: App) -> App:
    """The same application, never in two threads at once."""
    lock = Lock()

    def serve(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        length = int(environ.get("CONTENT_LENGTH") or 0)
        environ["wsgi.input"] = io.BytesIO(environ["wsgi.input"].read(length) if length else b"")
        with lock:
            return [b"".join(app(environ, start_response))]

    return serve


if __name__ == "__main__":
    application = one_by_one(DomainDispatcherApplication(create_backend_app))
    run_simple("127.0.0.1", int(sys.argv[1]), application, threaded=True, request_handler=MotoRequestHandler)

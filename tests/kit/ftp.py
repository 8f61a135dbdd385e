"""A real FTP server (pyftpdlib) on loopback over a folder, for a user and for anonymous, with or without TLS."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pyftpdlib.authorizers import DummyAuthorizer
from pyftpdlib.handlers import FTPHandler, TLS_FTPHandler
from pyftpdlib.ioloop import IOLoop
from pyftpdlib.servers import FTPServer

USER, PASSWORD = "mé:r@y", "s/cret p@ss"
"""What has to be escaped in a URL."""


@dataclass
class Ftp:
    """A server and what it was asked."""

    folder: Path
    port: int
    log: list[str] = field(default_factory=list)
    """Commands, in order."""
    quits: int = 0

    @property
    def anonymous(self) -> str:
        """URL of the folder."""
        return f"ftp://127.0.0.1:{self.port}"


@contextmanager
def serving(
    folder: Path, *, without: tuple[str, ...] = (), pair: Path | None = None, implicit: bool = False, cut_at: int | None = None
) -> Iterator[Ftp]:
    """A server in a thread. `without`: commands that it does not know. `pair`: certificate and key, and TLS is demanded.
    `cut_at`: downloads break off after so many bytes."""
    authorizer = DummyAuthorizer()
    authorizer.add_user(USER, PASSWORD, str(folder), perm="elradfmwMT")
    authorizer.add_anonymous(str(folder))
    ioloop = IOLoop()
    handler = _handler(ioloop, authorizer, without, pair, implicit, cut_at)
    server = FTPServer(("127.0.0.1", 0), handler, ioloop=ioloop)
    handler.told = Ftp(folder, server.address[1])
    stop = threading.Event()

    def run() -> None:
        while not stop.is_set():
            server.serve_forever(timeout=0.02, blocking=False, handle_exit=False)
        server.close_all()

    thread = threading.Thread(target=run, name="ftp-server", daemon=True)
    thread.start()
    try:
        yield handler.told
    finally:
        stop.set()
        thread.join(10)


def _handler(
    ioloop: IOLoop, authorizer: Any, without: tuple[str, ...], pair: Path | None, implicit: bool, cut_at: int | None
) -> Any:
    base: Any = TLS_FTPHandler if pair else FTPHandler

    class Handler(base):  # type: ignore[misc, valid-type] # chosen at run time
        told: Ftp
        use_sendfile = False
        auth_failed_timeout = 0

        def pre_process_command(self, line: str, cmd: str, arg: str) -> None:
            self.told.log.append("PASS ***" if cmd == "PASS" else line)
            if cmd in without:
                self.respond("500 never heard of it")
            else:
                super().pre_process_command(line, cmd, arg)

        def handle(self) -> None:
            if implicit:
                self.secure_connection(self.ssl_context)
            super().handle()

        def on_disconnect(self) -> None:
            self.told.quits += 1

    Handler.authorizer = authorizer
    Handler.permit_foreign_addresses = True
    if pair:
        Handler.certfile = str(pair)
        Handler.tls_control_required = Handler.tls_data_required = not implicit
        Handler.ssl_context = Handler.get_ssl_context()
    if cut_at is not None:

        class Cut(Handler.dtp_handler):  # type: ignore[misc, name-defined] # as above
            ac_out_buffer_size = cut_at

            def handle_write(self) -> None:
                super().handle_write()
                if self.tot_bytes_sent >= cut_at:
                    self.transfer_finished = True
                    self.cmd_channel.respond("426 cut by the test")
                    self.close()

        Handler.dtp_handler = Cut
    return Handler

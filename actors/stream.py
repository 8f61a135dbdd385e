"""Frames over a local stream: a 4-byte length, then msgpack. The hot path leaves Ray here (docs/decisions/0003).

A server accepts a connection after it has sent the leader's token (compared in constant time); before that it reads no
more than the token's length. Workers use blocking sockets from their own threads; the leader serves from its event loop.
"""

from __future__ import annotations

import asyncio
import hmac
import socket
import struct
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import cast

from towline.engine.errors import TowlineError

TOKEN_CHARS = 64
MAX_FRAME = 1 << 30
"""Bytes; a longer announcement is not a frame of ours."""
TOKEN_S = 10.0
"""A peer that has not sent the token by then is hung up on."""
CLOSE_S = 1.0
"""How long a closing server lets what is queued go out."""
SEND_S = 60.0
"""A peer that takes nothing for so long is as good as gone."""

_LENGTH = struct.Struct("<I")


class StreamClosed(TowlineError):
    """The other end is gone."""


class Connection(asyncio.Protocol):
    """One peer of the leader."""

    def __init__(self, server: StreamServer) -> None:
        self._server = server
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._trusted = False
        self._patience: asyncio.TimerHandle | None = None
        self.worker = ""
        """Set by the owner once the peer has said Hello."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's does not inherit from it
        self._server.connections.add(self)
        self._patience = asyncio.get_running_loop().call_later(TOKEN_S, self._late)

    def _late(self) -> None:
        if not self._trusted:
            self.abort()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self._trusted:
            if len(self._buffer) < TOKEN_CHARS:
                return
            token = bytes(self._buffer[:TOKEN_CHARS])
            if not hmac.compare_digest(token, self._server.token):
                self.close()
                return
            del self._buffer[:TOKEN_CHARS]
            self._trusted = True
            self._calm()
        buffer, at = self._buffer, 0
        frames: list[bytes] = []
        while len(buffer) - at >= 4:
            (length,) = _LENGTH.unpack_from(buffer, at)
            if length > MAX_FRAME:
                self.close()
                return
            if len(buffer) - at - 4 < length:
                break
            frames.append(bytes(memoryview(buffer)[at + 4 : at + 4 + length]))
            at += 4 + length
        del buffer[:at]
        for frame in frames:
            self._server.on_frame(self, frame)

    def _calm(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def connection_lost(self, exc: Exception | None) -> None:
        self._calm()
        self._server.connections.discard(self)
        self._server.on_close(self)

    def send(self, frame: bytes) -> None:
        """Queue a frame; the transport writes it."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.writelines((_LENGTH.pack(len(frame)), frame))

    def close(self) -> None:
        """Hang up, once what is queued has gone out."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Hang up at once."""
        if self._transport is not None:
            self._transport.abort()


class StreamServer:
    """Listens on a unix socket (mode 0600 in a 0700 folder)."""

    def __init__(self, token: str, on_frame: Callable[[Connection, bytes], None], on_close: Callable[[Connection], None]) -> None:
        self.token = token.encode()
        self.on_frame = on_frame
        self.on_close = on_close
        self.connections: set[Connection] = set()
        self._server: asyncio.Server | None = None

    async def start(self, path: Path) -> None:
        """Begin to listen at `path`."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(lambda: Connection(self), path=str(path))
        await asyncio.to_thread(path.chmod, 0o600)

    async def close(self) -> None:
        """Hang up on everybody and stop listening."""
        if self._server is not None:
            self._server.close()
        for connection in list(self.connections):
            connection.close()
        until = time.monotonic() + CLOSE_S
        while self.connections and time.monotonic() < until:  # noqa: ASYNC110 - transports tell their end one by one
            await asyncio.sleep(0.001)
        for connection in list(self.connections):
            connection.abort()  # it does not take what was sent to it
        await asyncio.sleep(0)


class Stream:
    """The blocking end: `send` from any thread, `receive` from one."""

    def __init__(self, path: str, token: str, timeout_s: float = 10.0, send_s: float = SEND_S) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._lock = threading.Lock()
        self._buffer = bytearray()
        try:
            self._socket.settimeout(timeout_s)
            self._socket.connect(path)
            self._socket.sendall(token.encode())
            # blocking again, but a send to a peer that reads nothing ends some time (the receiving thread is not to be affected)
            self._socket.settimeout(None)
            seconds, part = divmod(send_s, 1.0)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", int(seconds), int(part * 1e6)))
        except OSError as error:
            self._socket.close()
            raise StreamClosed(f"no leader answers at {path}: {error}") from None

    def send(self, *frames: bytes) -> None:
        """Send whole frames in order. Raises StreamClosed; the stream is of no use then."""
        data = b"".join(part for frame in frames for part in (_LENGTH.pack(len(frame)), frame))
        try:
            with self._lock:
                self._socket.sendall(data)
        except OSError as error:
            raise StreamClosed(str(error)) from None

    def receive(self, timeout_s: float | None = None) -> bytes | None:
        """The next frame, or None after `timeout_s`. Raises StreamClosed."""
        while True:
            if len(self._buffer) >= 4:
                (length,) = _LENGTH.unpack_from(self._buffer)
                if len(self._buffer) >= 4 + length:
                    frame = bytes(memoryview(self._buffer)[4 : 4 + length])
                    del self._buffer[: 4 + length]
                    return frame
            try:
                if timeout_s is not None and not self._readable(timeout_s):
                    return None
                data = self._socket.recv(1 << 20)
            except (OSError, ValueError) as error:  # ValueError: it was closed in another thread
                raise StreamClosed(str(error)) from None
            if not data:
                raise StreamClosed("the leader hung up")
            self._buffer += data

    def _readable(self, timeout_s: float) -> bool:
        import select

        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        return bool(poll.poll(timeout_s * 1000))

    def fileno(self) -> int:
        """For poll: readable means that `receive(0.0)` may have something. Ask it until it has nothing."""
        return self._socket.fileno()

    def close(self) -> None:
        """Hang up; a `receive` in another thread ends with StreamClosed."""
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # it was not connected any more
        self._socket.close()

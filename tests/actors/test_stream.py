"""Frames over a unix socket: whole, in order, only after the token; neither end waits for ever, and nothing stays open."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
import struct
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.kit.leaks import eventually, nothing_left
from towline.actors import stream
from towline.actors.stream import Connection, Stream, StreamClosed, StreamServer

TOKEN = "a1" * 32


class Server:
    """A server that keeps what it hears."""

    def __init__(self, path: Path) -> None:
        self.path = str(path / "s")
        self.frames: list[bytes] = []
        self.closed: list[Connection] = []
        self.links: list[Connection] = []
        self.echo = False
        self.news = asyncio.Event()
        self.server = StreamServer(TOKEN, self._on_frame, self._on_close)

    def _on_frame(self, link: Connection, frame: bytes) -> None:
        self.frames.append(frame)
        self.links.append(link)
        if self.echo:
            link.send(frame)
        self.news.set()

    def _on_close(self, link: Connection) -> None:
        self.closed.append(link)
        self.news.set()

    async def until(self, frames: int = 0, closed: int = 0) -> None:
        async with asyncio.timeout(30):
            while len(self.frames) < frames or len(self.closed) < closed:
                self.news.clear()
                await self.news.wait()


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    os.chdir(tmp_path)
    with nothing_left("fds"):
        made = Server(tmp_path)
        await made.server.start(Path(made.path))
        yield made
        await made.server.close()
        assert not made.server.connections
        await asyncio.sleep(0.001)  # closed sockets are let go in the loop's next round


def raw(server: Server, data: bytes) -> socket.socket:
    line = socket.socket(socket.AF_UNIX)
    line.settimeout(30)
    line.connect(server.path)
    line.sendall(data)
    return line


def framed(*frames: bytes) -> bytes:
    return b"".join(struct.pack("<I", len(f)) + f for f in frames)


async def hung_up(line: socket.socket) -> bool:
    """Does the server end this connection?"""

    def read() -> bool:
        try:
            return line.recv(1) == b""
        except ConnectionResetError:
            return True

    with line:
        return await asyncio.to_thread(read)


async def test_nobody_else_can_reach_it(server: Server) -> None:
    assert stat.S_IMODE(os.stat(server.path).st_mode) == 0o600


@pytest.mark.parametrize(
    "word", [b"b2" * 32, b"a1" * 31 + b"aX", TOKEN.upper().encode(), b"\0" * 64, b"\xff" * 64 + framed(b"hello")]
)
async def test_a_wrong_token_is_hung_up_on(server: Server, word: bytes) -> None:
    line = raw(server, word)
    assert await hung_up(line)
    await server.until(closed=1)
    assert server.frames == []


async def test_a_short_token_gets_nothing_said_and_nothing_heard(server: Server) -> None:
    line = raw(server, TOKEN.encode()[:63])
    good = raw(server, TOKEN.encode() + framed(b"hello"))
    await server.until(frames=1)
    assert server.frames == [b"hello"]
    line.sendall(TOKEN.encode()[63:] + framed(b"late"))
    await server.until(frames=2)
    line.close()
    good.close()
    await server.until(closed=2)


async def test_who_never_sends_the_token_is_hung_up_on(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "TOKEN_S", 0.01)
    assert await hung_up(raw(server, b"a1"))
    await server.until(closed=1)


async def test_who_did_is_left_in_peace(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "TOKEN_S", 0.01)
    line = raw(server, TOKEN.encode())
    assert await hung_up(raw(server, b""))  # the time is up for one who came later
    line.sendall(framed(b"still here"))
    await server.until(frames=1)
    line.close()


async def test_a_frame_that_is_too_long_is_none(server: Server) -> None:
    line = raw(server, TOKEN.encode() + struct.pack("<I", stream.MAX_FRAME + 1) + b"x" * 100)
    assert await hung_up(line)
    assert server.frames == []


async def test_frames_in_pieces(server: Server) -> None:
    data = TOKEN.encode() + framed(b"", b"one", b"x" * 300)
    line = raw(server, b"")
    line.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    for byte in range(len(data)):
        await asyncio.to_thread(line.sendall, data[byte : byte + 1])
    await server.until(frames=3)
    assert server.frames == [b"", b"one", b"x" * 300]
    line.sendall(framed(b"half a frame")[:-1])
    line.close()
    await server.until(closed=1)
    assert len(server.frames) == 3


async def test_many_frames_at_once_and_large_ones_both_ways(server: Server) -> None:
    server.echo = True
    frames = [os.urandom(n % 50) for n in range(3000)] + [os.urandom(5 << 20), b"last"]
    with Closing(Stream(server.path, TOKEN)) as line:
        sender = threading.Thread(target=lambda: line.send(*frames))
        sender.start()
        heard = await asyncio.to_thread(lambda: [line.receive(30.0) for _ in frames])
        sender.join()
    assert heard == frames == server.frames


@settings(max_examples=25, deadline=None)
@given(frames=st.lists(st.binary(max_size=40), max_size=8), cuts=st.lists(st.integers(0, 400), max_size=6))
def test_however_they_are_cut(frames: list[bytes], cuts: list[int]) -> None:
    heard: list[bytes] = []
    server = StreamServer(TOKEN, lambda _link, frame: heard.append(frame), lambda _link: None)
    link = Connection(server)
    data = TOKEN.encode() + framed(*frames)
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    for start, end in zip(places, places[1:], strict=False):
        link.data_received(data[start:end])
    assert heard == frames


class Closing:
    """A Stream that is closed at the end."""

    def __init__(self, line: Stream) -> None:
        self.line = line

    def __enter__(self) -> Stream:
        return self.line

    def __exit__(self, *_: object) -> None:
        self.line.close()


async def test_a_stream_waits_as_long_as_it_is_told(server: Server) -> None:
    with Closing(Stream(server.path, TOKEN)) as line:
        assert line.receive(0.0) is None
        line.send(b"hello")
        await server.until(frames=1)
        server.links[0].send(b"a")
        server.links[0].send(b"b")
        assert await asyncio.to_thread(line.receive, 30.0) == b"a"
        assert await asyncio.to_thread(line.receive, 30.0) == b"b"
        assert line.receive(0.001) is None


async def test_either_end_notices_the_other_go(server: Server) -> None:
    line = Stream(server.path, TOKEN)
    line.send(b"hello")
    await server.until(frames=1)
    server.links[0].close()
    with pytest.raises(StreamClosed, match="hung up"):
        await asyncio.to_thread(line.receive, 30.0)
    await server.until(closed=1)
    server.links[0].send(b"into the void")
    line.close()
    line.close()
    with pytest.raises(StreamClosed):
        line.send(b"more")
    with pytest.raises(StreamClosed):
        line.receive(0.0)
    with pytest.raises(StreamClosed):
        line.receive(None)


@pytest.mark.parametrize("timeout_s", [None, 60.0])
async def test_closing_wakes_a_thread_that_receives(server: Server, timeout_s: float | None) -> None:
    line = Stream(server.path, TOKEN)
    waiting = asyncio.ensure_future(asyncio.to_thread(line.receive, timeout_s))
    line.send(b"hello")
    await server.until(frames=1)
    line.close()
    with pytest.raises(StreamClosed):
        await asyncio.wait_for(waiting, 30)


async def test_a_leader_that_reads_nothing_does_not_hold_a_sender_for_ever(tmp_path: Path) -> None:
    with nothing_left("fds"), socket.socket(socket.AF_UNIX) as deaf:
        deaf.bind(str(tmp_path / "deaf"))
        deaf.listen()
        line = Stream(str(tmp_path / "deaf"), TOKEN, send_s=0.02)
        with pytest.raises(StreamClosed):
            await asyncio.to_thread(line.send, bytes(8 << 20))
        line.close()


async def test_nobody_answers(tmp_path: Path) -> None:
    with nothing_left("fds"):
        with pytest.raises(StreamClosed, match="no leader answers at"):
            Stream(str(tmp_path / "nothing"), TOKEN)
        with socket.socket(socket.AF_UNIX) as full:
            full.bind(str(tmp_path / "full"))
            full.listen(0)
            others = []
            with pytest.raises(StreamClosed, match="no leader answers at"):
                for _ in range(100):
                    others.append(Stream(str(tmp_path / "full"), TOKEN, 0.02))
            for other in others:
                other.close()


async def test_a_closing_server_hands_over_what_is_queued(server: Server) -> None:
    line = Stream(server.path, TOKEN)
    line.send(b"hello")
    await server.until(frames=1)
    server.links[0].send(b"x" * (4 << 20))
    closing = asyncio.ensure_future(server.server.close())
    assert await asyncio.to_thread(line.receive, 30.0) == b"x" * (4 << 20)
    with pytest.raises(StreamClosed):
        await asyncio.to_thread(line.receive, 30.0)
    await closing
    line.close()


async def test_but_not_to_one_that_takes_nothing(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "CLOSE_S", 0.01)
    line = Stream(server.path, TOKEN)
    line.send(b"hello")
    await server.until(frames=1)
    server.links[0].send(b"x" * (4 << 20))
    await server.server.close()
    assert not server.server.connections
    line.close()
    assert eventually(lambda: len(server.closed) == 1)


async def test_a_frame_handler_that_fails_costs_one_connection(server: Server) -> None:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _loop, _context: None)
    server.server.on_frame = lambda _link, _frame: 1 / 0
    assert await hung_up(raw(server, TOKEN.encode() + framed(b"boom")))
    server.server.on_frame = server._on_frame
    line = raw(server, TOKEN.encode() + framed(b"fine"))
    await server.until(frames=1)
    line.close()

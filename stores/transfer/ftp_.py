"""ftp and ftps: an old protocol with a good client in the standard library, which runs in threads here.

User and password come from the URL; without, it is anonymous. Every call logs in anew: control connections that wait are cut
off by servers. Paths are bytes on the wire, as latin-1 maps one to one, and UTF-8 with surrogates to us, so any name is
reached. `ftps` is TLS from the first byte on port 990 (the default), and TLS after AUTH on any other port; data is encrypted
either way. An upload goes to a temporary name and is renamed.

A thread that waits for the network is let go by shutting down its socket, then waited for: nothing outlives a cancelled call.
"""

# ruff: noqa: S321 - that FTP is clear text is the choice of whoever names such a URL; there is FTPS
from __future__ import annotations

import asyncio
import ftplib
import socket
import ssl
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress
from functools import partial
from typing import TypeVar
from uuid import uuid4

from towline.stores.objects.retry import Judged
from towline.stores.objects.streaming import end, in_thread
from towline.stores.transfer.base import (
    ASKING,
    CONNECT_S,
    PIECE,
    STALL_S,
    Fetched,
    Found,
    Piece,
    TransferError,
    directory,
    missing,
    no_directory,
    refused,
    translated,
)
from towline.stores.transfer.url import Url

T = TypeVar("T")

IMPLICIT_PORT = 990
REPLY_S = 60.0
"""A server that says nothing for so long is gone."""
_UNKNOWN = {"500", "501", "502", "504"}
"""The server has no such command."""
_ABSENT = {"550", "553"}
"""Not there, or not for us."""
_AUTH = {"331", "332", "530", "532"}


class FtpScheme:
    """ftp: and ftps: URLs."""

    async def look(self, url: Url) -> Found:
        """See `Scheme.look`."""
        async with _line(url) as line:
            return await line.run(line.look)

    async def entries(self, url: Url) -> list[str]:
        """See `Scheme.entries`."""
        async with _line(url) as line:
            return await line.run(line.entries)

    @asynccontextmanager
    async def read(self, url: Url) -> AsyncIterator[Fetched]:
        """See `Scheme.read`."""
        async with _line(url) as line:
            size = await line.run(line.begin_read)
            async with aclosing(line.pieces()) as pieces:
                yield Fetched(pieces, size, False)

    async def write(self, url: Url, pieces: AsyncIterable[Piece], size: int | None, executable: bool) -> None:
        """See `Scheme.write`."""
        async with _line(url) as line:
            await line.run(line.begin_write)
            try:
                async for piece in pieces:
                    await line.run(partial(line.send, piece))
                await line.run(line.publish)
            except BaseException:
                await line.run(line.drop)
                raise

    async def close(self) -> None:
        """Nothing is held open between calls."""


@asynccontextmanager
async def _line(url: Url) -> AsyncIterator[_Line]:
    line = _Line(url)
    try:
        await ASKING(lambda: line.run(line.connect), _verdict)
        yield line
        await line.run(line.quit)
    finally:
        await line.run(line.hang_up)


def _verdict(error: Exception) -> Judged:
    """See `retry.Judge`: a server that cannot be reached, or has too many guests, may be free later."""
    if isinstance(error, TimeoutError):
        return Judged(TransferError("the FTP server did not answer in time"), again=True)
    if isinstance(error, TransferError):
        return Judged(TransferError(str(error)), again=True)
    raise error


class _Line:
    """One control connection, and the data connection of one transfer. All but `run` block; one of them at a time."""

    def __init__(self, url: Url) -> None:
        self._url = url
        self._ftp = _client(url)
        self._data: socket.socket | None = None
        self._path = _wire(url.path)
        self._temp = ""

    async def run(self, work: Callable[[], T]) -> T:
        """Do it in a thread, with errors translated; when cancelled, cut what the thread waits for, and wait for its end."""

        def translating() -> T:
            with _translated(self._url):
                return work()

        task = asyncio.ensure_future(in_thread(translating))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            self._cut()
            await end([task])
            raise

    def _cut(self) -> None:
        """Wake the thread that waits: for data where there is a transfer (the control line is still needed then)."""
        waited = self._data or self._ftp.sock
        if waited is not None:
            with suppress(OSError):
                waited.shutdown(socket.SHUT_RDWR)

    def connect(self) -> None:
        url, ftp = self._url, self._ftp
        ftp.close()
        ftp.connect(url.host, url.port or (IMPLICIT_PORT if url.scheme == "ftps" else ftplib.FTP_PORT), CONNECT_S)
        assert ftp.sock is not None
        ftp.sock.settimeout(REPLY_S)
        ftp.login(_wire(url.user or ""), _wire(url.password or ""))
        if isinstance(ftp, ftplib.FTP_TLS):
            ftp.prot_p()
        ftp.voidcmd("TYPE I")

    def quit(self) -> None:
        """Take leave."""
        with suppress(*ftplib.all_errors):
            self._ftp.quit()

    def hang_up(self) -> None:
        """Let go of everything; idempotent."""
        self._close_data()
        self._ftp.close()

    # ------------------------------------------------------------------------------------------------------- looking

    def look(self) -> Found:
        known, size = self._size()
        if known:
            return Found(size)
        if self._enter():
            return Found(None, directory=True)
        if known is None and self._listed(self._path):
            return Found(None)
        raise missing(self._url)

    def _size(self) -> tuple[bool | None, int | None]:
        """Is there a file (None: the server has no SIZE), and how long is it?"""
        if self._url.names_directory:
            return False, None
        try:
            return True, self._ftp.size(self._path)
        except ftplib.error_perm as error:
            return (None if _code(error) in _UNKNOWN else False), None

    def _enter(self) -> bool:
        """Change to the directory, if it is one."""
        try:
            self._ftp.cwd(self._path)
        except ftplib.error_perm:
            return False
        return True

    def entries(self) -> list[str]:
        if not self._enter():
            self.look()
            raise no_directory(self._url)
        try:
            told = [(name, facts.get("type", "").lower()) for name, facts in self._ftp.mlsd(facts=["type"])]
        except ftplib.error_perm as error:
            if _code(error) not in _UNKNOWN:
                raise
            told = [(name.rstrip("/").rpartition("/")[2], "") for name in self._listed("")]
        here = self._ftp.pwd().rstrip("/")
        names = [(name, kind) for name, kind in told if kind not in ("cdir", "pdir") and _plain(name)]
        return sorted(_ours(name) + ("/" if self._is_directory(f"{here}/{name}", kind) else "") for name, kind in names)

    def _is_directory(self, path: str, kind: str) -> bool:
        """What the server said of it; of links, and of those that say nothing, whether it can be entered."""
        if kind in ("dir", "file"):
            return kind == "dir"
        try:
            self._ftp.cwd(path)
        except ftplib.error_perm:
            return False
        return True

    def _listed(self, path: str) -> list[str]:
        try:
            return self._ftp.nlst(path) if path else self._ftp.nlst()
        except ftplib.error_perm:  # so some say that there is nothing
            return []

    # ------------------------------------------------------------------------------------------------------- reading

    def begin_read(self) -> int | None:
        """Open the data connection; bytes that will come, if the server says so."""
        known, size = self._size()
        if self._url.names_directory:
            raise directory(self._url) if self._enter() else missing(self._url)
        try:
            self._data = self._ftp.transfercmd(f"RETR {self._path}")
        except ftplib.error_perm as error:
            if _code(error) not in _ABSENT:
                raise
            if self._enter():
                raise directory(self._url) from None
            raise (refused(self._url, _text(error)) if known else missing(self._url)) from None
        self._data.settimeout(STALL_S)
        return size

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        while piece := await self.run(self._receive):
            yield piece
        await self.run(self._finish)

    def _receive(self) -> bytes:
        assert self._data is not None
        got = bytearray()
        while len(got) < PIECE and (data := self._data.recv(PIECE - len(got))):
            got += data
        return bytes(got)

    def _finish(self) -> None:
        """The server must say that it was all: a data connection that ends says nothing."""
        self._close_data()
        self._ftp.voidresp()

    def _close_data(self) -> None:
        data, self._data = self._data, None
        if data is not None:
            data.close()

    # ------------------------------------------------------------------------------------------------------- writing

    def begin_write(self) -> None:
        if self._url.names_directory or self._enter():
            raise directory(self._url)
        folder, slash, _ = self._path.rpartition("/")
        temp = f"{folder}{slash}.towline-{uuid4().hex}"
        try:
            self._data = self._ftp.transfercmd(f"STOR {temp}")
        except ftplib.error_perm as error:
            raise refused(self._url, _text(error)) from None
        self._temp = temp
        self._data.settimeout(STALL_S)

    def send(self, piece: Piece) -> None:
        assert self._data is not None
        self._data.sendall(piece)

    def publish(self) -> None:
        """Give the finished file its name."""
        if isinstance(self._data, ssl.SSLSocket):
            with suppress(OSError):  # many servers hang up without the farewell of TLS
                self._data.unwrap()
        self._finish()
        try:
            self._ftp.rename(self._temp, self._path)
        except ftplib.error_perm:  # some do not replace
            self._ftp.delete(self._path)
            self._ftp.rename(self._temp, self._path)
        self._temp = ""

    def drop(self) -> None:
        """Take the unfinished file away, as far as the line still allows."""
        if self._data is not None:
            self._close_data()
            with suppress(*ftplib.all_errors):
                self._ftp.voidresp()
        if self._temp:
            with suppress(*ftplib.all_errors):
                self._ftp.delete(self._temp)


# -------------------------------------------------------------------------------------------------------------- the wire


class _Tls(ftplib.FTP_TLS):
    """TLS after AUTH. The data connection resumes the session of the control connection, which many servers demand."""

    def ntransfercmd(self, cmd: str, rest: int | str | None = None) -> tuple[socket.socket, int | None]:
        data, size = ftplib.FTP.ntransfercmd(self, cmd, rest)
        session = self.sock.session if isinstance(self.sock, ssl.SSLSocket) else None
        return self.context.wrap_socket(data, server_hostname=self.host, session=session), size


class _Implicit(_Tls):
    """TLS from the first byte."""

    _plain_or_tls: socket.socket | None = None

    @property
    def sock(self) -> socket.socket | None:
        """The control connection; what is set becomes TLS."""
        return self._plain_or_tls

    @sock.setter
    def sock(self, value: socket.socket | None) -> None:
        if value is not None and not isinstance(value, ssl.SSLSocket):
            value = self.context.wrap_socket(value, server_hostname=self.host)
        self._plain_or_tls = value


def _client(url: Url) -> ftplib.FTP:
    if url.scheme == "ftp":
        return ftplib.FTP(timeout=CONNECT_S, encoding="latin-1")
    kind = _Implicit if url.port in (None, IMPLICIT_PORT) else _Tls
    return kind(timeout=CONNECT_S, encoding="latin-1", context=ssl.create_default_context())


def _wire(text: str) -> str:
    """As ftplib writes it byte by byte."""
    return text.encode(errors="surrogateescape").decode("latin-1")


def _ours(name: str) -> str:
    return name.encode("latin-1").decode(errors="surrogateescape")


def _plain(name: str) -> bool:
    """A name that leads nowhere else."""
    return name not in ("", ".", "..") and "/" not in name


def _code(error: Exception) -> str:
    return str(error)[:3]


def _text(error: Exception) -> str:
    return "".join(letter for letter in str(error)[:200] if letter.isprintable())


@contextmanager
def _translated(url: Url) -> Iterator[None]:
    """As `translated`, for what ftplib raises."""
    try:
        with translated(url):
            yield
    except ftplib.Error as error:
        if _code(error) in _AUTH:
            raise refused(url) from None
        raise TransferError(f"{url}: the server answered {_text(error)}") from None

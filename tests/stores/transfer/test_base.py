"""Bounds and errors that all schemes share."""

from __future__ import annotations

import asyncio
import errno

import pytest

from tests.kit.pieces import pieces_of
from towline.stores.jobstore.errors import UnimplementedURLException
from towline.stores.transfer import base
from towline.stores.transfer.base import Noted, TransferError, counted, missing, translated, unimplemented, watched
from towline.stores.transfer.url import parse

URL = parse("ftp://me:hUnT3r@host/x")


async def all_of(pieces):
    return b"".join([bytes(piece) async for piece in pieces])


async def test_counted_passes_what_was_announced():
    assert await all_of(counted(URL, pieces_of(b"abcd", 3), 4)) == b"abcd"
    assert await all_of(counted(URL, pieces_of(b"abcd", 3), None)) == b"abcd"


@pytest.mark.parametrize("size", [3, 5])
async def test_counted_refuses_another_length(size):
    with pytest.raises(TransferError, match="4 bytes came"):
        await all_of(counted(URL, pieces_of(b"abcd", 3), size))


async def test_a_source_without_a_word_is_given_up(monkeypatch):
    monkeypatch.setattr(base, "STALL_S", 0.01)

    async def silent():
        yield b"x"
        await asyncio.Event().wait()

    with pytest.raises(TransferError, match="in time"):
        await all_of(counted(URL, silent(), None))


@pytest.mark.parametrize("size", [3, 5])
async def test_watched_stops_before_a_byte_too_much(size):
    sent, told = [], []
    with pytest.raises(TransferError, match="announced"):
        async with asyncio.timeout(None) as limit:
            async for piece in watched(URL, pieces_of(b"abcd", 2), size, limit, told.append):
                sent.append(piece)
    assert len(b"".join(sent)) <= size
    assert told == [2, 4][: len(told)]


async def test_each_piece_moves_the_deadline_on():
    async with asyncio.timeout(None) as limit:
        seen = [limit.when()]
        async for _ in watched(URL, pieces_of(b"abcd", 2), None, limit):
            seen.append(limit.when())
    assert seen[0] is None
    assert seen[1] <= seen[2]


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ConnectionResetError(errno.ECONNRESET, "reset"), TransferError),
        (TimeoutError(), TransferError),
        (EOFError(), TransferError),
        (FileNotFoundError(), FileNotFoundError),
        (PermissionError(), PermissionError),
        (ZeroDivisionError(), ZeroDivisionError),
    ],
)
def test_what_becomes_of_errors(error, kind):
    with pytest.raises(kind) as caught, translated(URL):
        raise error
    assert "hUnT3r" not in str(caught.value)


def test_errors_name_the_file_as_python_does():
    error = missing(URL, "says the server")
    assert (error.errno, error.filename) == (errno.ENOENT, "ftp://***@host/x")
    assert "says the server" in str(error)


def test_what_cannot_be_done_names_scheme_and_verb():
    with pytest.raises(UnimplementedURLException, match=r"frobnicate.*ftp"):
        unimplemented(URL, "frobnicate")


async def test_noted_remembers_why_a_source_ended():
    async def ends():
        yield b"a"
        yield b""
        raise ZeroDivisionError

    noted = Noted(ends())
    with pytest.raises(ZeroDivisionError) as caught:
        await all_of(noted.read())
    assert noted.error is caught.value

"""A URL as a stream: the names that files have, in pieces of any size."""

from __future__ import annotations

import io
from contextlib import AsyncExitStack

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from towline.stores.transfer.base import Fetched
from towline.stores.transfer.reading import UrlStream


def stream_of(pieces, held=None):
    async def coming():
        for piece in pieces:
            yield piece

    return UrlStream(Fetched(coming(), None, False), held or AsyncExitStack())


@settings(max_examples=60, deadline=None)
@given(
    pieces=st.lists(st.binary(min_size=1, max_size=6).map(lambda data: data.replace(b"\x00", b"\n"))),
    steps=st.lists(st.tuples(st.sampled_from(["read", "readline"]), st.integers(-1, 7))),
)
async def test_it_reads_as_a_file_does(pieces, steps):
    model, stream = io.BytesIO(b"".join(pieces)), stream_of(pieces)
    for verb, n in steps:
        if verb == "read":
            assert await stream.read(n) == model.read(n)
        else:
            assert await stream.readline() == model.readline()
        assert stream.tell() == model.tell()
    assert [line async for line in stream] == list(model)


async def test_read1_gives_what_is_there():
    stream = stream_of([b"abc", b"de"])
    assert [await stream.read1(2), await stream.read1(), await stream.read1(), await stream.read1()] == [b"ab", b"c", b"de", b""]
    assert await stream.read1(0) == b""


async def test_closing_lets_go_at_once_and_once():
    held, ended = AsyncExitStack(), []
    held.callback(ended.append, 1)
    async with stream_of([b"abc"], held) as stream:
        assert await stream.read(1) == b"a"
    await stream.close()
    assert ended == [1]
    with pytest.raises(ValueError, match="closed"):
        await stream.read(1)

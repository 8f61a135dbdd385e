"""Log messages: each once, whoever reads, whatever fails; all again on request."""

from __future__ import annotations

import asyncio
import json

import pytest

from tests.kit.filestore_contract import opened, peek
from towline.stores.jobstore import logs
from towline.stores.jobstore.logs import INLINE_BYTES, LogMessage
from towline.stores.objects.local import LocalObjects
from towline.stores.objects.memory import MemoryObjects


@pytest.fixture(params=["memory", "local"])
def place(request, tmp_path):
    return MemoryObjects(appendable=False) if request.param == "memory" else LocalObjects(tmp_path / "place")


@pytest.fixture
async def one(place):
    async with opened(place) as store:
        yield store.logs


@pytest.fixture
async def two(place, one):
    async with opened(place) as store:
        yield store.logs


async def collect(reader, read_all=False):
    got = []
    count = await reader.read(got.append, read_all)
    assert count == len(got)
    return got


async def test_each_message_is_delivered_once_and_all_again_on_request(one, two):
    for text in ("first", "second"):
        await one.write(text)
    assert await collect(two) == ["first", "second"]
    assert await collect(one) == []
    await two.write("third")
    assert await collect(one, read_all=True) == ["first", "second", "third"]
    assert await collect(two) == []
    assert await collect(one, read_all=True) == ["first", "second", "third"]


@pytest.mark.parametrize("size", [0, 1, INLINE_BYTES, INLINE_BYTES + 1, 1 << 20])
async def test_sizes(one, two, size):
    text = "ü" * (size // 2) + "x" * (size % 2)
    await one.write(text)
    assert await collect(two) == [text]


@pytest.mark.parametrize("message", ["\ud800 alone", "\udcff" * 5000, b"bytes \xc3\xbc", b"no utf-8: \xff"])
async def test_odd_text_goes_through(one, message):
    await one.write(message)
    (got,) = await collect(one)
    assert got == (message if isinstance(message, str) else message.decode("utf-8", "surrogateescape"))


async def test_concurrent_readers_never_share_or_lose_one(one, two, monkeypatch):
    monkeypatch.setattr(logs, "_BATCH", 7)
    texts = [str(i) for i in range(200)]
    await asyncio.gather(*(one.write(text) for text in texts))
    got = await asyncio.gather(*(collect(reader) for reader in (one, two) * 3))
    assert sorted(text for mine in got for text in mine) == sorted(texts)
    for mine in got:
        assert mine == sorted(mine, key=texts.index)
    assert await collect(one) == []


async def test_what_a_callback_refuses_is_unread_again(one, two, monkeypatch):
    monkeypatch.setattr(logs, "_BATCH", 4)
    for i in range(6):
        await one.write(str(i))
    got = []

    def refuse(message):
        if message == "2" and len(got) == 2:
            raise ZeroDivisionError
        got.append(message)

    with pytest.raises(ZeroDivisionError):
        await one.read(refuse)
    assert got == ["0", "1"]
    assert await collect(two) == ["2", "3", "4", "5"]


async def test_read_all_gives_back_only_what_was_unread(one, two):
    await one.write("read before")
    assert await collect(one) == ["read before"]
    await one.write("unread")

    def refuse(message):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await two.read(refuse, read_all=True)
    assert await collect(one) == ["unread"]


async def test_a_cancelled_reader_gives_back(one, two):
    await one.write("a")
    await one.write("b")
    reached = asyncio.Event()

    async def hang(message):
        if message == "b":
            reached.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(one.read(hang))
    await reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await collect(two) == ["b"]


async def test_readers_cancelled_anywhere_lose_nothing(place, one, two):
    texts = [str(i) for i in range(30)]
    for text in texts:
        await one.write(text)
    got = []
    for steps in range(0, 60, 5):
        task = asyncio.create_task(one.read(got.append))
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
    await one._blobs.close()
    got += await collect(two)
    assert sorted(got, key=int) == texts


async def test_dropping(one, two, place):
    await one.write("old" * INLINE_BYTES)
    await one.write("new")
    assert len(await peek(place)) == 1
    await one.drop(lambda state: max(state.logs))
    assert await peek(place) == set()
    assert await collect(two, read_all=True) == ["new"]


async def test_a_message_dropped_while_it_is_read_is_passed_over(one, two):
    for text in ("a", "b", "c"):
        await one.write(text)
    got = []

    async def drop(message):
        got.append(message)
        await one.drop(lambda state: max(state.logs))

    await one.read(drop)
    assert got == ["a", "c"]


def test_a_message_reads_like_a_file_too():
    assert json.load(LogMessage('{"a": 1}')) == {"a": 1}
    message = LogMessage("a\nb\n")
    assert message.readline() == "a\n"
    assert message.readlines() == ["b\n"]
    assert (message.read(), message.strip()) == ("", "a\nb")

"""Claim, commit, fence: the schedules of R2, R4, R5 and R6, in both modes of the journal."""

from __future__ import annotations

import asyncio

import pytest

from tests.kit.journals import LostAnswers, Wrapped, claim, payloads
from towline.engine.errors import FencedError
from towline.stores.errors import WriterBroken
from towline.stores.journal import writer as writer_module
from towline.stores.journal.reader import JournalReader
from towline.stores.journal.segments import segment_key
from towline.stores.journal.verify import verify
from towline.stores.objects.base import ABSENT, Ambiguous, ObjectsError
from towline.stores.objects.local import LocalObjects
from towline.stores.objects.memory import MemoryObjects


@pytest.fixture(params=["memory-append", "memory-link", "disk-append", "disk-link"])
def objects(request, tmp_path):
    kind, mode = request.param.split("-")
    append = mode == "append"
    return MemoryObjects(appendable=append) if kind == "memory" else LocalObjects(tmp_path / "s", appendable=append)


@pytest.fixture(params=[True, False], ids=["append", "link"])
def memory(request):
    return MemoryObjects(appendable=request.param)


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch):
    monkeypatch.setattr(writer_module, "_PAUSE_S", 0.0)


async def sound(objects):
    report = await verify(objects)
    assert report.problems == []
    return report


async def test_commits_are_numbered_and_read_back(objects):
    writer = await claim(objects)
    assert (writer.epoch, writer.next_seq) == (1, 0)
    assert await writer.commit([b"a", b"b"]) == (0, 2)
    assert await writer.commit([]) == (2, 0)
    assert await writer.commit([b"", bytes(5000)]) == (2, 2)
    assert writer.next_seq == 4
    want = [b"a", b"b", b"", bytes(5000)]
    assert await payloads(objects) == want
    assert await payloads(writer.reader) == want
    await writer.close()
    await writer.close()
    with pytest.raises(WriterBroken, match="closed"):
        await writer.commit([b"c"])
    assert await payloads(objects) == want
    await sound(objects)


async def test_epochs_rise_and_numbers_go_on(objects):
    want = []
    for turn in range(1, 5):
        writer = await claim(objects, str(turn))
        assert writer.epoch == turn
        assert await payloads(writer.reader) == want
        for _ in range(turn % 3):
            await writer.commit([b"%d" % turn])
            want.append(b"%d" % turn)
        if turn % 2:
            await writer.close()
    assert await payloads(objects) == want
    assert (await sound(objects)).records == len(want)


async def test_the_second_claim_fences_the_first(objects):
    a = await claim(objects, "A")
    await a.commit([b"a"])
    b = await claim(objects, "B")
    with pytest.raises(FencedError, match="taken over by leader-B"):
        await a.commit([b"late"])
    for _ in range(2):
        with pytest.raises(FencedError):
            await a.commit([b"later"])
    with pytest.raises(FencedError):
        await a.check()
    await b.commit([b"b"])
    await b.check()
    await a.close()
    assert await payloads(objects) == [b"a", b"b"]
    await sound(objects)


async def test_check_finds_a_new_claim_without_a_commit(objects):
    a = await claim(objects, "A")
    await a.commit([b"a"])
    await a.check()
    await claim(objects, "B")
    with pytest.raises(FencedError):
        await a.check()
    with pytest.raises(FencedError):
        await a.commit([b"late"])


async def test_an_expected_head_that_moved_refuses_the_claim(objects):
    a = await claim(objects, "A")
    await a.commit([b"a"])
    seen = (await JournalReader.open(objects)).last_segment
    b = await claim(objects, "B", expected_head=seen)
    with pytest.raises(FencedError, match="leader-B"):
        await claim(objects, "C", expected_head=seen)
    await b.commit([b"b"])
    assert await payloads(objects) == [b"a", b"b"]


async def test_many_claims_at_once_make_one_chain(objects):
    """Two writers and more race; each acknowledged record is there exactly once, in its writer's order."""
    told = {}

    async def lead(who):
        told[who] = []
        try:
            writer = await claim(objects, who)
            for i in range(8):
                payload = f"{who}{i}".encode()
                await writer.commit([payload])
                told[who].append(payload)
                await asyncio.sleep(0)
        except FencedError:
            return
        await writer.close()

    await asyncio.gather(*(lead(w) for w in "ABCDEF"))
    found = await payloads(objects)
    assert len(set(found)) == len(found)
    for who, acknowledged in told.items():
        mine = [p for p in found if p.startswith(who.encode())]
        assert mine[: len(acknowledged)] == acknowledged
    report = await sound(objects)
    assert report.records == len(found)


async def test_a_frozen_writer_appends_into_the_void(tmp_path):
    """R2: A holds segment n, B creates n+1 and judges n, A thaws, its append to n succeeds: it is never told and void."""
    objects = LocalObjects(tmp_path)
    a = await claim(objects, "A")
    await a.commit([b"a"])
    b = await claim(objects, "B")
    size = (tmp_path / segment_key(1)).stat().st_size
    with pytest.raises(FencedError):
        await a.commit([b"void"])
    assert (tmp_path / segment_key(1)).stat().st_size > size, "the append itself went through"
    await b.commit([b"b"])
    assert await payloads(objects) == [b"a", b"b"]
    assert (await sound(objects)).void_bytes > 0


async def test_what_a_wrote_before_the_judgement_is_kept_though_it_was_not_told():
    """B creates n+1; A, which has not noticed, appends; only then B reads n: the record is in, and A is fenced."""
    objects = MemoryObjects()

    class Between(Wrapped):
        async def appender(self, key, head):
            made = await self.inner.appender(key, head)
            with pytest.raises(FencedError):
                await a.commit([b"just in time"])
            return made

    a = await claim(objects, "A")
    await a.commit([b"a"])
    b = await claim(Between(objects), "B")
    await b.commit([b"b"])
    assert await payloads(objects) == [b"a", b"just in time", b"b"]
    await sound(objects)


async def test_a_claim_that_ended_before_its_judgement_is_passed(memory):
    """B creates n+1 and dies; C creates n+2 and judges both."""

    class Dies(Wrapped):
        def list(self, prefix="", start_after=""):
            if any(b"leader-B" in bytes(held.data) for held in self.inner._held.values()):
                raise ObjectsError("dead")
            return self.inner.list(prefix, start_after)

    a = await claim(memory, "A")
    await a.commit([b"a1"])
    await a.commit([b"a2"])
    with pytest.raises(ObjectsError, match="dead"):
        await claim(Dies(memory), "B")
    reader = await JournalReader.open(memory)
    assert reader.leader == "leader-B"
    c = await claim(memory, "C")
    assert c.epoch == 3
    await c.commit([b"c"])
    with pytest.raises(FencedError):
        await a.commit([b"late"])
    assert await payloads(memory) == [b"a1", b"a2", b"c"]
    await sound(memory)


async def test_b_wakes_up_after_c_has_judged_its_empty_segment():
    """B linked n+1 and froze; C created n+2 and found n+1 empty; B then writes its judgement: void, and B is fenced."""
    objects = MemoryObjects()
    woken = {}

    class Freezes(Wrapped):
        async def appender(self, key, head):
            made = await self.inner.appender(key, head)
            c = await claim(self.inner, "C")
            await c.commit([b"c"])
            woken["c"] = c
            return made

    a = await claim(objects, "A")
    await a.commit([b"a"])
    with pytest.raises(FencedError):
        await claim(Freezes(objects), "B")
    assert await payloads(objects) == [b"a", b"c"]
    await woken["c"].commit([b"c2"])
    assert await payloads(objects) == [b"a", b"c", b"c2"]
    await sound(objects)


async def test_b_wakes_up_in_the_middle_of_its_judgement():
    """As before, but B had read the journal and is just about to append when C claims and judges."""
    objects = MemoryObjects()

    class Freezes(Wrapped):
        async def appender(self, key, head):
            outer, inner = self, await self.inner.appender(key, head)

            class Late(Wrapped):
                async def append(self, data, absent=None):
                    c = await claim(outer.inner, "C")
                    await c.commit([b"c"])
                    return await self.inner.append(data, absent)

            return Late(inner)

    a = await claim(objects, "A")
    await a.commit([b"a"])
    with pytest.raises(FencedError):
        await claim(Freezes(objects), "B")
    assert await payloads(objects) == [b"a", b"c"]
    d = await claim(objects, "D")
    assert d.epoch == 4
    await d.commit([b"d"])
    assert await payloads(objects) == [b"a", b"c", b"d"]
    await sound(objects)


@pytest.mark.parametrize("segment_bytes", [1, 600, 2000])
async def test_full_segments_are_followed_by_the_next(tmp_path, segment_bytes):
    objects = LocalObjects(tmp_path)
    writer = await claim(objects, segment_bytes=segment_bytes)
    want = [bytes([i]) * 100 for i in range(20)]
    for payload in want:
        await writer.commit([payload])
    assert len(list((tmp_path / "journal").iterdir())) > 1
    assert await payloads(objects) == want
    assert await payloads(writer.reader, 7) == want[7:]
    await writer.close()
    await sound(objects)


async def test_rotation_is_fenced_too():
    objects = MemoryObjects()
    a = await claim(objects, "A", segment_bytes=1)
    await a.commit([b"a"])
    await claim(objects, "B")
    with pytest.raises(FencedError):
        await a.commit([b"late"])
    assert await payloads(objects) == [b"a"]


@pytest.mark.parametrize(
    "script",
    [["done"], ["twice"], ["dropped"], ["dropped", "dropped", "done"], ["dropped", "twice"], ["", "done", "dropped"]],
)
async def test_lost_answers_are_settled_by_reading_back(script):
    inner = MemoryObjects(appendable=False)
    writer = await claim(LostAnswers(inner, []))
    writer._objects.script = list(script)
    for i in range(3):
        await writer.commit([b"%d" % i])
    assert await payloads(inner) == [b"0", b"1", b"2"]
    assert (await sound(inner)).records == 3


@pytest.mark.parametrize("script", [["done"], ["twice"], ["dropped"], ["dropped", "twice"]])
async def test_lost_answers_of_a_claim(script):
    inner = MemoryObjects(appendable=False)
    writer = await claim(LostAnswers(inner, script))
    await writer.commit([b"1"])
    assert await payloads(inner) == [b"1"]
    assert writer.epoch == (2 if script == ["twice"] else 1)  # what exists is passed over, if need be our own empty segment


async def test_a_lost_answer_that_hides_another_leader():
    """The create did not happen, and before the retry somebody else takes the slot."""
    inner = MemoryObjects(appendable=False)

    class Overtaken(LostAnswers):
        async def get(self, key, start=0, length=None):
            await claim(self.inner, "B")
            return await self.inner.get(key, start, length)

    a = await claim(inner, "A")
    await a.commit([b"a"])
    a._objects = Overtaken(inner, ["dropped"])
    with pytest.raises(FencedError, match="leader-B"):
        await a.commit([b"late"])
    assert await payloads(inner) == [b"a"]


async def test_answers_that_never_come_break_the_writer():
    inner = MemoryObjects(appendable=False)
    writer = await claim(LostAnswers(inner, []))
    writer._objects.script = ["dropped"] * 100
    with pytest.raises(Ambiguous, match="resume to find out"):
        await writer.commit([b"1"])
    writer._objects.script = []
    with pytest.raises(WriterBroken):
        await writer.commit([b"1"])


async def test_a_failed_append_is_the_end_of_the_writer(memory):
    """R5: whether the bytes arrived is for the next claim to find out."""

    class Full(Wrapped):
        full = False

        async def put(self, *args):
            if self.full:
                raise ObjectsError("the disk is full")
            return await self.inner.put(*args)

        async def appender(self, key, head):
            outer = self

            class Failing(Wrapped):
                async def append(self, data, absent=None):
                    if outer.full:
                        await self.inner.append(data[: len(data) // 2])
                        raise ObjectsError("the disk is full")
                    return await self.inner.append(data, absent)

            return Failing(await self.inner.appender(key, head))

    objects = Full(memory)
    writer = await claim(objects, "A")
    await writer.commit([b"a"])
    objects.full = True
    with pytest.raises(ObjectsError, match="the disk is full"):
        await writer.commit([b"b" * 100])
    objects.full = False
    with pytest.raises(WriterBroken, match="the disk is full"):
        await writer.commit([b"c"])
    await writer.close()
    assert await payloads(memory) == [b"a"]
    b = await claim(memory, "B")
    await b.commit([b"d"])
    assert await payloads(memory) == [b"a", b"d"]
    await sound(memory)


async def test_a_slow_commit_into_an_emptied_slot_is_not_told():
    """R4: A freezes before its create of n+1; B passes it, garbage collection empties the slot, A thaws: it succeeds."""
    inner = MemoryObjects(appendable=False)
    now = [0.0]

    class Freezes(Wrapped):
        frozen = False

        async def put(self, key, data, when=None):
            if self.frozen:
                self.frozen = False
                b = await claim(self.inner, "B")
                for i in range(4):
                    await b.commit([b"b%d" % i])
                await self.inner.delete_many([key])
                now[0] += 400.0
            return await self.inner.put(key, data, when)

    objects = Freezes(inner)
    a = await claim(objects, "A", grace_s=600.0, boottime=lambda: now[0])
    await a.commit([b"a"])
    objects.frozen = True
    with pytest.raises(FencedError):
        await a.commit([b"late"])


async def test_a_leader_that_slept_between_commits_looks_before_it_tells(memory):
    """R4 again, with the freeze before the commit begins: the time since the last proof counts, not the commit's own."""
    now = [0.0]
    a = await claim(memory, "A", grace_s=600.0, boottime=lambda: now[0])
    await a.commit([b"a"])
    gone = segment_key(a._header.number + 1)
    b = await claim(memory, "B")
    for i in range(3):
        await b.commit([b"b%d" % i])
    if memory.appendable:
        await claim(memory, "C")
    now[0] += 301.0
    await memory.delete_many([gone, segment_key(a._header.number)])
    with pytest.raises(FencedError):
        await a.commit([b"late"])


async def test_a_quick_commit_is_not_looked_at_again(memory):
    class Counting(Wrapped):
        lists = 0

        def list(self, prefix="", start_after=""):
            self.lists += 1
            return self.inner.list(prefix, start_after)

    now = [0.0]
    objects = Counting(memory)
    writer = await claim(objects, "A", grace_s=600.0, boottime=lambda: now[0])
    objects.lists = 0
    for _ in range(5):
        now[0] += 299.0
        await writer.commit([b"x"])
    assert objects.lists == 0
    now[0] += 301.0
    await writer.commit([b"x"])
    assert objects.lists == 1


class Slow(Wrapped):
    """Holds every write back until `go` is set."""

    def __init__(self, inner):
        super().__init__(inner)
        self.go = asyncio.Event()
        self.go.set()

    async def put(self, *args):
        await self.go.wait()
        return await self.inner.put(*args)

    async def appender(self, key, head):
        outer = self

        class Held(Wrapped):
            async def append(self, data, absent=None):
                await outer.go.wait()
                return await self.inner.append(data, absent)

        return Held(await self.inner.appender(key, head))


async def test_commits_are_serial(memory):
    objects = Slow(memory)
    writer = await claim(objects)
    objects.go.clear()
    first = asyncio.ensure_future(writer.commit([b"1"]))
    await asyncio.sleep(0)
    with pytest.raises(AssertionError, match="R6"):
        await writer.commit([b"2"])
    objects.go.set()
    assert await first == (0, 1)
    assert await writer.commit([b"3"]) == (1, 1)
    assert await payloads(memory) == [b"1", b"3"]


async def test_a_cancelled_commit_goes_on_and_the_next_waits_for_it(memory):
    objects = Slow(memory)
    writer = await claim(objects)
    objects.go.clear()
    first = asyncio.ensure_future(writer.commit([b"1"]))
    await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    second = asyncio.ensure_future(writer.commit([b"2"]))
    await asyncio.sleep(0)
    objects.go.set()
    assert await second == (1, 1)
    await writer.close()
    assert await payloads(memory) == [b"1", b"2"]


async def test_close_seals_the_open_segment(tmp_path):
    """After an orderly end nothing of the last segment can be lost unseen: a missing tail is corruption, not torn."""
    objects = LocalObjects(tmp_path)
    writer = await claim(objects)
    await writer.commit([b"a" * 50])
    await writer.close()
    assert sorted(p.name for p in (tmp_path / "journal").iterdir()) == [f"{n:020d}.seg" for n in (1, 2)]
    path = tmp_path / segment_key(1)
    path.write_bytes(path.read_bytes()[:-1])
    report = await verify(objects)
    assert [segment_key(1) in p and "offset" in p for p in report.problems] == [True]


async def test_a_fenced_writer_closes_without_a_seal(memory):
    a = await claim(memory, "A")
    await a.commit([b"a"])
    b = await claim(memory, "B")
    await a.close()
    await b.commit([b"b"])
    await b.close()
    assert await payloads(memory) == [b"a", b"b"]
    await sound(memory)


async def test_large_commits_go_through_threads(objects):
    writer = await claim(objects)
    want = [bytes([i]) * 300_000 for i in range(1, 4)]
    await writer.commit(want)
    await writer.commit([b"small"])
    assert await payloads(objects) == [*want, b"small"]
    await sound(objects)


async def test_nonces_have_sixteen_bytes():
    with pytest.raises(ValueError, match="16 bytes"):
        await claim(MemoryObjects(), "x" * 17)


async def test_a_store_may_change_from_linked_to_appended_and_back():
    memory, want = MemoryObjects(), []
    for turn in range(6):
        memory.appendable = bool(turn % 2)
        writer = await claim(memory, str(turn))
        await writer.commit([b"%d" % turn])
        want.append(b"%d" % turn)
        assert await payloads(memory) == want
    await sound(memory)
    assert [m.key async for m in memory.list("journal/")] == [segment_key(n) for n in range(1, 10)]


async def test_a_foreign_object_in_the_slot_is_passed_over_never_overwritten():
    memory = MemoryObjects(appendable=False)
    await memory.put(segment_key(1), b"", ABSENT)
    with pytest.raises(Exception, match="cut off"):
        await claim(memory)
